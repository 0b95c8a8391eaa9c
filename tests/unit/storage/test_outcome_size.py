"""Outcomes of a choice task stay small on disk, with every label's probability and what was said."""

import numpy as np
import pyarrow as pa
import pytest

from paft_ray.storage.artifacts import OUTCOMES
from paft_ray.storage.schemas import EVALUATED, MOST_SAID

NUM_TEMPLATES, NUM_EXAMPLES = 24, 200
MOST_BYTES = 60


def realistic(num_labels: int) -> pa.Table:
    """Four models, content ids, random log-probabilities; every second answer is a label, the others are texts of up to
    48 characters that stand in three rows each."""
    rng = np.random.default_rng(0)
    cells = NUM_TEMPLATES * NUM_EXAMPLES
    labels = np.array([f"label {n}" for n in range(num_labels)])
    templates = [f"{rng.integers(2**63):016x}" for _ in range(NUM_TEMPLATES)]
    examples = np.array([f"{rng.integers(2**63):016x}" for _ in range(NUM_EXAMPLES)])
    right = np.tile(labels[rng.integers(num_labels, size=NUM_EXAMPLES)], NUM_TEMPLATES)
    texts = ["".join(chr(c) for c in rng.integers(97, 123, rng.integers(8, MOST_SAID + 1))) for _ in range(cells // 6)]
    tables = []
    for arm in ("base", "sft", "top_accuracy", "paft"):
        logits = rng.normal(0, 3, (cells, num_labels))
        logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        predicted = labels[logprobs.argmax(1)]
        named = np.where(rng.random(cells) < 0.5, predicted, None)
        behavior = (named == right).astype(np.float32)
        columns = {
            "template_id": np.repeat(templates, NUM_EXAMPLES),
            "example_id": np.tile(examples, NUM_TEMPLATES),
            "answer": right,
            "predicted": predicted,
            "parsed": [True] * cells,
            "correct": predicted == right,
            "logprob": logprobs[np.arange(cells), np.searchsorted(labels, right)],
            "behavior": behavior,
            "strict": behavior,
            "named": named,
            "said": np.where(named != None, named, np.array(texts)[rng.integers(len(texts), size=cells)]),  # noqa: E711
            "num_tokens": rng.integers(1, 17, cells),
            "label_logprobs": list(logprobs.astype(np.float32)),
            "label_mass": rng.random(cells),
            "arm": [arm] * cells,
            "seed": [0] * cells,
        }
        tables.append(pa.table(columns).cast(EVALUATED))
    return pa.concat_tables(tables)


@pytest.mark.parametrize("num_labels", [2, 6])
def test_a_row_takes_less_than_60_bytes(num_labels: int) -> None:
    table = realistic(num_labels)
    assert len(OUTCOMES.encode(table)) / len(table) < MOST_BYTES
    assert OUTCOMES.decode(OUTCOMES.encode(table)).equals(table)
