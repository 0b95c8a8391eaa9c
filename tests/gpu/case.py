"""The process of one case: `python -m tests.gpu.case SPEC.json` trains without Ray and leaves what it found as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paft_ray.compat.lazy_imports import uncollected, without

with uncollected(), without("mlflow", "sklearn"):  # as training workers start
    import torch
    import torch.distributed as dist
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from benchmarks import flops
    from paft_ray.capacity import num_weights
    from paft_ray.models.files import shapes
    from paft_ray.models.local import find_model
    from paft_ray.storage.store import Store
    from paft_ray.training import checkpoint, export, loop
    from paft_ray.training.collate import answer_loss, answer_tokens, collate, micro_batches
    from paft_ray.training.engine import start_engine
    from paft_ray.training.example_builder import Row
    from paft_ray.training.job import TrainingJob, Worker
    from paft_ray.training.lr_schedule import learning_rate
    from paft_ray.training.memory import peak_memory_gib
    from paft_ray.training.model import build_model
    from paft_ray.training.optimizer_step import optimizer_step
    from paft_ray.training.step_metrics import read_metrics
    from paft_ray.training.validation import forward, validation_loss
    from tests.gpu.inputs import step_rows, write_model
    from tests.gpu.plan import SMALL, WITH_ENGINE, Case, large

_SEED = 1
_ALONE = Worker(rank=0, world_size=1)


def models(case: Case, folder: Path) -> dict[str, Any]:
    """Weights of the large model; both models are written."""
    device = torch.device(case.device)
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30 if device.type == "cuda" else 0.0
    write_model(folder / "small", SMALL, dtype=torch.float32, device="cpu")
    write_model(folder / "large", large(case.device, memory), dtype=torch.bfloat16, device=case.device)
    return {"num_weights": num_weights(shapes(str(folder / "large")))}


def reference(case: Case, folder: Path) -> dict[str, Any]:
    """Losses of plain PyTorch on the CPU: no DeepSpeed, padded rows."""
    config = case.config
    model = build_model(str(folder / "small"), config, seed=_SEED, device="cpu")
    model.set_attn_implementation("sdpa")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=config.weight_decay)
    losses = []
    for step in range(config.num_steps or 0):
        rows, total = step_rows(step, config.global_batch, case.longest), 0.0
        for chunk in micro_batches(rows, config.micro_batch):
            batch = collate(chunk)
            loss = answer_loss(forward(model, batch), batch) / answer_tokens(rows)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or float("inf"))
        optimizer.param_groups[0]["lr"] = learning_rate(step, config.num_steps or 0, config)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return {"losses": losses}


def equality(case: Case, folder: Path) -> dict[str, Any]:
    """Losses of the workers' loop, those after a resume, and the loss of the exported model beside the engine's."""
    job = _job(case, folder / "small", folder / case.name)
    engine = loop.train(job, _steps(case, 0), _ALONE)
    losses = [row["loss"] for row in read_metrics(Store(job.out))]
    rows = step_rows(0, job.config.global_batch, case.longest)
    trained = validation_loss(engine, rows, _ALONE, job.config.micro_batch)
    exported = validation_loss(_exported(engine, job).to(engine.device), rows, _ALONE, job.config.micro_batch)
    engine.destroy()
    shutil.rmtree(Path(job.store.root) / f"step-{job.num_steps:06d}")
    loop.train(job, _steps(case, checkpoint.newest(job.store)), _ALONE).destroy()
    resumed = [row["loss"] for row in read_metrics(Store(job.out))]
    return {"losses": losses, "resumed": resumed, "trained": trained, "exported": exported}


def speed(case: Case, folder: Path) -> dict[str, Any]:
    """Memory at initialization and in steps, losses, tokens and seconds of a step, operations it needs at least."""
    job, device = _job(case, folder / "large", folder / case.name), torch.device(case.device)
    engine = start_engine(job, _ALONE, 0)
    initialization = peak_memory_gib(device)
    host = peak_memory_gib(torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rows = [step_rows(step, job.config.global_batch, case.longest) for step in range(job.num_steps)]
    metrics = [optimizer_step(engine, job, step, given, _ALONE) for step, given in enumerate(rows)]
    needed = flops.needed(*flops.weights(job.model_path), rows[0])
    return {
        "initialization_gib": initialization,
        "initialization_host_gib": host,
        "steps_gib": peak_memory_gib(device),
        "losses": [row["loss"] for row in metrics],
        "tokens": metrics[0]["tokens"],
        "times_s": [row["time_s"] for row in metrics],
        "operations": needed if job.config.lora else 1.5 * needed,  # gradients of the weights on top
        "shapes": {name: list(shape) for name, shape in shapes(job.model_path).items()},
        "longest_row": max(len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows[0]),
    }


def peak(case: Case, folder: Path) -> dict[str, Any]:
    """Operations per second in matrix products."""
    return {"operations_per_s": flops.peak(torch.device(case.device))}


def _job(case: Case, model: Path, out: Path) -> TrainingJob:
    config = case.config
    return TrainingJob(
        config=config,
        model=find_model(str(model), None),
        seed=_SEED,
        num_steps=config.num_steps or 0,
        out=str(out),
        fingerprint="f",
        label=case.name,
    )


def _steps(case: Case, start: int) -> Iterator[list[Row]]:
    config = case.config
    return (step_rows(step, config.global_batch, case.longest) for step in range(start, config.num_steps or 0))


def _exported(engine: Any, job: TrainingJob) -> Any:
    """The model as a user loads it: base and adapter by PEFT, or whole weights by transformers; fp32."""
    folder = Path(job.out) / "export"
    _, weights = export.final_weights(engine, job, _ALONE)
    if job.config.lora is None:
        export.export_weights(weights, folder, job.model_path, precision=job.config.precision)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    export.export_adapter(engine, weights, folder)
    base = AutoModelForCausalLM.from_pretrained(job.model_path, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(folder))


_KINDS = {"models": models, "reference": reference, "equality": equality, "speed": speed, "peak": peak}


def main(spec: dict[str, Any]) -> None:
    case, folder = Case(**spec["case"]), Path(spec["folder"])
    torch.set_num_threads(spec["threads"])
    torch.backends.cuda.matmul.allow_tf32 = False
    if case.kind in ("equality", "speed"):
        if case.device == "cuda":
            torch.cuda.set_device(0)
        backend, meeting = "nccl" if case.device == "cuda" else "gloo", f"file://{folder / case.name}.rendezvous"
        dist.init_process_group(backend, init_method=meeting, rank=0, world_size=1)
    kinds = dict(_KINDS)
    if case.kind in WITH_ENGINE:
        from tests.gpu.engine_case import KINDS  # Ray and vLLM, which the others do without

        kinds |= KINDS
    Path(spec["found"]).write_text(json.dumps(kinds[case.kind](case, folder)))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
