"""Stage synthesize with a judge: nothing that it rejects is in the prompt set, the grammar fills up, people decide
last."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paft_ray.config import Config, EngineConfig, GeneratorConfig
from paft_ray.generators.quality.calibration import hand_written
from paft_ray.generators.quality.judge import Judge
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.review import NO_SIGNAL, NOT_SURE, Signals
from paft_ray.generators.requests import Completion, Request
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.quality import quality_sentences
from paft_ray.report.review import review_page
from paft_ray.stages import synthesize
from paft_ray.storage.artifacts import PROMPT_SET, RAW_ANSWERS
from paft_ray.storage.quality import QUALITY
from paft_ray.storage.store import Store
from tests.support.known_judge import known_judge, without_forced
from tests.support.resolved import resolved

WRITTEN = (
    "Judge how the customer felt, negative or positive:\n{text}",
    "Opinion of a guest: {text}\nName its mood in a word, positive or negative?",
    "The car crash was tragic. However, {text} the id negative or positive",
    "Yesterday a train left: {text} and the station was positive or negative",
)
GOOD = frozenset(WRITTEN[:2])
SURE, GUESSING = 12.0, 0.0
MODEL, GRAMMAR = GeneratorConfig(), GeneratorConfig(type="grammar")


def judging(asking: frozenset[str], sharpness: float) -> Signals:
    """A judge that knows the hand-written templates, and of candidates these as asking for the task."""

    def signals(generator: GeneratorConfig, question: Question) -> list[Judge]:
        truth = {pair.template.id: question.option_of(pair.task) for pair in hand_written([], 0.7)}
        truth |= {PromptTemplate(text=text).id: 0 for text in asking}
        ask = known_judge(lambda template: truth.get(template.id), sharpness=sharpness)
        return [Judge(model=generator.label, question=question, ask=ask)]

    return signals


@without_forced
def write(
    requests: Sequence[Request], generator: GeneratorConfig, engine: EngineConfig, seed: int
) -> tuple[list[Completion], int]:
    return [Completion(text=WRITTEN[number % len(WRITTEN)]) for number, _ in enumerate(requests)], 1


def made(folder: Path | str, signals: Signals | None, **prompts: Any) -> tuple[Store, dict[str, Any]]:
    own = {"seed_templates": "builtin", "held_out_templates": "builtin", "num_candidates": 2, "max_rounds": 1}
    config = Config(name="t", task="demo", prompts={**own, "generators": (MODEL,), **prompts})
    run = Store.open(str(folder), "t")
    return run, synthesize.run(resolved(config, run), write=write, signals=signals)


def generated(prompts: PromptSet, source: str = "demo") -> set[str]:
    return {entry.template.text for entry in prompts.entries if entry.provenance["source"] == source}


@settings(max_examples=6, deadline=None)
@given(asking=st.frozensets(st.sampled_from(WRITTEN)), sharpness=st.sampled_from([GUESSING, SURE]))
def test_a_template_that_no_trusted_judge_is_sure_of_is_in_no_prompt_set(
    asking: frozenset[str], sharpness: float
) -> None:
    with TemporaryDirectory() as folder:
        run, manifest = made(folder, judging(asking, sharpness))
        kept = generated(PROMPT_SET.read(run))
        found = QUALITY.read(run)
        assert found.signals[-1].may_decide == (sharpness == SURE)
        assert kept <= (asking if sharpness == SURE else frozenset())
        assert len(kept) == manifest["kept"] == min(2, len(asking) if sharpness == SURE else 0)
        fit = {row["text"] for row in RAW_ANSWERS.read(run) if row["rejected"] in (None, "surplus")}
        assert fit == (asking if sharpness == SURE else set())
        assert [each.passed for each in found.candidates] == [text in fit for text in WRITTEN]


def test_the_grammar_fills_up_what_a_judge_rejects_and_the_run_says_why(tmp_path: Path, capsys: Any) -> None:
    run, manifest = made(tmp_path, judging(GOOD, GUESSING), generators=(MODEL, GRAMMAR), num_candidates=6)
    assert [(each["source"], each["kept"]) for each in manifest["generators"]] == [("demo", 0), ("grammar", 6)]
    assert manifest["rejected"][NO_SIGNAL] == len(WRITTEN)
    assert generated(PROMPT_SET.read(run)) == set()
    found = QUALITY.read(run)
    assert {each.generator for each in found.candidates} == {"demo"}, "no judge is asked about a grammar"
    last = (
        "Model-written synthesis was not used: no template that demo wrote (no signal tells reliably which ask for the "
        "task) was fit."
    )
    assert quality_sentences(found)[-1] == last
    said = capsys.readouterr().out
    assert last in said
    assert "it may not decide: the lower end of its AUC is below 0.85" in said


def test_what_the_judge_is_sure_of_comes_first_and_the_grammar_fills_up(tmp_path: Path) -> None:
    run, manifest = made(tmp_path, judging(GOOD, SURE), generators=(MODEL, GRAMMAR), num_candidates=6)
    assert [(each["source"], each["kept"]) for each in manifest["generators"]] == [("demo", 2), ("grammar", 4)]
    assert manifest["rejected"][NOT_SURE] == 2
    assert generated(PROMPT_SET.read(run)) == GOOD
    assert all(each.score >= 1.0 for each in QUALITY.read(run).candidates if each.passed)


def test_the_page_for_people_shows_what_the_judge_is_worth_and_what_it_says_of_each_candidate(tmp_path: Path) -> None:
    run, _ = made(tmp_path, judging(GOOD, SURE))
    page = review_page(run, Config(name="t", task="demo"))
    scores = [f"; judge: {each.score:+.1f} nats" for each in QUALITY.read(run).candidates]
    assert page.count("; judge: ") == len(WRITTEN)
    assert all(page.count(score) >= scores.count(score) for score in scores)
    assert "it decides which candidates are used" in page


def test_people_decide_after_the_judge(tmp_path: Path) -> None:
    judged_out, judged_in = WRITTEN[2], WRITTEN[0]
    rows = [
        {"id": PromptTemplate(text=text).id, "decision": decision, "text": text}
        for text, decision in ((judged_out, "accept"), (judged_in, "reject"))
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, _ = made(tmp_path, judging(GOOD, SURE), decisions=str(tmp_path / "d.jsonl"))
    assert generated(PROMPT_SET.read(run)) == {judged_out, WRITTEN[1]}


@pytest.mark.parametrize("generators", [(), (GRAMMAR,)], ids=["seeds", "grammar"])
def test_without_a_model_that_writes_nothing_is_judged(tmp_path: Path, generators: tuple[GeneratorConfig, ...]) -> None:
    def signals(generator: GeneratorConfig, question: Question) -> list[Judge]:
        raise AssertionError("a judge was asked")

    run, manifest = made(tmp_path, signals, generators=generators, judge={"id": "demo"})
    assert not run.exists(QUALITY.path)
    assert "judge" not in manifest["key"]
    assert manifest["engine_starts"] == 0


def test_templates_that_must_not_be_seen_are_not_judged_either(tmp_path: Path) -> None:
    shown: set[str] = set()

    def signals(generator: GeneratorConfig, question: Question) -> list[Judge]:
        def ask(question: Question, templates: Sequence[PromptTemplate]) -> dict[str, list[list[float]]]:
            shown.update(template.id for template in templates)
            return {}

        return [Judge(model="m", question=question, ask=ask)]

    written = {pair.template for pair in hand_written([], 0.7) if pair.task.name == "demo"}
    rejected = sorted(written, key=lambda template: template.id)[0]
    row = {"id": rejected.id, "decision": "reject", "text": rejected.text}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    run, _ = made(tmp_path, signals, decisions=str(tmp_path / "d.jsonl"))
    held_out = {template.id for template in PROMPT_SET.read(run).split("held_out").templates}
    assert shown
    assert not shown & (held_out | {rejected.id})
