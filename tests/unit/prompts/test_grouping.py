"""Draws that choose a cluster or a source first: uniform over these and within each, and keyed as every draw.
Invariant 1."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from paft_ray.config import Config, EveryKConfig, PerExampleConfig, SamplingConfig, parse_config, weights_key
from paft_ray.prompts.grouping import groups, groups_key, resolve_sampling
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.sampling import EveryK, OfGroups, PerExample, make_draw
from paft_ray.prompts.template import PromptTemplate

SIZES = (1, 2, 5, 9)
SOURCES = ("seed", "generator-a", "generator-b")


def entry(number: int, cluster: int = 0, source: str = "seed") -> Entry:
    return Entry(
        template=PromptTemplate(text=f"Wording {number}: {{text}}"), cluster=cluster, provenance={"source": source}
    )


CLUSTERS = [entry(10 * cluster + i, cluster) for cluster, size in enumerate(SIZES) for i in range(size)]
prompt_sets = st.lists(
    st.builds(entry, st.integers(0, 99), st.integers(0, 5), st.sampled_from(SOURCES)), min_size=1, max_size=20
).map(PromptSet.of)
policies = st.one_of(st.builds(PerExampleConfig), st.builds(EveryKConfig, k=st.integers(1, 9)))
overs = st.sampled_from(["cluster", "source"])


def drawn(
    prompts: PromptSet, sampling: SamplingConfig, *, seed: int, epoch: int, example: str, place: int
) -> PromptTemplate:
    draw = make_draw(sampling, seed=seed, groups=groups(prompts, sampling.over))
    index = draw.index(epoch=epoch, example_id=example, index_in_epoch=place, num_templates=len(prompts))
    return prompts.templates[index]


@pytest.mark.parametrize("policy", [PerExampleConfig(over="cluster"), EveryKConfig(k=3, over="cluster")])
def test_draws_are_uniform_over_clusters_and_within_each(policy: SamplingConfig) -> None:
    prompts = PromptSet.of(CLUSTERS)
    draw = make_draw(policy, seed=4, groups=groups(prompts, "cluster"))
    counts = Counter(
        draw.index(epoch=0, example_id=str(i), index_in_epoch=3 * i, num_templates=len(prompts)) for i in range(8000)
    )
    by_cluster = [[counts[i] for i, e in enumerate(prompts.entries) if e.cluster == c] for c in range(len(SIZES))]
    assert chisquare([sum(group) for group in by_cluster]).pvalue > 1e-3
    assert all(chisquare(group).pvalue > 1e-3 for group in by_cluster if len(group) > 1)


def test_a_source_of_few_templates_is_drawn_as_often_as_one_of_many() -> None:
    prompts = PromptSet.of([*(entry(i) for i in range(3)), *(entry(100 + i, source="grammar") for i in range(60))])
    draw = make_draw(PerExampleConfig(over="source"), seed=1, groups=groups(prompts, "source"))
    counts = Counter(
        prompts.entries[draw.index(epoch=e, example_id="row", index_in_epoch=0, num_templates=63)].source
        for e in range(4000)
    )
    assert chisquare([counts["seed"], counts["grammar"]]).pvalue > 1e-3


def test_draws_are_the_same_on_every_machine_and_in_every_version() -> None:
    prompts = PromptSet.of(CLUSTERS)
    table = groups(prompts, "cluster")
    assert [len(group) for group in table] == [9, 5, 2, 1]
    one, two = OfGroups(by=PerExample(seed=0), groups=table), OfGroups(by=EveryK(seed=0, k=4), groups=table)
    by_epoch = [one.index(epoch=e, example_id="row-1", index_in_epoch=0, num_templates=17) for e in range(8)]
    by_window = [two.index(epoch=0, example_id="", index_in_epoch=4 * i, num_templates=17) for i in range(8)]
    assert by_epoch == [6, 9, 16, 9, 16, 14, 16, 16]
    assert by_window == [11, 8, 12, 3, 11, 2, 1, 12]


@given(prompt_sets, policies, overs, st.integers(0, 2**31), st.integers(0, 99), st.text(max_size=9), st.integers(0, 99))
def test_a_draw_depends_on_its_key_alone(
    prompts: PromptSet, policy: SamplingConfig, over: Any, seed: int, epoch: int, example: str, place: int
) -> None:
    policy = policy.model_copy(update={"over": over})
    first = drawn(prompts, policy, seed=seed, epoch=epoch, example=example, place=place)
    if isinstance(policy, EveryKConfig):
        other, elsewhere = f"{example}x", place // policy.k * policy.k
    else:
        other, elsewhere = example, place + 17
    assert drawn(prompts, policy, seed=seed, epoch=epoch, example=other, place=elsewhere) == first


@given(prompt_sets, policies, overs, st.integers(0, 99), st.randoms(use_true_random=False))
def test_file_order_is_no_input(
    prompts: PromptSet, policy: SamplingConfig, over: Any, seed: int, shuffle: random.Random
) -> None:
    policy = policy.model_copy(update={"over": over})
    mixed = PromptSet.of(shuffle.sample(prompts.entries, len(prompts)))
    key: dict[str, Any] = {"seed": seed, "epoch": 0, "example": "row", "place": 5}
    assert drawn(mixed, policy, **key) == drawn(prompts, policy, **key)
    assert groups_key(mixed, over) == groups_key(prompts, over)


@given(prompt_sets, policies, st.integers(0, 99), st.integers(0, 99))
def test_over_templates_and_over_clusters_of_one_are_the_draw_of_before(
    prompts: PromptSet, policy: SamplingConfig, seed: int, epoch: int
) -> None:
    before = EveryK(seed=seed, k=policy.k) if isinstance(policy, EveryKConfig) else PerExample(seed=seed)
    wanted = before.index(epoch=epoch, example_id="row", index_in_epoch=7, num_templates=len(prompts))
    apart = PromptSet.of(
        Entry(template=t, cluster=number, provenance={"source": str(number)})
        for number, t in enumerate(prompts.templates)
    )
    for over in (None, "template", "cluster", "source"):
        sampling = policy.model_copy(update={"over": over})
        found = drawn(apart, sampling, seed=seed, epoch=epoch, example="row", place=7)
        assert found == prompts.templates[wanted], over
    over_templates = policy.model_copy(update={"over": "template"})
    assert make_draw(over_templates, seed=seed, groups=groups(prompts, "template")) == before


@given(prompt_sets, st.sampled_from([None, "template", "cluster", "source"]))
def test_every_template_is_in_exactly_one_group(prompts: PromptSet, over: Any) -> None:
    table = groups(prompts, over)
    assert sorted(index for group in table for index in group) == list(range(len(prompts)))
    assert all(table)
    if over in ("cluster", "source"):
        names = [[getattr(prompts.entries[index], over) for index in group] for group in table]
        assert all(len(set(group)) == 1 for group in names)
        assert len({group[0] for group in names}) == len(table)


def test_what_a_grammar_composed_is_generated_in_a_file_of_the_users_too() -> None:
    composed = Entry.of_file(PromptTemplate(text="Is it good? {text}", frame="question"), "seed")
    prompts = PromptSet.of([entry(1), entry(2), composed])
    assert (composed.source, composed.is_generated) == ("grammar", True)
    assert sorted(map(len, groups(prompts, "source"))) == [1, 2]
    assert resolve_sampling(config(), prompts).train.sampling.over == "cluster"


def config(sampling: dict[str, Any] | None = None, **sweep: Any) -> Config:
    values = {"name": "t", "task": "demo", "train": {"sampling": sampling} if sampling else {}, "sweep": sweep}
    return parse_config(values, source="test")


@pytest.mark.parametrize(
    ("given_over", "sources", "expected"),
    [
        (None, ["seed", "seed"], "template"),
        (None, ["seed", "generator-a"], "cluster"),
        ("template", ["seed", "generator-a"], "template"),
        ("source", ["seed", "generator-a"], "source"),
        ("cluster", ["seed"], "cluster"),
    ],
)
def test_what_is_left_open_is_settled_by_the_training_templates(
    given_over: str | None, sources: list[str], expected: str
) -> None:
    aside = Entry(template=PromptTemplate(text="{text}"), split="held_out", provenance={"source": "generator-b"})
    prompts = PromptSet.of([aside, *(entry(i, source=source) for i, source in enumerate(sources))])
    sampling = {"type": "every_k", "k": 2, "over": given_over}
    found = resolve_sampling(config(sampling, space={"sampling": [sampling]}), prompts)
    assert found.train.sampling == EveryKConfig(k=2, over=expected)
    assert found.sweep.space.sampling == (EveryKConfig(k=2, over=expected),)
    assert resolve_sampling(found, prompts) == found


def test_what_is_drawn_first_needs_no_type() -> None:
    assert config({"over": "source"}).train.sampling == PerExampleConfig(over="source")


def test_keys_are_those_of_before_where_templates_are_drawn() -> None:
    assert weights_key(config().train)["sampling"] == {"type": "per_example"}
    every_k = {"type": "every_k", "k": 2}
    assert weights_key(config({**every_k, "over": "template"}).train)["sampling"] == every_k
    assert weights_key(config({**every_k, "over": "source"}).train)["sampling"] == {**every_k, "over": "source"}


@given(prompt_sets)
def test_a_key_names_the_groups_where_they_decide_the_draw(prompts: PromptSet) -> None:
    assert groups_key(prompts, None) == groups_key(prompts, "template") == {}
    moved = PromptSet(tuple(Entry(template=e.template, cluster=7 * e.cluster + 3) for e in prompts.entries))
    assert groups_key(moved, "cluster") == groups_key(prompts, "cluster"), "numbers are only names"
    apart = PromptSet(tuple(Entry(template=t, cluster=i) for i, t in enumerate(prompts.templates)))
    same = groups(apart, "cluster") == groups(prompts, "cluster")
    assert (groups_key(apart, "cluster") == groups_key(prompts, "cluster")) == same
