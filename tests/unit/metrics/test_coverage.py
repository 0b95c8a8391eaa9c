"""How often the interval of a paired difference holds the truth, by number of templates: `pytest -s` prints the table
of EXPERIMENTS.md."""

import numpy as np
import pytest

from paft_ray import metrics

TRUTH = 0.10
TEMPLATES = (4, 6, 8, 12, 20)


def as_in_the_demo(rng: np.random.Generator, templates: int) -> np.ndarray:
    """Differences of right answers (-1, 0, 1) over 50 examples, with the variances of paft - sft in the demo: std 0.11
    over templates, 0.15 over examples."""
    gain = TRUTH + rng.normal(0, 0.11, (templates, 1)) + rng.normal(0, 0.15, (1, 50))
    differ = np.maximum(abs(gain), 0.2)
    draw = rng.random(gain.shape)
    return np.where(draw < (differ + gain) / 2, 1.0, np.where(draw < differ, -1.0, 0.0))


def endless_test_set(rng: np.random.Generator, templates: int) -> np.ndarray:
    """Differences without any noise of examples: the case in which only the number of templates limits what is
    known."""
    return np.repeat(TRUTH + rng.normal(0, 0.11, (templates, 1)), 2, axis=1)


def coverage(model, templates: int, repetitions: int) -> float:
    rng = np.random.default_rng([templates, repetitions])
    held = 0
    for _ in range(repetitions):
        low, high = metrics.bootstrap_interval(model(rng, templates)[None], rng=rng, num_bootstrap=300, confidence=0.95)
        held += low <= TRUTH <= high
    return held / repetitions


@pytest.mark.slow
def test_the_interval_holds_the_truth_at_least_nine_times_in_ten_from_eight_templates_on() -> None:
    found = {n: (coverage(as_in_the_demo, n, 500), coverage(endless_test_set, n, 1000)) for n in TEMPLATES}
    print("\ntemplates  50 examples  endless test set  (nominal 95 %)")
    for n, (demo, endless) in found.items():
        print(f"{n:9}  {100 * demo:9.1f} %  {100 * endless:14.1f} %")
    given = [n for n in TEMPLATES if n >= metrics.MIN_TEMPLATES_INTERVAL]
    assert all(found[n][0] >= 0.90 for n in given)
    assert all(found[n][1] >= 0.86 for n in given), (
        "template noise alone: the percentile interval is known to be a little short"
    )
    assert found[4][1] < 0.84, "the ground for refusing intervals of few templates"
