"""Which label an answer is about to name, as far as its first token tells: what a server says of its choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from paft_ray.inference.trie import logsumexp

_ROUNDING = 2.0**-24
"""Servers round probabilities to 32 bits: one that is said to be certain leaves this much."""
_LESS = 1e-3  # nats


def label_logprobs(first: Sequence[tuple[str, float]], labels: Sequence[str]) -> list[float] | None:
    """Log-probability of each label, not normalized, from the most probable first tokens: those that are this label,
    begin it and no other, or go on behind it (`A)`), whatever their case. A label that none of them begins gets less
    than the least probable of them, and no more than what they leave.

    None where the most probable one begins no label, or several: the answer starts with something else.
    """
    begun: list[list[float]] = [[] for _ in labels]
    folded = [label.casefold() for label in labels]
    for rank, (token, logprob) in enumerate(sorted(first, key=lambda each: -each[1])):
        meant = _meant(token.strip().casefold(), folded)
        if meant is not None:
            begun[meant].append(logprob)
        elif rank == 0:
            return None
    if not first:
        return None
    left = max(1 - sum(math.exp(logprob) for _, logprob in first), _ROUNDING)
    floor = min(math.log(left), min(logprob for _, logprob in first) - _LESS)
    return [logsumexp(found) if found else floor for found in begun]


def normalized(logprobs: Sequence[float]) -> list[float]:
    """The same over the labels alone, each at most 0."""
    whole = logsumexp(logprobs)
    return [min(logprob - whole, 0.0) for logprob in logprobs]


def _meant(text: str, labels: Sequence[str]) -> int | None:
    """Number of the label that a token is or begins; None where it is none, or begins several."""
    if text in labels:
        return labels.index(text)
    found = [number for number, label in enumerate(labels) if text and _begins(text, label)]
    return found[0] if len(found) == 1 else None


def _begins(text: str, label: str) -> bool:
    return label.startswith(text) or (text.startswith(label) and not text[len(label)].isalnum())
