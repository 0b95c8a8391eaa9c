"""Templates x examples as engine requests, and what the answers mean. Needs a tokenizer, but neither Ray nor an
engine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.config import ModelConfig
from paft_ray.errors import UserError
from paft_ray.inference.early_end import LABELS, MOST_LABELS
from paft_ray.inference.said import AnswerJudge, Said, TimedAnswer, deciding_tokens
from paft_ray.inference.trie import Prefix, greedy_label, label_logprobs, queries, rooted_queries
from paft_ray.models.encoder import make_encoder
from paft_ray.models.end_tokens import end_token_ids
from paft_ray.models.local import find_on_this_node
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.encode import Encoded, Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.variant import Posed, posed
from paft_ray.storage.schemas import MOST_SAID, MOST_TOKENS, OUTCOMES
from paft_ray.tasks.graders.choice import Choice
from paft_ray.tasks.task import Example, Task, content_id

Query = tuple[Prefix, int]
_ROOT: Query = ((), 0)
_ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
JUDGED = OUTCOMES.append(pa.field("text", pa.string()))
"""Columns of judged cells: `OUTCOMES`, and what was generated for a task without labels."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """Unconstrained answers to a task with labels, in the request that asks for the labels' log-probabilities: one
    whose first token is a label or ends it is decided there, every other one is generated on, until what it says can
    name no label any more."""

    max_tokens: int
    """Longest answer."""
    num_rows: int = 0
    """Cells, spread evenly over the evaluated ones, that are answered once more to the end, to measure time and tokens
    of an answer (the paper's inference-time claim)."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the engine rows of one model mean."""

    outcomes: pa.Table
    """Schema `JUDGED`, in cell order; a cell with a missing branch is absent."""
    timed: tuple[TimedAnswer, ...]
    """Answers that were generated to their end."""
    num_truncated: int
    """Cells whose fields were truncated."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Templates x examples, then the cells of unconstrained generation. Cell c is template c // E and example c mod E,
    so that neighbors share their beginning."""

    task: Task
    templates: tuple[PromptTemplate, ...]
    """Variants of templates, too: what is asked of an example is then `posed`."""
    examples: tuple[Example, ...]
    model: ModelConfig
    model_files: ModelFiles
    """Found again on the node that encodes, unless the encoder is there already: it is pickled with the grid."""
    free: Free | None = None
    """None: a task with labels is asked for them alone."""
    cells: tuple[int, ...] | None = None
    """The evaluated cells; None: all."""

    @cached_property
    def content_hash(self) -> str:
        """Of what the numbers of cells stand for: 16 hex digits."""
        of_rows = [[example.id, content_id(example.fields, example.answer)] for example in self.examples]
        chosen = None if self.cells is None else hashlib.sha256(np.array(self.cells, np.int64).tobytes()).hexdigest()
        free = self.free and asdict(self.free)
        text = json.dumps([[template.id for template in self.templates], of_rows, chosen, free])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def _path(self) -> str:
        """Folder of the model on this node."""
        return find_on_this_node(self.model_files).path

    @cached_property
    def encoder(self) -> Encoder:
        return make_encoder(self.task, self.model, self._path)

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return end_token_ids(self._path, self.encoder.tokenizer)

    @cached_property
    def _judge_said(self) -> AnswerJudge:
        return AnswerJudge(self.encoder, self._ends)

    @property
    def has_labels(self) -> bool:
        """Whether answers are chosen from labels, too; else they are generated only."""
        return bool(self.task.label_texts)

    @cached_property
    def _queries(self) -> dict[bool, dict[Query, tuple[int, ...]]]:
        """Whether the prompt ends with a line break -> what a cell asks for (see `queries`)."""
        find = rooted_queries if self.free else queries
        return {newline: find(self.encoder.label_ids(newline)) for newline in (True, False)}

    @property
    def num_cells(self) -> int:
        return len(self.templates) * len(self.examples)

    @property
    def asked(self) -> Sequence[int]:
        """Evaluated cells, in ascending order."""
        return range(self.num_cells) if self.cells is None else self.cells

    @property
    def num_free(self) -> int:
        """Cells that are answered once more after the grid; a task without labels has none: all its cells are answered
        to the end."""
        return min(self.free.num_rows, len(self.asked)) if self.has_labels and self.free else 0

    @property
    def num_rows(self) -> int:
        """Evaluated cells, and cells of unconstrained generation."""
        return len(self.asked) + self.num_free

    def index(self, row: int) -> int:
        """Index of row 0 ... num_rows - 1: a cell, or beyond the grid one of unconstrained generation."""
        return self.asked[row] if row < len(self.asked) else self.num_cells + row - len(self.asked)

    @property
    def max_answer_tokens(self) -> int:
        """Longest unconstrained answer, long enough for every label; 1 where none is asked for."""
        return 1 if self.has_labels and not self.free else self._longest_answer

    @property
    def longest(self) -> int:
        """Longest request with its answer, in tokens."""
        return self.model.max_prompt_tokens + self._longest_answer

    @cached_property
    def _longest_answer(self) -> int:
        return longest_answer(self.encoder, self.free.max_tokens if self.free else 1)

    def cell(self, index: int) -> tuple[PromptTemplate, Example]:
        """Template and example of a cell, or of the cell that a free index stands for."""
        if index >= self.num_cells:
            index = self.asked[(index - self.num_cells) * len(self.asked) // self.num_free]
        return self.templates[index // len(self.examples)], self.examples[index % len(self.examples)]

    def _posed(self, index: int) -> Posed:
        """What is asked of a cell."""
        return posed(*self.cell(index))

    def requests(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Engine rows: of a task with labels one per branch of the label trie (one where first tokens differ; more
        where they are very many), the first of which gives the unconstrained answer, too; else one generation.

        A cell whose text cannot be encoded gives one row with the reason in `error`.
        """
        rows = []
        for index in indices:
            try:
                asked_of = self._posed(index)
                encoded = self.encoder.encode(asked_of.template, asked_of.example)
            except (ValueError, TypeError) as error:  # TypeError: how a tokenizer refuses text that is none
                rows.append({**_request([index, 0], [], {}), "error": ascii(f"{type(error).__name__}: {error}")})
                continue
            if not self.has_labels or index >= self.num_cells:
                rows.append(_request(_key(index, encoded), encoded.prompt_ids, self._generated(self._ends)))
                continue
            for query, tokens in self._queries[encoded.after_newline].items():
                asked = {"logprob_token_ids": list(tokens)}
                is_free = query == _ROOT and self.free is not None
                answer = self._unconstrained(encoded.after_newline) if is_free else _ONE_TOKEN
                prompt_ids = [*encoded.prompt_ids, *query[0]]
                rows.append(_request([*_key(index, encoded), *query], prompt_ids, {**answer, **asked}))
        return rows

    def _unconstrained(self, after_newline: bool) -> dict[str, Any]:
        """Sampling of an unconstrained answer that is generated as far as it takes to judge it."""
        sampling = self._generated(self._stops)
        labels = self.encoder.label_ids(after_newline)
        # Another grader, of a third party too, may judge by what follows.
        if type(self.task.grader) is Choice and len(labels) <= MOST_LABELS:
            sampling["extra_args"] = {LABELS: labels}
        return sampling

    def _generated(self, stops: Sequence[int]) -> dict[str, Any]:
        """Sampling of an unconstrained answer that ends with one of these tokens."""
        return {**_ONE_TOKEN, "max_tokens": self.max_answer_tokens, "stop_token_ids": list(stops)}

    @cached_property
    def _stops(self) -> tuple[int, ...]:
        return tuple(sorted({*self._ends, *self._deciding}))

    @cached_property
    def _deciding(self) -> frozenset[int]:
        return frozenset(deciding_tokens(self.encoder))

    def check(self) -> None:
        """Raises `UserError` for a template that is too long, or two labels of the same tokens."""
        for template in self.templates:
            self.encoder.check(template)
        check_labels(self.encoder)

    def judge(self, batches: Iterable[Sequence[Mapping[str, Any]]]) -> Judged:
        """What engine rows in any order mean."""
        columns: dict[str, list[Any]] = {name: [] for name in JUDGED.names}
        cells: list[int] = []
        waiting: dict[int, dict[Query, Mapping[str, Any]]] = {}
        timed: list[TimedAnswer] = []
        truncated: set[int] = set()
        for row in chain.from_iterable(batches):
            index, truncated_characters, after_newline, *query = json.loads(row["key"])
            if truncated_characters and index < self.num_cells:
                truncated.add(index)
            if index < self.num_cells and self.has_labels:
                found = waiting.setdefault(index, {})
                found[tuple(query[0]), query[1]] = row
                if len(found) < len(self._queries[after_newline]):
                    continue
                values = self._judge_choice(index, after_newline, waiting.pop(index))
            else:
                example = self._posed(index).example
                said = self._judge_said(row["token_ids"], example, after_newline)
                timed.append(self._judge_said.timed(row, example, after_newline, said, self._deciding))
                if index >= self.num_cells:
                    continue
                values = self._judge_generated(index, row, said)
            cells.append(index)
            for name, column in columns.items():
                column.append(values.get(name))
        order = pa.array(sorted(range(len(cells)), key=cells.__getitem__), pa.int64())
        outcomes = pa.table(columns, schema=JUDGED).take(order)
        return Judged(outcomes=outcomes, timed=tuple(timed), num_truncated=len(truncated))

    def num_failed(self, outcomes: pa.Table) -> int:
        """Cells that were asked and have no outcome."""
        return len(self.asked) - outcomes.num_rows

    def _judge_choice(
        self, index: int, after_newline: bool, found: Mapping[Query, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Values of `JUDGED` of a cell whose branches have all answered."""
        answers: dict[Prefix, dict[int, float]] = {}
        for query, tokens in self._queries[after_newline].items():
            row = found[query]
            top = dict(zip(row["top_ids"], row["top_logprobs"], strict=True))
            answers.setdefault(query[0], {}).update({token: top[token] for token in tokens})
        labels = self.encoder.label_ids(after_newline)
        predicted, shown = greedy_label(labels, answers), label_logprobs(labels, answers)
        cell, root = self._posed(index), found.get(_ROOT, {})
        said = self._values_said(root, cell, after_newline) if self.free else {}
        return {
            **said,
            **self._ids(index),
            "predicted": cell.label(predicted),
            "parsed": True,
            "correct": predicted == cell.example.answer,
            "logprob": shown[cell.example.answer],
            "said": said["text"][:MOST_SAID] if said else None,
            "label_logprobs": [min(shown[cell.shown.get(label, label)], 0.0) for label in labels],
            "label_mass": min(sum(map(math.exp, answers[()].values())), 1.0) if () in answers else None,
            "text": None,
        }

    def _values_said(self, row: Mapping[str, Any], cell: Posed, after_newline: bool) -> dict[str, Any]:
        """Values of an unconstrained answer, in the task's own labels."""
        values = _values_said(row, self._judge_said(row["token_ids"], cell.example, after_newline))
        return {**values, "named": values["named"] and cell.label(values["named"])}

    def _judge_generated(self, index: int, row: Mapping[str, Any], said: Said) -> dict[str, Any]:
        """Values of `JUDGED` of a cell of a task without labels."""
        return {
            **_values_said(row, said),
            **self._ids(index),
            "predicted": said.named,
            "parsed": said.named is not None,
            "correct": said.behavior == 1,
        }

    def _ids(self, index: int) -> dict[str, str]:
        template, example = self.cell(index)
        return {"template_id": template.id, "example_id": example.id, "answer": example.answer}


def _values_said(row: Mapping[str, Any], said: Said) -> dict[str, Any]:
    return {**asdict(said), "num_tokens": min(len(row["token_ids"]), MOST_TOKENS)}


def requests_per_cell(encoder: Encoder) -> int:
    """Most requests that one cell takes in stage evaluate: the parts of the label trie, or one generation."""
    if not encoder.task.label_texts:
        return 1
    return max(1, *(len(rooted_queries(encoder.label_ids(newline))) for newline in (True, False)))


def longest_answer(encoder: Encoder, most_free: int) -> int:
    """Tokens that an answer in stage evaluate takes at most. `most_free`: of an unconstrained one where there are
    labels."""
    labels = [len(ids) for newline in (True, False) for ids in encoder.label_ids(newline).values()]
    return max(most_free, *labels) if labels else encoder.task.max_answer_tokens


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


def _key(index: int, encoded: Encoded) -> list[Any]:
    return [index, encoded.truncated_characters, encoded.after_newline]


def _request(key: list[Any], prompt_ids: list[int], sampling: dict[str, Any]) -> dict[str, Any]:
    return {"key": json.dumps(key), "prompt_ids": prompt_ids, "sampling": json.dumps(sampling), "error": ""}
