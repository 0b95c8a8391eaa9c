"""Stage `evaluate`: every arm answers the test rows under every held-out template."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from paft_ray.compat.ray import session_folder
from paft_ray.config import Config, EngineConfig, answers_key, trained_engine_key
from paft_ray.log import get_logger, stage_label
from paft_ray.metrics.answer_cost import answer_cost
from paft_ray.metrics.cell_sampling import answer_strata, sample_cells
from paft_ray.models.local import find_on_this_node
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.adapter_cost import Choice, Way, chosen, costs
from paft_ray.stages.nodes import able_nodes
from paft_ray.stages.prepare import examples_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import GENERATED, OUTCOMES, PROMPT_SET, ROWS, SPEED, Speed
from paft_ray.storage.manifests import ModelKey, TrainedModel, trained_models
from paft_ray.storage.schemas import ANSWERS
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import owned_prefix, remove_left, shared_folder
from paft_ray.storage.versions import decided_by
from paft_ray.tasks.task import Example
from paft_ray.training.trained_weights import adapter_config_of, check_trained, fetch_trained

_log = get_logger(__name__)

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.evaluator import EvalResult
    from paft_ray.inference.generate import Generated
    from paft_ray.inference.model_weights import ModelWeights

RESULTS_VERSION = 6
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""
Models = Mapping[ModelKey, TrainedModel | None]
"""Models to evaluate; None: the base model."""


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Writes evaluate/outcomes.parquet and evaluate/speed.json; for a task without labels evaluate/answers.parquet."""
    config, run = resolved.config, resolved.store
    trained = trained_models(run)
    key = {
        **decided_by("evaluate", RESULTS_VERSION),
        "evaluate": answers_key(config.evaluate),
        "model": resolved.model_key,
        "task": resolved.task_key,
        **resolved.grader_key,
        "engine": trained_engine_key(config.engine),
        "data": ROWS["test"].key(run),
        "prompts": PROMPT_SET.key(run),
        "models": {str(model.key): model.sha256 for model in trained},
        **({"cells": config.seed} if config.evaluate.budget < 1 else {}),
    }

    def body() -> Manifest:
        from paft_ray.inference.answer_cache import AnswerCache

        check_trained(run, trained, base=resolved.model.path)
        held_out = PROMPT_SET.read(run).split("held_out")
        found = evaluate_models(
            resolved,
            with_base(trained),
            held_out.templates,
            examples_of(run, "test"),
            AnswerCache.of(run, "evaluate"),
        )
        outputs = OUTCOMES.write(run, found.outcomes) | SPEED.write(run, found.speed)
        if found.answers is not None:
            outputs |= GENERATED.write(run, found.answers)
        return {**found.manifest, "outputs": outputs}

    return cached(run, "evaluate", key, body, force=force, accept=resolved.accept)


def with_base(trained: Sequence[TrainedModel]) -> Models:
    """The base model and every trained one."""
    return {ModelKey.BASE: None, **{model.key: model for model in trained}}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Several models, measured."""

    outcomes: pa.Table
    """Schema `EVALUATED`."""
    answers: pa.Table | None
    """Schema `ANSWERS`; None for a task with labels."""
    speed: Speed
    manifest: Manifest
    """Counts."""


def evaluate_models(
    resolved: ResolvedRun,
    models: Models,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    cache: AnswerCache,
    stores: Mapping[ModelKey, Store] | None = None,
) -> Evaluation:
    """What the models answer. One engine, which loads one model after another, adapters merged, or serves adapters
    upon the base (`engine.adapters`, where `auto` measures one adapter either way): on a CPU adapter rows took 3.4
    times as long as merged ones, and another start 20 times as long as another load (EXPERIMENTS.md).

    `cache` keeps answers if this does not end: a model with all its answers is neither merged nor loaded again.
    `stores`: where trained models are that are not in the run itself.
    """
    results, spent, choice = _results(resolved, models, templates, examples, cache, stores or {})
    outcomes = pa.concat_tables([_outcomes(key, result) for key, result in results.items()])
    manifest = {
        "engine_starts": spent.engine_starts + choice.engine_starts,
        "num_failed": sum(result.num_failed for result in results.values()),
        "num_kept": spent.num_kept,
        "num_truncated": sum(result.num_truncated for result in results.values()),
        "num_rows": outcomes.num_rows,
        "failures": [{"arm": key.arm, **failure} for key, result in results.items() for failure in result.failures],
        "nodes": list(spent.nodes),
        "budget": resolved.config.evaluate.budget,
        **({"adapters": choice.kept} if resolved.config.engine.adapters == "auto" else {}),
    }
    answers = None if resolved.task.label_texts else pa.concat_tables(_texts(*each) for each in results.items())
    return Evaluation(outcomes=outcomes, answers=answers, speed=_speed(results), manifest=manifest)


def _results(
    resolved: ResolvedRun,
    models: Models,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    cache: AnswerCache,
    stores: Mapping[ModelKey, Store],
) -> tuple[dict[ModelKey, EvalResult], Generated, Choice]:
    """(result per model, what all took together, how adapters answered)."""
    from paft_ray.inference.engine_pool import kept_engines
    from paft_ray.inference.evaluator import evaluate
    from paft_ray.inference.grid import Free

    config, base = resolved.config, resolved.model
    place = Place(run=resolved.store, engine=config.engine, owner=cache.run.uri(cache.folder), base=base)
    cells = asked_cells(config, len(templates), examples)
    free = Free(max_tokens=config.evaluate.max_answer_tokens)
    ask = partial(
        evaluate,
        name="evaluate",
        task=resolved.task,
        templates=templates,
        examples=examples,
        model=config.model,
        base=base,
        engine=config.engine,
        free=free,
    )
    found = [(model, stores.get(key, place.run)) for key, model in models.items()]
    place.clear()
    try:
        with kept_engines(base) as engines:
            weights = partial(_weights, resolved, place)
            choice = chosen(
                config.engine,
                found,
                asked=np.ones((len(templates), len(examples)), dtype=bool) if cells is None else cells,
                cache=cache,
                key={"base": resolved.model_key, "engine": config.engine.model_dump(mode="json")},
                measure=partial(costs, ask, weights, engines),
            )
            results, spent = ask(
                models=[weights(model, store, choice.way) for model, store in found],
                cache=cache,
                free=replace(free, num_rows=config.evaluate.latency_sample_rows),
                cells=cells,
            )
    finally:
        place.clear()
    return dict(zip(models, results, strict=True)), spent, choice


def _weights(resolved: ResolvedRun, place: Place, model: TrainedModel | None, store: Store, way: Way) -> ModelWeights:
    """What an engine loads of a model in a store, under the key of its answers."""
    from paft_ray.inference.model_weights import ModelWeights

    key = {"base": resolved.model_key, "sha256": model and model.sha256, "results_version": RESULTS_VERSION}
    if model is None:
        return ModelWeights(key=key)
    if not model.is_adapter or way == "merge":
        return ModelWeights(key=key, materialize=partial(place.weights, model, store))
    return ModelWeights(
        key={**key, "adapters": way},
        materialize=partial(place.weights, model, store, merged=False),
        adapter_rank=adapter_config_of(store, model).r,
    )


def _outcomes(key: ModelKey, result: EvalResult) -> pa.Table:
    """The outcomes of one model, with its arm and seed; logs its accuracy."""
    table = result.outcomes
    behavior = pc.mean(table["behavior"]).as_py() or 0.0
    knowledge = f" (knowledge {pc.mean(table['correct']).as_py() or 0.0:.1%})" if len(table) and _chosen(table) else ""
    _log.info(f"{stage_label('evaluate')} {key.label}: behavior {behavior:.1%}{knowledge} of {table.num_rows} answers")
    table = table.append_column("arm", pa.array([key.arm] * table.num_rows, pa.string()))
    return table.append_column("seed", pa.array([key.seed] * table.num_rows, pa.int32()))


def _chosen(outcomes: pa.Table) -> bool:
    """Whether answers were chosen from labels, too."""
    return outcomes["label_logprobs"].null_count < len(outcomes)


def _texts(key: ModelKey, result: EvalResult) -> pa.Table:
    """What one model generated, schema `ANSWERS`."""
    ids = {name: result.outcomes[name] for name in ("template_id", "example_id")}
    model = {"arm": [key.arm] * len(result.texts), "seed": [key.seed] * len(result.texts)}
    return pa.table({**model, **ids, "text": result.texts}, schema=ANSWERS)


def _speed(results: Mapping[ModelKey, EvalResult]) -> Speed:
    """What a right unconstrained answer took, of the models that were timed, and how many of these answers a label
    would have ended with another score."""
    return {
        key: {
            **asdict(
                answer_cost(
                    [timed.is_right for timed in result.timed],
                    [timed.num_tokens for timed in result.timed],
                    [timed.seconds for timed in result.timed],
                )
            ),
            "behavior_misjudged": sum("behavior" in timed.misjudged_by for timed in result.timed),
            "strict_misjudged": sum("strict" in timed.misjudged_by for timed in result.timed),
        }
        for key, result in results.items()
        if result.timed
    }


def asked_cells(config: Config, num_templates: int, examples: Sequence[Example]) -> NDArray[np.bool_] | None:
    """The cells of every model, drawn by the run's seed and spread over the right answers. Shape [templates, examples];
    None: all."""
    if config.evaluate.budget == 1:
        return None
    return sample_cells(
        num_templates, len(examples), config.evaluate.budget, config.seed, answer_strata([e.answer for e in examples])
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models with their adapters merged are while an engine loads them: in the run where it is a folder that may
    be written, else in the temporary folder of its node."""

    run: Store
    engine: EngineConfig
    owner: str
    """Names what is evaluated: of another evaluation's models nothing is known here."""
    base: ModelFiles
    """The base model, found again on the node that merges."""

    @property
    def _prefix(self) -> str:
        return owned_prefix("merged", self.owner)

    @property
    def _parent(self) -> str:
        return self.run.path("").rstrip("/") if self._is_in_run else tempfile.gettempdir()

    @property
    def _is_in_run(self) -> bool:
        return self.run.is_local and os.access(self.run.path(""), os.W_OK)

    @contextmanager
    def weights(self, model: TrainedModel, store: Store, *, merged: bool = True) -> Iterator[str]:
        """Folder of the full weights, on this node, of a trained model in a store, for as long as the block runs; not
        `merged`: that of an adapter as it is. The engines of a node share it. Raises `UserError` where it is not what
        was trained."""
        merged = merged and model.is_adapter
        here = f"{self._prefix}{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}-"
        place = Path(self._parent) / f"{here}{model.sha256[:16]}{'' if merged else '-as-trained'}"
        make, locks = partial(self._fill, model, store, merged=merged), session_folder()
        with shared_folder(place, make, instead_of=here, locks=locks or Path(tempfile.gettempdir())) as folder:
            yield str(folder)

    def _fill(self, model: TrainedModel, store: Store, folder: Path, *, merged: bool) -> None:
        base = find_on_this_node(self.base).path
        if not merged:
            fetch_trained(store, model, folder, base=base)
            return
        from paft_ray.training.export import merge_adapter

        with tempfile.TemporaryDirectory(dir=folder.parent) as adapter:
            fetch_trained(store, model, Path(adapter), base=base)
            merge_adapter(base, adapter, str(folder), precision=self.engine.precision)

    def clear(self) -> None:
        """Removes what killed engines have left there, on every node that can hold one."""
        import ray

        from paft_ray.placement import on_node

        nodes = [ray.get_runtime_context().get_node_id()] if self._is_in_run else engine_nodes(ray.nodes(), self.engine)
        task = ray.remote(num_cpus=0)(Place._clear_here)
        ray.get([task.options(scheduling_strategy=on_node(node)).remote(self) for node in nodes])

    def _clear_here(self) -> None:
        remove_left(self._parent, self._prefix)


def engine_nodes(nodes: Sequence[Mapping[str, Any]], engine: EngineConfig) -> list[str]:
    """Ids of the living `nodes` (as Ray lists them) whose resources hold one rank of an engine."""
    return [node["NodeID"] for node in able_nodes(nodes, engine.num_cpus, engine.num_gpus)]
