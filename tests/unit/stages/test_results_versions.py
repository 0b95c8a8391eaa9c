"""A change of the code that decides a stage's result raises the stage's version, or is recorded as none of results."""

import ast
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from paft_ray.storage.versions import DECIDING

REMEDY = (
    "run `python scripts/results_versions.py --raise STAGE` where results change (finished stages are then refused by "
    "name), or `--no-change REASON` where they do not"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_versions", "scripts/results_versions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree("paft_ray", tmp_path / "paft_ray", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_modules_and_versions_are_as_recorded(script: ModuleType) -> None:
    recorded = json.loads(script.RECORD.read_text())
    assert script.changes(recorded, script.state()) == {}, REMEDY
    assert all(entry["note"] for entry in recorded.values())


def test_every_stage_says_which_libraries_decide_it(script: ModuleType) -> None:
    assert set(script.STAGES) <= set(DECIDING)


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("prepare", "paft_ray.tasks.readers"),
        ("synthesize", "paft_ray.prompts.split"),
        ("synthesize", "paft_ray.generators.rounds"),
        ("score", "paft_ray.inference.grid"),
        ("score", "paft_ray.prompts.encode"),
        ("train", "paft_ray.training.loop"),
        ("train", "paft_ray.prompts.chat_child"),
        ("train", "paft_ray.stages.score"),
        ("evaluate", "paft_ray.inference.engine"),
        ("report", "paft_ray.metrics.intervals"),
        ("sweep", "paft_ray.training.loop"),
    ],
)
def test_a_stage_is_held_to_the_modules_that_it_reaches(script: ModuleType, stage: str, module: str) -> None:
    assert module in script.modules(script.ROOT, stage)


def test_text_layout_and_types_are_no_change(script: ModuleType) -> None:
    bare = "def f(x):\n    return x + 1\n\nclass A:\n    a: int = 3\n"
    told = '''"""Text."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import os

def f(x):  # a comment
    """More text."""
    return (
        x + 1
    )

class A:
    """Text."""
    a: int = 3
    """Of a field."""
'''
    imported = "from typing import TYPE_CHECKING\n" + bare
    assert script.code_hash(ast.parse(told)) == script.code_hash(ast.parse(imported))
    assert script.code_hash(ast.parse(bare)) != script.code_hash(ast.parse(bare.replace("+ 1", "+ 2")))
    assert script.code_hash(ast.parse(bare)) != script.code_hash(ast.parse(bare.replace("= 3", "= None")))


def test_a_change_is_named_until_it_is_recorded_or_raised(
    script: ModuleType, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = copy / "record.json"
    assert script.main(["--no-change", "the first record"], copy, record) == 0
    assert script.main([], copy, record) == 0
    capsys.readouterr()
    with (copy / "paft_ray/inference/trie.py").open("a") as stream:
        stream.write("\nONE_MORE = 1\n")
    assert script.main([], copy, record) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "score: changed: paft_ray.inference.trie" in shown
    assert not any(line.startswith(("prepare", "report")) for line in shown)
    before = script.results_version(copy, "score")
    assert script.main(["--raise", "score"], copy, record) == 1, "the other stages are still to be settled"
    assert script.results_version(copy, "score") == before + 1
    assert script.main(["--no-change", "an unused name"], copy, record) == 0
    assert json.loads(record.read_text())["score"]["note"] == "raised"
    assert json.loads(record.read_text())["evaluate"]["note"] == "an unused name"
    assert script.main([], copy, record) == 0
