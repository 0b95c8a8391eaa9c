"""The lease on a run's directory: one command at a time writes to it.

`lease.json` is made where none is, renewed while its command works, and deleted at the end. In a folder it is made by a
hard link, in which only one of several succeeds. Object storage has no such step, and neither has taking over from a
dead holder: the lease is written and read back `SETTLE_S` later, and the last writer has it. What remains is a writer
that stalls for longer than that between looking and writing: two then work until the first one's next renewal, at most
`RENEW_S` later, at which it finds the other's lease and stops.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from paft_ray.echo import echo
from paft_ray.errors import StageError, UserError
from paft_ray.storage.store import Store

LEASE = "lease.json"
RENEW_S = 20.0
EXPIRY_S = 90.0
SETTLE_S = 1.0
_CLOCK_STEP_S = 60.0  # a clock that is set moves the times at which processes started


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The command that a lease is for."""

    id: str
    """Made up for each lease."""
    host: str
    pid: int
    started: float
    """When the process started, seconds since the epoch: a number is given to another process in time."""
    namespace: int | None
    """Of process numbers: two containers may share the name of a host. None where the system has none."""
    user: str
    command: str
    """`run`, or a stage."""
    since: float
    """Seconds since the epoch, as `renewed`: the last sign of life."""
    renewed: float

    @classmethod
    def here(cls, command: str) -> Holder:
        """This process, from now on."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError):  # a number without a name, as containers have
            user = str(os.getuid())
        now, own = time.time(), psutil.Process()
        return cls(
            id=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=own.pid,
            started=own.create_time(),
            namespace=_namespace(),
            user=user,
            command=command,
            since=now,
            renewed=now,
        )

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life, by this machine's clock."""
        return max(0.0, time.time() - self.renewed)

    @property
    def is_here(self) -> bool:
        """Whether its process number means something on this machine."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    @property
    def is_gone(self) -> bool:
        """Whether it ran here and has ended."""
        if not self.is_here:
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > _CLOCK_STEP_S
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return (
            f"`paft {self.command}` of {self.user} on {self.host} (process {self.pid}) since {since}, last sign of "
            f"life {self.silent_s:.0f} s ago"
        )


class Lease:
    """One command's lease on a run."""

    def __init__(self, run: Store, command: str) -> None:
        self._run, self._own = run, Holder.here(command)
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="paft-lease", daemon=True)
        self.lost: str | None = None
        """What has become of it where it is another's; from then on the command writes nothing."""

    def take(self) -> None:
        """Starts to hold it. Raises `UserError` where another command does, with who that is."""
        made = self._run.is_local and (self._made() or (self._read() is None and self._made()))
        if not made:
            held = self._read()
            if held is not None and not held.is_gone and not self._run_out(held):
                raise UserError(self._refusal(held))
            self._write()
            time.sleep(SETTLE_S)
            if (found := self._read()) != self._own:
                raise UserError(
                    self._refusal(found)
                    if found
                    else f"run {self._run.name}: another command ended at this moment; start again"
                )
        self._renewer.start()

    def release(self) -> None:
        """Deletes it where it is still this command's. A storage that fails keeps it: it runs out."""
        self._ended.set()
        self._renewer.join()
        with suppress(OSError):
            if (found := self._read()) and found.id == self._own.id:
                self._run.delete(LEASE)

    def _made(self) -> bool:
        """Whether there was none, and now there is this one; also False where the folder knows no hard links."""
        target = Path(self._run.path(LEASE))
        part = target.with_name(f"{LEASE}.{self._own.id}.part")
        try:
            part.write_text(json.dumps(asdict(self._own), indent=2), encoding="utf-8")
            os.link(part, target)
        except OSError:
            return False
        finally:
            with suppress(OSError):
                part.unlink()
        return True

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                found = self._read()
                if found is None or found.id != self._own.id:
                    self._stop(found)
                    return
                self._own = replace(self._own, renewed=time.time())
                self._write()
            except OSError:  # the stage tells what is wrong with the storage; the lease is renewed when it is back
                continue

    def _stop(self, holder: Holder | None) -> None:
        """Ends the main thread's work as SIGTERM does, under Ray and Ray Train too."""
        now = f"it is in use by {holder}" if holder else f"its {LEASE} is gone"
        self.lost = (
            f"run {self._run.name}: lost hold of the run and stopped writing: {now}; see that no other command works "
            "on it"
        )
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)

    def _run_out(self, held: Holder) -> bool:
        """Whether it gives no sign of life any more: too old by the clock, then watched, since the clocks of two
        machines may differ."""
        if held.silent_s <= EXPIRY_S:
            return False
        echo(f"run {self._run.name}: looking {1.25 * RENEW_S:.0f} s for a sign of life of {held}")
        time.sleep(1.25 * RENEW_S)
        return self._read() in (held, None)

    def _refusal(self, held: Holder) -> str:
        dead = (
            ""
            if held.is_here
            else f"; if that process is dead, start again in {max(0.0, EXPIRY_S - held.silent_s):.0f} s"
        )
        return (
            f"run {self._run.name}: in use by {held}; wait for it or stop it with Ctrl-C, or give this run another "
            f"name (--set name=NAME){dead}"
        )

    def _read(self) -> Holder | None:
        """None where there is none, or something that is none."""
        try:
            return Holder(**self._run.read_json(LEASE))
        except (FileNotFoundError, UserError, TypeError):
            return None

    def _write(self) -> None:
        self._run.write_json(LEASE, asdict(self._own))


@contextmanager
def hold(run: Store, command: str) -> Iterator[Lease]:
    """The lease on `run` while the block works, inside `interruptible`.

    Raises `UserError` where another command holds it, `StageError` where it is lost on the way.
    """
    lease = Lease(run, command)
    lease.take()
    try:
        yield lease
    except BaseException:
        if lease.lost:
            raise StageError(lease.lost) from None
        raise
    finally:
        lease.release()


def _namespace() -> int | None:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
