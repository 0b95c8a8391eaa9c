"""What an engine's process needs, imported by the fork server before one is asked for (`inference/engine_preload.py`;
vLLM 0.32.0).

The server ignores a module that cannot be imported: the process then imports it for itself. Public replacement: none.
"""

import gc

from paft_ray.compat.lazy_imports import uncollected

with uncollected():
    import vllm.v1.engine.core
    import vllm.v1.executor.uniproc_executor
    import vllm.v1.worker.cpu_worker  # noqa: F401

gc.freeze()  # an engine collects garbage five times before its first answer: a second, spent on all of the above
