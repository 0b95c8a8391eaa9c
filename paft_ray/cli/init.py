"""`paft init NAME`: a task of one's own to start from, as files that run as they are."""

from __future__ import annotations

import re
from pathlib import Path

from paft_ray.cli.out_file import written_to
from paft_ray.config import builtin
from paft_ray.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUM_ROWS, _NUM_TEST = 200, 24
_TASK = """\
name: "{name}"
kind: choice                     # or free, with a pattern that finds the final answer
description: Decide whether a short review is positive or negative.
fields: {{text: the text of the review}}
answer: label
labels: [negative, positive]
sources: {{train: {{path: "{name}/rows.jsonl"}}, test: {{path: "{name}/test.jsonl"}}}}
"""
_RUN = """\
name: "{name}"
task: "{name}/task.yaml"
model: {{id: demo, max_prompt_tokens: 192}}         # or a Hugging Face id, or a local folder
data: {{num_validation: 20}}                        # held back from rows.jsonl
prompts:
  seed_templates: "{name}/templates.jsonl"
  generators: [{{type: grammar}}]                   # composes more; add {{id: MODEL}} to let a model write some
  num_candidates: 30
score: {{enabled: false}}
train:
  {{arms: [paft], num_epochs: null, num_steps: 30, global_batch: 8, micro_batch: 4, num_workers: 2,
   learning_rate: 1.0e-3}}
evaluate: {{latency_sample_rows: 0}}
"""


def init(name: str) -> str:
    """Writes NAME/task.yaml, rows.jsonl, test.jsonl, templates.jsonl and run.yaml below the working folder; returns
    what to do next. Raises `UserError` for a name that no run can have, and for a folder that holds something."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"paft init {name[:80]!r}: no name of a run; use letters, digits, `.`, `_` and `-`, 64 of them at most"
        )
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"paft init {name}: {name} is there and not empty; give another name, or remove it")
    shipped = builtin("tasks", "data", "demo")
    files = {
        "task.yaml": _TASK.format(name=name),
        "rows.jsonl": _rows(shipped / "train.jsonl", _NUM_ROWS),
        "test.jsonl": _rows(shipped / "test.jsonl", _NUM_TEST),
        "templates.jsonl": (shipped / "seed_templates.jsonl").read_text(encoding="utf-8"),
        "run.yaml": _RUN.format(name=name),
    }
    with written_to(name, option="paft init"):
        folder.mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    return (
        f"{name}: task.yaml, rows.jsonl, test.jsonl, templates.jsonl, run.yaml. Start it with `paft run "
        f"{name}/run.yaml`, then put your own rows, labels and templates in place of these"
    )


def _rows(file: Path, num: int) -> str:
    return "".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:num])
