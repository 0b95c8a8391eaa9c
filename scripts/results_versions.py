"""Holds the modules that decide each stage's result to what was recorded of them.

`python scripts/results_versions.py` says what has changed; exit code 1 where something has. Then either
`--no-change REASON` records the modules as they are, for they give the same results (a rename, a message), or
`--raise STAGE` raises the stage's RESULTS_VERSION, so that finished stages of runs are not taken for this one's.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "unit" / "stages" / "results_versions.json"
_PARTS = ("tasks", "prompts", "generators", "metrics", "inference", "training", "models", "compat")
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "prepare": ("paft_ray.stages.prepare", ("tasks", "prompts")),
    "synthesize": ("paft_ray.stages.synthesize", _PARTS),
    "score": ("paft_ray.stages.score", _PARTS),
    "train": ("paft_ray.stages.train", _PARTS),
    "evaluate": ("paft_ray.stages.evaluate", _PARTS),
    "report": ("paft_ray.stages.report", ("metrics", "report", "prompts", "tasks")),
    "sweep": ("paft_ray.sweep.stage", (*_PARTS, "sweep", "report")),
}
"""Stage -> (its module, packages into which imports are followed). A module of another stage that is imported is held,
its imports are not followed. Configuration, storage, console and tracking decide no result that is not in the key."""
_VERSION = re.compile(r"^RESULTS_VERSION = (\d+)$", re.MULTILINE)


def state(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Stage -> its `results_version` and its `modules`: name -> hash of the code."""
    return {
        stage: {"results_version": results_version(root, stage), "modules": modules(root, stage)} for stage in STAGES
    }


def results_version(root: Path, stage: str) -> int:
    """The RESULTS_VERSION that the stage's module declares."""
    found = _VERSION.search(_file(root, STAGES[stage][0]).read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{STAGES[stage][0]} declares no RESULTS_VERSION")
    return int(found[1])


def modules(root: Path, stage: str) -> dict[str, str]:
    """Name -> hash of every module that decides the result of a stage."""
    first, packages = STAGES[stage]
    waiting, found = [first], dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        tree = _code(ast.parse(_file(root, name).read_text(encoding="utf-8")))
        found[name] = code_hash(tree)
        if name == first or name.split(".")[1] in packages:
            waiting += [each for each in _imports(tree, root) if each.split(".")[1] in (*packages, "stages")]
    return dict(sorted(found.items()))


def code_hash(tree: ast.AST) -> str:
    """8 hex digits over code alone: layout, comments and docstrings are left out, and what only a type checker
    reads."""
    return hashlib.sha256("\n".join(_flat(_code(tree))).encode()).hexdigest()[:8]


def changes(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, list[str]]:
    """Stage -> what differs from the record; a stage that is as it was recorded is left out."""
    found = {}
    for stage, current in now.items():
        known = recorded.get(stage, {"results_version": None, "modules": {}})
        old, new = known["modules"], current["modules"]
        lines = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if known["results_version"] != current["results_version"]:
            lines.append(f"RESULTS_VERSION {known['results_version']} -> {current['results_version']}")
        if lines:
            found[stage] = lines
    return found


def raise_version(root: Path, stage: str) -> None:
    """Raises the RESULTS_VERSION in the module of a stage by one."""
    file = _file(root, STAGES[stage][0])
    text = _VERSION.sub(lambda found: f"RESULTS_VERSION = {int(found[1]) + 1}", file.read_text(encoding="utf-8"), 1)
    file.write_text(text, encoding="utf-8")


def _code(tree: ast.AST) -> ast.AST:
    """The tree without docstrings (also those of fields) and without blocks for a type checker."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            if isinstance(block := getattr(node, name, None), list):
                setattr(node, name, [each for each in block if not _is_text(each) and not _is_for_types(each)])
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _flat(value: Any) -> Iterator[str]:
    """A tree as lines that are the same under every version of Python: empty fields are left out."""
    if isinstance(value, ast.AST):
        yield type(value).__name__
        for name, field in ast.iter_fields(value):
            if field is not None and field != [] and not isinstance(field, ast.expr_context):
                yield f"{name}:"
                yield from _flat(field)
        yield "."
    elif isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield repr(value)


def _imports(tree: ast.AST, root: Path) -> Iterator[str]:
    """Modules of this package that a module imports, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (
            name for name in names if name.startswith("paft_ray.") and _file(root, name, missing_ok=True).is_file()
        )


def _file(root: Path, module: str, *, missing_ok: bool = False) -> Path:
    path = root.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not missing_ok and not file.is_file():
        raise SystemExit(f"{module}: no such module; mend STAGES in scripts/results_versions.py")
    return file


def main(arguments: list[str] | None = None, root: Path = ROOT, record: Path = RECORD) -> int:
    """Prints what has changed, or records it; 1 where something has changed and is not recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--no-change", metavar="REASON", help="record all modules: the results are the same, because")
    choice.add_argument("--raise", dest="stage", choices=STAGES, help="raise the stage's RESULTS_VERSION and record it")
    given = parser.parse_args(arguments)
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if given.stage:
        raise_version(root, given.stage)
    now = state(root)
    changed = changes(recorded, now)
    taken = (
        {given.stage: "raised"} if given.stage else dict.fromkeys(changed, given.no_change) if given.no_change else {}
    )
    for stage, note in taken.items():
        recorded[stage] = {**now[stage], "note": note}
    if taken:
        record.write_text(
            json.dumps({s: recorded[s] for s in STAGES if s in recorded}, indent=1) + "\n", encoding="utf-8"
        )
    for stage, lines in changed.items():
        print(f"{stage}: {'recorded' if stage in taken else 'changed'}: {', '.join(lines)}")
    return int(any(stage not in taken for stage in changed))


if __name__ == "__main__":
    sys.exit(main())
