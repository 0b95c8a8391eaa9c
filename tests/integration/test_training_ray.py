"""Training through Ray: the data path, a worker that is killed, and what is refused before anything starts."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from safetensors.torch import load_file

from paft_ray.config import ModelConfig, TrainConfig, builtin
from paft_ray.errors import UserError
from paft_ray.models.encoder import make_encoder
from paft_ray.models.local import find_model
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.prompts.sampling import Draw, OfGroups, PerExample
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import examples_to_table, read_examples
from paft_ray.tasks.task import load_task
from paft_ray.training.data import GlobalOrder, RowSource
from paft_ray.training.job import Training
from paft_ray.training.launch import check, fit
from tests.support.killing import kill_a_worker, wait_for_checkpoint

NUM_EXAMPLES, BATCH, STEPS = 50, 8, 240
TASK = load_task("demo")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return examples_to_table(list(read_examples(TASK, TASK.sources["train"]))[:NUM_EXAMPLES], TASK.fields)


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return PromptSet.of(
        Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
    )


OVER_TEMPLATES = PerExample(seed=3)
OVER_THIRDS = OfGroups(by=OVER_TEMPLATES, groups=tuple(tuple(range(first, 10, 3)) for first in range(3)))


def _order(
    table: pa.Table, prompts: PromptSet, model: str, num_positions: int, draw: Draw = OVER_TEMPLATES
) -> GlobalOrder:
    source = RowSource(
        table=ray.put(table), encoder=ray.put(make_encoder(TASK, ModelConfig(), model)), templates=prompts.templates,
        draw=draw, seed=3, num_positions=num_positions,
    )  # fmt: skip
    return GlobalOrder(source=source, num_steps=-(-num_positions // BATCH), global_batch=BATCH, checkpoints="unused")


def _rows(order: GlobalOrder, world_size: int, start_step: int = 0) -> list[dict[str, Any]]:
    ranks = [order.rank_dataset(rank, world_size, start_step).iterator().iter_rows() for rank in range(world_size)]
    return [row for rank in ranks for row in rank]


def test_ray_data_gives_every_example_once_per_epoch_in_the_global_order(
    ray_session: None, table: pa.Table, prompts: PromptSet, tiny_model: str
) -> None:
    positions = 3 * NUM_EXAMPLES
    order = _order(table, prompts, tiny_model, positions)
    rows = _rows(order, 1)
    assert [row["position"] for row in rows] == list(range(-(-positions // BATCH) * BATCH))
    for epoch in range(3):
        used = [row["example_id"] for row in rows[epoch * NUM_EXAMPLES : (epoch + 1) * NUM_EXAMPLES]]
        assert sorted(used) == sorted(table.column("id").to_pylist())
    assert [row["weight"] for row in rows] == [1.0] * positions + [0.0] * (len(rows) - positions)


@pytest.mark.parametrize("draw", [OVER_TEMPLATES, OVER_THIRDS])
def test_two_ranks_and_a_later_start_see_the_same_pairs(
    ray_session: None, table: pa.Table, prompts: PromptSet, tiny_model: str, draw: Draw
) -> None:
    order = _order(table, prompts, tiny_model, 2 * NUM_EXAMPLES, draw)
    whole = {row["position"]: (row["example_id"], row["template"], list(row["prompt_ids"])) for row in _rows(order, 1)}
    late = {
        row["position"]: (row["example_id"], row["template"], list(row["prompt_ids"]))
        for row in _rows(order, 2, start_step=5)
    }
    assert sorted(late) == sorted(whole)[5 * BATCH :]
    assert all(whole[position] == pair for position, pair in late.items())


def test_training_goes_on_after_a_worker_is_killed(
    ray_session: None, table: pa.Table, prompts: PromptSet, tiny_model: str, tmp_path: Path
) -> None:
    run = Store.open(str(tmp_path), "r")
    config = TrainConfig(
        num_epochs=None,
        num_steps=STEPS,
        global_batch=BATCH,
        micro_batch=4,
        num_workers=2,
        threads_per_worker=1,
        checkpoint_every=10,
        learning_rate=3e-3,
        precision="fp32",
        max_failures=2,
        validate_every=STEPS,
        num_validation=10,
    )
    killed: list[int] = []
    killer = threading.Thread(
        target=_kill_a_worker_after_the_first_checkpoint, args=(tmp_path / "r/train/paft-s0", killed)
    )
    killer.start()
    arguments = {
        "task": TASK,
        "data": table,
        "templates": prompts,
        "config": config,
        "model": ModelConfig(),
        "model_files": find_model(tiny_model, None),
        "seed": 0,
    }
    (result,) = fit([Training(**arguments, run=run, folder="train/paft-s0", validation=table)])
    killer.join()
    assert killed, "training was over before a worker could be killed"
    attempts = sorted(p.name for p in (tmp_path / "r/train/paft-s0/tensorboard").iterdir())
    assert len(attempts) >= 2, f"no restart from a checkpoint: {attempts}"
    assert [row["step"] for row in result.history] == list(range(1, STEPS + 1)), (
        "steps of the lineage are missing or repeated"
    )
    assert "validation_loss" in result.history[-1]
    assert result.final_loss < result.history[0]["loss"]
    adapter = load_file(tmp_path / "r" / result.path / "adapter_model.safetensors")
    assert all(tensor.norm() > 0 for tensor in adapter.values())
    assert len(list((tmp_path / "r/train/paft-s0/checkpoints").glob("*/step-*"))) == config.keep_checkpoints


def _kill_a_worker_after_the_first_checkpoint(folder: Path, killed: list[int]) -> None:
    wait_for_checkpoint(folder, 1)
    killed.append(kill_a_worker())


@pytest.mark.parametrize(
    ("config", "cluster", "message"),
    [
        (TrainConfig(num_workers=2, micro_batch=8), {"CPU": 2.0}, "leaves no CPU for Ray Data"),
        (TrainConfig(gpus_per_worker=1), {"CPU": 8.0}, "needs 1 GPUs"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(config: TrainConfig, cluster: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check(config, num_examples=10, num_templates=1, cluster=cluster)
    assert "\n" not in str(caught.value)
