"""Several hosts on one machine: namespaces with sshd, reached from a client in a namespace of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NEEDED = ("ip", "rsync", "ssh", "sshd", "ssh-keygen", "unshare", "nsenter", "pgrep")
NAMESPACES = ("unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc")
SSHD = """HostKey {lab}/host_key
AuthorizedKeysFile {lab}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Running hosts and their client."""

    folder: Path
    """Everything that they write: `shared`, `client`, `host0`, ..., `log`."""
    ips: tuple[str, ...]
    """Addresses."""
    pid: int
    """First process of the client's namespaces; those of the hosts lie below."""
    environment: Mapping[str, str]
    """Of a command of the client."""

    def start(self, *command: str, folder: Path, **variables: str) -> "subprocess.Popen[str]":
        """A command of the client, started in `folder`."""
        inside = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--net",
            "--pid",
            f"--wdns={folder}",
            "--",
            *command,
        ]
        environment = {**self.environment, **variables}
        return subprocess.Popen(
            inside,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, folder: Path, timeout_s: float = 1200, **variables: str) -> tuple[int, str]:
        """Exit code and output of a command of the client."""
        process = self.start(*command, folder=folder, **variables)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output


def wait_until(true: Callable[[], bool], timeout_s: float, what: Callable[[], str]) -> None:
    """Raises `AssertionError` with `what()` where it does not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


def _prepare(lab: Path, count: int, variables: Mapping[str, str]) -> None:
    """Keys, accounts and homes."""
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(lab / name)], check=True)
    (lab / "sshd_config").write_text(SSHD.format(lab=lab))
    shutil.copy(Path(__file__).with_name("hosts.sh"), lab)
    (lab / "shared").mkdir()
    (lab / "client" / "home").mkdir(parents=True)
    rest = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    for number in range(count):
        home = lab / f"host{number}" / "home"
        home.mkdir(parents=True)
        (home / ".bashrc").write_text("".join(f"export {name}={value}\n" for name, value in variables.items()))
        (home.parent / "passwd").write_text("\n".join([f"root:x:0:0:root:{home}:/bin/bash", *rest, ""]))


@contextmanager
def started(count: int, variables: Mapping[str, str]) -> Iterator[Hosts]:
    """`count` hosts with `variables` in their login shells; all their processes and files are gone afterwards."""
    lab = Path(tempfile.mkdtemp(prefix="paft-hosts-", dir="/var/tmp"))
    _prepare(lab, count, variables)
    command = [*NAMESPACES, "bash", str(lab / "hosts.sh"), "client", str(lab), sys.prefix, str(count)]
    with (lab / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: (lab / "ready").exists() or process.poll() is not None, 60, (lab / "log").read_text)
        assert process.poll() is None, (lab / "log").read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        environment = {
            "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(lab / "client" / "home"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
        yield Hosts(
            folder=lab,
            ips=tuple(f"10.77.0.{10 + number}" for number in range(count)),
            pid=int(children[0]),
            environment=environment,
        )
    finally:
        process.send_signal(signal.SIGKILL)  # and with it, by --kill-child, every process in its namespaces
        process.wait(timeout=30)
        shutil.rmtree(lab)


@pytest.fixture(scope="session", name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool], float, Callable[[], str]], None]:
    """The function of that name."""
    return wait_until


@pytest.fixture(scope="session")
def hosts() -> Callable[[int, Mapping[str, str]], AbstractContextManager[Hosts]]:
    """The context manager `started`; skips where this machine cannot hold several hosts."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None] + ["root"] * (os.geteuid() != 0)
    if (
        not missing
        and subprocess.run(
            [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        ).returncode
    ):
        missing = ["namespaces that may be mounted in"]
    if missing:
        pytest.skip(f"several hosts on one machine need {', '.join(missing)}")
    return started
