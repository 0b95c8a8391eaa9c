"""The trials of a sweep: nested subsets, names, settings, validation templates."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.config import Config, EveryKConfig, PerExampleConfig, SweepConfig, TrainConfig, builtin, parse_config
from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.sweep.trials import Trial, listed_trials, num_trials, ranges, validation_split

TEMPLATES = read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
POOL = PromptSet.of(Entry(template=template, cluster=number // 2) for number, template in enumerate(TEMPLATES))


def sweep(**values: object) -> SweepConfig:
    return config(**values).sweep


def config(train: dict[str, object] | None = None, **values: object) -> Config:
    return parse_config({"name": "t", "task": "demo", "train": train or {}, "sweep": values}, source="test")


def test_every_size_and_subset_is_one_trial_and_the_whole_set_only_one() -> None:
    trials = listed_trials(sweep(sizes=[1, 4, "all"], subset_seeds=[0, 1]), 10)
    assert [(trial.size, trial.subset_seed) for trial in trials] == [(1, 0), (1, 1), (4, 0), (4, 1), (10, 0)]
    assert [trial.name for trial in trials][-1] == "size10-subset0"


def test_a_size_that_is_the_whole_set_comes_once_beside_all() -> None:
    assert [trial.size for trial in listed_trials(sweep(sizes=[2, 4, "all"]), 4)] == [2, 4]


def test_sizes_beyond_the_set_are_refused() -> None:
    with pytest.raises(UserError, match=r"sweep.sizes: \[20\] asked for, 10 templates can be trained on"):
        listed_trials(sweep(sizes=[1, 20]), 10)


def test_listed_settings_are_all_tried_and_a_name_shows_them() -> None:
    every_k = [{"type": "every_k", "k": k} for k in (2, 4)]
    space = {"sampling": [{"type": "per_example"}, *every_k], "lora_rank": [4]}
    names = [trial.name for trial in listed_trials(sweep(sizes=[1], space=space), 10)]
    assert names == [
        "size1-subset0-samplingper_example-lora_rank4",
        "size1-subset0-samplingevery_k-k2-lora_rank4",
        "size1-subset0-samplingevery_k-k4-lora_rank4",
    ]


def test_a_trial_names_what_its_draw_is_over_unless_it_is_over_templates() -> None:
    space = {"sampling": [{"type": "per_example", "over": over} for over in ("template", "cluster")]}
    first, second = listed_trials(sweep(sizes=[1], space=space), 10)
    assert (first.name, second.name) == (
        "size1-subset0-samplingper_example",
        "size1-subset0-samplingper_example-overcluster",
    )
    assert first.settings == {"sampling": {"type": "per_example"}}, "as in keys of before"
    assert second.train(TrainConfig()).sampling == PerExampleConfig(over="cluster")


def test_a_trial_trains_with_its_own_settings_and_all_others_of_the_section() -> None:
    base = TrainConfig(num_epochs=None, num_steps=50, weight_decay=0.1)
    trial = Trial(
        size=1,
        subset_seed=0,
        settings={"learning_rate": 0.01, "num_epochs": 2.0, "lora_rank": 4, "sampling": {"type": "every_k", "k": 3}},
    )
    found = trial.train(base)
    assert (found.learning_rate, found.num_epochs, found.num_steps, found.sampling) == (
        0.01,
        2.0,
        None,
        EveryKConfig(k=3),
    )
    assert found.lora is not None
    assert (found.lora.rank, found.lora.alpha) == (4, 8), "alpha / rank as before"
    assert found.weight_decay == 0.1
    assert Trial(size=1, subset_seed=0).train(base) == base


def test_drawn_settings_are_what_the_name_says() -> None:
    drawn = Trial(size=2, subset_seed=1).drawn({"learning_rate": 0.00123456789})
    assert drawn.settings == {"learning_rate": 0.00123457}
    assert drawn.name == "size2-subset1-learning_rate0.00123457"


def test_the_number_of_trials_follows_from_lists_draws_and_searcher() -> None:
    drawn = {"learning_rate": {"loguniform": [1e-4, 1e-2]}}
    assert num_trials(sweep(sizes=[1, 2]), listed=2) == 2
    assert num_trials(sweep(sizes=[1, 2], space=drawn, num_samples=3), listed=2) == 6
    assert num_trials(sweep(sizes=[1, 2], space=drawn, num_samples=3, searcher={"name": "optuna"}), listed=2) == 3
    assert list(ranges(sweep(space=drawn))) == ["learning_rate"]


@pytest.mark.parametrize(
    ("values", "train", "message"),
    [
        ({"num_samples": 2}, {}, "sweep.num_samples above 1 needs a range"),
        ({"searcher": {"name": "optuna"}}, {}, "sweep.searcher needs a range"),
        ({"space": {"learning_rate": {"uniform": [2, 1]}}}, {}, "the smaller first"),
        (
            {"space": {"sampling": [{"k": 2}]}},
            {},
            "sweep.space.sampling.0.type is required; allowed: per_example, every_k",
        ),
        ({"space": {"sampling": [{"type": "per_example", "k": 2}]}}, {}, "unknown key sweep.space.sampling.0.k"),
        ({"space": {"sampling": [{"type": "every_k", "k": 0}]}}, {}, "sweep.space.sampling.0.k: .*greater than 0"),
        ({"space": {"lora_rank": [2]}}, {"lora": None}, "sweep.space.lora_rank needs train.lora"),
        ({"space": {"learning_rate": [1e-3, 1e-3]}}, {}, "sweep.space.learning_rate: at least one is needed"),
        ({"scheduler": {"name": "pbt"}}, {}, "sweep.scheduler.name"),
    ],
)
def test_sweeps_that_cannot_be_meant_are_refused(
    values: dict[str, object], train: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config(train, **values)


@given(st.integers(1, 6), st.integers(0, 50))
def test_validation_templates_are_whole_clusters_that_no_trial_trains_on(wanted: int, seed: int) -> None:
    kept, aside = validation_split(POOL, wanted, seed)
    assert not {entry.cluster for entry in kept.entries} & {entry.cluster for entry in aside.entries}
    assert len(kept) + len(aside) == len(POOL)
    assert wanted <= len(aside) <= wanted + 1
    assert (kept, aside) == validation_split(POOL, wanted, seed)


def test_a_sweep_with_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="no training template is left"):
        validation_split(POOL, len(POOL), 0)


@given(st.integers(0, 20))
def test_smaller_subsets_are_part_of_larger_ones(seed: int) -> None:
    sets = [set(POOL.take(size, seed).templates) for size in range(1, len(POOL) + 1)]
    assert all(small < large for small, large in itertools.pairwise(sets))
