"""The chat frame in the keys of stages: as the model's template writes it, on the same day every day."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from paft_ray.config import Config, configured_model
from paft_ray.models.chat_frame import chat_frame
from paft_ray.models.local import find_model
from paft_ray.stages.resolved_run import ResolvedRun

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"


def chat_model(path: Path, template: str) -> str:
    """A folder with a tokenizer of a few words and a chat template."""
    words = Tokenizer(WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))  # noqa: S106 (no password)
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    path.mkdir(exist_ok=True)
    words.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}'
    )
    (path / "chat_template.jinja").write_text(template)
    save_file({"a": np.zeros((2, 2), np.float32)}, path / "model.safetensors")
    return str(path)


def resolved(path: str, **model: object) -> ResolvedRun:
    config = Config(name="r", task="demo", storage=path, model={"id": path, **model}, prompts={"generators": []})
    return ResolvedRun.of(config).with_models()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))


def test_the_rendered_chat_frame_is_part_of_the_key(tmp_path: Path) -> None:
    path = chat_model(tmp_path / "m", TURNS + "{{ deep }}")
    key = resolved(path, chat=True, chat_template_kwargs={"deep": "!"}).model_key
    assert key["chat_frame"] == {"user": "<|user|>{}!", "system user": "<|system|>{}<|user|>{}!"}
    assert configured_model(key)["chat_template_kwargs"] == {"deep": "!"}
    assert not {"identity", "chat_frame"} & set(configured_model(key))
    assert "chat_frame" not in resolved(path).model_key, "plain input has no frame"
    chat_model(tmp_path / "m", TURNS)
    assert (chat_frame(find_model(path, None), {}) or {})["user"] == "<|user|>{}", "no answer from memory"


def test_roles_that_a_template_refuses_are_left_out_and_long_frames_are_hashed(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TURNS
    path = chat_model(tmp_path / "m", refuses + "{{ 'x' * 5000 }}")
    found = chat_frame(find_model(path, None), {})
    assert found is not None
    assert [*found] == ["user"]
    assert len(found["user"]) == 64


def test_the_frame_is_of_no_day(tmp_path: Path) -> None:
    """A clock that is not stopped, or one that is stopped at another time, changes the frame, and so the key."""
    path = chat_model(tmp_path / "m", TURNS + "{{ strftime_now('%d %B %Y') }} {{ date_string }}")
    assert (chat_frame(find_model(path, None), {}) or {})["user"] == "<|user|>{}26 July 2024 26 Jul 2024"
