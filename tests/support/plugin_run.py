"""A run of the user's own whose answers the plugin of docs/examples judges, as small as it gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from paft_ray.storage.artifacts import OUTCOMES
from paft_ray.storage.store import Store
from tests.chaos.tiny import save_tiny_model

PLUGIN = Path(__file__).parents[2] / "docs" / "examples" / "contains_all.py"
_TASK = """\
name: letters
description: Name letters.
fields: {text: the wish}
answer: letters
grader: {type: contains_all, separator: ","}
max_answer_tokens: 12
sources: {train: {path: my/rows.jsonl}}
"""
_RUN = """\
name: letters
storage: FOLDER/runs
task: my/task.yaml
plugins: [my/contains_all.py]
model: {id: FOLDER/model, max_prompt_tokens: 64}
data: {num_train: 16, num_validation: 4, num_test: 6}
prompts:
  seed_templates: builtin:tasks/data/demo/seed_templates.jsonl
  held_out_templates: builtin:tasks/data/demo/held_out_templates.jsonl
score: {enabled: false}
engine: {precision: fp32}
train: {arms: [paft], num_epochs: null, num_steps: 2, global_batch: 8, micro_batch: 4, precision: fp32}
evaluate: {latency_sample_rows: 0}
"""
_WANTED = ("e,k", "x", "z,a")
"""Letters that some texts of a random model hold and some do not."""


def write_plugin_run(folder: Path) -> None:
    """`my/` in the folder, with the run file `my/run.yaml` and the plugin; a random model, and runs in `runs`."""
    (folder / "my").mkdir()
    save_tiny_model(folder / "model")
    shutil.copy(PLUGIN, folder / "my")
    (folder / "my/task.yaml").write_text(_TASK)
    (folder / "my/run.yaml").write_text(_RUN.replace("FOLDER", str(folder)))
    rows = [{"text": f"wish {n}", "letters": _WANTED[n % 3]} for n in range(40)]
    _write_lines(folder / "my/rows.jsonl", rows)
    _write_lines(folder / "my/test.jsonl", rows[:6])
    _write_lines(folder / "my/templates.jsonl", [{"text": "{text}, in letters:"}, {"text": "Spell this. {text}"}])


def judged(run: Store) -> list[tuple[bool, bool]]:
    """(What the outcomes say of an answer, what its text and reference say) of every answer of a run."""
    return [
        (row["correct"], all(part in (row["predicted"] or "").casefold() for part in row["answer"].split(",")))
        for row in OUTCOMES.read(run).to_pylist()
    ]


def _write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
