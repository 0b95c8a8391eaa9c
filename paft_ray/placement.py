"""On which node of the cluster a task or actor runs. Imports Ray."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    """Keeps it on the node with this id."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Keeps it on the node of the process that starts it."""
    return on_node(ray.get_runtime_context().get_node_id())
