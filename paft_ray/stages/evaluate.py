"""Stage `evaluate`: every arm answers the test rows under every held-out template."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.artifacts import Manifest, Run, cached, weights_hash
from paft_ray.config import Config, EngineConfig, engine_key
from paft_ray.errors import StageError
from paft_ray.metrics.cells import answer_groups, chosen_cells
from paft_ray.models import model_key, resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.prepare import examples_of
from paft_ray.tasks.task import Example, load_task

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
        held_out = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")).split("held_out")
        outcomes, speed, manifest = evaluate_models(config, run, candidates(models), held_out.templates, examples_of(run, "test"))
        run.write_table("evaluate/outcomes.parquet", outcomes)
        run.write_json("evaluate/speed.json", speed)
        return manifest

    return cached(run, "evaluate", key, body, force=force)


def candidates(models: Sequence[dict[str, Any]]) -> list[Candidate]:
    """The base model and every trained one."""
    return [Candidate(arm="base", seed=BASE_SEED)] + [
        Candidate(arm=m["arm"], seed=m["seed"], adapter=m["adapter"], weights=m["weights"], sha256=m["sha256"]) for m in models
    ]


def evaluate_models(
    config: Config, run: Run, models: Sequence[Candidate], templates: Sequence[PromptTemplate], examples: Sequence[Example]
) -> tuple[pa.Table, dict[str, Any], Manifest]:
    """(outcomes with arm and seed, speed of free answers per model, counts). One engine start per model, with the adapter merged into the weights:
    on a CPU adapter rows took 3.4 times as long as merged ones, and merge and start are won back after about 120 rows (EXPERIMENTS.md).
    """
    from paft_ray.inference.accuracy import measure
    from paft_ray.inference.grid import Free

    task = load_task(config.task)
    path = resolve_model(config.model.id, config.model.revision)
    tables, speed = [], {}
    cells = asked_cells(config, len(templates), examples)
    starts = failed = cut = 0
    nodes: set[str] = set()
    for candidate in models:
        name = f"evaluate: {candidate.arm}" + ("" if candidate.seed == BASE_SEED else f" (seed {candidate.seed})")
        with _weights(run, candidate, path, config.engine) as weights:
            result = measure(
                name=name,
                task=task,
                templates=templates,
                examples=examples,
                model=config.model,
                tokenizer_path=path,
                weights_path=weights,
                engine=config.engine,
                speed=Free(num_rows=config.evaluate.speed_rows, max_tokens=config.evaluate.max_answer_tokens),
                cells=cells,
            )
        starts += result.engine_starts
        nodes.update(result.nodes)
        if result.tokens_per_answer is not None:
            speed[f"{candidate.arm}-s{candidate.seed}"] = {"tokens_per_answer": result.tokens_per_answer, "seconds_per_answer": result.seconds_per_answer}
        failed += result.num_failed
        cut += result.num_cut
        table = result.outcomes
        table = table.append_column("arm", pa.array([candidate.arm] * table.num_rows, pa.string()))
        tables.append(table.append_column("seed", pa.array([candidate.seed] * table.num_rows, pa.int32())))
        accuracy = sum(table["correct"].to_pylist()) / max(1, table.num_rows)
        print(f"{name}: {accuracy:.1%} of {table.num_rows} answers right, {result.time_s:.0f} s", flush=True)
    outcomes = pa.concat_tables(tables)
    counts = {"engine_starts": starts, "num_failed": failed, "num_cut": cut, "num_rows": outcomes.num_rows}
    manifest = {**counts, "nodes": sorted(nodes), "budget": config.evaluate.budget}
    return outcomes, speed, manifest


def asked_cells(config: Config, num_templates: int, examples: Sequence[Example]) -> NDArray[np.bool_] | None:
    """The cells of every model, drawn by the run's seed and spread over the right answers. Shape [templates, examples]; None: all."""
    if config.evaluate.budget == 1:
        return None
    return chosen_cells(num_templates, len(examples), config.evaluate.budget, config.seed, answer_groups([e.answer for e in examples]))


@contextmanager
def _weights(run: Run, candidate: Candidate, base: str, engine: EngineConfig) -> Iterator[str]:
    """Folder of a candidate's full weights, there for as long as the block runs.

    Where the run is a folder it lies there, once, and the nodes must share it; else every node that can hold an engine makes its own, at one path.
    """
    trained = candidate.adapter or candidate.weights
    if trained is None:
        yield base
        return
    import ray

    name = f"merged-{uuid.uuid4().hex[:12]}"
    if run.is_local:
        folder, nodes = run.path(name), [ray.get_runtime_context().get_node_id()]
    else:
        folder, nodes = f"{tempfile.gettempdir()}/{name}", engine_nodes(ray.nodes(), engine)
    try:
        _on(nodes, place_weights, run.root, trained, candidate.sha256, base if candidate.adapter else None, engine.precision, folder)
        yield folder
    finally:
        _on(nodes, shutil.rmtree, folder, True)


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
    with tempfile.TemporaryDirectory(prefix="merging-", dir=Path(target).parent) as scratch:
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
