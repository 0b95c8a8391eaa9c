"""Labels as a trie of token ids: the prefixes to ask an engine about, and what its answers mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Prefix = tuple[int, ...]
MOST_LABEL_TOKENS = 128
"""Tokens whose log-probabilities an engine reports in one request."""


def branches(labels: Mapping[str, list[int]]) -> dict[Prefix, tuple[int, ...]]:
    """Prefix -> the next token ids, for each place where labels part; the empty prefix first. Labels whose first tokens
    differ part once."""
    found: dict[Prefix, set[int]] = {}
    for ids in labels.values():
        for depth, token in enumerate(ids):
            found.setdefault(tuple(ids[:depth]), set()).add(token)
    return {prefix: tuple(sorted(tokens)) for prefix, tokens in sorted(found.items()) if len(tokens) > 1}


def queries(labels: Mapping[str, list[int]]) -> dict[tuple[Prefix, int], tuple[int, ...]]:
    """(prefix, part) -> the token ids that one request asks for: the `branches`, in parts where one is wider than an
    engine reports.

    Parts of one prefix add up: log-probabilities are raw, so what else is asked for does not change them.
    """
    return {
        (prefix, part): tokens[start : start + MOST_LABEL_TOKENS]
        for prefix, tokens in branches(labels).items()
        for part, start in enumerate(range(0, len(tokens), MOST_LABEL_TOKENS))
    }


def rooted_queries(labels: Mapping[str, list[int]]) -> dict[tuple[Prefix, int], tuple[int, ...]]:
    """`queries`, and always one for the empty prefix, which it leaves out where labels share their first token."""
    return {((), 0): tuple(sorted({ids[0] for ids in labels.values()})), **queries(labels)}


def label_logprobs(labels: Mapping[str, list[int]], answers: Mapping[Prefix, Mapping[int, float]]) -> dict[str, float]:
    """Log-probability of each label among the labels: at every branch the raw log-probabilities are normalized over its
    tokens, then added along the label."""
    norms = {prefix: logsumexp(list(tokens.values())) for prefix, tokens in answers.items()}
    result = {}
    for label, ids in labels.items():
        steps = [(tuple(ids[:depth]), token) for depth, token in enumerate(ids)]
        result[label] = sum(answers[prefix][token] - norms[prefix] for prefix, token in steps if prefix in answers)
    return result


def greedy_label(labels: Mapping[str, list[int]], answers: Mapping[Prefix, Mapping[int, float]]) -> str:
    """The label that greedy decoding constrained to the trie ends in (ties go to the smaller token id)."""
    prefix: Prefix = ()
    remaining = dict(labels)
    while len(remaining) > 1:
        found = answers.get(prefix)
        token = min(found, key=lambda t: (-found[t], t)) if found else next(iter(remaining.values()))[len(prefix)]
        prefix = (*prefix, token)
        remaining = {label: ids for label, ids in remaining.items() if tuple(ids[: len(prefix)]) == prefix}
    return next(iter(remaining))


def logsumexp(values: Sequence[float]) -> float:
    """Log of the sum of the exponentials, of one value or more."""
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))
