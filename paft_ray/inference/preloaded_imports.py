"""What an engine's process needs, imported before it is asked for (ahead.py)."""

import gc

from paft_ray.compat.lazy_imports import uncollected

with uncollected():
    import vllm.v1.engine.core
    import vllm.v1.executor.uniproc_executor
    import vllm.v1.worker.cpu_worker  # noqa: F401

gc.freeze()  # an engine collects garbage five times before its first answer: a second, spent on all of the above
