"""One command at a time writes to a run's directory. Issue 5, promise 5."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli.main import main
from paft_ray.cli.signals import interruptible
from paft_ray.errors import StageError, UserError
from paft_ray.storage import run_lock as module
from paft_ray.storage.run_lock import LEASE, Holder, Lease, hold
from paft_ray.storage.store import Store

DEMO = "jobs/configs/demo.yaml"
HOLDS = """
import sys, time
from paft_ray.storage.store import Store
from paft_ray.storage.run_lock import hold
with hold(Store(sys.argv[1]), "train"):
    print("held", flush=True)
    time.sleep(60)
"""
RACES = """
import sys, time
from paft_ray.storage.store import Store
from paft_ray.storage.run_lock import hold
from paft_ray.errors import UserError
print("ready", flush=True)
sys.stdin.readline()
try:
    with hold(Store(sys.argv[1]), "train"):
        time.sleep(4)
        print("held")
except UserError as error:
    print(error)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A run whose leases are renewed 20 times as often."""
    for name in ("RENEW_S", "WATCH_S", "SETTLE_S", "_LOOK_S"):
        monkeypatch.setattr(module, name, getattr(module, name) / 20)
    return Store.open(str(tmp_path), "mine")


def put(run: Store, holder: Holder) -> None:
    run.write_json(LEASE, asdict(holder))


def elsewhere() -> Holder:
    """A command on another machine."""
    return replace(Holder.here("train"), host="node-7", pid=4711, user="ada")


def test_a_second_command_is_refused_with_who_holds_the_run_before_ray_is_imported(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "mine")
    with subprocess.Popen([sys.executable, "-c", HOLDS, run.root], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        code = (
            f"import sys; sys.modules['ray'] = None; from paft_ray.cli.main import main; main(['prepare', '{DEMO}', "
            "*sys.argv[1:]])"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, "--set", f"storage={tmp_path}", "--set", "name=mine", "--address", "x:1"],
            capture_output=True,
            text=True,
        )
        first.kill()
    assert second.returncode == 2
    assert second.stderr.startswith("paft: run mine is locked by `paft train` of ")
    assert f" on {socket.gethostname()} (process {first.pid}) since " in second.stderr
    assert "wait for it or stop it with Ctrl-C, or give this run another name" in second.stderr
    assert second.stderr.count("\n") == 1
    assert not run.exists("config.json")
    with hold(run, "prepare"):  # killed: taken over at once
        assert run.read_json(LEASE)["pid"] == os.getpid()


def test_it_is_released_at_the_end_and_when_the_command_fails(run: Store) -> None:
    with hold(run, "prepare"):
        assert run.exists(LEASE)
    assert not run.exists(LEASE)
    with pytest.raises(RuntimeError, match="broken"), hold(run, "prepare"):
        raise RuntimeError("broken")
    assert [path.name for path in Path(run.root).iterdir()] == ["run.json"]


def test_of_many_that_start_at_once_one_holds_it(tmp_path: Path) -> None:
    for number, dead in enumerate([False, True]):
        run = Store.open(str(tmp_path), f"race{number}")
        if dead:
            put(run, replace(Holder.here("train"), started=1.0))
        racing = [
            subprocess.Popen(
                [sys.executable, "-c", RACES, run.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(6)
        ]
        assert [process.stdout.readline() for process in racing if process.stdout] == ["ready\n"] * 6
        for process in racing:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0] for process in racing]
        assert sorted(line == "held\n" for line in said) == [False] * 5 + [True], said


def test_of_two_that_both_saw_a_dead_holder_the_last_writer_holds_it(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run, replace(Holder.here("train"), started=1.0))
    both_have_looked, write = threading.Barrier(2), Lease._write

    def late(lease: Lease) -> None:
        both_have_looked.wait(timeout=10)
        write(lease)

    def command() -> str:
        try:
            with hold(run, "train"):
                time.sleep(2)
                return "held"
        except UserError as error:
            return str(error)

    monkeypatch.setattr(Lease, "_write", late)
    monkeypatch.setattr(module, "SETTLE_S", 1.0)
    monkeypatch.setattr(module, "RENEW_S", 60.0)
    with ThreadPoolExecutor(2) as pool:
        said = [told.result() for told in [pool.submit(command), pool.submit(command)]]
    assert sorted(line == "held" for line in said) == [False, True], said


def test_a_process_number_that_another_process_has_now_is_no_holder(run: Store) -> None:
    put(run, replace(Holder.here("train"), started=Holder.here("train").started - 100))
    with hold(run, "prepare"):
        assert run.read_json(LEASE)["command"] == "prepare"


@contextmanager
def renewed(run: Store) -> Iterator[None]:
    """The run's lease is renewed meanwhile, as a live holder elsewhere does."""
    lease, ended = run.read_json(LEASE), threading.Event()

    def renew() -> None:
        number = 0
        while not ended.wait(0.2):
            number += 1
            run.write_json(LEASE, {**lease, "renewed": lease["renewed"] + number})

    holder = threading.Thread(target=renew)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join()


@pytest.mark.parametrize("place", [{"namespace": 1}, {"boot": "a-twin-of-the-same-name"}, {"host": "node-7"}])
def test_a_live_holder_whose_process_number_means_nothing_here_is_never_gone(
    run: Store, place: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    put(run, replace(Holder.here("train"), pid=2**22 + 1, **place))
    locked = pytest.raises(UserError, match=r"is locked by `paft train` of .*; wait for it")
    with renewed(run), locked, hold(run, "prepare"):
        pass
    said = "".join(capsys.readouterr())
    assert "run mine is locked by `paft train` of " in said
    assert f"; waiting {module.WATCH_S:.0f} s for its heartbeat" in said


def test_who_holds_a_run_stays_on_one_line(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(run, replace(elsewhere(), user="me\n\x1b[31m", command="train\nx"))
    with renewed(run), pytest.raises(UserError, match="is locked by"), hold(run, "prepare"):
        pass
    (line,) = "".join(capsys.readouterr()).splitlines()
    assert "waiting" in line
    assert "\x1b[31m" not in line


_HOUR_S = 3600.0


@pytest.mark.parametrize(
    "clock", [-1000.0, 0.0, _HOUR_S, 253402300799.0 - 2e9], ids=["behind", "same", "ahead", "9999"]
)
@pytest.mark.parametrize("alive", [True, False])
def test_a_holder_elsewhere_is_watched_whatever_its_clock_says(run: Store, clock: float, alive: bool) -> None:
    put(run, replace(elsewhere(), renewed=time.time() + clock))
    begin = time.monotonic()
    if alive:
        with renewed(run), pytest.raises(UserError, match="node-7"), hold(run, "prepare"):
            pass
        return
    with hold(run, "prepare"):
        assert run.read_json(LEASE)["command"] == "prepare"
    assert module.WATCH_S <= time.monotonic() - begin < 3 * module.WATCH_S


def odd_leases() -> dict[str, bytes]:
    """Leases that this version does not write, by what is odd about them."""
    good = asdict(elsewhere())
    changed: dict[str, dict[str, Any]] = {
        "renewed as text": {"renewed": "soon"},
        "renewed not finite": {"renewed": float("nan")},
        "since too large": {"since": 1e300},
        "since not finite": {"since": float("inf")},
        "negative pid": {"pid": -1},
        "pid as text": {"pid": "4711"},
        "pid too large": {"pid": 10**30},
        "started is none": {"started": None},
        "endless name": {"host": "x" * 10_000},
        "a field more": {"epoch": 1},
    }
    return {
        **{name: json.dumps({**good, **change}).encode() for name, change in changed.items()},
        "a field less": json.dumps({name: value for name, value in good.items() if name != "boot"}).encode(),
        "torn": json.dumps(good).encode()[:50],
        "empty": b"",
        "a list": b"[]",
        "null": b"null",
        "deep": b"[" * 50_000,
        "bytes": b"\xff\xfe",
    }


@pytest.mark.parametrize("lease", odd_leases().values(), ids=odd_leases())
def test_a_lease_of_unknown_form_has_a_live_holder_until_it_no_longer_changes(
    run: Store, lease: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run.write_bytes(LEASE, lease)
    threading.Timer(0.1, run.write_bytes, [LEASE, lease + b" "]).start()
    unknown = r"run mine is locked by another command \(lease.json is torn, or of another version\); wait for it"
    with pytest.raises(UserError, match=unknown), hold(run, "prepare"):
        pass
    assert run.exists(LEASE)
    begin = time.monotonic()
    with hold(run, "prepare"):
        assert time.monotonic() - begin >= module.WATCH_S
    assert "s for its heartbeat" in "".join(capsys.readouterr())


def test_one_that_is_released_while_it_is_watched_is_taken(run: Store) -> None:
    put(run, elsewhere())
    threading.Timer(0.1, run.delete, [LEASE]).start()
    with hold(run, "prepare"):
        assert run.read_json(LEASE)["command"] == "prepare"


def test_a_command_that_is_interrupted_while_it_takes_the_lease_leaves_none(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    put(run, replace(Holder.here("train"), started=1.0))
    monkeypatch.setattr(module.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), hold(run, "prepare"):
        pass
    assert not run.exists(LEASE)


def test_it_is_renewed_while_the_command_works(run: Store) -> None:
    with hold(run, "prepare"):
        first = run.read_json(LEASE)
        time.sleep(2.5 * module.RENEW_S)
        later = run.read_json(LEASE)
    assert later["renewed"] > first["renewed"]
    assert {**later, "renewed": 0} == {**first, "renewed": 0}


@pytest.mark.parametrize("other", [True, False])
def test_a_command_that_finds_anothers_lease_or_none_stops(run: Store, other: bool) -> None:
    def work() -> None:
        with interruptible("start again"), hold(run, "prepare"):
            put(run, elsewhere()) if other else run.delete(LEASE)
            time.sleep(10)

    now = "it is locked by .* on node-7" if other else "its lease.json is gone"
    with pytest.raises(StageError, match=f"run mine: lost hold of the run and stopped writing: {now}"):
        work()
    assert run.exists(LEASE) == other


def test_without_hard_links_the_last_writer_holds_it(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unknown)
    with hold(run, "prepare"), pytest.raises(UserError, match="is locked by"), hold(run, "train"):
        pass
    assert not run.exists(LEASE)


def test_what_only_reads_a_run_needs_no_lease(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(run, elsewhere())
    with pytest.raises(SystemExit):
        main(["prompts", "show", run.root])
    assert "stage synthesize is not finished" in capsys.readouterr().err
