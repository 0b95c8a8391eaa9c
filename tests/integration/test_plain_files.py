"""What users share holds no code: a finished run has no pickle in it, its checkpoints and adapters are safetensors and
JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.pickles import not_plain, pickles

if TYPE_CHECKING:
    from paft_ray.config import Config
    from paft_ray.storage.store import Store


def test_a_finished_run_holds_no_pickle_and_shares_safetensors_and_json_only(finished: tuple[Config, Store]) -> None:
    folder = Path(finished[1].root)
    assert pickles(folder) == []
    for arm in ("sft", "paft"):
        assert not_plain(folder / f"train/{arm}-s0/checkpoints") == []
        assert set(not_plain(folder / f"train/{arm}-s0/adapter")) <= {"README.md"}
        assert list((folder / f"train/{arm}-s0/checkpoints").glob("*/step-*/state.safetensors"))
