"""ZeRO-3 takes a model apart as it is read: no rank holds it completely, not even for a moment."""

import json
from pathlib import Path

import pytest

from tests.support.gloo import run_group

WORLD = 2


@pytest.mark.slow
def test_no_rank_holds_the_complete_model(tmp_path: Path) -> None:
    """A random Llama of 0.3 G weights. Two ranks hold half of it each, what gathers and sends one tensor, and the
    adapter's optimizer; before, each held all of it and a half."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=20,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=32_000,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    # Freed tensors go back to the system: what malloc keeps is no part of the question.
    kept = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    run_group(Path(__file__).with_name("sharded_load.py"), str(tmp_path), world_size=WORLD, **kept)
    found = [json.loads((tmp_path / f"memory-{rank}.json").read_text()) for rank in range(WORLD)]
    shares = [{name: (each[name] - each["before"]) / size for name in ("peak", "after")} for each in found]
    print(size, shares)
    assert all(share["peak"] < 0.75 for share in shares), shares
