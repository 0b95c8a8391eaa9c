"""One gloo process of a test's worker group (`tests/support/gloo.py`): `python training_worker.py SPEC.json` runs the
jobs of the spec one after another.

For every job it leaves OUT/probe-RANK.json (losses, gradient norms, pairs met, optimizer elements held),
OUT/left-RANK.json (whether its engine outlives it) and, on rank 0, OUT/final.safetensors and OUT/export/; of a job that
is to be `refused` OUT/refused-RANK.txt, the error.
"""

import itertools
import json
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SPEC, RANK, WORLD = sys.argv[1], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
sys.modules["mlflow"] = None  # type: ignore[assignment]  # as training workers start

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from paft_ray.config import ModelConfig, TrainConfig  # noqa: E402
from paft_ray.errors import StageError  # noqa: E402
from paft_ray.models.encoder import make_encoder  # noqa: E402
from paft_ray.models.local import find_model  # noqa: E402
from paft_ray.prompts.prompt_set import PromptSet  # noqa: E402
from paft_ray.prompts.sampling import PerExample  # noqa: E402
from paft_ray.storage.store import Store  # noqa: E402
from paft_ray.tasks.task import load_task  # noqa: E402
from paft_ray.training import checkpoint, deepspeed_state, export, loop  # noqa: E402
from paft_ray.training.best_step import label_rows  # noqa: E402
from paft_ray.training.data_order import step_positions  # noqa: E402
from paft_ray.training.example_builder import ExampleBuilder, Row, rows_of  # noqa: E402
from paft_ray.training.job import TrainingJob, Worker  # noqa: E402
from paft_ray.training.memory import free_memory  # noqa: E402


class Stopped(Exception):
    """The test's own crash."""


def run(values: dict[str, Any], common: dict[str, Any]) -> "weakref.ref[Any] | None":
    """Its engine, destroyed; None where the job stopped."""
    config = TrainConfig(**{**common["config"], **values.get("config", {})})
    table = pq.read_table(common["table"])
    prompts = PromptSet.from_table(pq.read_table(common["prompts"])).take(values.get("num_templates", 4), seed=0)
    encoder = make_encoder(load_task("demo"), ModelConfig(), common["model_path"])
    job = TrainingJob(
        config=config,
        model=find_model(common["model_path"], None),
        seed=1,
        num_steps=values["num_steps"],
        out=values["out"],
        fingerprint="f",
        label="job",
        labels=label_rows(table, prompts, encoder, config),
    )
    maker = ExampleBuilder(
        table=table,
        templates=prompts.templates,
        encoder=encoder,
        draw=PerExample(seed=job.seed),
        seed=job.seed,
        num_positions=values.get("num_positions", job.num_steps * config.global_batch),
    )

    def steps() -> Iterator[list[Row]]:
        for step in itertools.count(checkpoint.newest(job.store)):
            if step == values.get("stop_at"):
                raise Stopped
            if step == job.num_steps:
                return
            yield rows_of(maker.rows(step_positions(step, RANK, WORLD, config.global_batch)))

    pairs: list[Any] = []
    try:
        engine = loop.train(
            job,
            steps(),
            Worker(rank=RANK, world_size=WORLD),
            loop.Hooks(
                observe=lambda step, rows: pairs.extend(
                    (r["position"], r["example_id"], r["template"], r["weight"]) for r in rows
                )
            ),
        )
    except Stopped:
        return None
    except StageError as error:
        if not values.get("refused"):
            raise
        Path(f"{job.out}/refused-{RANK}.txt").write_text(str(error))
        return None
    step, metrics = exported(engine, job)
    probe = {
        "losses": [row["loss"] for row in metrics],
        "norms": [row["grad_norm"] for row in metrics],
        "pairs": pairs,
        "exported_step": step,
        "metrics": metrics,
        "held": held_elements(engine),
        "trained": sum(
            p.ds_numel if hasattr(p, "ds_numel") else p.numel()
            for p in deepspeed_state.trainable(engine.module).values()
        ),
    }
    Path(f"{job.out}/probe-{RANK}.json").write_text(json.dumps(probe))
    engine.destroy()
    return weakref.ref(engine)


def exported(engine: Any, job: TrainingJob) -> tuple[int, list[dict[str, Any]]]:
    """Step of the exported weights, and the metrics of every step at rank 0."""
    step, weights = export.final_weights(engine, job, Worker(rank=RANK, world_size=WORLD))
    if RANK:
        return step, []
    folder = Path(job.out) / "export"
    if job.config.lora is None:
        export.export_weights(weights, folder, job.model_path, precision=job.config.precision)
    else:
        export.export_adapter(engine, weights, folder)
    save_file(weights, f"{job.out}/final.safetensors")
    return step, [json.loads(line) for line in Store(job.out).read_bytes("metrics.jsonl").decode().splitlines()]


def held_elements(engine: Any) -> int:
    """Elements of the first AdamW moment that this process holds."""
    inner = engine.optimizer.optimizer if engine.zero_optimization_stage() else engine.optimizer
    return sum(slots["exp_avg"].numel() for slots in inner.state.values())


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=RANK, world_size=WORLD)
    spec = json.loads(Path(SPEC).read_text())
    for values in spec["jobs"]:
        engine = run(values, spec["common"])
        free_memory()
        if engine:
            Path(values["out"], f"left-{RANK}.json").write_text(json.dumps(engine() is not None))
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
