"""Every token that ends an answer of a model is known, not its tokenizer's alone."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.models.end_tokens import end_token_ids

TOKENIZER: Any = SimpleNamespace(eos_token_id=2)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [1, 106]}, {"eos_token_id": 7}, (1, 2, 106)),
        ({"eos_token_id": 5}, None, (2, 5)),
        ({}, {"eos_token_id": 7}, (2, 7)),
        (None, {"eos_token_id": [7, 2]}, (2, 7)),
        (None, None, (2,)),
        ({"eos_token_id": ["a", True, -1, None, 1.5, 9]}, None, (2, 9)),
    ],
)
def test_end_tokens(generation: Any, config: Any, expected: tuple[int, ...], tmp_path: Path) -> None:
    for name, values in (("generation_config.json", generation), ("config.json", config)):
        if values is not None:
            (tmp_path / name).write_text(json.dumps(values))
    assert end_token_ids(str(tmp_path), TOKENIZER) == expected


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(UserError, match=r"generation_config\.json is not JSON"):
        end_token_ids(str(tmp_path), TOKENIZER)
