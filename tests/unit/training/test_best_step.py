"""The best checkpoint by validation accuracy: its rows, its figures, the choice, and that it is never deleted."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paft_ray.config import TrainConfig, builtin, weights_key
from paft_ray.errors import UserError
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.tasks.readers import examples_to_table, read_examples
from paft_ray.tasks.task import Task, load_task
from paft_ray.training.best_step import accuracy_metrics, best_step, label_rows

BEST = TrainConfig(export="worst", num_validation=3, num_validation_templates=2)


class Words:
    """A tokenizer of whole words, as far as an encoder asks."""

    eos_token_id, chat_template = 0, None

    def __init__(self) -> None:
        self.added_tokens_decoder: dict[int, str] = {}
        self.all_special_tokens: list[str] = []
        self.ids: dict[str, int] = {}

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [self.ids.setdefault(word, len(self.ids) + 1) for word in text.replace(":", ": ").split()]}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("demo")


@pytest.fixture(scope="module")
def encoder(task: Task) -> Encoder:
    return Encoder(task, Words())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return PromptSet.of(
        Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
    )


@pytest.fixture(scope="module")
def table(task: Task) -> pa.Table:
    return examples_to_table(list(read_examples(task, task.sources["train"]))[:5], task.fields)


def test_every_label_stands_behind_every_prompt_in_one_order(
    task: Task, table: pa.Table, prompts: PromptSet, encoder: Encoder
) -> None:
    found = label_rows(table, prompts, encoder, BEST)
    assert found is not None
    assert found.shape == (2, 3, len(task.label_texts))
    assert [row["position"] for row in found.rows] == list(range(2 * 3 * len(task.label_texts)))
    grid = np.array([row["example_id"] for row in found.rows]).reshape(found.shape)
    assert (grid == np.array(table.column("id").to_pylist()[:3])[None, :, None]).all()
    assert [task.label_texts[i] for i in found.right] == table.column("answer").to_pylist()[:3]
    assert len({tuple(row["answer_ids"]) for row in found.rows}) == len(task.label_texts)


def test_a_set_with_fewer_templates_is_measured_whole(table: pa.Table, prompts: PromptSet, encoder: Encoder) -> None:
    found = label_rows(table, prompts.take(1, seed=0), encoder, BEST)
    assert found is not None
    assert found.num_templates == 1


def test_nothing_is_measured_where_the_last_weights_are_exported(
    table: pa.Table, prompts: PromptSet, encoder: Encoder
) -> None:
    assert label_rows(table, prompts, encoder, TrainConfig()) is None


@pytest.mark.parametrize("rows", [None, 0])
def test_no_validation_row_is_refused(table: pa.Table, prompts: PromptSet, encoder: Encoder, rows: int | None) -> None:
    with pytest.raises(
        UserError, match=r"train.export=worst: 0 validation rows; give at least one, or set train.export=last"
    ):
        label_rows(None if rows is None else table.slice(0, rows), prompts, encoder, BEST)


def test_a_task_without_labels_is_refused(
    table: pa.Table, prompts: PromptSet, encoder: Encoder, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "task", task.model_copy(update={"labels": {}}))
    with pytest.raises(UserError, match=r"train.export=worst: task demo has no labels .*; set train.export=last"):
        label_rows(table, prompts, encoder, BEST)


def test_figures_are_over_templates() -> None:
    scores = np.full((3, 4, 2), -5.0)
    right = (0, 1, 0, 1)
    for template, num_right in enumerate((4, 2, 1)):
        for example in range(4):
            chosen = right[example] if example < num_right else 1 - right[example]
            scores[template, example, chosen] = -1.0
    assert accuracy_metrics(scores, right) == pytest.approx(
        {"validation_accuracy": 7 / 12, "validation_accuracy_worst": 0.25, "validation_accuracy_q0.1": 0.3},
    )


def _row(step: int, worst: float, mean: float = 0.5) -> dict[str, Any]:
    return {
        "step": step,
        "validation_accuracy": mean,
        "validation_accuracy_worst": worst,
        "validation_accuracy_q0.1": 1 - worst,
    }


def test_the_best_is_chosen_among_checkpoints_that_are_there() -> None:
    history = [_row(10, 0.9), _row(20, 0.3), {"step": 25, "loss": 1.0}, _row(30, 0.6)]
    assert best_step(history, [10, 20, 30], "worst") == 10
    assert best_step(history, [20, 30], "worst") == 30
    assert best_step(history, [10, 20, 30], "q0.1") == 20
    assert best_step(history, [10, 20, 30], "last") == 30
    assert best_step(history, [10, 15], "worst") == 10, "a checkpoint that was not measured is none of them"
    assert best_step(history, [15], "worst") is None


def test_equal_figures_go_to_the_higher_mean_and_then_to_the_later_step() -> None:
    assert best_step([_row(10, 0.5, 0.8), _row(20, 0.5, 0.7)], [10, 20], "worst") == 10
    assert best_step([_row(10, 0.5), _row(20, 0.5), _row(30, 0.4)], [10, 20, 30], "worst") == 20


@settings(max_examples=200, deadline=None)
@given(
    figures=st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12),
    keep=st.integers(1, 3),
    killed=st.lists(st.integers(0, 11), max_size=4),
)
def test_the_best_of_a_whole_training_is_still_there_at_its_end_and_kills_do_not_change_it(
    figures: list[float], keep: int, killed: list[int]
) -> None:
    def training(kills: list[int]) -> int:
        history: list[dict[str, Any]] = []
        kept: list[int] = []
        step, kills = 0, list(kills)
        while step < len(figures):
            step += 1
            history.append(_row(step, figures[step - 1]))
            if step - 1 in kills:  # after the metrics, before the checkpoint
                kills.remove(step - 1)
                step = max(kept, default=0)
                history = [row for row in history if row["step"] <= step]
                continue
            best = best_step(history, [*kept, step], "worst")
            kept = sorted({*[*kept, step][-keep:], best})
            assert len(kept) <= keep + 1
        return best_step(history, kept, "worst")

    every = [_row(step + 1, figure) for step, figure in enumerate(figures)]
    assert training([]) == training(killed) == best_step(every, [row["step"] for row in every], "worst")


def test_settings_of_the_choice_decide_the_weights_only_where_there_is_one() -> None:
    usual = weights_key(TrainConfig(checkpoint_every=7, num_validation=3))
    assert usual == weights_key(TrainConfig())
    assert "export" not in usual
    assert weights_key(BEST) != weights_key(BEST.model_copy(update={"checkpoint_every": 7}))
    assert json.dumps(weights_key(BEST))
