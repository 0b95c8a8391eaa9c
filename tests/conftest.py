"""Rules of the whole test suite: a skip needs a listed reason, telemetry is off, and the small model is the only
one."""

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("paft", deadline=None, max_examples=30)  # no deadline for one case: the machine may be busy
settings.register_profile("thorough", deadline=None, max_examples=300)  # make test-all
settings.load_profile("paft")

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # tests started in the background of a script; what they start must get Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ALLOWED_SKIPS = (
    "../shared is absent",  # public research data that is not ours to ship
    "no Chromium on this machine",  # the page's browser test; .ci/run installs one where it may
    "several hosts on one machine need",  # root, and programs that a user's machine may lack
    "no S3-compatible server: swift cannot be installed from PyPI",
    "no GPU",  # the flash kernel of rows without padding runs on one only
    "a disk that fails needs root and unshare",  # a mount of its own; the limit on the size of files is tested without
)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turns a skip without a listed reason into a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped for a reason that is not listed in tests/conftest.py: {reason}"
