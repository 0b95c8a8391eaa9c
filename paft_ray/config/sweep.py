"""Section `sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from paft_ray.config.base import Options, Positive, Section, Seed, each_once
from paft_ray.config.passed_on import check_passed_on
from paft_ray.config.sampling import SamplingConfig

_Points = list[dict[str, JsonValue]]
_SEARCHERS: Mapping[str, Mapping[str, Any]] = {
    "optuna": {"points_to_evaluate": _Points, "evaluated_rewards": list[float], "study_name": str},
    "hyperopt": {"points_to_evaluate": _Points, "n_initial_points": int, "gamma": float},
}
"""Name -> options of Ray Tune's class -> type."""
_SCHEDULERS: Mapping[str, Mapping[str, Any]] = {
    "asha": {"grace_period": int, "reduction_factor": float, "brackets": int, "stop_last_trials": bool},
    "median_stopping_rule": {
        "grace_period": float,
        "min_samples_required": int,
        "min_time_slice": float,
    },
}
_OWNED = {
    "max_t": "train.num_steps or num_epochs",
    "space": "sweep.space",
    "seed": "seed",
    "random_state_seed": "seed",
}
"""Option -> the setting of ours that decides it."""


def _check_options(given: Options, allowed: Mapping[str, Any]) -> None:
    """Raises `ValueError` for an option that Ray Tune would leave out without a word, or of another type."""
    reason = "not an option of this class of Ray Tune"
    check_passed_on(given, allowed=allowed, owned=_OWNED, nearest=", ".join(allowed), reason=reason)


class RangeConfig(Section):
    """A range that settings are drawn from; exactly one of the two is set."""

    uniform: tuple[float, float] | None = None
    """Every value between the two is as likely."""
    loguniform: tuple[float, float] | None = None
    """Likewise on a logarithmic scale; above 0."""

    @model_validator(mode="after")
    def _one(self) -> RangeConfig:
        low, high = self.uniform or self.loguniform or (0.0, 0.0)
        if (self.uniform is None) == (self.loguniform is None) or not 0 < low < high:
            raise ValueError("set exactly one of uniform and loguniform, to two numbers above 0, the smaller first")
        return self


class SpaceConfig(Section):
    """Training settings to try next to the size; a list tries each value, a range is drawn from."""

    learning_rate: tuple[Annotated[float, Field(gt=0)], ...] | RangeConfig | None = None
    """Instead of `train.learning_rate`."""
    num_epochs: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Instead of `train.num_epochs` (and `train.num_steps`); the trials then differ in optimizer steps."""
    sampling: tuple[SamplingConfig, ...] | None = None
    """Instead of `train.sampling`."""
    lora_rank: tuple[Positive, ...] | None = None
    """Instead of `train.lora.rank`; alpha keeps its ratio to the rank."""


class SearcherConfig(Section):
    """A search algorithm of Ray Tune that chooses the trials by validation loss; its package must be installed."""

    name: Literal["optuna", "hyperopt"]
    """Package of the algorithm (`pip install optuna`)."""
    options: Options = Field(default_factory=dict)
    """Arguments of Tune's class: `points_to_evaluate`; for optuna also `evaluated_rewards` and `study_name`, for
    hyperopt `n_initial_points` and `gamma`."""

    @model_validator(mode="after")
    def _known(self) -> SearcherConfig:
        _check_options(self.options, _SEARCHERS[self.name])
        return self


class SchedulerConfig(Section):
    """A scheduler of Ray Tune that ends bad trials early, compared by validation loss at equal optimizer steps."""

    name: Literal["asha", "median_stopping_rule"]
    """Which one; those that pause trials or change them on the way are left out."""
    options: Options = Field(default_factory=dict)
    """Arguments of Tune's class; times are optimizer steps (asha: `grace_period`, `reduction_factor`)."""

    @model_validator(mode="after")
    def _known(self) -> SchedulerConfig:
        _check_options(self.options, _SCHEDULERS[self.name])
        return self


class SweepConfig(Section):
    """`paft sweep`: Ray Tune over the size of the prompt set and, if asked for, training settings."""

    sizes: tuple[Positive | Literal["all"], ...] = (1, 2, 4, 8, "all")
    """Prompt-set sizes; larger ones contain the smaller ones. `all`: every training template."""
    subset_seeds: tuple[Seed, ...] = (0,)
    """One nested chain of subsets per seed."""
    space: SpaceConfig = SpaceConfig()
    """Settings to try next to the size. The curve shows, for each size and subset, the setting with the lowest
    validation loss."""
    num_samples: Positive = 1
    """Draws from the ranges of `space` per size and subset; with a searcher, the number of trials."""
    searcher: SearcherConfig | None = None
    """null: every size, subset and listed value."""
    scheduler: SchedulerConfig | None = None
    """null: every trial trains to its end."""
    num_validation_templates: Positive = 4
    """Training templates, in complete clusters, that no trial trains on where trials are compared by validation loss (a
    space, searcher or scheduler)."""
    max_concurrent: Positive | None = None
    """Trials side by side; default: what the cluster's free CPUs and GPUs hold."""

    @property
    def compares(self) -> bool:
        """Trials are compared by validation loss."""
        return self.space != SpaceConfig() or self.searcher is not None or self.scheduler is not None

    @model_validator(mode="after")
    def _distinct(self) -> SweepConfig:
        lists = {f"space.{name}": values for name, values in self.space if isinstance(values, tuple)}
        each_once("sweep", sizes=self.sizes, subset_seeds=self.subset_seeds, **lists)
        if self.num_samples > 1 and not isinstance(self.space.learning_rate, RangeConfig):
            raise ValueError(
                "sweep.num_samples above 1 needs a range in sweep.space: the same trials would be repeated"
            )
        if self.searcher is not None and not isinstance(self.space.learning_rate, RangeConfig):
            raise ValueError(
                "sweep.searcher needs a range in sweep.space (learning_rate: {loguniform: [1.0e-4, 1.0e-2]}); "
                "listed values are all tried without one"
            )
        return self
