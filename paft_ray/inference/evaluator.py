"""The one evaluation: templates x examples -> right or wrong. Stages score and evaluate both use it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from numpy.typing import NDArray

from paft_ray.compat.ray_range import indices
from paft_ray.config import EngineConfig, ModelConfig
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.generate import DATA_CPUS, Generated, data_tasks, generate
from paft_ray.inference.grid import Free, Grid
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.inference.said import TimedAnswer
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.schemas import OUTCOMES
from paft_ray.tasks.task import Example, Task

_MANY_BLOCKS, _MOST_ROWS = 4096, 4096


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """The judged answers of one model."""

    outcomes: pa.Table
    """Schema `OUTCOMES`, in the order of templates, then examples; failed rows are absent."""
    num_failed: int
    failures: list[dict[str, str]]
    """`template_id`, `example_id` and `error` of the first requests that failed."""
    num_truncated: int
    """Cells whose fields were truncated to keep to `model.max_prompt_tokens`."""
    texts: pa.ChunkedArray
    """What was generated, row by row of `outcomes`; null for a task with labels."""
    timed: tuple[TimedAnswer, ...]
    """Answers that were generated to their end."""


def evaluate(
    *,
    name: str,
    task: Task,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    model: ModelConfig,
    base: ModelFiles,
    models: Sequence[ModelWeights],
    cache: AnswerCache,
    engine: EngineConfig,
    free: Free | None = None,
    cells: NDArray[np.bool_] | None = None,
) -> tuple[list[EvalResult], Generated]:
    """(The answers of each model to every example under every template, judged; with `cells` [templates, examples] only
    to those; what they cost together).

    `base`: the model of section `model`, of whose architecture all `models` are.

    Tasks with labels: greedy decoding constrained to the labels, from one forward pass per branch of the label trie
    (one in all where first tokens differ); `logprob` is that of the right label, normalized over the labels; with
    `free` the unconstrained answer as well. Other tasks: greedy generation. An answer that cannot be parsed is wrong.
    `name` opens the console lines; `cache` keeps finished answers for the next attempt. Raises `UserError` for labels
    that cannot be scored and for a third party's grader that breaks its contract, `StageError` where the engine fails.
    """
    grid = Grid(
        task=task,
        templates=tuple(templates),
        examples=tuple(examples),
        model=model,
        model_files=base,
        free=free,
        cells=None if cells is None else tuple(np.flatnonzero(cells).tolist()),
    )
    grid.check()
    distinct = {weights.id: weights for weights in models}  # arms trained on the same template end in the same weights
    answered = generate(
        _dataset(grid, list(distinct), engine),
        name=name,
        base=base,
        models=list(distinct.values()),
        cache=cache.keyed({"cells": grid.content_hash}),  # answers have numbers of cells
        engine=engine,
        max_model_len=grid.longest,
    )
    return [judge_model(grid, weights.id, answered) for weights in models], answered


def judge_model(grid: Grid, model: str, answered: Generated) -> EvalResult:
    """What the answers of one model mean, by the id of its weights."""
    judged = grid.judge(_batches(answered.answers.filter(pc.field("weights") == model)))
    return EvalResult(
        outcomes=judged.outcomes.select(OUTCOMES.names),
        texts=judged.outcomes["text"],
        timed=judged.timed,
        num_failed=grid.num_failed(judged.outcomes),
        failures=[
            _failure(grid, failure["key"], failure["error"])
            for failure in answered.failures
            if failure["weights"] == model
        ],
        num_truncated=judged.num_truncated,
    )


def _failure(grid: Grid, key: str, error: str) -> dict[str, str]:
    template, example = grid.cell(json.loads(key)[0])
    return {"template_id": template.id, "example_id": example.id, "error": error}


def _dataset(grid: Grid, models: Sequence[str], engine: EngineConfig) -> ray.data.Dataset:
    """Engine rows of the grid for one model after another, rendered and encoded in Ray Data; a model's cells of
    unconstrained generation come last, so that they run together.

    Answers come back from an engine block by block, so blocks are small.
    """
    shared = ray.put(grid)

    def encode(block: dict[str, np.ndarray]) -> pa.Table:
        grid = _local(shared)
        asked = (divmod(row, grid.num_rows) for row in block["id"].tolist())
        return pa.Table.from_pylist(
            [
                {**request, "weights": models[number]}
                for number, row in asked
                for request in grid.requests([grid.index(row)])
            ]
        )

    num_rows, tasks = len(models) * grid.num_rows, data_tasks(engine)
    rows = indices(num_rows, num_blocks=num_blocks(num_rows, engine.batch_rows), num_cpus=DATA_CPUS, most_tasks=tasks)
    return rows.map_batches(encode, batch_size=None, compute=ray.data.TaskPoolStrategy(tasks), num_cpus=DATA_CPUS)


def num_blocks(num_rows: int, batch_rows: int) -> int:
    """Blocks of requests: an engine's batch each, larger ones where these would be too many to schedule, and never
    more rows than an engine that is lost may cost."""
    return max(min(_MANY_BLOCKS, -(-num_rows // batch_rows)), -(-num_rows // _MOST_ROWS))


def _local(reference: Any) -> Grid:
    """The grid of this worker process, fetched once, with its tokenizer."""
    if reference not in _LOCAL:
        _LOCAL.clear()
        _LOCAL[reference] = ray.get(reference)
    return _LOCAL[reference]


_LOCAL: dict[Any, Grid] = {}


def _batches(answers: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows as Python values, a bounded number at a time."""
    for batch in answers.to_batches(max_chunksize=4096):
        yield batch.to_pylist()
