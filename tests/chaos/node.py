"""A Ray node for many runs, one after another: closed by a token, with ports and a folder of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import end_session, of_session, title, wait_until_none

ROOT = Path(__file__).resolve().parents[2]
_NUM_CPUS = 8


@dataclass(frozen=True, kw_only=True)
class Node:
    """A started head node."""

    session: int
    """Session of its processes."""
    environment: Mapping[str, str]
    """Of a client."""
    scratch: Path
    """Temporary files of the node and its clients."""


def client_environment(scratch: Path) -> dict[str, str]:
    """Variables of `paft` with a Ray of its own below `scratch`: nothing of the caller's Ray, its temporary files in `scratch`/tmp."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(scratch / "tmp"),
        "RAY_TMPDIR": str(scratch / "own"),  # of a Ray that a client starts: it must not find this node there
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }


@contextmanager
def started(scratch: Path) -> Iterator[Node]:
    """A node below `scratch`; none of its processes is left afterwards."""
    environment = client_environment(scratch)
    ports = free_ports(5)
    options = [f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}", f"--dashboard-agent-grpc-port={ports[3]}"]
    command = ["start", "--head", "--block", f"--num-cpus={_NUM_CPUS}", "--dashboard-host=127.0.0.1", f"--ray-client-server-port={ports[4]}", *options]
    log = scratch / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ray"), *command, f"--temp-dir={scratch}/ray"],
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _wait(process, log)
        yield Node(session=process.pid, environment={**environment, "RAY_ADDRESS": f"127.0.0.1:{ports[0]}"}, scratch=scratch)
    finally:
        process.send_signal(signal.SIGTERM)
        wait_until_none(lambda: [title(p) for p in of_session(process.pid)], 30)
        end_session(process.pid)
        process.wait(timeout=30)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while "--address" not in log.read_text():  # how to join, the last thing that it says
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Ray node did not start: {log.read_text()[-2000:]}")
        time.sleep(0.3)
