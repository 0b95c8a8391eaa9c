"""Outcomes of an arm from an array of right and wrong answers, for the tests of figures and intervals."""

import numpy as np

from paft_ray.metrics import ArmOutcomes


def arm(correct: np.ndarray, predicted: np.ndarray | None = None, seeds: tuple[int, ...] | None = None) -> ArmOutcomes:
    """`correct`, `predicted`: [templates, examples] or [seeds, templates, examples]."""
    correct = np.asarray(correct, dtype=float)
    correct = correct if correct.ndim == 3 else correct[None]
    if predicted is not None:
        predicted = np.asarray(predicted)
        predicted = predicted if predicted.ndim == 3 else predicted[None]
    num_seeds, templates, examples = correct.shape
    return ArmOutcomes(
        template_ids=tuple(f"t{i:03}" for i in range(templates)),
        example_ids=tuple(f"e{i:03}" for i in range(examples)),
        seeds=seeds or tuple(range(num_seeds)),
        correct=correct,
        predicted=predicted,
    )
