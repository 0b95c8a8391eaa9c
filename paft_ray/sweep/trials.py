"""The trials of a sweep: which there are, what each trains on and with which settings. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from paft_ray.config import (
    Config,
    EveryKConfig,
    PerExampleConfig,
    RangeConfig,
    SweepConfig,
    TrainConfig,
    sampling_key,
)
from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.sampling import keyed_order
from paft_ray.stages.resolved_run import ResolvedRun

_DIGITS = 6  # of a drawn setting, so that its name says it exactly


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a sweep."""

    size: int
    """Number of training templates."""
    subset_seed: int
    """Which nested chain of subsets."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys of section `sweep.space` -> value, where they differ from section `train`."""

    @property
    def name(self) -> str:
        """Names its folder, and is its arm in outcomes: size and subset, then the settings."""
        return "-".join(
            [
                f"size{self.size}",
                f"subset{self.subset_seed}",
                *(f"{key}{_shown(value)}" for key, value in self.settings.items()),
            ]
        )

    @property
    def folder(self) -> str:
        """Where its files are, relative to the run."""
        return f"sweep/{self.name}"

    def drawn(self, ranges: Mapping[str, float]) -> Trial:
        """The same trial with settings drawn from ranges, rounded to what its name shows."""
        return replace(
            self, settings={**self.settings, **{key: float(f"{value:.{_DIGITS}g}") for key, value in ranges.items()}}
        )

    def train(self, config: TrainConfig) -> TrainConfig:
        """Section `train` with the settings of this trial."""
        values = {**config.model_dump(), **self.settings}
        if "num_epochs" in self.settings:
            values["num_steps"] = None
        if (rank := values.pop("lora_rank", None)) is not None:
            assert config.lora is not None
            values["lora"] |= {"rank": rank, "alpha": max(1, round(rank * config.lora.alpha / config.lora.rank))}
        return TrainConfig(**values)


def _shown(value: Any) -> str:
    """A setting in the name of a trial, a section of several keys such as `every_k-k4`."""
    if not isinstance(value, Mapping):
        return str(value)
    return "-".join([value["type"], *(f"{key}{inner}" for key, inner in value.items() if key != "type")])


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials of a sweep share; sent to each. Tune puts a trial into a folder of its own, so all is here that a
    path given by the user leads to."""

    resolved: ResolvedRun
    pool: PromptSet
    """Templates that trials train on."""
    validation: PromptSet
    """Templates that trials are compared on; empty where none are compared."""
    inputs: dict[str, Any]
    """Key of everything that decides a trial besides its own settings."""


def listed_trials(sweep: SweepConfig, available: int) -> list[Trial]:
    """Every size, subset and listed setting once, small sets first. `available`: templates that can be trained on.

    The full set is one trial whatever the subset seeds: its subsets are the same. Raises `UserError` for a size above
    `available`.
    """
    sizes = sorted({available if size == "all" else size for size in sweep.sizes})
    if too_large := [size for size in sizes if size > available]:
        raise UserError(
            f"sweep.sizes: {too_large} asked for, {available} templates can be trained on; lower the sizes or "
            "add templates"
        )
    lists = {name: values for name, values in sweep.space if isinstance(values, tuple)}
    trials: dict[str, Trial] = {}
    for size, values in itertools.product(sizes, itertools.product(*lists.values())):
        settings = {
            key: sampling_key(value) if isinstance(value, PerExampleConfig | EveryKConfig) else value
            for key, value in zip(lists, values, strict=True)
        }
        for seed in sweep.subset_seeds[:1] if size == available else sweep.subset_seeds:
            trial = Trial(size=size, subset_seed=seed, settings=settings)
            trials[trial.name] = trial
    return list(trials.values())


def ranges(sweep: SweepConfig) -> dict[str, RangeConfig]:
    """Settings that are drawn."""
    return {name: value for name, value in sweep.space if isinstance(value, RangeConfig)}


def num_trials(sweep: SweepConfig, listed: int) -> int:
    """Trainings of a sweep with so many listed trials."""
    return sweep.num_samples * (1 if sweep.searcher else listed)


def pool_and_validation(config: Config, prompts: PromptSet) -> tuple[PromptSet, PromptSet]:
    """(templates to train on, templates to compare trials on, none where no trials are compared) of a prompt set.
    Raises as `validation_split`."""
    pool = prompts.split("train")
    return (
        validation_split(pool, config.sweep.num_validation_templates, config.seed)
        if config.sweep.compares
        else (pool, PromptSet(()))
    )


def validation_split(train: PromptSet, wanted: int, seed: int) -> tuple[PromptSet, PromptSet]:
    """(templates to train on, templates to compare trials on): complete clusters are set aside at random until `wanted`
    templates are.

    Raises `UserError` where nothing would be left to train on.
    """
    clusters = sorted({entry.cluster for entry in train.entries})
    aside: set[int] = set()
    for index in keyed_order([str(cluster) for cluster in clusters], seed, "sweep validation"):
        if sum(entry.cluster in aside for entry in train.entries) >= wanted:
            break
        aside.add(clusters[index])
    kept = PromptSet(tuple(entry for entry in train.entries if entry.cluster not in aside))
    if not len(kept):
        raise UserError(
            f"sweep.num_validation_templates={wanted}: no training template is left of {len(train)}; lower it or add "
            "templates"
        )
    return kept, PromptSet(tuple(entry for entry in train.entries if entry.cluster in aside))


def chosen(listed: Sequence[Trial], config: Mapping[str, Any]) -> Trial:
    """The trial that a point of the search space stands for: the index of a listed one, and drawn settings."""
    return listed[config["trial"]].drawn({name: value for name, value in config.items() if name != "trial"})
