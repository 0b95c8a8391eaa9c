"""Stage `evaluate`: every arm answers the test rows under every held-out template."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.artifacts import Manifest, Run, cached, weights_hash
from paft_ray.config import Config, EngineConfig, engine_key
from paft_ray.console import say
from paft_ray.errors import StageError
from paft_ray.metrics.cells import answer_groups, chosen_cells
from paft_ray.models import model_key, resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.scratch import owned_prefix, remove_left
from paft_ray.stages.prepare import examples_of
from paft_ray.tasks.task import Example, load_task

if TYPE_CHECKING:
    from paft_ray.inference.parts import Parts

BASE_SEED = -1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model to evaluate."""

    arm: str
    seed: int
    adapter: str | None = None
    """Path in the run; None with `weights` None is the base model."""
    weights: str | None = None
    sha256: str | None = None
    """Of what was trained (`weights_hash`)."""


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """Writes evaluate/outcomes.parquet and evaluate/speed.json."""
    path = resolve_model(config.model.id, config.model.revision)
    models = run.read_json("train/manifest.json")["models"]
    key = {
        "evaluate": config.evaluate.model_dump(mode="json"),
        "model": model_key(config.model, path),
        "task": load_task(config.task).model_dump(mode="json"),
        "engine": engine_key(config.engine),
        "data": run.content_hash("data/test.parquet"),
        "prompts": run.content_hash("prompts/prompt_set.parquet"),
        "models": {f"{m['arm']}-s{m['seed']}": m["sha256"] for m in models},
        **({"cells": config.seed} if config.evaluate.budget < 1 else {}),
    }

    def body() -> Manifest:
        from paft_ray.inference.parts import Parts

        held_out = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")).split("held_out")
        outcomes, speed, manifest = evaluate_models(config, run, candidates(models), held_out.templates, examples_of(run, "test"), Parts.of(run, "evaluate"))
        run.write_table("evaluate/outcomes.parquet", outcomes)
        run.write_json("evaluate/speed.json", speed)
        return manifest

    return cached(run, "evaluate", key, body, force=force)


def candidates(models: Sequence[dict[str, Any]]) -> list[Candidate]:
    """The base model and every trained one."""
    trained = [Candidate(arm=m["arm"], seed=m["seed"], adapter=m["adapter"], weights=m["weights"], sha256=m["sha256"]) for m in models]
    return [Candidate(arm="base", seed=BASE_SEED), *trained]


def evaluate_models(
    config: Config, run: Run, models: Sequence[Candidate], templates: Sequence[PromptTemplate], examples: Sequence[Example], parts: Parts
) -> tuple[pa.Table, dict[str, Any], Manifest]:
    """(outcomes with arm and seed, speed of free answers per model, counts). One engine start per model, with the adapter merged into the weights:
    on a CPU adapter rows took 3.4 times as long as merged ones, and merge and start are won back after about 120 rows (EXPERIMENTS.md).

    `parts` keeps what is answered if this does not end: a model that was answered whole is neither merged nor started again.
    """
    from paft_ray.inference.accuracy import measure
    from paft_ray.inference.generate import Weights
    from paft_ray.inference.grid import Free

    task = load_task(config.task)
    path = resolve_model(config.model.id, config.model.revision)
    tables, speed = [], {}
    cells = asked_cells(config, len(templates), examples)
    identity = model_key(config.model, path)
    place = Place(run=run, engine=config.engine, owner=parts.run.uri(parts.folder))
    place.clear()
    starts = failed = kept = cut = 0
    failures: list[dict[str, str]] = []
    nodes: set[str] = set()
    for candidate in models:
        name = f"evaluate: {candidate.arm}" + ("" if candidate.seed == BASE_SEED else f" (seed {candidate.seed})")
        result = measure(
            name=name,
            task=task,
            templates=templates,
            examples=examples,
            model=config.model,
            tokenizer_path=path,
            weights=Weights(key={"base": identity, "sha256": candidate.sha256}, placed=partial(place.weights, candidate, path)),
            parts=parts,
            engine=config.engine,
            speed=Free(num_rows=config.evaluate.speed_rows, max_tokens=config.evaluate.max_answer_tokens),
            cells=cells,
        )
        starts += result.engine_starts
        nodes.update(result.nodes)
        if result.tokens_per_answer is not None:
            speed[f"{candidate.arm}-s{candidate.seed}"] = {"tokens_per_answer": result.tokens_per_answer, "seconds_per_answer": result.seconds_per_answer}
        failed += result.num_failed
        kept += result.num_kept
        failures += [{"arm": candidate.arm, **failure} for failure in result.failures]
        cut += result.num_cut
        table = result.outcomes
        table = table.append_column("arm", pa.array([candidate.arm] * table.num_rows, pa.string()))
        tables.append(table.append_column("seed", pa.array([candidate.seed] * table.num_rows, pa.int32())))
        accuracy = sum(table["correct"].to_pylist()) / max(1, table.num_rows)
        say(f"{name}: {accuracy:.1%} of {table.num_rows} answers right, {result.time_s:.0f} s")
    outcomes = pa.concat_tables(tables)
    counts = {"engine_starts": starts, "num_failed": failed, "num_kept": kept, "num_cut": cut, "num_rows": outcomes.num_rows}
    manifest = {**counts, "failures": failures, "nodes": sorted(nodes), "budget": config.evaluate.budget}
    return outcomes, speed, manifest


def asked_cells(config: Config, num_templates: int, examples: Sequence[Example]) -> NDArray[np.bool_] | None:
    """The cells of every model, drawn by the run's seed and spread over the right answers. Shape [templates, examples]; None: all."""
    if config.evaluate.budget == 1:
        return None
    return chosen_cells(num_templates, len(examples), config.evaluate.budget, config.seed, answer_groups([e.answer for e in examples]))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models with their adapters merged lie while they are evaluated.

    Where the run is a folder they lie there, once, and the nodes must share it; else every node that can hold an engine has its own, at one path.
    """

    run: Run
    engine: EngineConfig
    owner: str
    """Names what is evaluated: of another evaluation's models nothing is known here."""

    @property
    def _prefix(self) -> str:
        return owned_prefix("merged", self.owner)

    @property
    def _parent(self) -> str:
        return self.run.path("").rstrip("/") if self.run.is_local else tempfile.gettempdir()

    def _nodes(self) -> list[str]:
        import ray

        return [ray.get_runtime_context().get_node_id()] if self.run.is_local else engine_nodes(ray.nodes(), self.engine)

    @contextmanager
    def weights(self, candidate: Candidate, base: str) -> Iterator[str]:
        """Folder of a candidate's full weights, there for as long as the block runs. `base`: folder of the base model."""
        trained = candidate.adapter or candidate.weights
        if trained is None:
            yield base
            return
        folder = f"{self._parent}/{self._prefix}{uuid.uuid4().hex[:12]}"
        try:
            merged_into = base if candidate.adapter else None
            _on(self._nodes(), place_weights, self.run.root, trained, candidate.sha256, merged_into, self.engine.precision, folder)
            yield folder
        finally:
            _on(self._nodes(), shutil.rmtree, folder, True)

    def clear(self) -> None:
        """Removes what a killed evaluation has left there."""
        _on(self._nodes(), remove_left, self._parent, self._prefix)


def engine_nodes(nodes: Sequence[Mapping[str, Any]], engine: EngineConfig) -> list[str]:
    """Ids of the living `nodes` (as Ray lists them) whose resources hold one rank of an engine."""
    needs = {"CPU": engine.num_cpus, "GPU": engine.num_gpus}
    return [node["NodeID"] for node in nodes if node["Alive"] and all(node["Resources"].get(kind, 0) >= count for kind, count in needs.items())]


def _on(nodes: Sequence[str], do: Callable[..., None], *arguments: Any) -> None:
    """Runs `do` once on each node, all at once; the memory that it takes is free again afterwards."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_calls=1)(do)
    ray.get([task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments) for node in nodes])


def place_weights(root: str, trained: str, sha256: str | None, base: str | None, precision: str, target: str) -> None:
    """Makes the folder `target` on this node from `trained` of the run: merged into `base` (a model's folder) where that is given, else as it is.

    Raises `StageError` where it is not what was trained.
    """
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{Path(target).name}-", dir=Path(target).parent) as scratch:
        made = f"{scratch}/trained"
        Run(root).download_dir(trained, made)
        if weights_hash(made) != sha256:
            arm = trained.rpartition("/")[0]
            raise StageError(f"{trained} is not what was trained (changed, or copied in part); delete manifest.json of {arm} and of its stage in the run")
        if base is not None:
            from paft_ray.training.export import merge_adapter

            merge_adapter(base, made, f"{scratch}/merged", precision=precision)
            made = f"{scratch}/merged"
        try:
            os.rename(made, target)
        except OSError:
            if not Path(target).is_dir():  # it is where several nodes of Ray share a machine, and another was faster
                raise
