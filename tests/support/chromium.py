"""A real Chromium without a display, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The lowest contrast of text with what lies behind it, over all shown text; backgrounds may be half transparent.
CONTRAST = """() => {
  const parse = (css) => { const n = css.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    const over = (under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
    return layers.reverse().reduce(over, [255, 255, 255]);
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


def started_browser() -> Iterator[Browser]:
    """The browser, closed at the end; skips the test where there is none on this machine."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def opened(browser: Browser, file: Path, *, own: str) -> Iterator[Page]:
    """The page of a file. Fails at the end where it complained, asked for anything but itself and what it makes, whose
    addresses begin with `own`, or ran outside text."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert page.evaluate("window.hostile") is None
    assert complaints == []
    assert [url for url in requests if not url.startswith(own)] == [file.as_uri()]
    context.close()
