"""Several templates in one answer, read strictly."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.generators.completions import read_completion, read_templates, templates_text
from paft_ray.prompts.template import PromptTemplate

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.sampled_from(["text", "system", "role", ""]), each),
    max_leaves=8,
)


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), systems=st.lists(TEXTS, min_size=8, max_size=8) | st.none())
def test_what_is_written_as_a_list_is_read_as_it_was(texts: list[str], systems: list[str] | None) -> None:
    given_systems = [None] * len(texts) if systems is None else systems
    templates = [PromptTemplate(text=t, system=s) for t, s in zip(texts, given_systems, strict=False)]
    assert read_templates(templates_text(templates), 8, system=systems is not None) == templates


@given(value=JSON, most=st.integers(1, 4), system=st.booleans())
def test_any_json_is_a_list_of_templates_or_a_value_error(value: Any, most: int, system: bool) -> None:
    text = json.dumps(value)
    try:
        found = read_templates(text, most, system=system)
    except ValueError:
        return
    assert 1 <= len(found) == len(value) <= most
    for template, row in zip(found, value, strict=True):
        written = [row["text"], row["system"]] if system else [row, None]
        assert [template.text, template.system] == [part and part.encode(errors="replace").decode() for part in written]
    assert all(isinstance(row, dict if system else str) for row in value)


@given(text=st.text())
def test_any_text_is_a_list_of_templates_or_a_value_error(text: str) -> None:
    try:
        assert read_templates(text, 4, system=False)
    except ValueError:
        assert not text.startswith('["a"]')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure, here they are:\n1. Say: {text}",
        '["half',
        '"just text"',
        "[]",
        "{}",
        "null",
        '["a", "b", "c"]',
        '["a", 3]',
        '["a", null]',
        '["a", ["b"]]',
        '["a"] ["b"]',
        '[{"text": "a"}]',
        "[" * 100_000,
        '["a"' + "]" * 1000,
        "[" + "9" * 10_000 + "]",
    ],
)
def test_what_is_no_list_of_texts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_templates(text, 2, system=False)


@pytest.mark.parametrize(
    "row",
    [
        '"a"',
        '{"text": "a"}',
        '{"text": "a", "system": null}',
        '{"text": 3, "system": "b"}',
        '{"text": "a", "system": "b", "role": "c"}',
        '{"system": "b"}',
    ],
)
def test_a_system_part_is_written_as_asked_or_refused(row: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_templates(f"[{row}]", 2, system=True)


def test_half_a_character_is_replaced_and_nothing_is_formatted() -> None:
    found = read_templates(r'["\ud83d {text.__class__} {0} %s {{x}}"]', 1, system=False)
    assert found == [PromptTemplate(text="? {text.__class__} {0} %s {{x}}")]


def test_an_answer_of_null_is_empty() -> None:
    """A model whose thoughts took all tokens says nothing, which is paid for like any answer."""
    body = json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "length"}]}).encode()
    found = read_completion(body, 16, may_be_empty=True)
    assert (found.text, found.finished) == ("", False)
    with pytest.raises(ValueError, match="there is no text"):
        read_completion(body, 16)
