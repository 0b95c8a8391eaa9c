"""What the trainings cost: steps, tokens, time and memory. Measured figures only, no prices."""

from __future__ import annotations

from dataclasses import dataclass

from paft_ray.report.inputs import History


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """One training."""

    arm: str
    seed: int
    num_templates: int | None
    num_steps: int | None
    tokens: int | None
    """Tokens that went through the model."""
    tokens_per_s: float | None
    seconds: float | None
    peak_memory_gib: float | None
    """Of the largest worker."""
    final_loss: float | None
    """Nats per answer token."""


def training_costs(history: History) -> list[TrainingCost]:
    """The trainings that the manifest of stage train names; figures that it lacks are None."""
    return [
        TrainingCost(
            arm=model.arm,
            seed=model.seed,
            num_templates=model.num_templates,
            num_steps=model.num_steps,
            tokens=history.tokens.get(model.key),
            tokens_per_s=model.tokens_per_s,
            seconds=model.train_time_s,
            peak_memory_gib=model.peak_memory_gib,
            final_loss=model.final_loss,
        )
        for model in history.trainings
    ]


def worker_time(history: History, num_workers: int) -> float | None:
    """Seconds of all training workers together; None where no training says how long it took."""
    times = [training.seconds for training in training_costs(history) if training.seconds is not None]
    return sum(times) * num_workers if times else None
