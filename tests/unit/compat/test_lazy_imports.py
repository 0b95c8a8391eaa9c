"""Libraries that are hidden while others are imported."""

import subprocess
import sys

import pytest

from paft_ray.compat.lazy_imports import without


def test_what_is_hidden_is_missing_in_the_block_and_there_after_it() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_what_is_imported_already_stays() -> None:
    with without("json"):
        assert sys.modules["json"] is not None
    assert sys.modules["json"] is not None


def test_checking_a_configuration_imports_no_library_of_figures() -> None:
    code = (
        "import sys, paft_ray.cli.preflight; print([m for m in ('scipy', 'sklearn', 'pandas', 'matplotlib', 'torch') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "[]\n"
