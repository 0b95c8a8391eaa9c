"""Trackers as rank 0 drives them: a real MLflow server, and the real W&B client without a network."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from paft_ray.config import TrackingConfig
from paft_ray.errors import UserError
from paft_ray.storage.outputs import digests
from paft_ray.storage.store import Store
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.tracking.trackers import Trackers, check, publish_report
from paft_ray.training.metrics_writer import MetricsWriter
from tests.support.made_stage import finish_stage

NUM_STEPS = 250
"""More than one call to MLflow holds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that answers."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # the machine may be busy
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    whole = [
        str(Path(sys.executable).with_name("uv")),
        "tool",
        "run",
        "--from",
        "mlflow>=3.1",
        "mlflow",
    ]  # an environment of its own, kept by uv
    command = [*whole, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command + stores, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)  # noqa: S310
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise AssertionError((folder / "server.log").read_text())
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def forwarded(port: int, address: str) -> Iterator[None]:
    """While the block runs, the server is reached at `port`, too."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, far = (
                    listener.accept()[0],
                    socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))),
                )
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def progress(out: Store, config: TrackingConfig, start_step: int) -> MetricsWriter:
    """As rank 0 makes it at a start or restart of the worker group."""
    shown = TrackerRun.of(
        config,
        Store(out.uri("checkpoints/f")),
        name="paft-s0",
        label="[train paft/seed0]",
        group="demo",
        params={"train": {"lora": {"rank": 8}}, "seed": 0},
    )
    return MetricsWriter(
        out,
        checkpoints=out.below("checkpoints/f"),
        label="[train paft/seed0]",
        start_step=start_step,
        num_steps=NUM_STEPS,
        trackers=Trackers(shown),
    )


def row(step: int, attempt: int) -> dict[str, Any]:
    return {
        "step": step,
        "loss": step + attempt / 10,
        "grad_norm": None,
        "tokens": 80,
        "truncated_rows": 0,
        "tokens_per_s": 40.0,
        "time_s": 2.0,
    }


def checkpoint(shown: MetricsWriter) -> None:
    """As the loop does it: metrics, (the checkpoint), trackers."""
    step = shown.history[-1]["step"]
    shown.save(step)
    shown.publish(step)


def points(client: MlflowClient, run_id: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, "train/loss"))


def runs(client: MlflowClient, experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    assert found
    return list(client.search_runs([found.experiment_id]))


def test_a_restart_goes_on_in_the_same_mlflow_run_with_each_step_of_the_lineage_once(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config, client = (
        Store(str(tmp_path)),
        TrackingConfig(mlflow=server, experiment="restart"),
        MlflowClient(server),
    )
    check(config)
    first = progress(out, config, 0)
    for step in range(1, 4):
        first.add(row(step, 1))
    checkpoint(first)
    first.add(row(4, 1))  # then killed: steps 4 and later come again

    second = progress(out, config, 3)
    assert [run.info.status for run in runs(client, "restart")] == ["RUNNING"]
    for step in range(4, NUM_STEPS + 1):
        second.add(row(step, 2))
    checkpoint(second)
    second.close()
    (run,) = runs(client, "restart")
    assert points(client, run.info.run_id) == [
        (step, step + (0.1 if step < 4 else 0.2)) for step in range(1, NUM_STEPS + 1)
    ]
    assert (run.info.status, run.data.params, run.data.metrics["train/tokens_per_s"]) == (
        "FINISHED",
        {"train.lora.rank": "8", "seed": "0"},
        40.0,
    )
    assert f"/runs/{run.info.run_id}" in capsys.readouterr().out

    progress(out, config, NUM_STEPS).close()  # a resumed command that finds all steps done
    assert [len(points(client, run.info.run_id)) for run in runs(client, "restart")] == [NUM_STEPS]


def test_a_forced_training_is_a_new_mlflow_run(server: str, tmp_path: Path) -> None:
    out, config, client = Store(str(tmp_path)), TrackingConfig(mlflow=server, experiment="force"), MlflowClient(server)
    for _ in range(2):
        shown = progress(out, config, 0)
        shown.add(row(1, 1))
        checkpoint(shown)
        shown.close()
        out.delete("checkpoints")
        out.delete("metrics.jsonl")
    assert [points(client, run.info.run_id) for run in runs(client, "force")] == [[(1, 1.1)], [(1, 1.1)]]


def test_a_server_that_is_away_is_reported_once_and_gets_what_it_missed(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, port = Store(str(tmp_path / "run")), free_port()
    config = TrackingConfig(mlflow=f"http://127.0.0.1:{port}", experiment="away")
    begin = time.perf_counter()
    with pytest.raises(UserError, match="no MLflow server lets us in") as refused:
        check(config)
    assert time.perf_counter() - begin < 30
    assert len(str(refused.value).splitlines()) == 1

    shown = progress(out, config, 0)
    for step in (1, 2):
        shown.add(row(step, 1))
        checkpoint(shown)
    assert capsys.readouterr().out.count("MLflow does not take the metrics") == 1
    with forwarded(port, server):
        shown.add(row(3, 1))
        checkpoint(shown)
        shown.close()
    client = MlflowClient(server)
    (run,) = runs(client, "away")
    assert (run.info.status, points(client, run.info.run_id)) == ("FINISHED", [(1, 1.1), (2, 2.1), (3, 3.1)])
    assert [
        line["step"] for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    ] == [1, 2, 3]


def test_the_figures_of_a_report_and_its_page_reach_mlflow_once(server: str, tmp_path: Path) -> None:
    run, config, client = (
        Store(str(tmp_path / "demo")),
        TrackingConfig(mlflow=server, experiment="report"),
        MlflowClient(server),
    )
    row = {"mean": 0.8, "std": None, "decile": 0.7, "worst": 0.6, "best": 0.9, "named_rate": 1.0}
    arms = {"paft": {**row, "measures": {"behavior": {"mean": 0.8}, "knowledge": {"mean": 0.9}}}}
    values = {"schema_version": 2, "headline": "behavior", "verdict": "paft is better", "findings": []}
    run.write_json("report/results.json", {**values, "arms": arms})
    run.write_bytes("report/report.html", b"<p>page</p>")
    finish_stage(run, "report", digests(run, ["report/results.json", "report/report.html"]))
    publish_report(config, run)
    publish_report(config, run)
    (found,) = runs(client, "report")
    assert found.data.metrics == {
        "eval/paft/accuracy_mean": 0.8,
        "eval/paft/accuracy_decile": 0.7,
        "eval/paft/accuracy_worst": 0.6,
        "eval/paft/behavior_mean": 0.8,
        "eval/paft/knowledge_mean": 0.9,
        "eval/paft/named_rate": 1.0,
    }
    assert len(client.get_metric_history(found.info.run_id, "eval/paft/accuracy_mean")) == 1
    page = client.download_artifacts(found.info.run_id, "report.html", str(tmp_path))
    assert Path(page).read_text() == "<p>page</p>"


def wandb_history(folder: Path, num_steps: int) -> list[tuple[int, float]]:
    """As `_wandb_history`, once so many steps are there: W&B writes in the background."""
    for _ in range(60):
        if len(found := _wandb_history(folder)) >= num_steps:
            break
        time.sleep(0.5)
    return found


def _wandb_history(folder: Path) -> list[tuple[int, float]]:
    """(step, train/loss) of an offline folder: its file is a LevelDB log (blocks of 32 KiB, chunks with 7 bytes of
    header) of protobuf records."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, record, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last part
            items = {
                "".join([item.key, *item.nested_key]): json.loads(item.value_json)
                for item in Record.FromString(record).history.item
            }
            if "train/loss" in items:
                found.append((items["_step"], items["train/loss"]))
            record = b""
    return found


def test_wandb_without_a_network_keeps_its_id_and_the_newest_folder_holds_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    out, config = Store(str(tmp_path)), TrackingConfig(wandb="demo")
    check(config)
    first = progress(out, config, 0)
    for step in (1, 2, 3):
        first.add(row(step, 1))
    checkpoint(first)
    first.add(row(4, 1))  # comes again
    first.trackers.close()
    time.sleep(1.1)  # folders are named by the second

    second = progress(out, config, 3)
    for step in (4, 5):
        second.add(row(step, 2))
    checkpoint(second)
    second.close()
    folders = sorted((tmp_path / "checkpoints" / "f" / "wandb").glob("offline-run-*"))
    run_id = json.loads((tmp_path / "checkpoints" / "f" / "tracking.json").read_text())["id"]
    assert [folder.name.rpartition("-")[2] for folder in folders] == [run_id, run_id]
    assert wandb_history(folders[0], 3) == [(1, 1.1), (2, 2.1), (3, 3.1)]
    assert wandb_history(folders[1], 5) == [(1, 1.1), (2, 2.1), (3, 3.1), (4, 4.2), (5, 5.2)]


def test_wandb_without_a_key_is_refused_before_the_start(tmp_path: Path) -> None:
    code = (
        "from paft_ray.config import TrackingConfig; from paft_ray.tracking.trackers import check; "
        "check(TrackingConfig(wandb='demo'))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        "tracking.wandb=demo: W&B does not let us in (no key); set WANDB_API_KEY, WANDB_MODE=offline" in result.stderr
    )
