"""A node is lost in the middle of a training, with and without a notice: the group shrinks, grows again where one comes
back, and no example is lost or used twice. Invariant 2."""

import ast
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import ray

from paft_ray.cli.audit import audit
from paft_ray.config import load_config
from paft_ray.stages import prepare, synthesize
from paft_ray.storage.store import Store
from paft_ray.training.step_metrics import read_metrics
from tests.support.closed_ray import closed_environment
from tests.support.killing import newest_checkpoint, wait_for, wait_for_checkpoint
from tests.support.ports import free_ports
from tests.support.resolved import resolved
from tests.support.small_run import ONE_ARM

BIN = Path(sys.executable).parent
DEMO, STEPS, EVERY, BATCH = "jobs/configs/demo.yaml", 600, 10, 16
SETTINGS = (
    *ONE_ARM,
    "name=elastic",
    f"train.num_steps={STEPS}",
    f"train.global_batch={BATCH}",
    f"train.checkpoint_every={EVERY}",
    "train.num_workers=2",
    "train.min_workers=1",
    "train.threads_per_worker=1",
    "train.precision=fp32",
    f"train.validate_every={STEPS}",
    "train.num_validation=4",
)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes of one CPU each, as processes of this machine."""

    folder: Path
    environment: dict[str, str]
    address: str
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A node that is up."""
        command = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", *options]
        with (self.folder / f"node-{len(self.nodes)}.log").open("wb") as log:
            node = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(node)
        return node

    def add(self) -> subprocess.Popen[bytes]:
        """A further node."""
        return self.start(f"--address={self.address}")


def lose(node: subprocess.Popen[bytes]) -> None:
    """Every process of a node is gone at once."""
    for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    node.wait()


def give_notice(cluster: Cluster, of: subprocess.Popen[bytes], deadline_s: int) -> None:
    """Tells Ray what a cloud tells of a spot machine: it will be taken away. `of`: the only node beside the head."""
    ids = "import ray; ray.init(address='auto'); here = ray.get_runtime_context().get_node_id()\n"
    ids += "print([node['NodeID'] for node in ray.nodes() if node['Alive'] and node['NodeID'] != here])"
    environment = {**cluster.environment, "RAY_ADDRESS": cluster.address}
    found = subprocess.run([sys.executable, "-c", ids], env=environment, check=True, capture_output=True, text=True)
    (node,) = ast.literal_eval(found.stdout.splitlines()[-1])
    assert of.poll() is None
    notice = [
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "spot",
        "--deadline-remaining-seconds",
        str(deadline_s),
    ]
    subprocess.run(
        [str(BIN / "ray"), "drain-node", f"--address={cluster.address}", f"--node-id={node}", *notice],
        env=environment,
        check=True,
    )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    port, dashboard = free_ports(2)
    folder = Path(tempfile.mkdtemp(prefix="paft-elastic-", dir="/tmp"))
    health = {"initial_delay_ms": "0", "period_ms": "1000", "failure_threshold": "3"}
    environment = closed_environment(**{f"RAY_health_check_{name}": value for name, value in health.items()})
    made = Cluster(folder=folder, environment=environment, address=f"127.0.0.1:{port}")
    made.start(
        "--head",
        f"--port={port}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--temp-dir={folder}/ray",
    )
    try:
        yield made
    finally:
        for node in reversed(made.nodes):
            if node.poll() is None:
                lose(node)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def training(
    cluster: Cluster, model: str, storage: Path, *settings: str
) -> Iterator[tuple[Store, subprocess.Popen[bytes]]]:
    """The run and the driver of its training, which begins on whatever nodes there are."""
    settings = (*SETTINGS, f"model.id={model}", f"storage={storage}", *settings)
    config = load_config(DEMO, list(settings))
    run = Store.open(config.storage, config.name)
    prepare.run(resolved(config, run))
    synthesize.run(resolved(config, run))
    ray.shutdown()  # Ray Data has started one for the rows
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "paft_ray", "train", DEMO, "--address", cluster.address, *options]
    driver = subprocess.Popen(command, env=cluster.environment)
    try:
        yield run, driver
    finally:
        driver.kill()


def check_nothing_lost(run: Store, steps: int) -> None:
    assert [row["step"] for row in read_metrics(run.below("train/paft-s0"))] == list(range(1, steps + 1))
    (found,) = audit(run).values()
    assert (found.lost, found.repeated, found.differing, found.rows) == (0, 0, 0, steps * BATCH)


@pytest.mark.slow  # Ray Train looks for new nodes once a minute
def test_a_training_goes_on_without_a_lost_node_and_takes_it_in_again(
    cluster: Cluster, tiny_model: str, tmp_path: Path
) -> None:
    second, folder = cluster.add(), tmp_path / "elastic/train/paft-s0"
    with training(cluster, tiny_model, tmp_path) as (run, driver):
        reached = wait_for_checkpoint(folder, 2 * EVERY)
        lose(second)
        alone = wait_for_checkpoint(folder, reached + 3 * EVERY)
        cluster.add()
        wait_for(
            lambda: len(list((folder / "tensorboard").glob("*"))) == 3,
            "a third start, with the new node",
            timeout_s=240,
        )
        assert driver.wait(timeout=300) == 0
    assert alone < STEPS
    assert len(run.read_json("train/manifest.json")["models"][0]["nodes"]) == 2, "it ended with both workers"
    check_nothing_lost(run, STEPS)


@pytest.mark.slow
def test_a_notice_that_a_node_will_go_is_answered_with_a_checkpoint(
    cluster: Cluster, tiny_model: str, tmp_path: Path
) -> None:
    second, folder, steps, every = cluster.add(), tmp_path / "elastic/train/paft-s0", 3 * STEPS, 20 * EVERY
    with training(cluster, tiny_model, tmp_path, f"train.num_steps={steps}", f"train.checkpoint_every={every}") as (
        run,
        driver,
    ):
        wait_for_checkpoint(folder, every)
        give_notice(cluster, of=second, deadline_s=20)
        wait_for(lambda: newest_checkpoint(folder) % every != 0, "a checkpoint beyond the regular ones", timeout_s=30)
        saved = newest_checkpoint(folder)
        lose(second)
        assert driver.wait(timeout=300) == 0
    assert saved < steps
    starts = sorted(int(path.name.removeprefix("from-step-")) for path in (folder / "tensorboard").glob("*"))
    assert starts[0] == 0
    assert starts[-1] >= saved, "it went on from the checkpoint of the notice"
    check_nothing_lost(run, steps)
