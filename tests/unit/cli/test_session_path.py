"""What the driver hands to its workers as places to import from."""

import sys
from pathlib import Path

import pytest

import paft_ray
from paft_ray.cli.session import _own_path

ROOT = str(Path(paft_ray.__file__).parents[1])


@pytest.mark.parametrize(
    ("path", "variable", "handed"),
    [
        ([ROOT], "", []),  # installed: every Python finds it
        (["/nowhere"], "", [ROOT]),  # a checkout that is not installed
        ([ROOT], ROOT, [ROOT]),  # by PYTHONPATH, which another node may not have
    ],
)
def test_workers_import_the_package_of_the_driver_and_nothing_from_its_folder(
    path: list[str], variable: str, handed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setattr(sys, "path", [*path, *(entry for entry in sys.path if entry not in ("", ROOT))])
    monkeypatch.setenv("PYTHONPATH", variable)
    config = _own_path()
    assert config._py_driver_sys_path == handed
    assert config._runtime_env_has_working_dir(), "else Ray adds the working folder"
