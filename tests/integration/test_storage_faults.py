"""An object store that goes away, comes back, or is slow; two commands on one run there. A real server (OpenStack
Swift), no Ray. Issue 5, promise 5."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from paft_ray.config import parse_config
from paft_ray.errors import StageError, StorageError, UserError
from paft_ray.stages.pipeline import run_stage
from paft_ray.stages.registry import STAGES
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.run_lock import LEASE, hold
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from tests.integration import object_store
from tests.integration.object_store import Server
from tests.support.resolved import resolved

pytestmark = pytest.mark.slow

BIG = 12_000_000  # bytes; more than one part of a multipart upload
RACES = """
import sys, time
from paft_ray.storage.store import Store
from paft_ray.storage.run_lock import hold
from paft_ray.errors import UserError
run = Store(sys.argv[1])
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    with hold(run, "train"):
        time.sleep(4)
        print("held")
except UserError as error:
    print(error)
"""


class ServerHandle:
    """A server that can be ended and started again under the same address, with what it held."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._running = ExitStack()
        self.server: Server | None = None
        self.start()

    def start(self) -> None:
        ports = self.server.ports if self.server else None
        self.server = self._running.enter_context(object_store.serve(self._binaries, self._folder, ports))

    def stop(self) -> None:
        self._running.close()

    def stall(self, seconds: float) -> None:
        """No answer for so long, starting now."""
        assert self.server is not None
        proxy = self.server.processes[-1]
        proxy.send_signal(signal.SIGSTOP)
        threading.Timer(seconds, proxy.send_signal, [signal.SIGCONT]).start()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    binaries = object_store.install()
    if binaries is None:
        pytest.skip("no S3-compatible server: swift cannot be installed from PyPI")
    found = ServerHandle(binaries, tmp_path_factory.mktemp("swift"))
    assert found.server is not None
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**object_store.ENVIRONMENT, "AWS_ENDPOINT_URL": found.server.endpoint}.items():
            patch.setenv(name, value)
        pafs.S3FileSystem(endpoint_override=found.server.endpoint, allow_bucket_creation=True).create_dir("faults")
        yield found
    found.stop()


def test_a_store_that_goes_away_stops_the_stage_with_one_line_and_it_goes_on_when_it_is_back(
    store: ServerHandle,
) -> None:
    run = Store.open("s3://faults/runs", "away")
    run.write_bytes("prepare/b.bin", b"old")
    goes_away = True

    def stage(given: ResolvedRun, *, force: bool) -> Manifest:
        def body() -> Manifest:
            run.write_bytes("prepare/a.bin", b"a")
            if goes_away:
                store.stop()
            run.write_bytes("prepare/b.bin", bytes(BIG))
            return {}

        return cached(run, "prepare", {}, body)

    config = parse_config({"name": "away", "task": "demo"}, source="test")
    with pytest.raises(
        StageError,
        match=r"^run away \(s3://faults/runs/away.*\), stage prepare: storage s3://.*: prepare/b\.bin cannot be "
        r"written \(",
    ) as caught:
        run_stage(replace(STAGES["prepare"], load=lambda: stage), resolved(config, run))
    assert "\n" not in str(caught.value)
    for action in (
        lambda: run.read_bytes("prepare/a.bin"),
        lambda: run.exists("prepare/a.bin"),
        lambda: run.delete("prepare/a.bin"),
    ):
        with pytest.raises(StorageError, match=r"prepare/a\.bin cannot be (read|deleted) \("):
            action()
    store.start()
    goes_away = False
    assert not run.exists("prepare/manifest.json")
    assert run.read_bytes("prepare/b.bin") == b"old"
    run_stage(replace(STAGES["prepare"], load=lambda: stage), resolved(config, run))
    assert len(run.read_bytes("prepare/b.bin")) == BIG
    assert run.exists("prepare/manifest.json")


def test_a_store_that_is_slow_is_waited_for(store: ServerHandle) -> None:
    run = Store.open("s3://faults/runs", "slow")
    store.stall(5)
    begin = time.monotonic()
    run.write_bytes("prepare/a.bin", bytes(BIG))
    assert time.monotonic() - begin > 4
    assert len(run.read_bytes("prepare/a.bin")) == BIG


def test_an_upload_that_is_cut_leaves_no_file_that_vouches_for_it(store: ServerHandle, tmp_path: Path) -> None:
    run = Store.open("s3://faults/runs", "cut")
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes(BIG))

    def upload_until_it_fails() -> None:
        while True:
            run.upload_dir(tmp_path, "adapter")

    threading.Timer(0.5, store.stop).start()
    with pytest.raises(StorageError, match=r"adapter cannot be (written|deleted)"):
        upload_until_it_fails()
    store.start()
    whole = [f"adapter/{number}.bin" for number in range(3)]
    found = {name: len(run.read_bytes(name)) for name in whole if run.exists(name)}
    assert set(found.values()) <= {BIG}


def test_of_commands_that_start_at_once_on_a_run_there_one_holds_it(store: ServerHandle) -> None:
    run = Store.open("s3://faults/runs", "race")
    at = str(time.time() + 8)
    racing = [
        subprocess.Popen([sys.executable, "-c", RACES, run.root, at], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=100)[0] for process in racing]
    assert sorted(line == "held\n" for line in said) == [False, False, True], said
    with hold(run, "prepare"), pytest.raises(UserError, match="is locked by `paft prepare`"), hold(run, "train"):
        pass
    assert not run.exists(LEASE)
