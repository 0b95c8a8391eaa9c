"""The templates that ship with a task: held-out ones in two groups, unlike the seeds, and none shared between tasks."""

import re
from collections import Counter
from itertools import combinations, product

import pytest

from paft_ray.config import builtin
from paft_ray.prompts.gate import gate
from paft_ray.prompts.prompt_set import Entry, read_templates
from paft_ray.prompts.similarity import shingles, similarity
from paft_ray.prompts.split import near, with_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import load_task

TASKS = ("demo", "sst2", "trec")
GROUPS = ("conversation", "layout")
FRAME = 4
"""Words in a row, fields, label words and articles aside, that no seed and no held-out template of a task share."""


def templates(task: str, name: str) -> list[PromptTemplate]:
    return read_templates(builtin("tasks", "data", task, f"{name}_templates.jsonl"))


def counts(task: str, template: PromptTemplate) -> list[int]:
    """How often it names each label of the task, in any letter case."""
    found = Counter(re.findall(r"\w+", template.text.lower()))
    return [found[label] for label in load_task(task).label_texts]


def frames(task: str, template: PromptTemplate) -> set[tuple[str, ...]]:
    dropped = {*load_task(task).label_texts, "or", "and", "a", "an"}
    words = re.findall(r"[a-z']+", re.sub(r"\{\w+\}", " ", template.text.lower()))
    kept = [word for word in words if word not in dropped]
    return {tuple(kept[i : i + FRAME]) for i in range(len(kept) - FRAME + 1)}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_ten_seed_templates_and_two_groups_of_twelve_held_out_ones(task: str) -> None:
    assert len(templates(task, "seed")) == 10
    assert Counter(t.group for t in templates(task, "held_out")) == dict.fromkeys(GROUPS, 12)
    assert all(t.group is None and t.system is None for t in templates(task, "seed"))
    uris = (load_task(task).seed_templates, load_task(task).held_out_templates)
    assert uris == tuple(f"builtin:tasks/data/{task}/{name}_templates.jsonl" for name in ("seed", "held_out"))


@pytest.mark.parametrize("task", TASKS)
def test_all_pass_the_gate_unrepaired(task: str) -> None:
    result = gate([*templates(task, "seed"), *templates(task, "held_out")], load_task(task), max_words=60)
    assert (result.rejected, result.repaired) == ({}, {})


@pytest.mark.parametrize("task", TASKS)
def test_seeds_name_every_label_once_and_a_third_of_each_held_out_group_names_none(task: str) -> None:
    every, none = [1] * len(load_task(task).label_texts), [0] * len(load_task(task).label_texts)
    assert all(counts(task, t) == every for t in templates(task, "seed"))
    for group in GROUPS:
        named = [counts(task, t) for t in templates(task, "held_out") if t.group == group]
        assert (named.count(every), named.count(none)) == (8, 4), group


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["seed", "held_out"])
def test_no_label_comes_first_in_an_unfair_share_of_the_templates_that_name_them(task: str, name: str) -> None:
    labels = load_task(task).label_texts
    found = [t.text.lower() for t in templates(task, name) if all(counts(task, t))]
    first = Counter(min(labels, key=text.index) for text in found)
    assert all(0.3 / len(labels) <= first[label] / len(found) <= 1.5 / len(labels) for label in labels), first


@pytest.mark.parametrize("task", TASKS)
def test_no_held_out_template_is_near_a_seed_or_shares_a_frame_with_one(task: str) -> None:
    seeds, held_out = templates(task, "seed"), templates(task, "held_out")
    for seed, other in product(seeds, held_out):
        assert similarity(shingles(seed), shingles(other)) < 0.6, (seed.text, other.text)
        assert not frames(task, seed) & frames(task, other), (seed.text, other.text)
    for one, other in combinations([*seeds, *held_out], 2):
        assert similarity(shingles(one), shingles(other)) < 0.6, (one.text, other.text)
    fixed = [Entry.of_file(t, "held_out", "held_out") for t in held_out]
    entries = [Entry.of_file(t, "seed") for t in seeds]
    assert not near(entries, fixed, 0.7)
    assert len({e.cluster for e in with_held_out(entries, fixed, threshold=0.7).entries}) == 34


def test_the_reworded_seed_that_was_held_out_before_would_be_found() -> None:
    before = Entry(template=PromptTemplate(text="Negative? Positive? {text}"))
    assert near([Entry(template=t) for t in templates("demo", "seed")], [before], 0.7)


def test_tasks_share_no_template() -> None:
    found = {task: [*templates(task, "seed"), *templates(task, "held_out")] for task in TASKS}
    for a, b in combinations(TASKS, 2):
        for one, other in product(found[a], found[b]):
            assert similarity(shingles(one), shingles(other)) < 0.6, (one.text, other.text)
