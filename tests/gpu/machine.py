"""What a result says of its machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from paft_ray.storage.versions import versions

ROOT = Path(__file__).resolve().parents[2]
_DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_COMMIT = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def facts(device: str) -> dict[str, Any]:
    """Device, driver, libraries, date, commit; None for what the machine does not tell.

    `load`: processes that want a core; before the check starts these are others.
    """
    return {
        "device": device,
        "name": _gpu().name if device == "cuda" else _cpu_name(),
        "memory_gib": round(_gpu().total_memory / 2**30, 1) if device == "cuda" else None,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "driver": _first_line(*_DRIVER) if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "python": platform.python_version(),
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": os.environ.get("COMMIT") or _first_line(*_COMMIT),
    }


def _gpu() -> Any:
    return torch.cuda.get_device_properties(0)


def _cpu_name() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def _first_line(*command: str) -> str | None:
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.splitlines()[0] if found.stdout else None
