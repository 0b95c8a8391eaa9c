"""The learning rate is a pure function of step and train section."""

import pytest

from paft_ray.config import TrainConfig
from paft_ray.training.lr_schedule import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_its_peak_at_the_end_of_the_warm_up(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=1.0, warmup_fraction=0.2)
    rates = [learning_rate(step, 20, config) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(rates) == 1.0
    assert all(rate > 0 for rate in rates), "a step with rate 0 would be wasted"


def test_decay_ends_near_zero_and_never_rises() -> None:
    for schedule in ("cosine", "linear"):
        config = TrainConfig(schedule=schedule, learning_rate=1.0, warmup_fraction=0.0)
        rates = [learning_rate(step, 100, config) for step in range(100)]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] < 0.02
