"""vLLM before it is imported: what its engine process loads and where it is started from (0.32.0). Nearly all
of it only saves seconds on a CPU."""

from __future__ import annotations

import importlib.util
from multiprocessing.context import BaseContext
from pathlib import Path

from paft_ray.compat.moved import moved

WORKER_EXTENSION = "paft_ray.compat.vllm_worker.TiedHeads"
"""Engine argument `worker_extension_cls`."""
CPU_KERNELS = "paft_cpu"
"""Provider of kernels that vLLM has built for a CPU and uses there in compiled models only: without them an eager model
spends a third of its time in normalization. Public replacement: provider `vllm_c`, once vLLM supports it on a CPU."""
PRELOAD = "paft_ray.compat.vllm_preload"
"""Module that imports what an engine's process needs."""
_LIBRARIES = {"vllm": ("libs/libtcmalloc_minimal*.so*",), "torch": ("../torch.libs/libgomp*.so*", "lib/libgomp*.so*")}
_CONTEXT = "get_mp_context"


def preloaded_libraries() -> list[str]:
    """Paths of what vLLM has an engine on a CPU load first (LD_PRELOAD): an allocator, where the build has it, and the
    OpenMP of torch; one of each package, where it is found.

    vLLM sets them for a process that it spawns. One that is forked has them from its server or not at all; without them
    it is slower. Public replacement: none.
    """
    found = [
        [match for pattern in patterns for match in sorted(_folder(package).glob(pattern))]
        for package, patterns in _LIBRARIES.items()
    ]
    return [str(matches[0]) for matches in found if matches]


def start_engines_in(context: BaseContext) -> bool:
    """Makes vLLM start its engine processes in a context of `multiprocessing`; whether that could be done.

    vLLM has engines on a CPU spawned, whatever VLLM_WORKER_MULTIPROC_METHOD says. Where the function is not found they
    are: only time is lost. Public replacement: none. Imports vLLM.
    """
    import vllm.v1.engine.utils as engines

    if not hasattr(engines, _CONTEXT):
        moved(f"vLLM's {_CONTEXT}", "its engine process is spawned and imports vLLM anew")
        return False
    setattr(engines, _CONTEXT, lambda: context)
    return True


def cpu_kernels() -> dict[str, list[str]]:
    """Engine argument `ir_op_priority` of an engine on a CPU whose worker has `WORKER_EXTENSION`."""
    return {name: [CPU_KERNELS, "native"] for name in ("rms_norm", "fused_add_rms_norm")}


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
