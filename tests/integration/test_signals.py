"""Ctrl-C and SIGTERM: once stops cleanly, twice at once, whatever handlers libraries have put in place. Issue 5,
promise 7."""

import signal
import subprocess
import sys
import time

import pytest

WORKS = """
import ctypes, signal, sys, threading, time
from paft_ray.cli.signals import interruptible
{before}
with interruptible("start the same command again"):
    {handler}
    print("works", flush=True)
    try:
        {work}
    finally:
        print("cleans up", flush=True)
        {cleaning}
"""
# the tests themselves may run in the background, where Ctrl-C is ignored
FOREGROUND = "signal.signal(signal.SIGINT, signal.default_int_handler)"
# What Ray does with SIGTERM, and what Ray Train leaves behind after a training.
RAYS = "signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(signum))"
SWALLOWS = "signal.signal(signal.SIGINT, lambda *_: None)"
WAITS_IN_C = (
    "m = ctypes.create_string_buffer(256); libc = ctypes.CDLL(None); libc.pthread_mutex_lock(m); "
    "libc.pthread_mutex_lock(m)"
)


def interrupted(
    *signals: int, handler: str = "pass", work: str = "time.sleep(60)", cleaning: str = "pass"
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command that gets the signals, half a second after one another."""
    code = WORKS.format(before=FOREGROUND, handler=handler, work=work, cleaning=cleaning)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        for number in signals:
            time.sleep(0.5)
            process.send_signal(number)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("handler", ["pass", RAYS])
def test_once_cleans_up_and_says_how_to_go_on(number: int, code: int, handler: str) -> None:
    found, out, err = interrupted(number, handler=handler)
    assert (found, out) == (code, "cleans up\n")
    assert err.splitlines() == [
        "paft: stopping; Ctrl-C from here on stops at once",
        "paft: interrupted; start the same command again",
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_twice_ends_a_clean_up_that_hangs(number: int, code: int) -> None:
    found, out, err = interrupted(signal.SIGINT, number, cleaning="time.sleep(60)")
    assert (found, out) == (code, "cleans up\n")
    assert err.splitlines()[-1] == "paft: stopped at once"


@pytest.mark.parametrize("stuck", [{"handler": SWALLOWS}, {"work": WAITS_IN_C}], ids=["swallowed", "waiting in C"])
def test_twice_ends_a_command_that_the_first_does_not_reach(stuck: dict[str, str]) -> None:
    found, out, _ = interrupted(signal.SIGINT, signal.SIGINT, **stuck)
    assert (found, out) == (130, "")


def test_a_command_that_ends_by_itself_leaves_no_handler_behind() -> None:
    code = WORKS.format(before="found = signal.getsignal(signal.SIGTERM)", handler="pass", work="pass", cleaning="pass")
    after = "assert signal.getsignal(signal.SIGTERM) == found and signal.set_wakeup_fd(-1) == -1"
    subprocess.run([sys.executable, "-c", f"{code}\n{after}"], check=True, timeout=20)


def test_a_background_job_of_a_shell_still_ignores_ctrl_c() -> None:
    code = WORKS.format(
        before="signal.signal(signal.SIGINT, signal.SIG_IGN)",
        handler="pass",
        work="signal.raise_signal(signal.SIGINT)",
        cleaning="pass",
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "works\ncleans up\n")
