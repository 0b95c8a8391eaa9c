"""Documents that are made from the code are those in the repository."""

import importlib.util
from pathlib import Path


def test_the_configuration_reference_is_that_of_the_models() -> None:
    spec = importlib.util.spec_from_file_location("configuration_reference", "scripts/configuration_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path("docs/configuration.md").read_text(encoding="utf-8") == module.reference(), "run python scripts/configuration_reference.py"
