"""The pure method: templates, draws, order, prompt sets. Invariants 1, 2, 7."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.sampling import EveryK, PerExample
from paft_ray.prompts.template import PromptTemplate, TemplateError, parse
from paft_ray.training.data_order import locate, num_steps, permute, step_positions

TEXTS = [f"Wording number {i}: {{text}}" for i in range(12)]
PROMPTS = PromptSet.of(Entry(template=PromptTemplate(text=t)) for t in TEXTS)


@given(value=st.text(), other=st.text())
def test_field_values_are_inserted_verbatim(value: str, other: str) -> None:
    template = PromptTemplate(text="{{x}} {a} and {b}")
    assert template.render({"a": value, "b": other}) == "{x} " + value + " and " + other


@pytest.mark.parametrize(
    "text",
    [
        "{0.__class__}",
        "{text.__init__}",
        "{text!r}",
        "{text:>10}",
        "{}",
        "{ text }",
        "{text",
        "text}",
        "{{text}",
        "{%x%}",
        "{te-xt}",
    ],
)
def test_anything_but_a_name_in_single_braces_is_refused(text: str) -> None:
    with pytest.raises(TemplateError, match="stray"):
        parse(text)


def test_values_that_look_like_templates_change_nothing_else() -> None:
    assert (
        PromptTemplate(text="{a}{b}").render({"a": "{b}{{0.__class__}}", "b": "{{ 7*7 }}"})
        == "{b}{{0.__class__}}{{ 7*7 }}"
    )


@given(
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 10**6),
    identity=st.text(max_size=30),
    place=st.integers(0, 10**9),
    n=st.integers(1, 10**5),
)
def test_per_example_draw_depends_on_seed_epoch_and_id_alone(
    seed: int, epoch: int, identity: str, place: int, n: int
) -> None:
    draw = PerExample(seed=seed)
    first = draw.index(epoch=epoch, example_id=identity, index_in_epoch=place, num_templates=n)
    assert 0 <= first < n
    assert first == PerExample(seed=seed).index(
        epoch=epoch, example_id=identity, index_in_epoch=place + 17, num_templates=n
    )


def test_draws_of_one_example_are_uniform_over_epochs() -> None:
    draw = PerExample(seed=3)
    counts = Counter(draw.index(epoch=e, example_id="row", index_in_epoch=0, num_templates=7) for e in range(7000))
    assert chisquare([counts[i] for i in range(7)]).pvalue > 1e-3


def test_an_example_meets_different_templates_in_different_epochs() -> None:
    draw = PerExample(seed=0)
    changed = sum(
        draw.index(epoch=0, example_id=str(i), index_in_epoch=i, num_templates=10)
        != draw.index(epoch=1, example_id=str(i), index_in_epoch=i, num_templates=10)
        for i in range(500)
    )
    assert changed > 400


def test_every_k_keeps_one_template_for_k_examples_in_a_row() -> None:
    draw = EveryK(seed=0, k=4)
    indices = [draw.index(epoch=0, example_id=str(i), index_in_epoch=i, num_templates=1000) for i in range(40)]
    assert all(len(set(indices[i : i + 4])) == 1 for i in range(0, 40, 4))
    assert len(set(indices)) > 8


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_example_exactly_once(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, seed, epoch)), np.arange(n))


@given(n=st.integers(1, 200), steps=st.integers(1, 12), world=st.integers(1, 8), seed=st.integers(0, 99))
def test_global_batches_are_the_same_at_any_world_size(n: int, steps: int, world: int, seed: int) -> None:
    whole = [locate(step_positions(s, 0, 1, 8), n, seed)[2] for s in range(steps)]
    parts = [
        np.concatenate([locate(step_positions(s, r, world, 8), n, seed)[2] for r in range(world)]) for s in range(steps)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))
    counts = Counter(int(i) for batch in whole for i in batch)
    assert max(counts.values()) - min(counts.get(i, 0) for i in range(n)) <= 1


def test_epochs_are_ordered_differently() -> None:
    assert not np.array_equal(permute(np.arange(100), 100, 0, 0), permute(np.arange(100), 100, 0, 1))


def test_a_run_has_as_many_steps_as_its_rows_need() -> None:
    assert num_steps(100, 3, 16) == 19


def test_file_order_of_templates_is_no_input() -> None:
    again = PromptSet.of(Entry(template=PromptTemplate(text=t)) for t in reversed(TEXTS))
    assert again == PROMPTS
    assert again.content_hash == PROMPTS.content_hash


@given(seed=st.integers(0, 1000), small=st.integers(1, 12), large=st.integers(1, 12))
def test_smaller_subsets_are_part_of_larger_ones(seed: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    inner, outer = PROMPTS.take(small, seed), PROMPTS.take(large, seed)
    assert len(inner) == small
    assert {t.id for t in inner.templates} <= {t.id for t in outer.templates}


def test_a_subset_larger_than_the_set_is_refused() -> None:
    with pytest.raises(UserError, match="13 templates asked for, it holds 12"):
        PROMPTS.take(13, 0)


def test_a_prompt_set_survives_its_table() -> None:
    assert PromptSet.from_table(PROMPTS.to_table()) == PROMPTS
