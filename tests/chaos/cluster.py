"""A Ray cluster for many runs, one after another: one node or several on this machine, closed by a token, with ports
and a folder of its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.processes import end_sessions, of_sessions, title, wait_until_none
from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
_MEMBER_CPUS = 2
"""Logical CPUs of a node beside the head: room for both workers of the training."""
_TOKEN = secrets.token_hex(32)
"""Of every cluster of this process: Ray reads it once."""
_START_S, _STARTS = 180, 3
_UP, _TOO_SLOW = "Ray runtime started", "The current node timed out during startup"


@dataclass(kw_only=True)
class Cluster:
    """A head node and its members, each a session of its own."""

    scratch: Path
    """Temporary files of all nodes and clients."""
    environment: Mapping[str, str]
    """Of a client."""
    head: subprocess.Popen[bytes]
    num_members: int
    """Nodes beside the head."""
    members: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def sessions(self) -> tuple[int, ...]:
        """Of the head, then of its members."""
        return (self.head.pid, *(member.pid for member in self.members))

    def mend(self) -> None:
        """Starts a node in place of every member that is gone."""
        gone = [member for member in self.members if member.poll() is not None]
        end_sessions(*(member.pid for member in gone))
        self.members = [member for member in self.members if member not in gone]
        while len(self.members) < self.num_members:
            options = [f"--address={self.environment['RAY_ADDRESS']}", f"--num-cpus={_MEMBER_CPUS}", *_agent_ports()]
            self.members.append(
                _ray_start(options, self.environment, self.scratch / f"member-{time.monotonic_ns()}.log")
            )


@contextmanager
def started(scratch: Path, *, head_cpus: int, num_members: int = 0) -> Iterator[Cluster]:
    """A cluster with its files below `scratch`; none of its processes is left afterwards."""
    environment = _environment(scratch)
    port, dashboard, client = free_ports(3)
    options = [
        "--head",
        f"--num-cpus={head_cpus}",
        f"--port={port}",
        f"--ray-client-server-port={client}",
        f"--temp-dir={scratch}/ray",
    ]
    options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", *_agent_ports()]
    head = _ray_start(options, environment, scratch / "head.log")
    joined = {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    cluster = Cluster(scratch=scratch, environment=joined, head=head, num_members=num_members)
    try:
        cluster.mend()
        yield cluster
    finally:
        for process in (*cluster.members, head):
            process.send_signal(signal.SIGTERM)
        wait_until_none(lambda: [title(p) for p in of_sessions(*cluster.sessions)], 30)
        end_sessions(*cluster.sessions)


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Makes this process a driver of the cluster, to ask what is reserved there."""
    os.environ.update({name: value for name, value in cluster.environment.items() if name.startswith("RAY_")})
    import ray  # reads the token's mode from the environment, once

    ray.init(address=cluster.environment["RAY_ADDRESS"], log_to_driver=False, logging_level="warning")
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # Ray's own would end this process, and not its nodes
    try:
        yield
    finally:
        ray.shutdown()


def _agent_ports() -> list[str]:
    """Of a node's dashboard agent, whose own would be the same on every node of this machine."""
    listen, grpc = free_ports(2)
    return [f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}"]


def _environment(scratch: Path) -> dict[str, str]:
    """Variables of `paft` and Ray: nothing of the caller's Ray, temporary files in `scratch`/tmp."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(scratch / "tmp"),
        "TORCHINDUCTOR_CACHE_DIR": str(
            scratch / "inductor"
        ),  # kept, as a user's machine keeps it: an engine compiles for half a minute
        "RAY_TMPDIR": str(scratch / "own"),  # of a Ray that a client starts: it must not find this cluster there
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }


def _ray_start(options: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """The process that holds a node, once the node is up.

    Ray gives a raylet 30 s to register, no setting changes that, and beside other work they were seen to be too few:
    then it is started once more.
    """
    for _ in range(_STARTS):
        process = _started(options, environment, log)
        if process is not None:
            return process
    raise RuntimeError(f"a Ray node did not start: {log.read_text()[-2000:]}")


def _started(options: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes] | None:
    """None where Ray gave up on the raylet."""
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=dict(environment), stdout=stream, stderr=stream, start_new_session=True)
    deadline = time.monotonic() + _START_S
    while _UP not in (told := log.read_text()):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            end_sessions(process.pid)
            if ended and _TOO_SLOW in told:
                return None
            raise RuntimeError(f"a Ray node did not start: {told[-2000:]}")
        time.sleep(0.3)
    return process
