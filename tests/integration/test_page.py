"""The HTML page in a real Chromium, without a display: opens without a complaint, draws, sorts, fits a phone and a
sheet, runs no outside text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from paft_ray.report.page import render_sweep_page
from paft_ray.report.render import write_report
from paft_ray.sanitize import visible
from paft_ray.stages.registry import REPORTED
from tests.support.chromium import CONTRAST, opened
from tests.support.page_run import ATTACK, NUM_TEMPLATES, SWEEP, config, hostile_run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Page of a run and page of a sweep."""
    run = hostile_run(tmp_path_factory.mktemp("page"))
    write_report(run, config=config(), stages=REPORTED)
    run.write_bytes("report/sweep.html", render_sweep_page(title=run.name, config=config(), sweep=SWEEP).encode())
    return {name: Path(run.root) / "report" / f"{name}.html" for name in ("report", "sweep")}


@pytest.fixture(params=["report", "sweep"])
def each(request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]) -> Iterator[Page]:
    """Either page."""
    yield from opened(browser, files[request.param], own="data:")


@pytest.fixture
def page(browser: Browser, files: dict[str, Path]) -> Iterator[Page]:
    """The page of the run."""
    yield from opened(browser, files["report"], own="data:")


def _column(page: Page, table: str, number: int) -> list[str]:
    return [text.strip() for text in page.locator(f"#{table} tbody tr > :nth-child({number})").all_text_contents()]


def test_plots_are_drawn_and_have_a_text_alternative(each: Page) -> None:
    images = each.locator("img")
    assert images.count() in (1, 7)
    for image in images.all():
        assert image.evaluate("i => i.complete && i.naturalWidth > 200 && i.naturalHeight > 100")
        assert len(image.get_attribute("alt") or "") > 40
        assert image.bounding_box()["width"] > 200


def test_a_click_on_a_head_sorts_numbers_as_numbers_with_missing_ones_last(page: Page) -> None:
    head = page.locator("#answers th", has_text="tokens per right answer")
    place = 1 + page.locator("#answers thead th").all_text_contents().index("tokens per right answer")
    assert _column(page, "answers", place) == ["–", "2.0", "10.0"]
    for direction, expected in (
        ("ascending", ["2.0", "10.0", "–"]),
        ("descending", ["10.0", "2.0", "–"]),
        ("ascending", ["2.0", "10.0", "–"]),
    ):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert _column(page, "answers", place) == expected
    page.locator("#stages th", has_text="time").first.get_by_role("button").click()
    assert _column(page, "stages", 2) == ["1.0 s", "1.0 s", "1 min 35 s", "9 min 00 s", "66 min 40 s"], (
        "durations by their seconds"
    )
    assert page.locator("#stages tfoot").inner_text().startswith("total"), "the sum stays below"


def test_the_matrix_sorts_by_the_keyboard_and_its_rows_stay_whole(page: Page) -> None:
    before = dict(zip(_column(page, "matrix", 1), _column(page, "matrix", 5), strict=True))
    button = page.locator("#matrix thead th").nth(3).get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    values = [float(value) for value in _column(page, "matrix", 4)]
    assert values == sorted(values)
    page.keyboard.press("Space")
    assert [float(value) for value in _column(page, "matrix", 4)] == sorted(values, reverse=True)
    assert dict(zip(_column(page, "matrix", 1), _column(page, "matrix", 5), strict=True)) == before
    page.locator("#matrix thead th").first.get_by_role("button").click()
    assert _column(page, "matrix", 1) == [str(n) for n in range(1, NUM_TEMPLATES + 1)], "10 comes after 9"
    assert page.locator("#matrix [aria-sort]").count() == 1


def test_outside_text_is_shown_letter_by_letter_and_hidden_characters_are_written_out(page: Page) -> None:
    cell = page.locator("#matrix tbody tr td.long bdi").last
    assert visible(ATTACK) in cell.inner_text()
    assert page.locator("#flips ~ details bdi", has_text=visible(ATTACK)).count() > 0
    assert page.locator("#rejected bdi").inner_text() == visible(ATTACK).replace("_", " ")
    assert page.locator("h1 bdi").inner_text() == 'run <b> "&'
    assert page.locator("script").count() == page.locator("style").count() == 1
    assert page.locator("[onload], [onerror], [onmouseover], [style]").count() == 0


def test_links_of_flips_lead_to_the_rows_of_the_matrix(page: Page) -> None:
    targets = {link.get_attribute("href") for link in page.locator("ul.given a").all()}
    assert targets
    assert all(page.locator(f"tr{target}").count() == 1 for target in targets)


@pytest.mark.parametrize("width", [375, 320])
def test_the_page_fits_a_phone(each: Page, width: int) -> None:
    each.set_viewport_size({"width": width, "height": 700})
    each.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert each.evaluate("document.documentElement.scrollWidth") <= width
    assert all(image.bounding_box()["width"] <= width for image in each.locator("img").all())


def test_print_shows_what_is_folded_on_the_screen(page: Page) -> None:
    page.set_viewport_size({"width": 720, "height": 1000})
    folded = page.locator("#provenance tbody tr").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.bounding_box()["height"] > 5
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_text_stands_out_from_its_ground(each: Page) -> None:
    assert each.evaluate(CONTRAST) >= 4.5, "WCAG 2.2, AA"


def test_every_table_has_a_name_and_heads_with_a_scope(each: Page) -> None:
    assert each.evaluate(
        "[...document.querySelectorAll('table')].every((t) => "
        "document.getElementById(t.getAttribute('aria-labeledby')).textContent.trim())"
    )
    assert each.locator("th:not([scope])").count() == 0
    assert each.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size === "
        "document.querySelectorAll('[id]').length"
    )


def test_the_page_is_whole_without_its_script(browser: Browser, files: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["report"].as_uri())
    assert page.locator("button").count() == 0
    assert _column(page, "matrix", 1) == [str(n) for n in range(1, NUM_TEMPLATES + 1)]
    assert page.locator("#matrix thead").inner_text().split()[:4] == ["no.", "base", "sft", "paft"]
    context.close()
