"""A task of the user's own with rows, templates and a run file that name each other by relative paths, for tests that
start commands in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

FOLDER = "Ablage für Tests/данные 1"
"""Spaces and letters beyond ASCII, as people's folders have them."""
_TASK = """\
name: tickets
kind: choice
description: Decide which team a support ticket belongs to.
fields: {ticket: the text of the support ticket}
answer: team
labels: [billing, technical]
sources: {train: {path: tickets.jsonl}}
"""
_RUN = """\
name: own
storage: ./runs
task: my task.yaml
model: {id: ./model, max_prompt_tokens: 128}
prompts: {seed_templates: wordings.jsonl, held_out_templates: held out.jsonl}
train: {num_epochs: null, num_steps: 2, learning_rate: 1.0e-3}
"""
_SEEDS = (
    "Which team should answer this?\n{ticket}\nTeam:",
    "Ticket: {ticket}\nRoute to billing or technical:",
    "{ticket}\n\nIs this billing or technical?",
)
_HELD_OUT = (
    "Please sort: {ticket} Team?",
    "Support request: {ticket} Billing or technical?",
    "Read this: {ticket} Department:",
    "Customer wrote: {ticket} -> team:",
    "Message: {ticket} Owner:",
    "Note - {ticket} Queue =",
    "Case: {ticket} Category is",
    "Inbox item: {ticket} Forward to",
    "From a client: {ticket} Assign:",
    "Help desk: {ticket} Label:",
    "Someone says: {ticket} Handled by",
    "New issue: {ticket} Group:",
)


def write_own_task(parent: Path, model: str) -> Path:
    """The folder, `FOLDER` in `parent`, with the run file `run.yaml` and a link to the folder of a model."""
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    (folder / "my task.yaml").write_text(_TASK)
    (folder / "run.yaml").write_text(_RUN)
    (folder / "model").symlink_to(model)
    rows = [
        {
            "ticket": f"Login fails with error {n}." if n % 2 else f"Invoice {n} is wrong.",
            "team": "technical" if n % 2 else "billing",
        }
        for n in range(40)
    ]
    _write_lines(folder / "tickets.jsonl", rows)
    _write_lines(folder / "wordings.jsonl", ({"text": text} for text in _SEEDS))
    _write_lines(folder / "held out.jsonl", ({"text": text} for text in _HELD_OUT))
    return folder


def _write_lines(file: Path, rows: Iterable[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
