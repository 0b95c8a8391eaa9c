"""Which tokens decide an answer on their own."""

from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.inference.said import deciding_tokens
from paft_ray.tasks.graders.choice import Choice

END = 0


def encoder(**labels: list[int]) -> Any:
    """Labels with their tokens; behind a line break each token is 100 higher."""
    ids = {name.replace("_", " "): row for name, row in labels.items()}
    return SimpleNamespace(
        task=SimpleNamespace(label_texts=tuple(ids), grader=Choice(labels=(*ids, "other"))),
        label_ids=lambda newline: {label: [t + 100 * newline for t in row] + [END] for label, row in ids.items()},
    )


@pytest.mark.parametrize(
    ("labels", "deciding"),
    [
        ({"positive": [1], "negative": [2]}, (1, 2, 101, 102)),
        ({"positive": [1], "somewhat_negative": [3, 2]}, (1, 101)),
        ({"good": [1], "not_good_enough": [2, 1, 3]}, ()),  # a label that another one holds
        ({"yes": [1], "nay": [2], "bad": [4, 2]}, (1, 101)),  # a token within another label
        ({"no": [1], "yes": [2]}, (2, 102)),  # words easily begin with two letters
        ({"A": [1], "B": [2]}, ()),
        ({"1": [1], "10": [1, 5], "level2": [7]}, ()),
    ],
)
def test_a_token_decides_where_it_can_be_no_other_answer(
    labels: dict[str, list[int]], deciding: tuple[int, ...]
) -> None:
    assert deciding_tokens(encoder(**labels)) == deciding
