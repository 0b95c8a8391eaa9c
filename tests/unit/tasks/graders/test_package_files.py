"""Which code an installed grader is: every file of its package, and nothing that a machine adds."""

import importlib
import shutil
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from paft_ray.tasks.graders.package_files import package_sha256

FILES = {
    "my_graders/__init__.py": "",
    "my_graders/entry.py": "from my_graders import rules",
    "my_graders/rules.py": "LIMIT = 3",
    "my_graders/words/list.txt": "good",
    "_my_graders_impl.py": "X = 1",
}


def installed(folder: Path, files: dict[str, str] = FILES, *, listed: bool = True) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    info = folder / "my_graders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-graders\nVersion: 1.0\n")
    record = (
        [*files, "my_graders-1.0.dist-info/METADATA", "../../bin/judge"] if listed else ["__editable__.my_graders.pth"]
    )
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in record))
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = installed(tmp_path / "site")
    monkeypatch.syspath_prepend(str(folder))
    for name in ("my_graders", "my_graders.entry", "my_graders.rules"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("my_graders.entry")
    return folder


def of(folder: Path, module: str = "my_graders.entry") -> str:
    found = next(iter(Distribution.discover(name="my-graders", path=[str(folder)])))
    return package_sha256(module, found)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_of_the_package_counts(site: Path, name: str) -> None:
    before = of(site)
    (site / name).write_text(f"{FILES[name]}  # changed")
    assert of(site) != before
    (site / name).write_text(FILES[name])
    assert of(site) == before


def test_a_new_file_and_a_renamed_one_count(site: Path) -> None:
    found = [of(site)]
    (site / "my_graders/more.py").write_text("")
    found.append(of(site))
    (site / "my_graders/more.py").rename(site / "my_graders/other.py")
    assert len({*found, of(site)}) == 3


def test_what_an_installation_adds_does_not_count(site: Path) -> None:
    before = of(site)
    (site / "my_graders/__pycache__").mkdir(exist_ok=True)
    (site / "my_graders/__pycache__/rules.cpython-311.pyc").write_bytes(b"compiled")
    (site / "my_graders-1.0.dist-info/INSTALLER").write_text("somebody")
    (site / "another_package.py").write_text("")
    assert of(site) == before


def test_an_editable_installation_has_the_files_of_its_package(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists none of them: its own folder is read, here without the module beside it, which nothing leads to."""
    without = {name: text for name, text in FILES.items() if name.startswith("my_graders/")}
    shutil.rmtree(site)

    def of_the_imported(folder: Path) -> str:
        monkeypatch.setattr(sys.modules["my_graders"], "__file__", str(folder / "my_graders/__init__.py"))
        return of(folder)

    editable = installed(tmp_path / "source", without, listed=False)
    (editable / "__editable__.my_graders.pth").write_text(str(editable))
    plain = of_the_imported(installed(tmp_path / "plain", without))
    assert of_the_imported(editable) == plain
    (editable / "my_graders/rules.py").write_text("LIMIT = 4")
    assert of_the_imported(editable) != plain


def test_a_module_of_its_own_and_a_namespace_are_found() -> None:
    whole = package_sha256("pytest", distribution("pytest"))
    assert whole != package_sha256("pytest", None), "_pytest is of the same distribution"
    assert package_sha256("six_that_is_not_there", None) == package_sha256("", None), "nothing to read"
