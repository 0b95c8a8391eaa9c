"""The precision of a run that names none: what the nodes that will compute multiply fast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from paft_ray import nvidia_smi
from paft_ray.config import Config, Precision, fast_precision
from paft_ray.errors import UserError, some
from paft_ray.log import get_logger
from paft_ray.stages.nodes import able_nodes
from paft_ray.stages.registry import Part
from paft_ray.stages.resolved_run import ResolvedRun

_log = get_logger(__name__)
_BF16_CAPABILITY = 8.0
"""Compute capability of the first NVIDIA GPUs that multiply bf16 (Ampere)."""


def with_known_precision(resolved: ResolvedRun, starts: Sequence[Part]) -> ResolvedRun:
    """The run with the precisions that its configuration does not name: of what the command `starts`, for which
    Ray must be initialized, those that every node which can hold one of its processes multiplies fast; else those that
    the run was made with. Raises `UserError` where the nodes differ."""
    config, stored = resolved.config, resolved.stored_config()
    for part in get_args(Part):
        if "precision" in _section(config, part).model_fields_set:
            continue
        if part in starts:
            cpus, gpus = _needs(config, part)
            precision = agreed(_ask(part, cpus, gpus), f"{part}.precision", fast_precision(gpus))
        elif stored is not None:
            precision = _section(stored, part).precision
        else:
            continue
        _log.info(f"{part}.precision={precision}: {'asked of the nodes' if part in starts else 'that of the run'}")
        config = _set(config, part, precision)
    return replace(resolved, config=config)


def agreed(answers: Mapping[str, Precision], setting: str, local: Precision) -> Precision:
    """The one answer of all nodes; `local` where none can hold a process yet. Raises `UserError` naming the nodes of
    each answer.

    `answers`: node -> what it multiplies fast; `setting`: the key that the user may set instead.
    """
    nodes: dict[Precision, list[str]] = defaultdict(list)
    for node, answer in sorted(answers.items()):
        nodes[answer].append(node)
    if len(nodes) > 1:
        shown = "; ".join(f"{answer} on {some(names)}" for answer, names in sorted(nodes.items()))
        raise UserError(
            f"{setting}: the nodes differ in what they multiply fast ({shown}); set {setting}=fp32, which all can"
        )
    return next(iter(nodes), local)


def node_precision(part: Part, num_gpus: float, capability: float | None) -> Precision:
    """What a node multiplies fast. `capability`: of its least GPU; None where it cannot be asked for.

    On a GPU without bf16 engines take fp16, and training fp32: in fp16 it needs a loss scale of its own.
    """
    if num_gpus and capability is not None and capability < _BF16_CAPABILITY:
        return "fp16" if part == "engine" else "fp32"
    return fast_precision(num_gpus)


def gpu_capability() -> float | None:
    """Least compute capability of this machine's NVIDIA GPUs, None where it has none or the driver cannot be asked."""
    try:
        return min(map(float, nvidia_smi.lines("--query-gpu=compute_cap", "--format=csv,noheader")), default=None)
    except ValueError:
        return None


def kinds(nodes: Sequence[Mapping[str, Any]], num_cpus: float, num_gpus: float) -> dict[str, str]:
    """Address -> id of the living `nodes` (as Ray lists them) to ask, of those that can hold a process of so many CPUs
    and GPUs: of GPU nodes one for each type of accelerator, of CPU nodes all."""
    able = able_nodes(nodes, num_cpus, num_gpus)
    if not num_gpus:
        return {node["NodeManagerAddress"]: node["NodeID"] for node in able}
    types: dict[str, Mapping[str, Any]] = {}
    for node in able:
        name = next((kind for kind in node["Resources"] if kind.startswith("accelerator_type:")), node["NodeID"])
        types.setdefault(name, node)
    return {node["NodeManagerAddress"]: node["NodeID"] for node in types.values()}


def _ask(part: Part, num_cpus: float, num_gpus: float) -> dict[str, Precision]:
    """Address of a node -> its answer; this node answers in this process."""
    import ray

    from paft_ray.placement import on_node

    here = ray.get_runtime_context().get_node_id()
    task = ray.remote(num_cpus=0)(_answer)
    asked = {
        address: ray.put(_answer(part, num_gpus))
        if node == here
        else task.options(scheduling_strategy=on_node(node)).remote(part, num_gpus)
        for address, node in kinds(ray.nodes(), num_cpus, num_gpus).items()
    }
    return dict(zip(asked, ray.get(list(asked.values())), strict=True))


def _answer(part: Part, num_gpus: float) -> Precision:
    return node_precision(part, num_gpus, gpu_capability() if num_gpus else None)


def _needs(config: Config, part: Part) -> tuple[float, float]:
    """CPUs and GPUs of one process."""
    if part == "engine":
        return config.engine.num_cpus, config.engine.num_gpus
    return config.train.cpus_per_worker, config.train.gpus_per_worker


def _section(config: Config, part: Part) -> Any:
    return config.engine if part == "engine" else config.train


def _set(config: Config, part: Part, precision: Precision) -> Config:
    section = _section(config, part).model_copy(update={"precision": precision})
    return config.model_copy(update={part: section})
