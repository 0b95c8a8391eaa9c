"""The generator `grammar` in stage synthesize: it fills up, needs no engine, and keeps its frames on one side."""

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from paft_ray.config import Config, GeneratorConfig, PromptsConfig, TrainConfig, generator_key
from paft_ray.errors import UserError
from paft_ray.generators.requests import Completion, Request
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages import synthesize
from paft_ray.storage.store import Store
from tests.support.known_judge import trusting, without_forced
from tests.support.resolved import resolved

GRAMMAR = GeneratorConfig(type="grammar")
GOOD = [
    "Judge how the customer felt, negative or positive:\n{text}",
    "{text}\nDoes this person sound pleased? Say positive or negative.",
]


def config(*generators: GeneratorConfig, task: str = "demo", **prompts: object) -> Config:
    own = {} if task != "demo" else {"seed_templates": "builtin", "held_out_templates": "builtin"}
    return Config(
        name="t",
        task=task,
        prompts=PromptsConfig.model_validate({**own, "generators": generators, **prompts}),
        train=TrainConfig(arms=("sft", "paft") if own else ("paft",)),
    )


@without_forced
def model(
    requests: Sequence[Request], generator: GeneratorConfig, engine: object, seed: int
) -> tuple[list[Completion], int]:
    """Writes two templates again and again."""
    return [Completion(text=GOOD[number % 2]) for number, _ in enumerate(requests)], 1


def no_model(
    requests: Sequence[Request], generator: GeneratorConfig, engine: object, seed: int
) -> tuple[list[Completion], int]:
    raise AssertionError(f"{generator.label} was asked")


def prompt_set(run: Store) -> PromptSet:
    return PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))


def test_a_grammar_fills_up_what_a_model_leaves_missing(tmp_path) -> None:
    run = Store.open(str(tmp_path), "t")
    asked = config(GRAMMAR, GeneratorConfig(), num_candidates=10, max_rounds=1)
    manifest = synthesize.run(resolved(asked, run), write=model, signals=trusting)
    assert (manifest["asked"], manifest["kept"], manifest["engine_starts"]) == (10, 10, 1)
    assert [(each["source"], each["asked"], each["kept"]) for each in manifest["generators"]] == [
        ("demo", 10, 2),
        ("grammar", 8, 8),
    ]
    sources = [entry.provenance["source"] for entry in prompt_set(run).entries]
    assert (sources.count("demo"), sources.count("grammar")) == (2, 8)


def test_without_a_model_no_engine_starts_and_frames_are_held_out_whole(tmp_path) -> None:
    run = Store.open(str(tmp_path), "t")
    asked = config(GRAMMAR, task="piqa", num_candidates=60, min_held_out=12)
    manifest = synthesize.run(resolved(asked, run), write=no_model)
    assert (manifest["kept"], manifest["engine_starts"], manifest["grammar_share"]) == (60, 0, None)
    prompts = prompt_set(run)
    train, held_out = ({e.provenance["frame"] for e in prompts.split(side).entries} for side in ("train", "held_out"))
    assert not train & held_out
    assert len(prompts.split("held_out")) >= 12
    again = synthesize.run(resolved(asked, Store.open(str(tmp_path), "again")), write=no_model)
    assert again["outputs"] == manifest["outputs"]


def test_a_grammar_with_a_number_of_its_own_adds_to_what_models_write(tmp_path) -> None:
    run = Store.open(str(tmp_path), "t")
    own = GeneratorConfig(type="grammar", num_templates=5)
    manifest = synthesize.run(
        resolved(config(GeneratorConfig(), own, num_candidates=2, max_rounds=1), run),
        write=model,
        signals=trusting,
    )
    assert (manifest["asked"], manifest["kept"]) == (7, 7)


def test_frames_of_a_held_out_file_are_not_composed_again(tmp_path) -> None:
    made, run = tmp_path / "held.jsonl", Store.open(str(tmp_path), "t")
    first = Store.open(str(tmp_path), "first")
    synthesize.run(resolved(config(GRAMMAR, task="piqa", num_candidates=30), first), write=no_model)
    made.write_text(prompt_set(first).to_jsonl())
    asked = config(GRAMMAR, task="piqa", num_candidates=60, held_out_templates=str(made))
    manifest = synthesize.run(resolved(asked, run), write=no_model)
    assert manifest["rejected"]["held_out_frame"] > 0
    sides = [{e.provenance["frame"] for e in prompt_set(run).split(side).entries} for side in ("train", "held_out")]
    assert len(sides[1]) >= 25
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"type": "openai"}, "needs endpoint"),
        ({"type": "vllm", "endpoint": {"base_url": "http://localhost/v1"}}, "endpoint goes with type: openai"),
        ({"type": "grammar", "id": "a-model"}, "asks no model"),
        ({"num_templates": 3}, "num_templates goes with type: grammar"),
    ],
)
def test_settings_of_another_type_are_refused(values: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        GeneratorConfig.model_validate(values)


def test_the_type_follows_from_the_endpoint_and_old_keys_stay_as_they_were() -> None:
    outside = GeneratorConfig.model_validate({"id": "m", "endpoint": {"base_url": "http://localhost/v1"}})
    assert (outside.type, GeneratorConfig().type, outside.label) == ("openai", "vllm", "m at localhost")
    assert GeneratorConfig.model_validate(outside.model_dump()) == outside
    assert GeneratorConfig.model_validate(GRAMMAR.model_dump()) == GRAMMAR
    assert not {"type", "num_templates"} & (generator_key(outside).keys() | generator_key(GeneratorConfig()).keys())
    assert generator_key(GRAMMAR) == {"type": "grammar", "num_templates": None}


def test_a_description_that_is_no_request_ends_the_stage_in_one_line(tmp_path) -> None:
    task = tmp_path / "t.yaml"
    task.write_text("{name: t, kind: choice, description: Sentiment., fields: {text: the text}, labels: [good, bad]}")
    with pytest.raises(UserError, match="does not begin with a verb"):
        synthesize.run(resolved(config(GRAMMAR, task=str(task)), Store.open(str(tmp_path), "t")), write=no_model)
