"""Suites: which templates and variants stand for a name."""

import json
from pathlib import Path

import pytest

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.prompts.variations.variant import posed
from paft_ray.robustness.suites import ALL, NAMES, make_suite
from paft_ray.tasks.task import Example, Task, load_task

DEMO = load_task("demo")
CONFIG = Config(name="robustness", task="demo")
FREE = load_task("gsm8k")


def test_templates_are_the_task_s_own_held_out_ones() -> None:
    suite = make_suite([], DEMO, CONFIG)
    assert (len(suite.plain), suite.variants, suite.names) == (24, (), ("templates",))
    assert make_suite(["templates"], DEMO, CONFIG) == suite


def test_a_task_without_templates_gets_composed_ones() -> None:
    suite = make_suite([], load_task("piqa"), Config(name="robustness", task="piqa"))
    assert len(suite.plain) == 24
    assert all(template.fields for template in suite.plain)


def test_a_file_of_templates_takes_their_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": f"Wording {i}: {{text}}\nSentiment:"}) + "\n" for i in range(8)))
    suite = make_suite([str(file), "noise"], DEMO, CONFIG)
    assert len(suite.plain) == 6, "the ones that are varied, where templates are not asked for"
    assert {variant.base for variant in suite.variants} == {template.id for template in suite.plain}
    assert len(make_suite([str(file)], DEMO, CONFIG).plain) == 8


@pytest.mark.parametrize("task", ["demo", "piqa", "race", "trec", "gsm8k", "hellaswag", "winogrande", "sst2"])
def test_all_goes_with_every_task(task: str) -> None:
    suite = make_suite([ALL], load_task(task), Config(name="robustness", task=task))
    axes = {variant.axis for variant in suite.variants}
    assert axes == set(suite.names) - {"templates"} >= {"format", "noise", "system"}
    assert ("options" in axes) == (task != "gsm8k")
    assert len({template.id for template in suite.templates}) == len(suite.templates)
    for axis in axes:
        by_base: dict[str, list[str]] = {}
        for variant in suite.variants:
            if variant.axis == axis:
                by_base.setdefault(variant.base, []).append(variant.level)
        assert len(by_base) >= 4
        assert len({tuple(levels) for levels in by_base.values()}) == 1, "crossed: base x level"


def test_a_suite_is_the_same_for_the_same_seed() -> None:
    assert make_suite([ALL], DEMO, CONFIG) == make_suite([ALL], DEMO, CONFIG)
    other = CONFIG.model_copy(update={"seed": 1})
    assert make_suite(["noise"], DEMO, other) != make_suite(["noise"], DEMO, CONFIG)


def test_noise_takes_a_rate() -> None:
    usual, more = (make_suite([name], DEMO, CONFIG).variants for name in ("noise", "noise=0.3"))
    assert [v.level for v in more if v.level != "fields in capitals"][:2] == [
        "typos in 30 % of the template's letters",
        "typos in 30 % of the fields' letters",
    ]
    typed, capitals = more[0], more[3]
    row = Example(id="r", fields={"text": "a movie of some length"}, answer="positive")
    assert posed(typed, row).template.text != posed(usual[0], row).template.text
    assert capitals == usual[3], "the rate is of typos alone"


@pytest.mark.parametrize("rate", ["", "0", "1", "2", "much", "nan"])
def test_a_rate_that_is_no_fraction_is_refused(rate: str) -> None:
    with pytest.raises(UserError, match=r"--suite noise=.*: write the fraction of letters"):
        make_suite([f"noise={rate}"], DEMO, CONFIG)


def test_formats_hold_the_wording() -> None:
    suite = make_suite(["format"], DEMO, CONFIG)
    by_base: dict[str, set[str]] = {}
    for variant in suite.variants:
        by_base.setdefault(variant.base, set()).add(variant.text)
    assert all(len(texts) >= 4 for texts in by_base.values())
    assert all("{text}" in text for texts in by_base.values() for text in texts)


def test_an_axis_that_does_not_go_with_the_task_is_refused_by_name_and_left_out_of_all() -> None:
    free = Config(name="robustness", task="gsm8k")
    with pytest.raises(UserError, match="--suite options: does not go with task gsm8k"):
        make_suite(["options"], FREE, free)
    assert "options" not in make_suite([ALL], FREE, free).names


def test_words_that_make_no_sentence_leave_the_other_axes(tmp_path: Path) -> None:
    task = Task.model_validate({**DEMO.model_dump(mode="json", exclude_none=True), "description": "Sentiment!"})
    suite = make_suite([ALL], task, CONFIG)
    assert suite.names == ("templates", "noise", "system")
    with pytest.raises(UserError, match=r"--suite format: .*description"):
        make_suite(["format"], task, CONFIG)


@pytest.mark.parametrize("name", ["nose", "my/templates.txt"])
def test_what_is_no_suite_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--suite {name}: no suite; allowed: {', '.join(NAMES)}"):
        make_suite([name], DEMO, CONFIG)
    with pytest.raises(UserError, match="one file"):
        make_suite(["a.jsonl", "b.jsonl"], DEMO, CONFIG)


def test_the_table_of_a_suite_names_every_column() -> None:
    suite = make_suite([ALL], DEMO, CONFIG)
    rows = suite.to_table().to_pylist()
    assert [row["template_id"] for row in rows] == [template.id for template in suite.templates]
    assert {row["axis"] for row in rows} == {"templates", "format", "options", "noise", "system"}


@pytest.mark.parametrize("task", ["demo", "winogrande", "gsm8k"])
@pytest.mark.parametrize("seed", range(4))
def test_composed_formats_vary_no_plain_template(task: str, seed: int) -> None:
    """A composed plain template may be the very request of a frame: its axis has no level `unchanged` for that."""
    config = Config(name="robustness", task=task, seed=seed)
    suite = make_suite(["templates", "format"], load_task(task), config)
    plain = {template.id for template in suite.plain}
    assert plain.isdisjoint(variant.base for variant in suite.variants)
