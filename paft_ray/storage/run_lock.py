"""The lease on a run's directory: one command at a time writes to it.

`lease.json` is made where none is, renewed while its command works, and deleted at the end. In a folder it is made by a
hard link, in which only one of several succeeds. Object storage has no such step, and neither has taking over from a
dead holder: the lease is written and read back `SETTLE_S` later, and the last writer has it. What remains is a writer
that stalls for longer than that between looking and writing: two then work until the first one's next renewal, at which
it finds the other's lease and stops.

A holder that is not a process of this machine is alive where its lease changes within `WATCH_S` of the watcher's own
clock, whatever it says: clocks of two machines are never compared, and a lease that cannot be read, as another version
may write it, has a holder like any other.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from paft_ray.errors import StageError, UserError, one_line
from paft_ray.log import get_logger
from paft_ray.storage.store import Store

_log = get_logger(__name__)
LEASE = "lease.json"
RENEW_S = 20.0
WATCH_S = 1.25 * RENEW_S
SETTLE_S = 1.0
_LOOK_S = 1.0  # between two looks at a lease that is watched
_LARGEST = 2**16
_CLOCK_STEP_S = 60.0  # a clock that is set moves the times at which processes started
_YEAR_9999_S = 253402300799

_Text = Annotated[str, Field(max_length=1024)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Holder:
    """The command that a lease is for."""

    id: _Text
    """Made up for each lease."""
    host: _Text
    boot: _Text | None
    """Made up by the kernel at each start of the machine: two machines may share a name. None where the system has
    none, as `namespace`."""
    namespace: int | None
    """Of process numbers: two containers of a machine may share a name."""
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    started: Annotated[float, Field(allow_inf_nan=False)]
    """When the process started, seconds since the epoch: a number is given to another process in time."""
    user: _Text
    command: _Text
    """`run`, or a stage."""
    since: Annotated[float, Field(ge=0, le=_YEAR_9999_S)]
    """Seconds since the epoch by the holder's clock, as `renewed`."""
    renewed: Annotated[float, Field(allow_inf_nan=False)]
    """Changes at each renewal, which is all that is read from it."""

    @classmethod
    def here(cls, command: str) -> Holder:
        """This process, from now on."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError):  # a number without a name, as containers have
            user = str(os.getuid())
        now, own = time.time(), psutil.Process()
        host, boot, namespace = _place()
        return cls(
            id=uuid.uuid4().hex,
            host=host,
            boot=boot,
            namespace=namespace,
            pid=own.pid,
            started=own.create_time(),
            user=user,
            command=command,
            since=now,
            renewed=now,
        )

    @property
    def is_here(self) -> bool:
        """Whether its process number means something on this machine."""
        return (self.host, self.boot, self.namespace) == _place()

    @property
    def is_gone(self) -> bool:
        """Whether it ran here and has ended."""
        if not self.is_here:
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > _CLOCK_STEP_S
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:  # it is there, and shows nothing
            return False

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"`paft {self.command}` of {self.user} on {self.host} (process {self.pid}) since {since}"


_HOLDERS = TypeAdapter(Holder)


class Lease:
    """One command's lease on a run."""

    def __init__(self, run: Store, command: str, elsewhere: str) -> None:
        self._run, self._own, self._elsewhere = run, Holder.here(command), elsewhere
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="paft-lease", daemon=True)
        self.lost: str | None = None
        """What has become of it where it is another's; from then on the command writes nothing."""

    def take(self) -> None:
        """Starts to hold it. Raises `UserError` where another command does, with who that is."""
        made = self._run.is_local and (self._made() or (self._read() is None and self._made()))
        if not made:
            self._check_free()
            self._write()
            time.sleep(SETTLE_S)
            if (found := self._read()) != _HOLDERS.dump_json(self._own, indent=2):
                raise UserError(
                    f"run {self._run.name}: another command ended at this moment; start again"
                    if found is None
                    else self._refusal(found)
                )
        self._renewer.start()

    def release(self) -> None:
        """Deletes it where it is still this command's. A storage that fails keeps it: nothing renews it any more."""
        self._ended.set()
        if self._renewer.is_alive():
            self._renewer.join()
        with suppress(OSError, UserError):
            if self._is_own(self._read()):
                self._run.delete(LEASE)

    def _check_free(self) -> None:
        """Returns where no command holds the lease. Raises `UserError` where one does; watches one of elsewhere."""
        if (found := self._read()) is None:
            return
        holder = _holder(found)
        if holder is not None and holder.is_gone:
            return
        if (holder is not None and holder.is_here) or self._changes(found):
            raise UserError(self._refusal(found))

    def _changes(self, found: bytes) -> bool:
        """Whether the lease is renewed within `WATCH_S`; one that is deleted meanwhile is not."""
        _log.warning(f"run {self._run.name} is locked by {_who(found)}; waiting {WATCH_S:.0f} s for its heartbeat")
        end = time.monotonic() + WATCH_S
        now: bytes | None = found
        while now == found and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            now = self._read()
        return now not in (found, None)

    def _made(self) -> bool:
        """Whether there was none, and now there is this one; also False where the folder knows no hard links."""
        target = Path(self._run.path(LEASE))
        part = target.with_name(f"{LEASE}.{self._own.id}.part")
        try:
            part.write_bytes(_HOLDERS.dump_json(self._own, indent=2))
            os.link(part, target)
        except OSError:
            return False
        finally:
            with suppress(OSError):
                part.unlink()
        return True

    def _renew(self) -> None:
        """Twice in `RENEW_S`, so that a renewal may be late; where the storage fails, again at once."""
        pause = RENEW_S / 2
        while not self._ended.wait(pause):
            try:
                found = self._read()
                if not self._is_own(found):
                    self._stop(found)
                    return
                self._own = replace(self._own, renewed=time.time())
                self._write()
                pause = RENEW_S / 2
            except (OSError, UserError):  # the stage reports what is wrong with the storage
                pause = SETTLE_S

    def _stop(self, found: bytes | None) -> None:
        """Ends the main thread's work as SIGTERM does, under Ray and Ray Train too."""
        now = f"it is locked by {_who(found)}" if found is not None else f"its {LEASE} is gone"
        self.lost = (
            f"run {self._run.name}: lost hold of the run and stopped writing: {now}; see that no other command works "
            "on it"
        )
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)

    def _refusal(self, found: bytes) -> str:
        return (
            f"run {self._run.name} is locked by {_who(found)}; wait for it or stop it with Ctrl-C, or {self._elsewhere}"
        )

    def _is_own(self, found: bytes | None) -> bool:
        holder = _holder(found) if found is not None else None
        return holder is not None and holder.id == self._own.id

    def _read(self) -> bytes | None:
        """What the lease says; None where there is none."""
        try:
            return self._run.read_bytes(LEASE, largest=_LARGEST)
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        self._run.write_bytes(LEASE, _HOLDERS.dump_json(self._own, indent=2))


@contextmanager
def hold(
    run: Store, command: str, *, elsewhere: str = "give this run another name (--set name=NAME)"
) -> Iterator[Lease]:
    """The lease on `run` while the block works, inside `interruptible`. `elsewhere`: how to work in another place.

    Raises `UserError` where another command holds it, `StageError` where it is lost on the way.
    """
    lease = Lease(run, command, elsewhere)
    try:
        lease.take()
        yield lease
    except BaseException:
        if lease.lost:
            raise StageError(lease.lost) from None
        raise
    finally:
        lease.release()


def _holder(found: bytes) -> Holder | None:
    """None for a lease that cannot be read: torn, empty, of another version."""
    try:
        return _HOLDERS.validate_json(found)
    except ValidationError:
        return None


def _who(found: bytes) -> str:
    holder = _holder(found)
    return one_line(holder)[:300] if holder else f"another command ({LEASE} is torn, or of another version)"


def _place() -> tuple[str, str | None, int | None]:
    """(host name, id of the machine's start, namespace of process numbers) of this process."""
    boot, namespace = None, None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return socket.gethostname(), boot, namespace
