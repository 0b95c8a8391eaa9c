"""Memory of a process that trains."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource

import torch


def free_memory() -> None:
    """Gives back the memory of engines that were destroyed and that nothing refers to, so that a training does not add
    to the one before."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":  # whose malloc keeps what was freed between what is not
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory of this process so far: resident on a CPU, allocated on an accelerator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
