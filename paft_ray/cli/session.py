"""The one place where Ray is started or joined."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Joins the cluster at `address` (or RAY_ADDRESS), else starts a local Ray with room for a worker beside Ray Data, closed to the outside."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    target = address or os.environ.get("RAY_ADDRESS")
    if target:
        ray.init(address=target)
    else:
        ray.init(num_cpus=max(4, os.cpu_count() or 1), include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()
