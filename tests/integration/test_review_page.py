"""The page of `paft prompts review` in a real Chromium: nothing of a template is run, a click becomes a line of the
decisions file, and stage synthesize takes the file that was downloaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

from paft_ray.cli.main import main
from paft_ray.prompts.decisions import read_decisions
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import holds_hidden, visible
from paft_ray.storage.artifacts import DECISIONS, PROMPT_SET, RAW_ANSWERS
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.chromium import CONTRAST, opened
from tests.support.page_run import ATTACK, config

TEXTS = [f"{name} {ATTACK} \x7f {{text}}" for name in ("first", "second", "held", "stated", "surplus")]
SYSTEM = f"system {ATTACK}"
MARKED = PromptTemplate(text=TEXTS[1], system=SYSTEM)
BEFORE = "rejected before {text}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose texts are all hostile: two training templates, a held-out one, two rejected ones, one
    that was rejected before."""
    run = Store(str(tmp_path_factory.mktemp("review") / 'run <b> "&'))
    prompts = PromptSet.of(
        [
            Entry(template=PromptTemplate(text=TEXTS[0]), provenance={"source": ATTACK, "axes": {"tone": ATTACK}}),
            Entry(template=MARKED, provenance={"source": "seed"}),
            Entry(template=PromptTemplate(text=TEXTS[2]), split="held_out", provenance={"source": "held_out"}),
        ]
    )
    raw = [{"generator": ATTACK, "text": TEXTS[3], "rejected": ATTACK}]
    raw += [
        {"generator": "g", "text": TEXTS[4], "rejected": "surplus"},
        {"generator": "g", "text": "", "rejected": "failed"},
    ]
    before = [
        {"id": PromptTemplate(text=BEFORE).id, "decision": "reject", "text": BEFORE},
        {"id": "0" * 16, "decision": "reject"},
    ]
    outputs = PROMPT_SET.write(run, prompts) | RAW_ANSWERS.write(run, raw) | DECISIONS.write(run, before)
    stages.finish_stage(run, "synthesize", outputs)
    stages.prepared(run, {"train": [Example(id="a", fields={"text": f"row {ATTACK}"}, answer="negative")]})
    run.write_json("config.json", config().model_dump(mode="json"))
    with pytest.raises(SystemExit) as ended:
        main(["prompts", "review", run.root])
    assert ended.value.code == 0
    return Path(run.root) / "report" / "review.html"


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, whose download is a blob of its own."""
    yield from opened(browser, file, own="blob:")


def _candidate(page: Page, text: str) -> Locator:
    return page.locator(".candidate", has=page.locator("pre.template bdi", has_text=text.split()[0]))


def _downloaded(page: Page, folder: Path) -> str:
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return str(path)


def _lines(page: Page) -> list[dict[str, Any]]:
    return [json.loads(line) for line in page.locator("#lines").input_value().splitlines()]


def test_every_template_is_shown_letter_by_letter_with_its_verdict(page: Page) -> None:
    assert page.locator(".candidate").count() == 7
    verdicts = [text.split("\n")[0] for text in page.locator(".candidate h2").all_inner_texts()]
    assert [sum(word in text for text in verdicts) for word in ("trains", "held out", "rejected")] == [2, 1, 4]
    stated = _candidate(page, TEXTS[3])
    assert visible(ATTACK).replace("_", " ") in stated.locator("h2").inner_text()
    assert stated.locator("pre.template bdi").inner_text() == visible(TEXTS[3])
    assert visible(SYSTEM) in _candidate(page, TEXTS[1]).locator("pre.template").inner_text()
    assert not holds_hidden(page.content())
    assert page.locator("script").count() == page.locator("style").count() == 1
    assert page.locator("[onload], [onerror], [onmouseover], [style]").count() == 0


def test_a_rendered_example_and_the_nearest_templates_are_folded_in(page: Page) -> None:
    surplus = _candidate(page, TEXTS[4])
    surplus.get_by_text("Rendered example").click()
    assert surplus.locator("pre.example").inner_text() == visible(TEXTS[4].replace("{text}", f"row {ATTACK}"))
    surplus.get_by_text("Nearest template").click()
    assert surplus.locator("ul.cases li").count() == 3
    assert "held out" in surplus.locator("ul.cases").inner_text()


def test_clicks_become_the_file_that_the_next_run_takes(page: Page, tmp_path: Path) -> None:
    _candidate(page, TEXTS[0]).get_by_label("reject").check()
    _candidate(page, TEXTS[1]).get_by_label("accept").check()
    surplus = _candidate(page, TEXTS[4]).get_by_role("radio", name="none")
    surplus.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#told").inner_text() == "2 accepted, 3 rejected"
    path = _downloaded(page, tmp_path)
    assert Path(path).name == "decisions.jsonl"
    assert Path(path).read_text(encoding="ascii") == page.locator("#lines").input_value()
    found = read_decisions(path)
    assert {each.template: each.decision for each in found.values()} == {
        PromptTemplate(text=TEXTS[0]): "reject",
        MARKED: "accept",
        PromptTemplate(text=TEXTS[4]): "accept",
        PromptTemplate(text=BEFORE): "reject",
        None: "reject",
    }, "each template with every character that it has"


def test_what_was_decided_before_is_kept_until_it_is_taken_back(page: Page) -> None:
    assert [row["id"] for row in _lines(page)] == [PromptTemplate(text=BEFORE).id, "0" * 16]
    _candidate(page, BEFORE).get_by_label("none").check()
    assert [row["id"] for row in _lines(page)] == ["0" * 16]


def test_a_filter_shows_one_kind_of_templates(page: Page) -> None:
    for option, count in (("held out", 1), ("undecided", 5), ("rejected here", 2), ("all templates", 7)):
        page.locator("#shown").select_option(label=option)
        assert page.locator(".candidate:visible").count() == count


@pytest.mark.parametrize("width", [375, 320])
def test_the_page_fits_a_phone_and_can_be_read(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) >= 4.5, "WCAG 2.2, AA"


def test_without_its_script_the_page_can_be_read_but_not_decided_on(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".candidate:visible").count() == 7
    assert page.locator("input:visible, #controls:visible").count() == 0
    assert page.get_by_text("needs JavaScript").is_visible()
    context.close()
