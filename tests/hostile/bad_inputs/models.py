"""Model folders that cannot be used, and chat templates that do harm; each refused before Ray, by the dry run as
well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from tests.hostile.bad_inputs.case import Case, Content, setting

ROWS = 40
SIZES = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 2048,
}
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": ROWS, **SIZES}
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12881256\n"
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
INDEX = json.dumps({"weight_map": {"model.embed_tokens.weight": "model-00001-of-00001.safetensors"}})


def words(*others: str) -> str:
    """tokenizer.json of a few words; `others` are special tokens added behind them."""
    made = Tokenizer(
        WordLevel({"<unk>": 0, "</s>": 1, ":": 2, "a": 3, "positive": 4, "negative": 5}, unk_token="<unk>")  # noqa: S106
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(token, special=True) for token in others])
    return str(made.to_str())


def without_sense(**normalizer: str) -> dict[str, Any]:
    """tokenizer.json on whose normalizer its library panics, which is no `Exception` in Python."""
    return {**json.loads(words()), "normalizer": {"type": "Precompiled", **normalizer}}


def weights(rows: int = ROWS) -> bytes:
    return bytes(save({"model.embed_tokens.weight": np.zeros((rows, 8), np.float32)}))


GOOD: dict[str, Content] = {
    "config.json": json.dumps(CONFIG),
    "tokenizer.json": words(),
    "tokenizer_config.json": json.dumps(TOKENIZER),
    "model.safetensors": weights(),
}


def folder(given: str, says: str, *overrides: str, without: tuple[str, ...] = (), **files: Any) -> list[Case]:
    """A small model with other files (`__` for a dot), as a run and as a dry run; objects are written as JSON."""
    changed: Mapping[str, Content] = {
        name.replace("__", "."): content if isinstance(content, str | bytes) else json.dumps(content)
        for name, content in files.items()
    }
    named = {f"m/{name}": content for name, content in {**GOOD, **changed}.items() if name not in without}
    changes = ("model.id={dir}/m", *overrides)
    return [
        setting(given, says, *changes, files=named),
        setting(f"{given}, dry run", says, *changes, files=named, dry=True),
    ]


def chat(given: str, says: str, template: str, *overrides: str) -> list[Case]:
    """A small model with a chat template of its own."""
    return folder(given, says, "model.chat=true", *overrides, chat_template__jinja=template)


def linked(given: str, says: str, name: str, target: str) -> list[Case]:
    """A small model one of whose files is a link."""
    return folder(given, says, without=(name,), **{f"{name} -> {target}".replace(".", "__"): ""})


def limits(given: str, template: str) -> list[Case]:
    return chat(given, "takes too long or too much memory", template + TURNS)


FILES = [
    *folder(
        "weights that are a Git LFS pointer", "model.safetensors is a pointer of Git LFS", model__safetensors=POINTER
    ),
    *folder("a tokenizer that is a Git LFS pointer", "run `git lfs pull` there", tokenizer__json=POINTER),
    *folder("a configuration that is a Git LFS pointer", "config.json is a pointer", config__json=POINTER),
    *folder(
        "a shard that is missing",
        "1 of 1 weight files",
        without=("model.safetensors",),
        model__safetensors__index__json=INDEX,
    ),
    *folder(
        "an index of another folder",
        "no file of this folder",
        without=("model.safetensors",),
        model__safetensors__index__json={"weight_map": {"a": "../a"}},
    ),
    *folder(
        "shards without their index",
        "holds no *.safetensors that",
        without=("model.safetensors",),
        other__safetensors=weights(),
    ),
    *folder("weights that end early", "or is incomplete", model__safetensors=weights()[:-8]),
    *folder("weights that are empty", "model.safetensors is empty", model__safetensors=""),
    *folder(
        "weights whose head is a list", "no safetensors file", model__safetensors=(2).to_bytes(8, "little") + b"[]"
    ),
    *folder(
        "weights whose head is nested deep",
        "no safetensors file",
        model__safetensors=(10**5).to_bytes(8, "little") + b"[" * 10**5,
    ),
    *folder("a web page as weights", "no safetensors file", model__safetensors="<html>" * 100),
    *linked("weights that are a device", "no regular file", "model.safetensors", "/dev/zero"),
    *linked("weights that are a link to nothing", "a link to nothing", "model.safetensors", "/nowhere/blob"),
    *linked("a tokenizer that is a device", "tokenizer.json is no regular file", "tokenizer.json", "/dev/zero"),
    *folder("a model's configuration that is a list", "config.json is a list", config__json="[]"),
    *folder("a model's configuration that is null", "config.json is a NoneType", config__json="null"),
    *folder("a model's configuration nested deep", "config.json is not JSON", config__json="[" * 10**5),
    *folder(
        "a model of an unknown type",
        "config.json is none that transformers takes",
        config__json={**CONFIG, "model_type": "unheard"},
    ),
    *folder(
        "a model whose size is a word",
        "config.json is none that transformers takes",
        config__json={**CONFIG, "hidden_size": "wide"},
    ),
    *folder("a tokenizer without a model", "no tokenizer that can be read", tokenizer__json="{}"),
    *folder(
        "a tokenizer whose parser panics",
        "no tokenizer that can be read",
        tokenizer__json=without_sense(precompiled_charsmap="AAAA"),
    ),
    *folder(
        "a tokenizer that panics on text",
        "no tokenizer that can be read",
        tokenizer__json=without_sense(precompiled_charsmap="AQAAAA=="),
    ),
    *folder("a tokenizer that is a list", "no tokenizer that can be read", tokenizer__json="[]"),
    *folder(
        "a longest text that is a word",
        "no tokenizer that can be read",
        tokenizer_config__json={**TOKENIZER, "model_max_length": "x"},
    ),
    *folder("an adapter as the model", "holds an adapter", adapter_config__json={"base_model_name_or_path": "/other"}),
    *folder(
        "other weights in the configuration",
        "transformers_weights",
        config__json={**CONFIG, "transformers_weights": "other.safetensors"},
    ),
]
QUANTIZED = [
    *folder(
        "a base of 4 bit",
        "quantized (bitsandbytes), which is not supported yet",
        config__json={**CONFIG, "quantization_config": {"quant_method": "bitsandbytes"}},
    ),
    *folder(
        "a base of GPTQ",
        "quantized (gptq), which is not supported yet",
        config__json={**CONFIG, "quantization_config": {"quant_method": "gptq"}},
    ),
]
IDS = [
    *folder(
        "an end token beyond the embedding",
        "'<end>' has id 6, but the model's embedding has 6 rows",
        tokenizer__json=words("<end>"),
        tokenizer_config__json={**TOKENIZER, "eos_token": "<end>"},
        model__safetensors=weights(6),
    ),
    *folder(
        "words beyond the embedding", "has id 5, but the model's embedding has 4 rows", model__safetensors=weights(4)
    ),
    *folder(
        "a token of the chat template beyond the embedding",
        "'<turn>' has id 6, but",
        "model.chat=true",
        tokenizer__json=words("<turn>"),
        chat_template__jinja="<turn>" + TURNS,
        model__safetensors=weights(6),
    ),
]
TEMPLATES = [
    *chat("a chat template that divides by zero", "refuses user (ZeroDivisionError", "{{ 1 / 0 }}" + TURNS),
    *chat("a chat template that adds words to numbers", "refuses user (TypeError", "{{ 1 + 'a' }}" + TURNS),
    *chat("a chat template that is none", "refuses user (TemplateSyntaxError", "{% for %}"),
    *chat(
        "a chat template that looks for classes",
        "refuses user (SecurityError",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}" + TURNS,
    ),
    *chat("a chat template without the user's text", "does not write user once each", "hello"),
    *limits(
        "a chat template of nested loops",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ),
    *limits("a chat template of a large text", "{{ 'a' * 10**10 }}"),
    *limits(
        "a chat template that doubles a text",
        "{% set n = namespace(t='ab') %}{% for i in range(99) %}{% set n.t = n.t.replace('a', 'aa') ~ n.t %}{% "
        "endfor %}",
    ),
    *chat("a chat template that thinks", "opens a block of thinking (<think>)", TURNS + "assistant: <think>\n"),
    *chat(
        "a chat template that thinks unless told",
        "set model.chat_template_kwargs={enable_thinking: false}",
        TURNS + "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}",
    ),
    *chat(
        "a variable that the chat template does not read",
        "does not read deep",
        TURNS,
        "model.chat_template_kwargs={deep: false}",
    ),
]
VARIABLES = [
    setting(
        "variables without a chat template",
        "no effect without model.chat=true",
        "model.chat_template_kwargs={enable_thinking: false}",
    ),
    *[
        setting(
            f"the variable {name}",
            f"model.chat_template_kwargs.{name}: is set by",
            "model.chat=true",
            f"model.chat_template_kwargs={{{name}: x}}",
        )
        for name in ("messages", "tokenize", "date_string", "strftime_now", "bos_token")
    ],
    setting(
        "a variable that is a list",
        "model.chat_template_kwargs",
        "model.chat=true",
        "model.chat_template_kwargs={a: [1]}",
    ),
]
CASES = [*FILES, *QUANTIZED, *IDS, *TEMPLATES, *VARIABLES]
