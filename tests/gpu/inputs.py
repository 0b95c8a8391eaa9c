"""Models of random weights and training rows, both made on the machine: nothing is downloaded."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from paft_ray.training.example_builder import Row

_WORDS = 200  # of a row; every vocabulary here is larger
_END = 2


def write_model(folder: Path, sizes: dict[str, int], *, dtype: torch.dtype, device: str) -> None:
    """Writes a model folder: a Llama of these sizes with random weights, and a tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, tie_word_embeddings=False, bos_token_id=1, eos_token_id=_END)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(str(folder))
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    words = {token: i for i, token in enumerate([*special.values(), *(f"w{i}" for i in range(3, _WORDS))])}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, "<unk>")), **special)
    tokenizer.save_pretrained(str(folder))


def step_rows(step: int, global_batch: int, longest: int) -> list[Row]:
    """Rows of a step: the same texts in every step, so that the loss falls; prompts of half `longest` up to it."""
    return [_row(step * global_batch + i, random.Random(i), longest) for i in range(global_batch)]


def _row(position: int, numbers: random.Random, longest: int) -> Row:
    prompt = [numbers.randrange(3, _WORDS) for _ in range(numbers.randint(longest // 2, longest))]
    answer = [numbers.randrange(3, _WORDS) for _ in range(numbers.randint(1, 3))]
    return Row(
        position=position,
        epoch=0,
        weight=1.0,
        prompt_ids=prompt,
        answer_ids=[*answer, _END],
        template="t",
        truncated_characters=0,
        example_id=str(position),
    )
