"""Groups of gloo processes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_ports


def run_group(script: Path, *arguments: str, world_size: int, **environment: str) -> None:
    """Runs a script in one process for each rank, which finds its place in the variables that torch reads; all of them
    must succeed."""
    (port,) = free_ports(1)
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "DS_ACCELERATOR": "cpu",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, **environment, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world_size)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0] * world_size
    finally:
        for process in processes:
            process.kill()
