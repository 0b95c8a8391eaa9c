"""Storage that fails: one clear line, nothing half-written, and the same command goes on when it is mended. Issue 5,
promise 5."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import EngineConfig
from paft_ray.errors import StorageError, UserError
from paft_ray.models.local import find_model
from paft_ray.stages.evaluate import Place
from paft_ray.storage.stage_cache import cached
from paft_ray.storage.store import Store
from tests.support.made_stage import trained_model
from tests.support.page_run import hostile_run
from tests.support.tiny_adapter import write_weights

BIG = 4_000_000  # bytes
# Run as `paft report`, which needs no Ray: in a mount namespace of its own on a small disk, which fails once the
# command holds its lease, and is mended.
DRIVER = """
import json, subprocess, sys, time
from pathlib import Path
fault, source, disk = sys.argv[1:]
def call(*command): subprocess.run(command, check=True)
call("mount", "-t", "tmpfs", "-o", "size=160k" if fault == "full" else "size=2m", "tmpfs", disk)
call("cp", "-r", f"{source}/.", disk)
run = Path(disk, "made-up")
folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
report = [sys.executable, "-m", "paft_ray", "report", f"{disk}/config.yaml", "--set", f"storage={disk}"]
def command():
    return subprocess.Popen(["setpriv", "--bounding-set", "-dac_override", *report], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
def ended(process):
    err = process.communicate(timeout=100)[1]
    parts = [path.name for path in run.rglob("*.part")]
    return {"code": process.returncode, "err": err, "finished": (run / "report/manifest.json").exists(), "parts": parts}
first = command()
while not (run / "lease.json").exists() and first.poll() is None:
    time.sleep(0.01)
if fault == "read-only":
    call("mount", "-o", "remount,ro", disk)
if fault == "permission":
    call("chmod", "555", *folders)
failed = ended(first)
call("mount", "-o", "remount,rw,size=2m", disk)
call("chmod", "755", *folders)
print(json.dumps([failed, ended(command())]))
"""
LIMITED = """
import resource, sys
from paft_ray.storage.store import Store
from paft_ray.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Store(sys.argv[1]).write_bytes("x.bin", bytes(200_000))
except StorageError as error:
    print(error)
"""
WRITES = """
import sys
from paft_ray.storage.store import Store
run, number = Store(sys.argv[1]), 0
while True:
    number += 1
    run.write_bytes("x.bin", bytes([number % 256]) * int(sys.argv[2]))
    print(number, flush=True)
"""


def on_a_failing_disk(fault: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `paft report` did on the failing disk, and on the mended one."""
    needed = ["unshare", "setpriv", "mount"]
    if (
        os.geteuid() != 0
        or not all(map(shutil.which, needed))
        or subprocess.run(["unshare", "--mount", "true"], check=False).returncode
    ):
        pytest.skip("a disk that fails needs root and unshare")
    source = folder / "source"
    Path(hostile_run(source, sweep=False).root).rename(source / "made-up")
    shutil.rmtree(source / "made-up/train")
    (source / "config.yaml").write_text("name: made-up\ntask: demo\nreport: {num_bootstrap: 50}\n")
    (folder / "disk").mkdir()
    command = ["unshare", "--mount", sys.executable, "-c", DRIVER, fault, str(source), str(folder / "disk")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    failed, mended = json.loads(done.stdout)
    return failed, mended


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("full", "No space left on device); free some space there"),
        ("read-only", "Read-only file system); make it writable again"),
        ("permission", "Permission denied); give this user the right to it"),
    ],
)
def test_a_disk_that_fails_stops_the_run_with_one_line_and_the_mended_one_goes_on(
    fault: str, reason: str, tmp_path: Path
) -> None:
    failed, mended = on_a_failing_disk(fault, tmp_path)
    assert failed["err"].startswith(
        f"paft: run made-up ({tmp_path}/disk/made-up), stage report: storage {tmp_path}/disk/made-up: "
    )
    assert reason in failed["err"]
    assert failed["err"].endswith("; finished stages are kept: start the same command again to resume\n")
    assert failed["err"].count("\n") == 1
    assert (failed["code"], failed["finished"], failed["parts"]) == (1, False, [])
    assert mended == {"code": 0, "err": "", "finished": True, "parts": []}


def test_a_file_that_may_not_grow_leaves_what_was_there(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    run.write_bytes("x.bin", b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, run.root], check=True, capture_output=True, text=True)
    assert (
        done.stdout
        == f"storage {run.root}: x.bin cannot be written (File too large); raise the limit on the size of files\n"
    )
    assert run.read_bytes("x.bin") == b"old"
    assert sorted(path.name for path in Path(run.root).iterdir()) == ["run.json", "x.bin"]


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    """At ten moments spread over the time of a write."""
    run = Store.open(str(tmp_path), "a")
    for moment in range(10):
        with subprocess.Popen([sys.executable, "-c", WRITES, run.root, str(BIG)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.0013 * moment)
            writer.send_signal(signal.SIGKILL)
        data = run.read_bytes("x.bin")
        assert len(data) == BIG
        assert len(set(data)) == 1


def test_storage_that_fails_at_the_start_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run\.json cannot be written .* or choose another storage with --set"):
        Store.open(str(tmp_path / "file"), "a")


def test_what_a_cut_deletion_leaves_is_not_taken_as_finished(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    cached(run, "train/paft-s0", {}, lambda: {"made": 1}, announce=lambda _: None)
    run.write_bytes("train/paft-s0/adapter/x", b"x")
    real = run.filesystem

    class Fails:
        """A disk that fails when a whole folder is deleted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def delete_dir(self, path: str) -> None:
            raise OSError(5, "Input/output error")

    run.filesystem = Fails()  # type: ignore[assignment]
    with pytest.raises(StorageError, match=r"train/paft-s0 cannot be deleted \(Input/output error\)"):
        run.delete("train/paft-s0")
    run.filesystem = real
    assert run.exists("train/paft-s0/adapter/x")
    assert not run.exists("train/paft-s0/manifest.json")


def test_weights_that_are_not_what_was_trained_are_not_evaluated(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    run.upload_dir(write_weights(tmp_path / "trained"), "train/paft-s0/weights")
    place = Place(run=run, engine=EngineConfig(), owner="test", base=find_model(str(tmp_path / "trained"), None))
    candidate = trained_model(run, "train/paft-s0/weights")
    with place.weights(candidate, run) as folder:
        assert Path(folder, "model.safetensors").exists()
    shutil.rmtree(Path(folder).parent)
    run.write_bytes("train/paft-s0/weights/model.safetensors", b"weigh")
    with (
        pytest.raises(UserError, match=r"train/paft-s0/weights/model\.safetensors is damaged"),
        place.weights(candidate, run),
    ):
        pass
    assert not list((tmp_path / "a").glob("merged-*"))
