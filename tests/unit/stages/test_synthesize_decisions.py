"""Stage synthesize with decisions of people: what enters the prompt set, what is recorded, what the key holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import Config, GeneratorConfig
from paft_ray.errors import UserError
from paft_ray.generators.requests import Completion, Request
from paft_ray.prompts.decisions import REJECTED
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import synthesize
from paft_ray.stages.user_templates import user_templates
from paft_ray.storage.artifacts import DECISIONS, PROMPT_SET, RAW_ANSWERS
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.known_judge import trusting, without_forced
from tests.support.resolved import resolved

WRITTEN = [
    "Judge how the customer felt, negative or positive:\n{text}",
    "Opinion of a guest: {text}\nName its mood in a word, positive or negative?",
    "{text}\nDoes this person sound pleased? Say positive or negative.",
    "Verdict of a visitor, who may have liked it or not: {text}\nThe mood is positive",
]
SEEDS, HELD_OUT = user_templates(
    Config(name="t", task="demo", prompts={"seed_templates": "builtin", "held_out_templates": "builtin"}),
    load_task("demo"),
)


def identity(text: str) -> str:
    return PromptTemplate(text=text).id


def config(folder: Path, verdicts: dict[str, str] | None = None, *, held: bool = True, **prompts: Any) -> Config:
    """The demo's templates, a generator that is wanted for two, and a file of these decisions."""
    settings = {"seed_templates": "builtin", "held_out_templates": "builtin", "num_candidates": 2, "max_rounds": 1}
    settings |= {"generators": (GeneratorConfig(),), **prompts}
    if verdicts is not None:
        rows = [
            {"id": identity(text), "decision": what} | ({"text": text} if held else {})
            for text, what in verdicts.items()
        ]
        (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings["decisions"] = str(folder / "d.jsonl")
    return Config(name="t", task="demo", prompts=settings)


@without_forced
def write(
    requests: Sequence[Request], generator: GeneratorConfig, engine: object, seed: int
) -> tuple[list[Completion], int]:
    return [Completion(text=text) for _, text in zip(requests, WRITTEN, strict=True)], 1


def made(run: Store, settings: Config) -> tuple[PromptSet, dict[str, Any]]:
    manifest = synthesize.run(resolved(settings, run), write=write, signals=trusting)
    return PROMPT_SET.read(run), manifest


def texts(prompts: PromptSet) -> set[str]:
    return {template.text for template in prompts.templates}


def test_people_overrule_the_number_of_candidates_and_reject_for_good(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "plain")
    before, _ = made(run, config(tmp_path))
    assert {text in texts(before) for text in WRITTEN[:2]} == {True}
    assert {text in texts(before) for text in WRITTEN[2:]} == {False}, "one is surplus, one states an answer"
    verdicts = {WRITTEN[0]: "reject", WRITTEN[2]: "accept", WRITTEN[3]: "accept"}
    verdicts |= {SEEDS[1].text: "reject", HELD_OUT[0].text: "reject"}
    run = Store.open(str(tmp_path), "decided")
    after, manifest = made(run, config(tmp_path, verdicts))
    gone = {WRITTEN[0], SEEDS[1].text, HELD_OUT[0].text}
    assert texts(after) == texts(before) - gone | {WRITTEN[2]}
    left_out = {identity(WRITTEN[3]): "leaks_answer"}
    assert manifest["decisions"] == {"accepted": 2, "rejected": 3, "of_models": 0, "left_out": left_out}
    assert [row["rejected"] for row in RAW_ANSWERS.read(run)] == [REJECTED, None, None, "leaks_answer"]
    assert (manifest["kept"], manifest["rejected"]) == (2, {REJECTED: 1, "leaks_answer": 1})
    assert {row["id"]: row["decision"] for row in DECISIONS.read(run)} == {
        identity(text): what for text, what in verdicts.items()
    }


def test_a_rejected_first_seed_template_is_not_the_one_of_arm_sft(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "t")
    _, manifest = made(run, config(tmp_path, {SEEDS[0].text: "reject"}, held=False))
    assert manifest["sft_template"] == SEEDS[1].id


def test_decisions_are_part_of_the_key_and_their_absence_changes_none(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "t")
    made(run, config(tmp_path))
    key = run.read_json("synthesize/manifest.json")["key"]
    assert "decisions" not in key["templates"]
    assert "decisions" not in key["prompts"]
    with pytest.raises(UserError, match=r"made with other settings \(templates\.decisions: null -> "):
        made(run, config(tmp_path, {WRITTEN[0]: "reject"}))
    run = Store.open(str(tmp_path), "u")
    made(run, config(tmp_path, {WRITTEN[0]: "reject"}))
    with pytest.raises(UserError, match=rf"templates\.decisions\.{identity(WRITTEN[0])}: \"reject\" -> \"accept\""):
        made(run, config(tmp_path, {WRITTEN[0]: "accept"}))


def test_a_decision_about_nothing_ends_before_a_generator_that_is_not_there_and_after_one_that_is(
    tmp_path: Path,
) -> None:
    nowhere = config(tmp_path, {"nowhere {text}": "accept"}, held=False, generators=())
    with pytest.raises(UserError, match="no templates of this run"):
        user_templates(nowhere, load_task("demo"))
    again = config(tmp_path, {"nowhere {text}": "accept"}, held=False)
    user_templates(again, load_task("demo"))
    with pytest.raises(UserError, match="no templates of this run"):
        made(Store.open(str(tmp_path), "t"), again)


def test_accepted_templates_take_the_place_of_a_generator(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "t")
    prompts, _ = made(run, config(tmp_path, {WRITTEN[0]: "accept"}, generators=()))
    (entry,) = [each for each in prompts.entries if each.template.text == WRITTEN[0]]
    assert (entry.split, entry.provenance) == ("train", {"source": "decisions", "decision": "accept"})
