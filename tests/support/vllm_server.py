"""vLLM's own server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_ports

_START_S = 600


@contextmanager
def serving(line: str, log: Path, **environment: str) -> Iterator[str]:
    """URL of the server that a shell line starts, on a free port, once it is healthy. It is ended by its process id."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as sink:
        command = ["/bin/sh", "-c", f"exec {line} --port {port}"]
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, "PATH": path, "DO_NOT_TRACK": "1", **environment}
        )
    try:
        _wait(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 (the loopback)
            return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"no server: {log.read_text()[-5000:]}")
