"""What of a model is taken: the refusals are in tests/hostile/bad_inputs/models.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli.dry_run import plan
from paft_ray.cli.preflight_model import check_model
from paft_ray.config import Config, load_config
from paft_ray.errors import UserError
from paft_ray.prompts.chat import _rendered
from paft_ray.prompts.encode import Encoder
from paft_ray.stages.registry import COMMANDS, started_by
from paft_ray.stages.user_templates import user_templates
from paft_ray.tasks.task import load_task
from tests.hostile.bad_inputs.models import CONFIG, GOOD, POINTER, TURNS, weights, words

TASK = load_task("demo")


def model(folder: Path, **files: Any) -> str:
    """A small model with other files (`__` for a dot)."""
    folder.mkdir(exist_ok=True)
    for name, content in {**GOOD, **{name.replace("__", "."): content for name, content in files.items()}}.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


def config(path: str, *overrides: str) -> Config:
    return load_config("jobs/configs/demo.yaml", [f"model.id={path}", "prompts.generators=[]", *overrides])


def checked(settings: Config, path: str, *, trains: bool) -> Encoder:
    return check_model(settings, TASK, path, user_templates(settings, TASK), trains=trains)


def test_a_quantized_model_is_scored_and_evaluated_but_not_trained(tmp_path: Path) -> None:
    path = model(tmp_path, config__json=json.dumps({**CONFIG, "quantization_config": {"quant_method": "fp8"}}))
    checked(config(path), path, trains=False)
    with pytest.raises(UserError, match=r"quantized \(fp8\), which is not supported yet for training"):
        checked(config(path), path, trains=True)
    commands = {name for name in COMMANDS if "train" in started_by(name, config(path))}
    assert commands == {"run", "train", "sweep"}


def test_the_small_model_of_the_bad_folders_is_good_itself(tmp_path: Path) -> None:
    assert "evaluation_prompts" in plan(config(model(tmp_path)))


@pytest.mark.parametrize("positions", ["max_position_embeddings", "n_positions"])
def test_a_prompt_leaves_room_for_the_longest_answer_that_evaluation_asks_for(tmp_path: Path, positions: str) -> None:
    sizes = {name: value for name, value in CONFIG.items() if name != "max_position_embeddings"}
    path = model(tmp_path, config__json=json.dumps({**sizes, positions: 200}))
    checked(config(path, "model.max_prompt_tokens=184"), path, trains=True)
    for answer, most in (("16", 184), ("40", 160)):
        given = config(path, "model.max_prompt_tokens=185", f"evaluate.max_answer_tokens={answer}")
        with pytest.raises(UserError, match=f"reads 200 tokens .* takes up to {answer}; allowed: up to {most}"):
            checked(given, path, trains=True)


def test_tokens_that_no_prompt_holds_need_no_embedding(tmp_path: Path) -> None:
    path = model(tmp_path, tokenizer__json=words("<image>", "<pad>"), model__safetensors=weights(6))
    assert checked(config(path), path, trains=True).largest_id() == ("negative", 5)
    path = model(tmp_path, model__safetensors=weights(64))
    checked(config(path), path, trains=True)


def test_a_generator_whose_weights_are_pointers_is_refused_by_a_dry_run(tmp_path: Path) -> None:
    good, bad = model(tmp_path / "good"), model(tmp_path / "bad", model__safetensors=POINTER)
    with pytest.raises(UserError, match=r"bad: model\.safetensors is a pointer of Git LFS"):
        plan(config(good, f"prompts.generators=[{{id: {bad}}}]"))


def test_a_chat_template_costs_one_start_for_all_prompts_of_a_process(tmp_path: Path) -> None:
    path = model(tmp_path, chat_template__jinja=TURNS + "assistant:")
    _rendered.cache_clear()
    for _ in range(3):
        checked(config(path, "model.chat=true"), path, trains=True)
    assert _rendered.cache_info().misses == 1
