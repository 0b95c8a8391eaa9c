"""Graders of third parties: loaded only from files that the user's configuration names, and held to the contract."""

import pickle
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from textwrap import dedent

import pytest

from paft_ray.errors import UserError
from paft_ray.tasks.example import Example
from paft_ray.tasks.graders import guard, plugins
from paft_ray.tasks.graders.plugins import read_plugin
from paft_ray.tasks.task import NoGraderError, Task

EXAMPLE = Example(id="7", fields={"text": "x"}, answer="b")
PLUGIN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    labels: tuple[str, ...] = ()
    is_graded: bool = False
    bonus: float = 0.0

    def parse(self, completion):
        return completion.strip() or None

    def parse_strict(self, completion):
        return completion or None

    def score(self, prediction, example):
        return float(prediction == example.answer) + self.bonus

GRADERS = {"mine": Mine}
"""


def written(folder: Path, source: str = PLUGIN, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(dedent(source))
    return str(path)


def task(*files: str, kind: str = "mine", labels: list[str] | None = None, **settings: object) -> Task:
    more = {"labels": labels} if labels else {}
    made = Task(name="t", description="d", fields={"text": "a text"}, grader={"type": kind, **settings}, **more)
    return made.with_plugins([read_plugin(file) for file in files])


def test_a_file_of_the_configuration_gives_its_graders(tmp_path: Path) -> None:
    made = task(written(tmp_path))
    assert (made.grader.parse(" b\n"), made.grader.parse("  "), made.grader.score("b", EXAMPLE)) == ("b", None, 1)
    assert set(made.grader_identity) == {"sha256"}
    assert made.model_dump(mode="json")["grader"] == {"type": "mine"}, "the task names a type, no file"
    assert task(written(tmp_path), labels=["b", "c"]).grader.labels == ("b", "c")


def test_a_task_takes_its_file_along_to_a_process_that_has_none(tmp_path: Path) -> None:
    path = written(tmp_path)
    sent = pickle.dumps(task(path))
    Path(path).unlink()
    code = "import pickle, sys; t = pickle.load(sys.stdin.buffer); print(t.grader.parse(' b '), t.grader_identity)"
    shown = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True).stdout.decode()
    assert shown.startswith("b {'sha256'")


def test_it_is_run_once_in_a_process_and_not_before_it_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = written(tmp_path, PLUGIN + f"\nopen({str(log)!r}, 'a').write('run ')\n")
    made = task(path)
    assert not log.exists()
    for _ in range(2):
        _ = task(path).grader, made.grader, made.grader_identity
    assert log.read_text() == "run "


def test_a_changed_file_is_refused_by_its_hash(tmp_path: Path) -> None:
    plugin = read_plugin(written(tmp_path))
    assert read_plugin(plugin.pinned) == plugin
    written(tmp_path, PLUGIN + "# changed")
    with pytest.raises(UserError, match=rf"its SHA-256 is .*, {plugin.sha256[:16]}… is asked for"):
        read_plugin(plugin.pinned)


def test_a_type_that_nothing_has_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoGraderError, match=r"task t: no grader 'other'; allowed: choice, regex, .*plugins: \[FILE\]"):
        _ = task(written(tmp_path), kind="other").grader


def test_a_type_names_neither_a_module_nor_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, PLUGIN + "\nraise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind in ("mine", "mine:Mine", "mine.py", str(tmp_path / "mine.py"), "os:system"):
        with pytest.raises(NoGraderError):
            _ = task(kind=kind).grader


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def broken(:", r"mine.py, line 1: cannot be loaded \(SyntaxError"),
        ("x = 1\ny = missing", r"mine.py, line 2: cannot be loaded \(NameError: name 'missing'"),
        ("raise SystemExit(0)", r"cannot be loaded \(SystemExit"),
        ("x = 1", r"names no graders; write GRADERS = "),
        ("GRADERS = {'mine': 3}", "names no graders"),
        ("GRADERS = {'choice': object}", "choice is a grader of this package"),
        (PLUGIN.replace("bonus: float = 0.0", "bonus: float"), "line 4: cannot be loaded"),
        ("class A: pass\nGRADERS = {'mine': A}", r"cannot be made of the task's settings \(AttributeError"),
        (PLUGIN.replace("is_graded: bool = False", "is_graded: int = 3"), "is_graded is 3; True or False"),
        (PLUGIN.replace("def parse_strict", "def other"), r"has no parse_strict\(\)"),
        (PLUGIN.replace("labels: tuple[str, ...] = ()", "labels: tuple = ('a',)"), "its labels are .*must be the same"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_in_one_line(tmp_path: Path, source: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        _ = task(written(tmp_path, source)).grader
    assert "\n" not in str(caught.value)


def test_settings_and_labels_that_it_does_not_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grader mine of .*cannot be made of the task's settings \(TypeError.*'color'"):
        _ = task(written(tmp_path), color="red").grader


@pytest.mark.parametrize("path", ["missing.py", "."])
def test_what_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_plugin(str(tmp_path / path))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return 2.0", r"score\('b', example '7'\) returned 2.0; 0 or 1 \(is_graded is false\) is needed"),
        ("return 0.5", "0 or 1"),
        ("return float('nan')", "returned nan"),
        ("return 'good'", "returned 'good'"),
        ("return None", "returned None"),
        ("raise ValueError('a\\nb')", r"raised ValueError: a b; a result is needed"),
        ("raise SystemExit", "raised SystemExit"),
        ("return 1 / 0", "raised ZeroDivisionError"),
        ("while True: pass", r"raised TooLongError: still running after 0.2 s"),
        ("import re; re.match('(a+)+$', 'a' * 40 + 'b')", "raised TooLongError"),
        ("while True:\n            try:\n                pass\n            except ValueError: pass", "TooLongError"),
    ],
)
def test_a_score_that_it_may_not_have_ends_in_one_line(
    tmp_path: Path, body: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "CALL_S", 0.2)
    path = written(tmp_path, PLUGIN.replace("return float(prediction == example.answer) + self.bonus", body))
    grader, start = task(path).grader, time.monotonic()
    with pytest.raises(UserError, match=rf"grader mine of .*mine.py: .*{reason}") as caught:
        grader.score("b", EXAMPLE)
    assert "answers that were given are kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_what_is_parsed_is_text_and_one_of_its_labels(tmp_path: Path) -> None:
    number = written(tmp_path, PLUGIN.replace("return completion.strip() or None", "return 5"), "number.py")
    with pytest.raises(UserError, match=r"parse\('x'\) returned 5; text or None is needed"):
        task(number).grader.parse("x")
    with pytest.raises(UserError, match="returned 'x'; one of its labels or None is needed"):
        task(written(tmp_path), labels=["b", "c"]).grader.parse("x")


def test_a_label_must_be_read_as_itself(tmp_path: Path) -> None:
    """It is what is trained, so no trained answer could be right."""
    marked = written(
        tmp_path, PLUGIN.replace("return completion.strip() or None", "return 'b' if completion == 'b' else None")
    )
    with pytest.raises(
        UserError, match=r"grader mine of .*parse\('c'\) gives None; a label, .* must be read as itself"
    ):
        _ = task(marked, labels=["b", "c"]).grader


def test_a_reference_is_refused_with_its_row_by_what_the_grader_says_of_it(tmp_path: Path) -> None:
    row = {"text": "x", "label": "b"}
    empty = PLUGIN.replace("return completion.strip() or None", "return None")
    with pytest.raises(UserError, match=r"rows\.jsonl:3: the reference answer holds nothing"):
        task(written(tmp_path, empty, "empty.py")).example(row, "rows.jsonl:3")
    method = "    def reference_fault(self, answer):\n        return 'odd'\n\n"
    says = PLUGIN.replace("    def parse(", f"{method}    def parse(")
    with pytest.raises(UserError, match=r"rows\.jsonl:3: grader says of the reference answer: odd"):
        task(written(tmp_path, says, "says.py")).example(row, "rows.jsonl:3")


def test_an_installed_package_gives_its_graders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, name="a_package_of_graders.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint(name="mine", value="a_package_of_graders:Mine", group=plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda **which: EntryPoints([entry]).select(**which))
    assert task().grader.score("b", EXAMPLE) == 1
    assert set(task().grader_identity) == {"package", "sha256"}
    with pytest.raises(UserError, match="grader mine: several have this name"):
        _ = task(written(tmp_path)).grader
