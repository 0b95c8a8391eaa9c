"""`paft prompts generate`: templates composed without a model, as a file that a configuration can name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from paft_ray.cli.out_file import written_to
from paft_ray.config import PromptsConfig
from paft_ray.errors import UserError
from paft_ray.generators.grammar.compose import usable_templates
from paft_ray.prompts.similarity import clusters
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task


def generate(task_name: str, num: int, out: str, *, seed: int, max_words: int) -> str:
    """Writes a new JSONL file of `num` templates and returns what was written, in one line. Raises `UserError` for a
    file that is there, a task whose words do not fit into sentences, and where fewer than `num` come through the
    gate."""
    if not out.endswith(".jsonl"):
        raise UserError(f"--out {out}: unknown kind of file; allowed: .jsonl")
    kept = templates(load_task(task_name), num, seed=seed, max_words=max_words)
    with written_to(out):
        try:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            with Path(out).open("x", encoding="utf-8") as file:
                file.writelines(map(_line, kept))
        except FileExistsError:
            raise UserError(f"--out {out}: is there and is not overwritten; name a new file, or remove it") from None
    frames = len({template.frame for template in kept})
    num_clusters = len(set(clusters(kept, PromptsConfig().similarity)))
    return f"{len(kept)} templates of {frames} frames, {num_clusters} clusters: {out}"


def templates(task: Task, num: int, *, seed: int, max_words: int) -> list[PromptTemplate]:
    """`num` templates that come through the gate, grouped by the family of their frame. Raises `UserError` where fewer
    do."""
    kept = [
        replace(template, group=str(template.frame).rpartition("-")[0])
        for template in usable_templates(task, num, seed, max_words=max_words)
    ]
    if len(kept) < num:
        raise UserError(
            f"--num {num}: only {len(kept)} different templates of at most {max_words} words can be composed for task "
            f"{task.name}; ask for fewer"
        )
    return kept


def _line(template: PromptTemplate) -> str:
    row = {"text": template.text, "group": template.group, "frame": template.frame}
    return json.dumps(row, ensure_ascii=False) + "\n"
