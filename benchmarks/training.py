"""Training throughput of the complete path (Ray Train, Ray Data, DeepSpeed) against loops that users have today, on the
same rows.

`python -m benchmarks.training [--set SETTING ...]`: on the GPU where there is one and `train.gpus_per_worker=1` is set.
Every measurement is a process of its own; the loops take turns, so that other load on the machine meets all of them;
the first three steps of each are left out. Baselines: TRL's SFTTrainer and LLaMA-Factory (each in an environment of its
own, at the fastest of its settings in a run before the pairs), a plain PyTorch + PEFT loop, our own loop without Ray
and without either of Ray and DeepSpeed. On CPUs ours also runs as two workers that share the cores, as the baselines
do, and with one thread, where Ray has the other cores. After the pairs our loop takes each step with rows that are
there and with rows that are drawn, rendered and tokenized within it. Throughput: tokens of prompts and answers, without
padding, per second; and as a fraction of the machine's matrix products (flops.py), which counts for all loops what the
step needs at least."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import flops
from benchmarks.environments import environment_of
from benchmarks.results import Result, interleaved, paired, record
from benchmarks.stages import CONFIG, paft, row_maker
from paft_ray.config import load_config
from paft_ray.cpu_priority import usable_cpus
from paft_ray.models.resolve import resolve_model
from paft_ray.storage.store import Store
from paft_ray.training.collate import length
from paft_ray.training.example_builder import rows_of

_LENGTH = {"train_sampling_strategy": "group_by_length"}
_HALF = {"weights": "bfloat16"}
_PACKED = {
    "packing": True,
    "max_length": 640,
    "per_device_train_batch_size": 1,
    "num_train_epochs": 2,
}  # half as many steps an epoch
SETTINGS: dict[str, dict[str, Any]] = {
    "padded": {},
    "grouped by length": _LENGTH,
    "padded, full batch at once": {"per_device_train_batch_size": 16},
    "padding-free": {"padding_free": True},
    "packed": _PACKED | {"gradient_accumulation_steps": 2},
    "padding-free, two processes": {"padding_free": True, "processes": 2},
    "packed, two processes": _PACKED | {"gradient_accumulation_steps": 1, "processes": 2},
}
"""What TRL's SFTTrainer was tried with on a CPU."""
GPU_SETTINGS: dict[str, dict[str, Any]] = {
    "padded": _HALF,
    "grouped by length": _HALF | _LENGTH,
    "grouped by length, fp32 weights": _LENGTH,
    "grouped by length, Liger kernels": _HALF | _LENGTH | {"use_liger_kernel": True},
}
"""And on a GPU; without padding it asks for the flash-attn package there, which has no wheel that fits."""
FACTORY_SETTINGS: dict[str, dict[str, Any]] = {
    "padded": {},
    "grouped by length": {"disable_shuffling": False, **_LENGTH},
    "padded, full batch at once": {"per_device_train_batch_size": 16},
    "packed": {"neat_packing": True, "per_device_train_batch_size": 1},
    "grouped by length, two processes": {"disable_shuffling": False, **_LENGTH, "processes": 2},
    "packed, two processes": {"neat_packing": True, "per_device_train_batch_size": 1, "processes": 2},
}
"""What LLaMA-Factory was tried with; two processes on a CPU only."""

WARM_UP = 3
"""Steps of a training that are not counted: caches and allocators fill, and compiled layers are compiled for the first
two shapes."""
OURS = "paft_ray"
COMPILED = "paft_ray with train.compile"
WORKERS = "paft_ray, two workers"
ONE_THREAD = "paft_ray, one thread"
BARE = "our loop without Ray and DeepSpeed"
BARE_ONE_THREAD = "our loop without Ray and DeepSpeed, one thread"
CORES = usable_cpus()


@dataclass(frozen=True, kw_only=True)
class Work:
    """The rows of all steps, and where they lie."""

    folder: Path
    settings: tuple[str, ...]
    """Of the run whose rows they are."""
    model: str
    """Its folder."""
    tokens: Sequence[int]
    """Of each step."""
    operations: float
    """Needed per token (flops.py)."""

    def speed(self, seconds: Sequence[float], tokens: Sequence[int] | None = None) -> float:
        """Tokens/s after the warm-up. `tokens`: of each step, where they are others than ours."""
        return sum((tokens or self.tokens)[WARM_UP:]) / sum(seconds[WARM_UP:])


def prepare(folder: Path, num_steps: int, further: Sequence[str] = ()) -> Work:
    """Stages `prepare` and `synthesize` of a small run, and the rows that its training will use."""
    settings = (
        f"storage={folder}",
        "name=run",
        "prompts.generators=[]",
        "score.enabled=false",
        "train.arms=[paft]",
        f"train.num_steps={num_steps}",
        "train.global_batch=16",
        "train.micro_batch=8",
        "train.num_workers=1",
        f"train.checkpoint_every={num_steps}",
        *further,
    )
    config = load_config(CONFIG, list(settings))
    if bool(config.train.gpus_per_worker) != torch.cuda.is_available():
        raise SystemExit(
            "benchmarks: baselines take the GPU where there is one: --set train.gpus_per_worker=1 with it, "
            "CUDA_VISIBLE_DEVICES= without it"
        )
    for stage in ("prepare", "synthesize"):
        paft(stage, settings)
    maker, batch = row_maker(settings), config.train.global_batch
    steps = [rows_of(maker.rows(np.arange(s * batch, (s + 1) * batch, dtype=np.int64))) for s in range(num_steps)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(rows) + "\n" for rows in steps))
    (folder / "train.json").write_text(config.train.model_dump_json())
    (folder / "settings.json").write_text(json.dumps(settings))
    tokens, model = [sum(map(length, rows)) for rows in steps], resolve_model(config.model.id, config.model.revision)
    layers, head = flops.weights(model)
    operations = sum(flops.needed(layers, head, rows) for rows in steps) / sum(tokens)
    return Work(folder=folder, settings=settings, model=model, tokens=tokens, operations=operations)


def whole_path(work: Work, further: Sequence[str] = ()) -> tuple[float, float]:
    """`paft train`, with `further` settings: tokens/s from the end of the warm-up to the end of the last step,
    everything between steps included, and GiB."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Store(str(work.folder / "run"))
    run.delete("train")
    paft("train", (*work.settings, *further))
    events = EventAccumulator(run.path("train/paft-s0/tensorboard/from-step-000000"))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("train/loss")]
    memory = run.read_json("train/manifest.json")["peak_memory_gib"]
    return sum(work.tokens[WARM_UP:]) / (times[-1] - times[WARM_UP - 1]), memory


def without_ray(work: Work, kind: str, **variables: str) -> tuple[float, float]:
    """Tokens/s and GiB of a loop of loop.py."""
    return _speed_and_memory(work, _measured(work, [sys.executable, "-m", "benchmarks.loop", kind], **variables))


def drawing(work: Work) -> tuple[float, float]:
    """Tokens/s of our loop with rows made in every step, and with rows that are there, interleaved in one process."""
    found = _measured(work, [sys.executable, "-m", "benchmarks.loop", "dynamic"])
    return work.speed(found["made"]), work.speed(found["seconds"])


def trl(work: Work, settings: dict[str, Any]) -> tuple[float, float]:
    """Tokens/s and GiB of TRL."""
    return _peer(work, environment_of("trl"), "benchmarks/baselines/trl_sft.py", **settings)


def llama_factory(work: Work, settings: dict[str, Any]) -> tuple[float, float]:
    """Tokens/s and GiB of LLaMA-Factory."""
    return _peer(work, environment_of("llamafactory"), "benchmarks/baselines/llama_factory.py", **settings)


def best_of(
    name: str,
    baseline: Callable[[Work, dict[str, Any]], tuple[float, float]],
    work: Work,
    settings: dict[str, dict[str, Any]],
) -> str:
    """The fastest of a baseline's settings."""
    tried = {each: baseline(work, given)[0] for each, given in settings.items()}
    print(f"{name}, tokens/s: " + ", ".join(f"{each} {speed:.0f}" for each, speed in tried.items()), flush=True)
    return max(tried, key=lambda each: tried[each])


def main(pairs: int, num_steps: int, further: Sequence[str]) -> None:
    settings = GPU_SETTINGS if torch.cuda.is_available() else SETTINGS
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare(Path(scratch), num_steps, further)
        limit = (
            float(subprocess.run([sys.executable, "-m", "benchmarks.flops"], check=True, stdout=subprocess.PIPE).stdout)
            / work.operations
        )
        print(
            f"{num_steps} steps of {sum(work.tokens) / num_steps:.0f} tokens; matrix products allow for "
            f"{limit:.0f} tokens/s",
            flush=True,
        )
        factory_settings = {
            name: given
            for name, given in FACTORY_SETTINGS.items()
            if "processes" not in given or not torch.cuda.is_available()
        }
        best, factory = (
            best_of("TRL", trl, work, settings),
            best_of("LLaMA-Factory", llama_factory, work, factory_settings),
        )
        loops: dict[str, Callable[[], tuple[float, float]]] = {
            OURS: lambda: whole_path(work),
            BARE: lambda: without_ray(work, "ours"),
            COMPILED: lambda: whole_path(work, ("train.compile=true",)),
            "our loop without Ray": lambda: without_ray(work, "deepspeed"),
            "plain PyTorch + PEFT": lambda: without_ray(work, "plain"),
            f"TRL SFTTrainer, {best}": lambda: trl(work, settings[best]),
            f"LLaMA-Factory, {factory}": lambda: llama_factory(work, FACTORY_SETTINGS[factory]),
        }
        if not torch.cuda.is_available() and CORES > 1:
            loops[WORKERS] = lambda: whole_path(work, ("train.num_workers=2",))
            loops[ONE_THREAD] = lambda: whole_path(work, ("train.threads_per_worker=1",))
            loops[BARE_ONE_THREAD] = lambda: without_ray(work, "ours", OMP_NUM_THREADS="1")
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
        for name in interleaved(loops, pairs):
            found[name].append(loops[name]())
            speed, memory = found[name][-1]
            print(f"{name}: {speed:.0f} tokens/s ({speed / limit:.1%} of the peak), {memory:.2f} GiB", flush=True)
        made = [drawing(work) for _ in range(pairs)]
    drawn = paired(
        "training with prompts drawn in every step",
        *zip(*made, strict=True),
        peer_name="rows made before",
        unit="tokens/s",
        more_is_better=True,
    )
    record([drawn, *results(found)])


def results(found: dict[str, list[tuple[float, float]]]) -> list[Result]:
    """The complete path next to all others, of tokens/s and GiB per pair."""
    foreign = [name for name in found if not name.startswith((OURS, "our loop"))]
    baselines = [*foreign, *(name for name in found if name.startswith("our loop") and name != BARE_ONE_THREAD)]
    comparisons = {
        OURS: ("training", baselines),
        WORKERS: ("training, two workers", foreign),
        COMPILED: ("training, train.compile", foreign),
        ONE_THREAD: ("training, one thread", [BARE_ONE_THREAD]),
    }
    speed = [
        paired(
            what,
            [s for s, _ in found[mine]],
            [s for s, _ in found[baseline]],
            peer_name=baseline,
            unit="tokens/s",
            more_is_better=True,
        )
        for mine, (what, others) in comparisons.items()
        if mine in found
        for baseline in others
    ]
    memory = [
        paired(
            "training, peak memory",
            [m for _, m in found[OURS]],
            [m for _, m in found[baseline]],
            peer_name=baseline,
            unit="GiB",
            more_is_better=False,
        )
        for baseline in baselines
    ]
    return speed + memory


def _peer(work: Work, python: str, script: str, processes: int = 1, **settings: Any) -> tuple[float, float]:
    """Of a script in an environment of its own, under torchrun for several processes, which share the cores."""
    if processes == 1:
        return _speed_and_memory(work, _measured(work, [python, script], json.dumps(settings)))
    launch = [python, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    return _speed_and_memory(
        work, _measured(work, [*launch, script], json.dumps(settings), OMP_NUM_THREADS=str(max(1, CORES // processes)))
    )


def _speed_and_memory(work: Work, found: dict[str, Any]) -> tuple[float, float]:
    return work.speed(found["seconds"], found.get("tokens")), found["peak_memory_gib"]


def _measured(work: Work, command: Sequence[str], *further: str, **variables: str) -> dict[str, Any]:
    """What a process wrote that got the rows, the model, a file to write to and `further`."""
    out = work.folder / "out.json"
    environment = {
        **os.environ,
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        "HF_HUB_OFFLINE": "1",
        **variables,
    }  # as training workers have it
    arguments = [*command, str(work.folder / "rows.jsonl"), work.model, str(out), *further]
    subprocess.run(arguments, check=True, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=9, help="of a training, warm-up included")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", help="of the run, for example train.global_batch=256"
    )
    given = parser.parse_args()
    main(given.pairs, given.steps, given.settings)
