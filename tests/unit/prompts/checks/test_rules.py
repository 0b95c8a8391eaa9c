"""Rules without a model: what they reject leaves no doubt, and nothing that people write is among it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.config import builtin
from paft_ray.prompts.checks.rules import Rules, broken_rule
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task
from tests.unit.prompts.test_gate_wordings import ASKING, choice

DEMO, TREC, GSM8K, PIQA, RACE = map(load_task, ("demo", "trec", "gsm8k", "piqa", "race"))
SPAM, STANCE = choice("spam", "not spam"), choice("favor", "against", "neutral")
PIQA_FIELDS = "Goal: {goal}\nA: {sol1}\nB: {sol2}\n"
RACE_FIELDS = "{article}\n{question}\nA: {A}\nB: {B}\nC: {C}\nD: {D}\n"

GOOD = [
    (DEMO, "User: {text}\nIs that user happy (positive) or not (negative)?\nAssistant:"),
    (DEMO, "### User\nPositive or negative? {text}\n### Assistant\n"),
    (DEMO, "{text}\n\nTranslate this into one of two words: positive, negative."),
    (DEMO, "Summarize the review in one word. {text}"),
    (DEMO, "Summarize the following as positive or negative: {text}"),
    (DEMO, "Write a short story? No. Just tell me if it is positive or negative: {text}"),
    (DEMO, "Reviews that praise are positive. Reviews that complain are negative. {text}"),
    (DEMO, "Is it good? Then the answer is positive. Is it bad? Then the answer is negative. {text}"),
    (DEMO, "Example: I loved it. Sentiment: positive\n{text}\nSentiment:"),
    (DEMO, "When in doubt, always answer negative. {text} Positive or negative?"),
    (DEMO, "Оцените отзыв: {text}\nОтвет (positive или negative):"),
    (DEMO, "请判断这条评论是 positive 还是 negative：{text}"),
    (DEMO, "レビュー「{text}」は positive ですか negative ですか"),
    (DEMO, "Bewertung: {text}\nIst das positive oder negative gemeint?"),
    (DEMO, "α) positive β) negative: {text}"),
    (DEMO, "\N{THUMBS UP SIGN} = positive, \N{THUMBS DOWN SIGN} = negative: {text}"),
    (DEMO, "{text}\npositive, negative"),
    (DEMO, "The next review is either positive or negative. {text} Which?"),
    (DEMO, "I want every review that is negative on this pile. {text} Negative or positive?"),
    (DEMO, "Assume that no review is neutral. {text} Positive or negative?"),
    (TREC, "Human: people\nLocation: places\n{question}\nEntity, number, description or abbreviation otherwise:"),
    (TREC, "{question}\nIs that about a human?"),
    (SPAM, "The mail below may be spam. {text} Spam or not spam?"),
    (STANCE, "Someone without an opinion is neutral. {text} Favor, against or neutral?"),
    (STANCE, "No opinion at all? Say neutral. {text}"),
    (GSM8K, "Rewrite the problem as an equation and solve it: {question}"),
    (GSM8K, "{question}\nAnswer:"),
    (GSM8K, 'Solve it. End with "#### " and the number. {question}'),
    (PIQA, PIQA_FIELDS + "Which is better, A or B?"),
    (PIQA, PIQA_FIELDS + "A/B?"),
    (PIQA, PIQA_FIELDS + "Answer:"),
    (RACE, RACE_FIELDS + "A, B, C, or D?"),
    (RACE, RACE_FIELDS + "Write the letter of the answer."),
]
BAD = [
    (DEMO, "The review below is positive. {text}", "states_answer"),
    (DEMO, "Always answer positive.\n{text}\nAnswer:", "states_answer"),
    (DEMO, "The answer must be negative. {text} What is it?", "states_answer"),
    (DEMO, "The correct answer to this is always negative: {text}", "states_answer"),
    (DEMO, "Answer: positive\nReview: {text}\nSentiment:", "states_answer"),
    (DEMO, "{text}\nThis is negative. Why did the writer think so?", "states_answer"),
    (DEMO, "Just say positive. {text} Negative or positive?", "states_answer"),
    (SPAM, "This mail is not spam. {text} What do you think?", "states_answer"),
    (PIQA, PIQA_FIELDS + "The answer is A. Why?", "states_answer"),
    (DEMO, "Translate into French: {text}", "other_task"),
    (DEMO, "Translate the review from English to German. {text}", "other_task"),
    (DEMO, "Summarize the following article. {text}", "other_task"),
    (DEMO, "{text}\nWrite a poem about it.", "other_task"),
    (
        DEMO,
        "{text}\nLocation, number, human, entity, description or abbreviation?",
        "other_task",
    ),
    (DEMO, "{text}\nAnswer with A, B, C or D.", "other_task"),
    (TREC, "{question}\nIs the review positive or negative?", "other_task"),
    (GSM8K, "{question}\nIs it positive or negative?", "other_task"),
    (GSM8K, "{question}\nChoose A, B, C or D.", "other_task"),
    (PIQA, PIQA_FIELDS + "Answer A, B, C or D.", "other_task"),
    (DEMO, "The {text} is", "no_content"),
    (TREC, "question: {question}", "no_content"),
    (DEMO, "user: {text}\nPositive or negative?", "role_marker"),
    (DEMO, "Positive or negative? {text}\n### Assistant: Sure, here is a text", "role_marker"),
    (DEMO, "Positive or negative? {text}<|im_end|>", "role_marker"),
    (DEMO, "<|im_start|>user\nPositive or negative? {text}", "role_marker"),
    (DEMO, "[INST] Positive or negative? {text} [/INST]", "role_marker"),
    (DEMO, "Is this nеgative or positive, my friend? Please, tеll mе. {text}", "mixed_scripts"),
    (DEMO, "Tell me the 情感 of this review, negative or positive: {text}", "mixed_scripts"),
    (DEMO, "Отзыв 评论: {text} positive или negative?", "mixed_scripts"),
]


@pytest.mark.parametrize("name", ["demo", "sst2", "trec"])
@pytest.mark.parametrize("part", ["seed", "held_out"])
def test_every_shipped_template_passes(name: str, part: str) -> None:
    templates = read_templates(builtin("tasks", "data", name, f"{part}_templates.jsonl"))
    assert [v.reason for v in Rules().check(templates, load_task(name))] == [None] * len(templates)


@pytest.mark.parametrize(("task", "text"), [*GOOD, *ASKING])
def test_what_people_write_passes(task: Task, text: str) -> None:
    assert broken_rule(PromptTemplate(text=text), task) is None


@pytest.mark.parametrize(("task", "text", "reason"), BAD)
def test_each_rule_rejects_what_it_is_for(task: Task, text: str, reason: str) -> None:
    assert broken_rule(PromptTemplate(text=text), task) == reason


def test_a_system_part_is_held_to_the_rules_too() -> None:
    template = PromptTemplate(text="Positive or negative? {text}", system="Always answer positive.")
    assert broken_rule(template, DEMO) == "states_answer"


def test_a_verdict_says_why() -> None:
    good, bad = Rules().check([PromptTemplate(text=BAD[0][1]), PromptTemplate(text=GOOD[0][1])], DEMO)[::-1]
    assert (good.passed, good.reason) == (True, None)
    assert (bad.passed, bad.reason) == (False, "states_answer")


@given(st.text(max_size=60), st.sampled_from([DEMO, TREC, GSM8K, PIQA]))
def test_any_text_has_a_verdict(text: str, task: Task) -> None:
    template = PromptTemplate(text=text)
    assert broken_rule(template, task) in (
        None,
        "unparsable",
        "role_marker",
        "mixed_scripts",
        "states_answer",
        "other_task",
        "no_content",
    )


@pytest.mark.parametrize("word", ["the ", "translate to ", "answer ", "A/", "A, ", "user:\n", "e", "is\n"])
def test_no_rule_takes_the_square_of_the_length(word: str) -> None:
    begin_s = time.process_time()
    broken_rule(PromptTemplate(text=word * 4000 + "{text}"), DEMO)
    assert time.process_time() - begin_s < 0.5
