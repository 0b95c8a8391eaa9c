"""What the driver of this machine's NVIDIA GPUs says."""

from __future__ import annotations

import shutil
import subprocess

_TIMEOUT_S = 20


def lines(*arguments: str) -> list[str]:
    """The lines that `nvidia-smi` prints; none where it is not there, or the driver cannot be asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in said.stdout.splitlines() if line.strip()]
