"""The one measurement: templates x examples -> right or wrong. Scoring and evaluation both use it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from paft_ray.config import EngineConfig, ModelConfig
from paft_ray.errors import UserError
from paft_ray.inference.engine import generate
from paft_ray.inference.trie import branches, greedy_label, label_logprobs
from paft_ray.models import load_tokenizer
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, Task

OUTCOMES = pa.schema(
    [
        ("template_id", pa.string()),
        ("example_id", pa.string()),
        ("answer", pa.string()),
        ("predicted", pa.string()),
        ("parsed", pa.bool_()),
        ("correct", pa.bool_()),
        ("logprob", pa.float64()),
    ]
)
_MOST_LABEL_TOKENS = 128
_DATA_CPUS = 0.25
_FREE = "free"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Outcome rows with what they cost."""

    outcomes: pa.Table
    """Schema `OUTCOMES`; failed rows are absent."""
    num_rows: int
    num_failed: int
    engine_starts: int
    time_s: float
    tokens_per_answer: float | None
    """Mean length of the freely generated answers, cut at the limit; None where none were asked for."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """Free generation beside the constrained answers, to see how long a model talks (the paper's inference-time claim)."""

    num_rows: int
    """Cells spread evenly over the grid."""
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Templates x examples as engine requests; picklable, the tokenizer is loaded where it runs. Cell c is template c // E, example c mod E."""

    task: Task
    templates: tuple[PromptTemplate, ...]
    examples: tuple[Example, ...]
    model: ModelConfig
    model_path: str

    @cached_property
    def encoder(self) -> Encoder:
        tokenizer = load_tokenizer(self.model_path)
        return Encoder(self.task, tokenizer, chat=self.model.chat, max_prompt_tokens=self.model.max_prompt_tokens, cut_field=self.model.cut_field)

    def __len__(self) -> int:
        return len(self.templates) * len(self.examples)

    def cell(self, index: int) -> tuple[PromptTemplate, Example]:
        """Template and example of a cell."""
        return self.templates[index // len(self.examples)], self.examples[index % len(self.examples)]

    def requests(self, cells: Sequence[int], free: Free) -> list[dict[str, Any]]:
        """Engine rows of some cells: for `choice` one per branch of the label trie; one free generation for `free` tasks and the cells that `free` names."""
        rows = []
        spread = {i * len(self) // free.num_rows for i in range(min(free.num_rows, len(self)))}
        for cell in cells:
            encoded = self.encoder.encode(*self.cell(cell))
            if self.task.kind == "free" or cell in spread:
                limit = self.task.max_answer_tokens if self.task.kind == "free" else free.max_tokens
                sampling = _sampling(max_tokens=limit, stop=[self._end], asked=None)
                rows.append({"key": json.dumps([cell, _FREE]), "prompt_ids": encoded.prompt_ids, "sampling": json.dumps(sampling)})
            if self.task.kind == "free":
                continue
            for prefix, tokens in branches(self.encoder.label_ids(encoded.after_newline)).items():
                sampling = _sampling(max_tokens=1, stop=[], asked=list(tokens))
                key = json.dumps([cell, list(prefix), encoded.after_newline])
                rows.append({"key": key, "prompt_ids": [*encoded.prompt_ids, *prefix], "sampling": json.dumps(sampling)})
        return rows

    @property
    def _end(self) -> int:
        return int(self.encoder.tokenizer.eos_token_id)

    def check(self) -> None:
        """Raises `UserError` where labels part in more tokens than an engine reports."""
        if self.task.kind == "choice":
            widest = max(len(tokens) for newline in (True, False) for tokens in branches(self.encoder.label_ids(newline)).values())
            if widest > _MOST_LABEL_TOKENS:
                raise UserError(f"task {self.task.name}: labels part into {widest} tokens at one place; at most {_MOST_LABEL_TOKENS} can be scored")


def measure(
    *,
    task: Task,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    model: ModelConfig,
    tokenizer_path: str,
    weights_path: str,
    engine: EngineConfig,
    speed: Free = Free(num_rows=0, max_tokens=1),
) -> Measurement:
    """Answers of the model in `weights_path` to every example under every template, judged.

    `choice`: greedy decoding constrained to the labels, from one forward pass per branch of the label trie (one in all where first tokens differ);
    `logprob` is that of the right label, normalised over the labels. `free`: greedy generation, parsed; what cannot be parsed is wrong.
    """
    grid = Grid(task=task, templates=tuple(templates), examples=tuple(examples), model=model, model_path=tokenizer_path)
    Grid(**vars_of(grid)).check()
    longest = model.max_prompt_tokens + max(task.max_answer_tokens, speed.max_tokens, 16)
    answered = generate(_dataset(grid, speed), model_path=weights_path, engine=engine, max_model_len=longest)
    free_rows = [row for row in answered.rows if json.loads(row["key"])[1] == _FREE]
    label_rows = [row for row in answered.rows if json.loads(row["key"])[1] != _FREE]
    judged = Grid(**vars_of(grid))
    rows = _judge_free(judged, free_rows) if task.kind == "free" else _judge_choice(judged, label_rows)
    lengths = [len(row["token_ids"]) for row in free_rows]
    return Measurement(
        outcomes=pa.Table.from_pylist(rows, schema=OUTCOMES),
        num_rows=len(grid),
        num_failed=len(grid) - len(rows),
        engine_starts=answered.engine_starts,
        time_s=answered.time_s,
        tokens_per_answer=round(sum(lengths) / len(lengths), 2) if lengths else None,
    )


def _sampling(*, max_tokens: int, stop: list[int], asked: list[int] | None) -> dict[str, Any]:
    """Greedy vLLM sampling parameters. Every row names the same keys with the same types: Ray Data turns an integer that some rows lack into a
    float, which kills the engine's input thread and hangs the stage.
    """
    return {
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "detokenize": False,
        "stop_token_ids": stop,
        "logprobs": len(asked) if asked else 0,
        "logprob_token_ids": asked,
    }


def vars_of(grid: Grid) -> dict[str, Any]:
    """Field values of a grid without its cached tokenizer."""
    return {name: getattr(grid, name) for name in Grid.__dataclass_fields__}


def _dataset(grid: Grid, free: Free) -> ray.data.Dataset:
    shared = ray.put(grid)

    def encode(block: dict[str, np.ndarray]) -> pa.Table:
        return pa.Table.from_pylist(_local(shared).requests(block["id"].tolist(), free))

    blocks = max(1, min(64, len(grid) // 256))
    return ray.data.range(len(grid), override_num_blocks=blocks).map_batches(encode, batch_size=256, num_cpus=_DATA_CPUS)


def _local(reference: Any) -> Grid:
    """The grid of this worker process, fetched once."""
    grid = _LOCAL.get(reference.hex())
    if grid is None:
        _LOCAL.clear()
        grid = _LOCAL[reference.hex()] = ray.get(reference)
    return grid


_LOCAL: dict[str, Grid] = {}


def _judge_choice(grid: Grid, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers: dict[int, dict[tuple[int, ...], dict[int, float]]] = defaultdict(dict)
    newline: dict[int, bool] = {}
    for row in rows:
        cell, prefix, after_newline = json.loads(row["key"])
        answers[cell][tuple(prefix)] = dict(zip(row["top_ids"], row["top_logprobs"], strict=True))
        newline[cell] = after_newline
    outcomes = []
    for cell in sorted(answers):
        template, example = grid.cell(cell)
        labels = grid.encoder.label_ids(newline[cell])
        asked = branches(labels)
        found = {prefix: {t: answers[cell][prefix][t] for t in tokens} for prefix, tokens in asked.items() if prefix in answers[cell]}
        if len(found) < len(asked):
            continue  # a branch of this cell failed: the cell counts as failed
        predicted = greedy_label(labels, found)
        logprob = label_logprobs(labels, found)[example.answer]
        outcomes.append(_outcome(template, example, predicted, parsed=True, correct=predicted == example.answer, logprob=logprob))
    return outcomes


def _judge_free(grid: Grid, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    outcomes = []
    for row in sorted(rows, key=lambda r: json.loads(r["key"])[0]):
        template, example = grid.cell(json.loads(row["key"])[0])
        text = str(grid.encoder.tokenizer.decode(row["token_ids"], skip_special_tokens=True))
        parsed, correct = grid.task.judge(text, example.answer)
        outcomes.append(_outcome(template, example, grid.task.final(text), parsed=parsed, correct=correct, logprob=None))
    return outcomes


def _outcome(template: PromptTemplate, example: Example, predicted: str | None, *, parsed: bool, correct: bool, logprob: float | None) -> dict[str, Any]:
    return {
        "template_id": template.id,
        "example_id": example.id,
        "answer": example.answer,
        "predicted": predicted,
        "parsed": parsed,
        "correct": correct,
        "logprob": logprob,
    }
