"""Which of a cluster's nodes can hold a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def able_nodes(nodes: Sequence[Mapping[str, Any]], num_cpus: float, num_gpus: float) -> list[Mapping[str, Any]]:
    """The living `nodes` (as Ray lists them) whose resources hold a process of so many CPUs and GPUs."""
    needs = {"CPU": num_cpus, "GPU": num_gpus}
    return [
        node
        for node in nodes
        if node["Alive"] and all(node["Resources"].get(kind, 0) >= count for kind, count in needs.items())
    ]
