"""Templates x examples as engine requests, and what the answers mean. Needs a tokenizer, but neither Ray nor an
engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from paft_ray.config import ModelConfig
from paft_ray.errors import UserError
from paft_ray.inference.trie import Prefix, greedy_label, label_logprobs, queries
from paft_ray.models.encoder import make_encoder
from paft_ray.models.local import find_on_this_node
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.schemas import OUTCOMES
from paft_ray.tasks.task import Example, Task

Query = tuple[Prefix, int]


@dataclass(frozen=True, kw_only=True)
class Free:
    """Unconstrained generation next to the constrained answers, to measure the length of answers (the paper's
    inference-time claim)."""

    num_rows: int
    """Cells, spread evenly over the evaluated ones."""
    max_tokens: int


NO_FREE = Free(num_rows=0, max_tokens=1)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Templates x examples, then the cells of unconstrained generation. Cell c is template c // E and example c mod E,
    so that neighbors share their beginning."""

    task: Task
    templates: tuple[PromptTemplate, ...]
    examples: tuple[Example, ...]
    model: ModelConfig
    model_files: ModelFiles
    """Found again on the node that encodes, unless the encoder is there already: it is pickled with the grid."""
    free: Free = NO_FREE
    cells: tuple[int, ...] | None = None
    """The evaluated cells; None: all."""

    @cached_property
    def encoder(self) -> Encoder:
        return make_encoder(self.task, self.model, find_on_this_node(self.model_files).path)

    @cached_property
    def _queries(self) -> dict[bool, dict[Query, tuple[int, ...]]]:
        """Whether the prompt ends with a line break -> what a cell asks for (see `queries`)."""
        return {newline: queries(self.encoder.label_ids(newline)) for newline in (True, False)}

    @property
    def num_cells(self) -> int:
        return len(self.templates) * len(self.examples)

    @property
    def asked(self) -> Sequence[int]:
        """Evaluated cells, in ascending order."""
        return range(self.num_cells) if self.cells is None else self.cells

    @property
    def num_free(self) -> int:
        """Cells of unconstrained generation after the grid; a `free` task has none, for all its cells are."""
        return 0 if not self.task.label_texts else min(self.free.num_rows, len(self.asked))

    @property
    def num_rows(self) -> int:
        """Evaluated cells, and cells of unconstrained generation."""
        return len(self.asked) + self.num_free

    def index(self, row: int) -> int:
        """Index of row 0 ... num_rows - 1: a cell, or beyond the grid one of unconstrained generation."""
        return self.asked[row] if row < len(self.asked) else self.num_cells + row - len(self.asked)

    @property
    def longest(self) -> int:
        """Longest request with its answer, in tokens."""
        answer = (
            self.task.max_answer_tokens if not self.task.label_texts else self.free.max_tokens if self.num_free else 1
        )
        labels = [ids for newline in (True, False) for ids in self.encoder.label_ids(newline).values()]
        return self.model.max_prompt_tokens + max(answer, *map(len, labels), 1)

    def cell(self, index: int) -> tuple[PromptTemplate, Example]:
        """Template and example of a cell, or of the cell that a free index stands for."""
        if index >= self.num_cells:
            index = self.asked[(index - self.num_cells) * len(self.asked) // self.num_free]
        return self.templates[index // len(self.examples)], self.examples[index % len(self.examples)]

    def requests(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Engine rows: for `choice` one per branch of the label trie (one where first tokens differ; more where they
        are very many), else one generation.

        A cell whose text cannot be encoded gives one row with the reason in `error`.
        """
        rows = []
        for index in indices:
            try:
                encoded = self.encoder.encode(*self.cell(index))
            except (ValueError, TypeError) as error:  # TypeError: how a tokenizer refuses text that is none
                rows.append({**_request([index, 0], [], {}), "error": ascii(f"{type(error).__name__}: {error}")})
                continue
            if not self.task.label_texts or index >= self.num_cells:
                limit = self.task.max_answer_tokens if not self.task.label_texts else self.free.max_tokens
                sampling: dict[str, Any] = {
                    "max_tokens": limit,
                    "temperature": 0.0,
                    "detokenize": False,
                    "stop_token_ids": [self._end],
                }
                rows.append(_request([index, encoded.truncated_characters], encoded.prompt_ids, sampling))
                continue
            for (prefix, part), tokens in self._queries[encoded.after_newline].items():
                sampling = {
                    "max_tokens": 1,
                    "temperature": 0.0,
                    "detokenize": False,
                    "logprobs": len(tokens),
                    "logprob_token_ids": list(tokens),
                }
                key = [index, encoded.truncated_characters, list(prefix), part, encoded.after_newline]
                rows.append(_request(key, [*encoded.prompt_ids, *prefix], sampling))
        return rows

    @property
    def _end(self) -> int:
        return int(self.encoder.tokenizer.eos_token_id)

    def check(self) -> None:
        """Raises `UserError` for a template that is too long, or two labels of the same tokens."""
        for template in self.templates:
            self.encoder.check(template)
        check_labels(self.encoder)

    def judge(self, batches: Iterable[Sequence[Mapping[str, Any]]]) -> pa.Table:
        """Outcomes in cell order (schema `OUTCOMES`) from engine rows in any order; a cell with a missing branch is
        absent."""
        columns: dict[str, list[Any]] = {name: [] for name in OUTCOMES.names[: OUTCOMES.names.index("behavior")]}
        cells: list[int] = []
        waiting: dict[int, dict[Query, dict[int, float]]] = {}
        for rows in batches:
            for row in rows:
                index, _, *branch = json.loads(row["key"])
                if index >= self.num_cells:
                    continue
                values = (
                    self._judge_free(index, row["token_ids"])
                    if not self.task.label_texts
                    else self._judge_choice(index, branch, row, waiting)
                )
                if values is not None:
                    cells.append(index)
                    for name, value in zip(columns, values, strict=True):
                        columns[name].append(value)
        order = pa.array(sorted(range(len(cells)), key=cells.__getitem__), pa.int64())
        rest = {name: [None] * len(cells) for name in OUTCOMES.names if name not in columns}
        return pa.table(columns | rest, schema=OUTCOMES).take(order)

    def num_failed(self, outcomes: pa.Table) -> int:
        """Cells that were asked and have no outcome."""
        return len(self.asked) - outcomes.num_rows

    def _judge_choice(
        self, index: int, branch: list[Any], row: Mapping[str, Any], waiting: dict[int, dict[Query, dict[int, float]]]
    ) -> tuple[Any, ...] | None:
        """Values of `OUTCOMES` once every branch of the cell has answered."""
        prefix, part, after_newline = branch
        wanted, found = self._queries[after_newline], waiting.setdefault(index, {})
        top = dict(zip(row["top_ids"], row["top_logprobs"], strict=True))
        found[tuple(prefix), part] = {token: top[token] for token in wanted[tuple(prefix), part]}
        if len(found) < len(wanted):
            return None
        del waiting[index]
        answers: dict[Prefix, dict[int, float]] = {}
        for (asked, _), tokens in found.items():
            answers.setdefault(asked, {}).update(tokens)
        template, example = self.cell(index)
        labels = self.encoder.label_ids(after_newline)
        predicted = greedy_label(labels, answers)
        return (
            template.id,
            example.id,
            example.answer,
            predicted,
            True,
            predicted == example.answer,
            label_logprobs(labels, answers)[example.answer],
        )

    def _judge_free(self, index: int, token_ids: Sequence[int]) -> tuple[Any, ...]:
        template, example = self.cell(index)
        text = str(self.encoder.tokenizer.decode(list(token_ids), skip_special_tokens=True))
        found = self.task.grader.parse(text)
        correct = found is not None and self.task.grader.score(found, example) == 1
        return template.id, example.id, example.answer, found, found is not None, correct, None


def requests_per_cell(encoder: Encoder) -> int:
    """Most requests that one cell takes: the parts of the label trie, or one generation."""
    if not encoder.task.label_texts:
        return 1
    return max(1, *(len(queries(encoder.label_ids(newline))) for newline in (True, False)))


def check_labels(encoder: Encoder) -> None:
    """Raises `UserError` for two labels that are the same tokens to the model."""
    for newline in (True, False):
        first: dict[tuple[int, ...], str] = {}
        for label, ids in encoder.label_ids(newline).items():
            if (other := first.setdefault(tuple(ids), label)) != label:
                raise UserError(
                    f"task {encoder.task.name}: labels {other!r} and {label!r} have the same tokens for this "
                    "model; write them differently"
                )


def _request(key: list[Any], prompt_ids: list[int], sampling: dict[str, Any]) -> dict[str, Any]:
    return {"key": json.dumps(key), "prompt_ids": prompt_ids, "sampling": json.dumps(sampling), "error": ""}
