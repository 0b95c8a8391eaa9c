"""Calibration decides whether a signal may speak: judges of known AUC are let in and kept out, and a rejected template
is never used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paft_ray.config import GeneratorConfig
from paft_ray.generators.quality.calibration import (
    FORCED,
    LEAST_AUC,
    OTHER_TASK,
    SHUFFLED,
    Calibration,
    calibration,
    hand_written,
    in_parts,
    known_pairs,
    scored,
    shuffled,
)
from paft_ray.generators.quality.judge import Ask, Judge
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.review import NO_SIGNAL, NOT_SURE, Reviewed, Reviewer
from paft_ray.metrics.bootstrap import Interval
from paft_ray.metrics.discrimination import Discrimination
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task
from tests.support.known_judge import known_judge

DEMO = load_task("demo")
QUESTION = Question.about(DEMO)
WRITTEN = hand_written([], 0.7)
TRUTH = {pair.template.id: QUESTION.option_of(pair.task) for pair in WRITTEN}
SEEDS = [pair.template for pair in WRITTEN if pair.task.name == "demo"][:10]
GOOD = [PromptTemplate(text=f"Kind {i} of guest: {{text}} Happy or not?") for i in range(30)]
NONSENSE = [PromptTemplate(text=f"The car {i} was negative or positive. {{text}} Checked") for i in range(30)]
FORCED_TEXTS = [PromptTemplate(text=f"Solve the problem {i} of negative or positive {{text}}") for i in range(30)]
OWN = Task(
    name="own",
    kind="choice",
    description="Say whether a mail is spam.",
    fields={"text": "the mail"},
    labels={"spam": "spam", "mail": "mail"},
)


def truth(template: PromptTemplate) -> int | None:
    return 0 if template in GOOD else TRUTH.get(template.id)


def reviewer(sharpness: float, asked: list[GeneratorConfig] | None = None) -> Reviewer:
    def forced(generator: GeneratorConfig) -> list[PromptTemplate]:
        if asked is not None:
            asked.append(generator)
        return FORCED_TEXTS

    ask = known_judge(truth, sharpness=sharpness)
    return Reviewer(
        task=DEMO,
        seeds=SEEDS,
        held_out=[],
        similarity=0.7,
        seed=0,
        signals=lambda generator, question: [Judge(model=generator.label, question=question, ask=ask)],
        forced=forced,
    )


def judged(ask: Ask, **changes: Any) -> Reviewed:
    """The review of good candidates by a judge that answers so."""
    signals = lambda generator, question: [Judge(model="x", question=question, ask=ask)]  # noqa: E731
    return replace(reviewer(12.0), signals=signals, **changes).review(GeneratorConfig(), GOOD)


def review(sharpness: float) -> Reviewed:
    return reviewer(sharpness).review(GeneratorConfig(), [*GOOD, *NONSENSE])


def test_the_known_pairs_are_every_hand_written_template_for_their_tasks_and_shuffled() -> None:
    known = known_pairs(WRITTEN, QUESTION)
    kinds = [each.kind for each in known]
    asked_for = {number for number in TRUTH.values() if number is not None}
    expected = {QUESTION.options[number].description for number in asked_for}
    assert {each.pair.task.description for each in known} == expected
    assert kinds.count(None) == len(WRITTEN) >= 100
    assert kinds.count(OTHER_TASK) == len(WRITTEN) * (len(asked_for) - 1) > 0
    assert kinds.count(SHUFFLED) == len(WRITTEN)


def test_a_judge_that_answers_the_same_whatever_the_text_is_worth_a_half() -> None:
    """Also where its favorite is the task of most hand-written templates."""
    favorite = lambda question, templates: {  # noqa: E731
        template.id: [[0.0 if letter == 0 else -30.0 for letter in order] for order in _both_orders(question)]
        for template in templates
    }
    found = judged(favorite)
    assert found.calibrations[0].found.auc.value == 0.5
    assert found.decided_by is None


def test_without_seed_templates_no_judge_is_trusted() -> None:
    """Nothing is known of it on the run's own task then: what it says of the generator's nonsense is not tested."""
    shipped = {pair.template.id: Question.about(OWN).option_of(pair.task) for pair in WRITTEN}
    fooled = known_judge(lambda t: 0 if t in FORCED_TEXTS else shipped.get(t.id), sharpness=12.0)
    found = judged(fooled, task=OWN, seeds=[])
    assert found.decided_by is None
    assert found.calibrations[0].reason == "the task has no seed templates to try it on"


def _both_orders(question: Question) -> list[range]:
    number = len(question.task.label_texts)
    return [range(number), range(number - 1, -1, -1)]


def test_seed_templates_of_a_task_of_ones_own_are_positives() -> None:
    seeds = [PromptTemplate(text=f"Mail {i}: {{text}} Is it spam or mail?") for i in range(6)]
    ids = {template.id for template in seeds}
    shipped = {pair.template.id: Question.about(OWN).option_of(pair.task) for pair in WRITTEN}
    known = known_judge(lambda t: 0 if t.id in ids else shipped.get(t.id), sharpness=12.0)
    fooled = known_judge(
        lambda t: 0 if t.id in ids or t in FORCED_TEXTS else shipped.get(t.id),
        sharpness=12.0,
    )
    for ask, may_decide in ((known, True), (fooled, False)):
        found = judged(ask, task=OWN, seeds=seeds)
        assert found.calibrations[0].may_decide == may_decide
        assert FORCED in found.calibrations[0].found.by_kind


def test_held_out_templates_of_the_run_and_near_copies_are_no_part_of_it() -> None:
    held_out = [pair.template for pair in WRITTEN if pair.task.name == "demo"][10:]
    changed = [PromptTemplate(text=template.text + " !") for template in held_out]
    found = hand_written(changed, 0.7)
    assert len(found) == len(WRITTEN) - len(held_out)
    assert not near([Entry(template=pair.template) for pair in found], [Entry(template=t) for t in held_out], 0.7)


def test_shuffling_keeps_the_words_and_is_fixed_by_the_text() -> None:
    template = WRITTEN[0].template
    found = shuffled(template)
    assert found == shuffled(template) != template
    assert sorted(found.text.split()) == sorted(template.text.split())


def test_a_judge_that_knows_decides_and_keeps_what_asks_for_the_task() -> None:
    found = review(12.0)
    assert found.decided_by == "judge demo"
    assert found.calibrations[0].found.auc.low > LEAST_AUC
    assert set(found.calibrations[0].counts) == {OTHER_TASK, SHUFFLED, FORCED}
    kept = {name for name, verdict in found.verdicts.items() if verdict.passed}
    assert kept == {template.id for template in GOOD}
    assert {found.verdicts[template.id].reason for template in NONSENSE} == {NOT_SURE}


@pytest.mark.parametrize("sharpness", [0.0, 0.7])
def test_a_judge_that_does_not_know_may_not_speak_and_nothing_is_used(sharpness: float) -> None:
    asked: list[GeneratorConfig] = []
    found = reviewer(sharpness, asked).review(GeneratorConfig(), [*GOOD, *NONSENSE])
    assert found.decided_by is None
    assert found.calibrations[0].found.auc.low < LEAST_AUC
    assert {(v.passed, v.reason, v.score) for v in found.verdicts.values()} == {(False, NO_SIGNAL, None)}
    assert asked == []  # its generator is asked for nothing more


def test_a_third_of_the_texts_refuses_a_judge_that_knows_nothing() -> None:
    """Of every task, with what is made of them; a judge that knows is asked about all."""
    known = known_pairs(WRITTEN, QUESTION)
    first, rest = in_parts(known, SEEDS)
    texts, others = {each.text for each in first}, {each.text for each in rest}
    assert not texts & others
    assert {seed.id for seed in SEEDS} < texts
    assert len(WRITTEN) / 3 <= len(texts) <= len(WRITTEN) / 3 + len(SEEDS)
    assert {each.pair.task.name for each in first} == {each.pair.task.name for each in rest}
    assert len(first) + len(rest) == len(known)

    nothing, all_known = review(0.0).calibrations[0].found, review(12.0).calibrations[0].found
    assert nothing.num_positives == len(texts) < len(WRITTEN) == all_known.num_positives
    assert nothing.auc.high < LEAST_AUC


@pytest.mark.parametrize(
    ("interval", "num_sure_seeds", "is_hopeless"),
    [((0.6, 0.84), 10, True), ((0.6, 0.86), 10, False), ((0.9, 1.0), 7, True), ((0.9, 1.0), 8, False)],
)
def test_a_signal_is_refused_early_only_where_its_interval_or_the_seeds_say_so(
    interval: tuple[float, float], num_sure_seeds: int, is_hopeless: bool
) -> None:
    low, high = interval
    auc = Interval(value=(low + high) / 2, low=low, high=high)
    found = Calibration(
        signal="x",
        found=Discrimination(auc=auc, by_kind={OTHER_TASK: auc.value}, num_positives=26, num_negatives=26),
        num_seeds=10,
        num_sure_seeds=num_sure_seeds,
        counts={OTHER_TASK: 26},
    )
    assert found.is_hopeless == is_hopeless
    assert not (found.is_hopeless and found.may_decide)


def test_no_template_is_asked_about_twice() -> None:
    asked: Counter[str] = Counter()
    known = known_judge(truth, sharpness=12.0)

    def counted(question: Question, templates: Sequence[PromptTemplate]) -> Any:
        asked.update(template.id for template in templates)
        return known(question, templates)

    assert judged(counted).decided_by is not None
    assert set(asked.values()) == {1}


def test_of_few_texts_all_are_asked_about_at_once() -> None:
    known = known_pairs(WRITTEN[:59], QUESTION)
    assert in_parts(known, SEEDS) == (known, [])


def test_a_second_signal_is_tried_where_the_first_may_not_speak() -> None:
    good, bad = (known_judge(truth, sharpness=sharpness) for sharpness in (12.0, 0.0))
    two = replace(
        reviewer(0.0),
        signals=lambda generator, question: [
            Judge(model=name, question=question, ask=ask) for name, ask in (("bad", bad), ("good", good))
        ],
    )
    found = two.review(GeneratorConfig(), GOOD)
    assert [each.may_decide for each in found.calibrations] == [False, True]
    assert found.decided_by == "judge good"


def test_a_judge_that_takes_the_generators_nonsense_for_the_task_may_not_speak() -> None:
    fooled = known_judge(lambda t: 0 if t in FORCED_TEXTS else truth(t), sharpness=12.0)
    found = judged(fooled)
    assert found.decided_by is None
    assert found.calibrations[0].found.by_kind[FORCED] < LEAST_AUC


def test_a_judge_that_does_not_know_the_users_own_seeds_may_not_speak() -> None:
    ids = {template.id for template in SEEDS}
    blind = known_judge(lambda t: None if t.id in ids else truth(t), sharpness=12.0)
    known = known_pairs(WRITTEN, QUESTION)
    judge = Judge(model="x", question=QUESTION, ask=blind)
    scores = judge.scores([each.pair for each in known])
    items = [item for item in scored(known, scores) if item.text not in ids]
    of_seeds = judge.scores([each.pair for each in known if each.kind is None and each.text in ids])
    found = calibration(judge, items, of_seeds, np.random.default_rng(0))
    assert found.found.auc.low > LEAST_AUC
    assert (found.num_sure_seeds, found.num_seeds) == (0, 10)
    assert found.reason == "it is sure of 0 of 10 seed templates"


def test_an_answer_that_did_not_come_passes_nothing() -> None:
    full = known_judge(truth, sharpness=12.0)
    missing = GOOD[0].id
    ask = lambda question, templates: {k: v for k, v in full(question, templates).items() if k != missing}  # noqa: E731
    found = judged(ask)
    assert not found.verdicts[missing].passed
    assert found.verdicts[GOOD[1].id].passed


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 14.0))
def test_what_passes_was_judged_by_a_signal_that_may_decide(sharpness: float) -> None:
    found = review(sharpness)
    passed = [name for name, verdict in found.verdicts.items() if verdict.passed]
    if passed:
        assert found.decided_by is not None
        assert found.calibrations[-1].found.auc.low >= LEAST_AUC
