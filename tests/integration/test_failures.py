"""What fails in Ray's processes comes out as one line with its cause, the run, the stage and Ray's logs. Issue 5,
promises 5 and 7."""

import resource
from pathlib import Path

import pytest

from paft_ray.errors import StageError
from paft_ray.stages.stage_errors import named
from paft_ray.storage.store import Store

pytestmark = pytest.mark.slow


def _write(root: str) -> None:
    """On a disk that takes no file above 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    Store(root).write_bytes("train/x.bin", bytes(200_000))


def _check(error: StageError, root: str, cause: str) -> None:
    import ray

    logs = ray._private.worker._global_node.get_logs_dir_path()
    assert Path(logs).is_dir()
    assert str(error).startswith(f"run a ({root}), stage train: ")
    assert cause in str(error)
    assert str(error).endswith(f"; Ray's logs: {logs}")
    assert len(str(error)) < 600
    assert "\n" not in str(error)


def test_a_full_disk_in_a_task_is_one_line(ray_session: None, tmp_path: Path) -> None:
    import ray

    run = Store.open(str(tmp_path), "a")
    with pytest.raises(StageError) as caught, named(run, "train"):
        ray.get(ray.remote(num_cpus=0, max_calls=1)(_write).remote(run.root))
    _check(
        caught.value,
        run.root,
        f"storage {run.root}: train/x.bin cannot be written (File too large); raise the limit on the size of files",
    )


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_worker_of_ray_train_that_fails_is_one_line(ray_session: None, tmp_path: Path, foreseen: bool) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run = Store.open(str(tmp_path), "a")

    def work(config: dict[str, str]) -> None:
        if foreseen:
            _write(config["root"])
        raise ZeroDivisionError("in a worker")

    trainer = TorchTrainer(
        work,
        train_loop_config={"root": run.root},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="t", storage_path=f"{run.root}/ray"),
    )
    with pytest.raises(StageError) as caught, named(run, "train"):
        trainer.fit()
    _check(
        caught.value,
        run.root,
        "train/x.bin cannot be written (File too large)" if foreseen else "ZeroDivisionError: in a worker; traceback: ",
    )
    if not foreseen:
        (kept,) = Path(run.root, "logs").iterdir()
        assert "in work" in kept.read_text()
