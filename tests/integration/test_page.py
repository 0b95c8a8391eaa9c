"""The HTML page in a real Chromium, without a display: opens without a complaint, draws, sorts, fits a phone and a
sheet, runs no outside text."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from paft_ray.report.page import render_sweep_page
from paft_ray.report.render import write_report
from paft_ray.sanitize import visible
from paft_ray.stages.registry import REPORTED
from tests.support.page_run import ATTACK, NUM_TEMPLATES, SWEEP, config, hostile_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The lowest contrast of text with what lies behind it, over all shown text; backgrounds may be half transparent.
CONTRAST = """() => {
  const parse = (css) => { const n = css.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a)), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
    const [x, y] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
    found.push((x + 0.05) / (y + 0.05));
  }
  return Math.min(...found);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


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
    yield from _opened(browser, files[request.param])


@pytest.fixture
def page(browser: Browser, files: dict[str, Path]) -> Iterator[Page]:
    """The page of the run."""
    yield from _opened(browser, files["report"])


def _opened(browser: Browser, file: Path) -> Iterator[Page]:
    """Fails at the end where the page complained, asked for anything but itself or ran outside text."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert page.evaluate("window.hostile") is None
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    context.close()


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
