"""The worked examples of docs/extending.md: one file each outside the package."""

import re
from pathlib import Path

import pytest

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders import plugins
from paft_ray.tasks.graders.plugins import find, read_plugin
from paft_ray.tasks.task import Task

EXAMPLES = Path("docs/examples").resolve()
SCALE = ["terrible", "bad", "mixed", "good", "great"]


def task(kind: str, labels: list[str] | None = None, **settings: str) -> Task:
    more = {"labels": labels} if labels else {}
    return Task(name="t", description="d", fields={"text": "a text"}, grader={"type": kind, **settings}, **more)


def example(answer: str) -> Example:
    return Example(id="1", fields={"text": "x"}, answer=answer)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_the_page_links_every_example_and_each_is_a_plugin(file: Path) -> None:
    assert f"(examples/{file.name})" in Path("docs/extending.md").read_text()
    assert find(file.stem, [read_plugin(str(file))]) is not None


@pytest.mark.parametrize(
    ("answer", "lenient", "strict"),
    [
        ("Green, blue\nand RED", 1, 0),
        ("red blue green", 1, 1),
        ("red, blue", 0, 0),
    ],
)
def test_contains_all(answer: str, lenient: int, strict: int) -> None:
    grader = task("contains_all").with_plugins([read_plugin(f"{EXAMPLES}/contains_all.py")]).grader
    reference = example("red; green; blue")
    assert grader.score(str(grader.parse(answer)), reference) == lenient
    assert grader.score(str(grader.parse_strict(answer)), reference) == strict
    assert grader.score(str(grader.parse(reference.answer)), reference) == 1
    assert grader.parse(" \n") is None


def test_settings_of_the_task_reach_it() -> None:
    grader = task("contains_all", separator="|").with_plugins([read_plugin(f"{EXAMPLES}/contains_all.py")]).grader
    assert grader.score("b a", example("a|b")) == 1


def test_near_label_is_found_as_an_entry_point_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near_label.py").write_bytes((EXAMPLES / "near_label.py").read_bytes())
    folder = tmp_path / "scales-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: scales\nVersion: 1.2\n")
    page = Path("docs/extending.md").read_text()
    named = re.search(r'\[project\.entry-points\."(\S+)"\]\n(near_label) = "(\S+)"', page)
    assert named is not None
    assert named[1] == plugins.GROUP
    (folder / "entry_points.txt").write_text(f"[{named[1]}]\n{named[2]} = {named[3]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    near = task("near_label", SCALE)
    assert near.grader_identity["package"] == "scales 1.2"
    found = near.grader.parse("**Good** film")
    assert found == "good"
    assert near.grader.parse_strict("Good film") is None
    assert [near.grader.score(found, example(label)) for label in SCALE] == [0.25, 0.5, 0.75, 1, 0.75]
    assert near.grader.is_graded
