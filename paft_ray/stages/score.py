"""Stage `score`: the base model answers validation rows under every training template. Sees neither held-out templates
nor test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.config import engine_key
from paft_ray.log import get_logger, stage_label
from paft_ray.metrics.best_template import best_probabilities
from paft_ray.stages.prepare import examples_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, SCORE_TABLE
from paft_ray.storage.schemas import SCORES
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.versions import decided_by

_log = get_logger(__name__)
_ENOUGH = 40
"""Fewer rows hardly tell templates apart."""
RESULTS_VERSION = 3
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Writes score/scores.parquet; the manifest names the best template (the best of n noisy scores is biased up) and
    the probability that it is."""
    config, run = resolved.config, resolved.store
    key = {
        **decided_by("score", RESULTS_VERSION),
        "score": config.score.model_dump(mode="json", exclude={"select_top"}),
        "model": resolved.model_key,
        "task": resolved.task_key,
        **resolved.grader_key,
        "engine": engine_key(config.engine),
        "data": ROWS["validation"].key(run),
        "prompts": PROMPT_SET.key(run),
    }
    return cached(run, "score", key, lambda: _score(resolved), force=force, accept=resolved.accept)


def _score(resolved: ResolvedRun) -> Manifest:
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.evaluator import evaluate
    from paft_ray.inference.model_weights import ModelWeights

    config, run = resolved.config, resolved.store
    prompts = PROMPT_SET.read(run).split("train")
    examples = examples_of(run, "validation")[: config.score.num_examples]
    (result,), spent = evaluate(
        name="score",
        task=resolved.task,
        templates=prompts.templates,
        examples=examples,
        model=config.model,
        base=resolved.model,
        models=[ModelWeights(key={**resolved.model_key, "results_version": RESULTS_VERSION})],
        cache=AnswerCache.of(run, "score"),
        engine=config.engine,
    )
    scores = score_table(result.outcomes)
    best = best_of(result.outcomes, scores)
    _announce(best)
    return {
        **best,
        "engine_starts": spent.engine_starts,
        "nodes": list(spent.nodes),
        "num_failed": result.num_failed,
        "failures": result.failures,
        "num_kept": spent.num_kept,
        "num_truncated": result.num_truncated,
        "outputs": SCORE_TABLE.write(run, scores),
    }


def best_first(scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of scores.parquet by accuracy, then mean log-probability where there is one, then content id."""
    return sorted(scores, key=lambda row: (-row["accuracy"], -(row["mean_logprob"] or 0.0), row["template_id"]))


def best_of(outcomes: pa.Table, scores: pa.Table) -> dict[str, Any]:
    """What the manifest says of the best template: `best`, its content id; `best_accuracy`; `best_probability` that it
    is the best one (`best_probabilities`); `num_tied`, how many others have its accuracy; of how many templates and
    rows."""
    rows = scores.to_pylist()
    best = best_first(rows)[0]
    ids, grids = _grids(outcomes)
    return {
        "best": best["template_id"],
        "best_accuracy": best["accuracy"],
        "best_probability": round(float(best_probabilities(*grids)[ids.index(best["template_id"])]), 4),
        "num_tied": sum(row["accuracy"] == best["accuracy"] for row in rows) - 1,
        "num_templates": len(rows),
        "num_examples": max(row["num_examples"] for row in rows),
    }


def _announce(best: Mapping[str, Any]) -> None:
    text = (
        f"{stage_label('score')} best of {best['num_templates']} templates on {best['num_examples']} rows: "
        f"{best['best']}, {100 * best['best_accuracy']:.1f} %; it is the best one with probability "
        f"{best['best_probability']:.2f} (bootstrap over rows)"
    )
    if best["num_tied"]:
        text += (
            f"; {best['num_tied']} others have its accuracy: the log-probability of the right answer decided, then id"
        )
    if best["num_examples"] < _ENOUGH:
        text += f"; under {_ENOUGH} rows hardly tell templates apart, raise score.num_examples"
    _log.info(text)


def _grids(outcomes: pa.Table) -> tuple[list[str], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(Content ids, sorted, scores and log-probabilities of these templates and all rows)."""
    cells = _frame(outcomes).groupby(["template_id", "example_id"])[["score", "logprob"]].mean()
    scores, logprobs = cells["score"].unstack(), cells["logprob"].unstack()
    return [str(name) for name in scores.index], (scores.to_numpy(np.float64), logprobs.to_numpy(np.float64))


def _frame(outcomes: pa.Table) -> pd.DataFrame:
    """Outcomes with a column `score`: of the unconstrained answer where one was asked for, else of the choice."""
    frame = outcomes.to_pandas()
    frame["score"] = frame["behavior"].fillna(frame["correct"].astype(float)).astype(float)
    return frame


def score_table(outcomes: pa.Table) -> pa.Table:
    """Per template: mean score with its standard error, mean log-probability of the right answer (nats; null for a task
    without labels), parse-failure rate (null for a task with labels, whose unconstrained answers are not asked for)."""
    rows = []
    for identity, group in _frame(outcomes).groupby("template_id"):
        accuracy, n = float(group["score"].mean()), len(group)
        logprob = group["logprob"].mean()
        rows.append(
            {
                "template_id": str(identity),
                "accuracy": accuracy,
                "stderr": float(group["score"].std(ddof=0)) / math.sqrt(n),
                "mean_logprob": None if math.isnan(logprob) else float(logprob),
                "parse_failure_rate": None if group["behavior"].isna().all() else float(1 - group["parsed"].mean()),
                "num_examples": n,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCORES)
