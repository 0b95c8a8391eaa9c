"""A run on S3-compatible object storage: artifacts, cache and resume, checkpoints, on a real server (OpenStack Swift).
No engine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
import torch

from paft_ray.cli.main import main
from paft_ray.config import EngineConfig
from paft_ray.errors import UserError
from paft_ray.models.local import find_model
from paft_ray.stages.evaluate import Place
from paft_ray.storage.outputs import fetch_verified, file_digest
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import read_rows
from paft_ray.training import checkpoint
from paft_ray.training.checkpoint import TrainingState
from tests.chaos.tiny import save_tiny_model
from tests.integration import object_store
from tests.integration.object_store import Server
from tests.support.made_stage import sums_below, trained_model
from tests.support.tiny_adapter import write_weights

BIG = 12_000_000  # bytes; more than one part of a multipart upload


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binaries = object_store.install()
    if binaries is None:
        pytest.skip("no S3-compatible server: swift cannot be installed from PyPI")
    with object_store.serve(binaries, tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture(scope="module", params=["AWS_ENDPOINT_URL", "endpoint_override"])
def storage(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A storage URI; the endpoint comes from the environment, or stands in the URI."""
    bucket = f"runs-{request.param.replace('_', '-').lower()}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.ENVIRONMENT.items():
            patch.setenv(name, value)
        pafs.S3FileSystem(endpoint_override=server.endpoint, allow_bucket_creation=True).create_dir(bucket)
        if request.param == "AWS_ENDPOINT_URL":
            patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
            yield f"s3://{bucket}/team"
        else:
            yield f"s3://{bucket}/team?endpoint_override={server.endpoint}"


def test_names_and_uris_keep_the_options_of_the_filesystem_at_their_end(storage: str) -> None:
    run = Store.open(storage, "names")
    place, options = storage.split("?")[0], storage[len(storage.split("?")[0]) :]
    assert run.name == "names"
    assert run.root == f"{place}/names{options}"
    assert run.uri("a/b.txt") == f"{place}/names/a/b.txt{options}"
    run.below("train").write_bytes("x", b"1")
    assert Store(run.uri("train")).read_bytes("x") == run.read_bytes("train/x") == b"1"
    assert Store.at(run.root).read_json("run.json") == {"name": "names"}


def test_artifacts_are_written_read_hashed_and_removed(storage: str, tmp_path: Path) -> None:
    run, local = Store.open(storage, "artifacts"), Store(str(tmp_path))
    table = pa.table({"id": ["x", "y"], "n": [1, 2]})
    for where in (run, local):
        where.write_table("data/t.parquet", table)
        where.write_json("data/j.json", {"a": [1, "ä"]})
    run.write_bytes("data/big", bytes(BIG))
    assert run.read_table("data/t.parquet") == table
    assert run.read_json("data/j.json") == {"a": [1, "ä"]}
    assert len(run.read_bytes("data/big")) == BIG
    assert file_digest(run, "data/t.parquet") == file_digest(local, "data/t.parquet")
    assert run.exists("data")
    assert not run.exists("data/t")
    run.delete("data/j.json")
    assert [run.exists(f"data/{name}") for name in ("j.json", "t.parquet")] == [False, True]
    run.delete("data")
    run.delete("data")
    assert not run.exists("data/t.parquet")
    with pytest.raises(FileNotFoundError):
        run.read_bytes("data/t.parquet")


def test_folders_go_up_in_place_of_old_ones_and_come_down(storage: str, tmp_path: Path) -> None:
    run = Store.open(storage, "folders")
    up = tmp_path / "up"
    (up / "inner").mkdir(parents=True)
    (up / "f.txt").write_text("x")
    (up / "inner" / "g.bin").write_bytes(bytes(BIG))
    run.write_bytes("train/stale.txt", b"old")
    run.upload_dir(up, "train")
    fetch_verified(run, "train", sums_below(run, "train"), tmp_path / "down")
    found = {
        str(path.relative_to(tmp_path / "down")): path.stat().st_size
        for path in (tmp_path / "down").rglob("*")
        if path.is_file()
    }
    assert found == {"f.txt": 1, "inner/g.bin": BIG}


def test_a_writer_that_dies_leaves_what_was_there(storage: str) -> None:
    run = Store.open(storage, "atomic")
    run.write_bytes("x.bin", b"old")
    script = (
        "import os, sys\nfrom paft_ray.storage.store import Store\nrun = Store(sys.argv[1])\n"
        f"stream = run.filesystem.open_output_stream(run.path('x.bin'))\nstream.write(bytes({BIG}))\nos._exit(9)\n"
    )
    dead = subprocess.run([sys.executable, "-c", script, run.root], check=False)
    assert dead.returncode == 9
    assert run.read_bytes("x.bin") == b"old"


def test_chunks_that_end_with_an_error_leave_no_file(storage: str) -> None:
    run = Store.open(storage, "chunks")

    def chunks() -> Iterator[bytes]:
        yield bytes(BIG)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        run.write_chunks("x.bin", chunks())
    assert not run.exists("x.bin")


def test_a_finished_stage_is_kept_and_one_that_broke_is_run_again(storage: str) -> None:
    run, calls = Store.open(storage, "cache"), []

    def body() -> Manifest:
        calls.append(1)
        run.write_bytes("stage/out", b"x")
        if len(calls) == 1:
            raise RuntimeError("killed")
        return {"made": len(calls)}

    with pytest.raises(RuntimeError, match="killed"):
        cached(run, "stage", {"seed": 1}, body)
    assert not run.exists("stage/manifest.json")
    assert cached(run, "stage", {"seed": 1}, body)["made"] == 2
    assert cached(Store(run.root), "stage", {"seed": 1}, body)["made"] == 2
    with pytest.raises(UserError, match=r"seed: 1 -> 2"):
        cached(run, "stage", {"seed": 2}, body)


def test_the_newest_whole_checkpoint_is_found_and_old_ones_go(storage: str) -> None:
    store = Store.open(storage, "checkpoints").below("train/sft-s0/checkpoints/abc")
    assert checkpoint.newest(store) == 0
    for step in (10, 20, 30):
        state = TrainingState(
            step=step, tensors={"weight/a": torch.full((1000, 1000), float(step)), "exp_avg/a": torch.zeros(3)}
        )
        checkpoint.write(store, state, {"note": "x"}, keep=2)
    assert checkpoint.steps(store) == [20, 30]
    assert float(checkpoint.read(store, 30).tensors["weight/a"][0, 0]) == 30
    store.write_bytes("step-000030/state.safetensors", b"torn")
    assert checkpoint.newest(store) == 20
    checkpoint.write(store, TrainingState(step=30, tensors={"weight/a": torch.ones(2)}), {}, keep=1)
    assert (checkpoint.newest(store), checkpoint.steps(store)) == (30, [30])
    assert not store.exists("step-000020/state.safetensors")


def test_rows_are_read_from_there(storage: str) -> None:
    rows = Store.open(storage, "rows")
    rows.write_bytes(
        "train.jsonl", "".join(f'{{"text": "row {i}", "label": "positive"}}\n' for i in range(40)).encode()
    )
    assert len(list(read_rows(rows.uri("train.jsonl")))) == 40


STAGES = """
import sys
from paft_ray.storage.store import Store
from paft_ray.cli.session import ray_session
from paft_ray.config import EngineConfig, load_config
from paft_ray.stages.pipeline import run_stage
from paft_ray.stages.registry import STAGES
from paft_ray.stages.resolved_run import ResolvedRun

config = load_config("jobs/configs/demo.yaml", sys.argv[1:])
resolved = ResolvedRun.of(config, Store.open(config.storage, config.name)).with_models()
with ray_session():
    for name in ("prepare", "synthesize", "train", "evaluate", "report", "sweep"):
        run_stage(STAGES[name], resolved)
"""


@pytest.mark.slow
def test_a_whole_run_lies_there_keeps_what_is_finished_and_resumes(storage: str, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "tiny")
    changes = [
        f"storage={storage}",
        "name=trained",
        f"model.id={tmp_path / 'tiny'}",
        "prompts.generators=[]",
        "score.enabled=false",
        "data.num_train=16",
        "data.num_validation=4",
        "data.num_test=4",
        "train.arms=[sft]",
        "train.num_epochs=null",
        "train.num_steps=2",
        "train.global_batch=4",
        "train.micro_batch=2",
        "train.checkpoint_every=1",
        "engine.kv_cache_gib=0.25",
        "evaluate.latency_sample_rows=0",
        "sweep.sizes=[2]",
        "sweep.subset_seeds=[0]",
    ]
    command = [sys.executable, "-c", STAGES, *changes]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}  # as the command line sets it before Ray is imported
    run = Store(storage).below("trained")
    subprocess.run(command, env=environment, check=True, timeout=800)
    first = run.read_json("train/manifest.json")["models"]
    assert run.exists("train/sft-s0/adapter/adapter_model.safetensors")
    assert set(run.read_json("report/results.json")["arms"]) == {"base", "sft"}
    assert run.exists("report/report.html")
    assert run.read_json("sweep/manifest.json")["failed"] == []
    for path in ("train/manifest.json", "train/sft-s0/manifest.json"):
        run.delete(path)
    again = subprocess.run(command, env=environment, check=True, timeout=800, capture_output=True, text=True).stdout
    assert all(f"[{stage}] up to date, skipping" in again for stage in ("prepare", "synthesize", "evaluate"))
    assert "resuming from checkpoint at step 2" in again
    assert run.read_json("train/manifest.json")["models"][0]["sha256"] == first[0]["sha256"]


def test_ray_train_and_ray_tune_write_to_the_same_place(storage: str) -> None:
    from ray.train._internal.storage import StorageContext as TuneStorage
    from ray.train.v2._internal.execution.storage import get_fs_and_path

    run = Store.open(storage, "ray")
    filesystem, path = get_fs_and_path(run.uri("sweep"))
    assert path == run.path("sweep")
    with filesystem.open_output_stream(f"{path}/tune/state.json") as stream:
        stream.write(b"{}")
    assert run.read_json("sweep/tune/state.json") == {}
    tune = TuneStorage(storage_path=run.uri("sweep"), experiment_dir_name="tune")
    assert tune.experiment_fs_path == run.path("sweep/tune")
    assert tune.storage_filesystem.get_file_info(f"{tune.experiment_fs_path}/state.json").is_file


def test_the_weights_of_an_engine_come_to_its_node_and_go(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Store.open(storage, "weights")
    model = write_weights(tmp_path / "model")
    run.upload_dir(model, "train/paft-s0/weights")
    (tmp_path / "node").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    place = Place(run=run, engine=EngineConfig(), owner="test", base=find_model(str(model), None))
    with place.weights(trained_model(run, "train/paft-s0/weights"), run) as folder:
        assert {path.name for path in Path(folder).iterdir()} == {path.name for path in model.iterdir()}
        assert Path(folder).is_relative_to(tmp_path / "node")
    place._clear_here()
    assert {path.suffix for path in (tmp_path / "node").iterdir()} <= {".lock"}, "without Ray, locks stay there"


def test_a_wrong_key_and_a_missing_bucket_are_one_line(
    storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="cannot be written") as caught:
        Store.open(storage.replace("/team", "-nowhere/team"), "x")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-" + os.environ["AWS_SECRET_ACCESS_KEY"])
    for command in (["report"], ["prepare"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "jobs/configs/demo.yaml", "--set", f"storage={storage}", "--set", "name=denied"])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "not-" not in said
