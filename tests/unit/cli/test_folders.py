"""Where the home or the folder of temporary files cannot be used, Ray and the caches get folders of the user's own."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli import folders
from paft_ray.cli.env_defaults import has_token, prepare_environment
from paft_ray.cli.folders import own_folder, place_caches, ray_folder, token_can_be_written

NAMES = ("PAFT_CACHE", "HF_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "VLLM_CONFIG_ROOT", "MPLCONFIGDIR")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of a cache is set, nor left set behind; temporary files lie in the test's folder."""
    for name in (*NAMES, "RAY_TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def caches() -> dict[str, str]:
    place_caches()
    return {name: os.environ[name] for name in NAMES if name in os.environ}


@pytest.mark.parametrize("home", ["/nonexistent", "/dev/null", "{tmp}/file"])
def test_without_a_home_caches_lie_in_a_folder_of_ones_own(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", home.format(tmp=tmp_path))
    own = tmp_path / f"paft-{os.getuid()}"
    assert set(caches()) == set(NAMES)
    assert all(Path(folder).is_relative_to(own) for folder in caches().values())
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert not token_can_be_written()
    assert not has_token()


def test_a_home_that_can_be_written_keeps_its_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches() == {}
    assert token_can_be_written()


def test_models_in_a_home_that_is_read_only_are_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    hub = tmp_path / ".cache" / "huggingface"
    (hub / "hub").mkdir(parents=True)
    monkeypatch.setattr(
        os, "access", lambda path, _: not Path(path).is_relative_to(tmp_path)
    )  # root may write everywhere
    found = caches()
    assert found["HF_HOME"] == str(hub)
    assert found["PAFT_CACHE"] == str(own_folder(str(tmp_path)) / ".cache/paft_ray")


def test_a_cache_that_cannot_be_read_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache" / "huggingface" / "hub").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(tmp_path))

    def refused(folder: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refused)
    assert caches()["HF_HOME"] == str(own_folder(str(tmp_path)) / ".cache/huggingface")


def test_a_cache_at_a_relative_path_is_the_same_folder_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAFT_CACHE", "caches/paft")
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert caches() == {"PAFT_CACHE": f"{tmp_path}/caches/paft", "HF_HOME": f"{tmp_path}/hf"}


def test_a_user_without_a_home_gets_one_line_at_most(tmp_path: Path) -> None:
    """A container's user may have neither HOME nor an entry in /etc/passwd."""
    child = (
        "import os, pwd; del os.environ['HOME']; pwd.getpwuid = lambda _: {}[0]; from paft_ray.cli.env_defaults "
        "import *; prepare_environment(); has_token()"
    )
    subprocess.run([sys.executable, "-c", child], check=True, env={**os.environ, "TMPDIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("variable", "length", "moved"),
    [("TMPDIR", 20, False), ("TMPDIR", 60, True), ("RAY_TMPDIR", 150, True), ("TMPDIR", 150, True)],
)
def test_ray_gets_a_short_folder_where_paths_of_sockets_would_be_too_long(
    variable: str, length: int, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setenv(variable, "/" + "x" * (length - 1))
    found = ray_folder()
    assert (found is not None) is moved
    if found:
        assert len(os.fsencode(found + folders._SESSION.format(2**22))) <= 107


def test_ray_gets_another_folder_where_the_given_one_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/nonexistent")
    assert ray_folder() == f"/tmp/paft-{os.getuid()}/ray"


def test_a_folder_that_somebody_else_made_is_not_taken(tmp_path: Path) -> None:
    own = own_folder(str(tmp_path))
    assert own_folder(str(tmp_path)) == own
    own.chmod(0o755)  # as an attacker would leave it open
    other = own_folder(str(tmp_path))
    assert (other != own, stat.S_IMODE(other.stat().st_mode)) == (True, 0o700)
    own.rmdir()
    own.symlink_to(tmp_path)
    assert own_folder(str(tmp_path)) != own


def test_nothing_is_moved_that_the_user_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    prepare_environment()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "mine")
    assert "HF_HOME" not in os.environ, "it lies in that"
