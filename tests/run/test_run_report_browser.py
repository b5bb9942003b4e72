"""A report in a real browser: at a phone's width, in the light and in the dark, by pointer and by keyboard."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from segdsl.run.train import train_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map(k => top[k] * alpha + below[k] * (1 - alpha));
  };
  const background = element => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return (color[3] ?? 1) === 1 ? color : over(color, background(element.parentElement));
  };
  const light = color => {
    const parts = color.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const low = [];
  for (const element of document.body.querySelectorAll("*:not(script)")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element), below = background(element);
    const color = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [one, other] = [light(over(color, below)), light(below)].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) low.push(element.outerHTML.slice(0, 80));
  }
  return low;
}"""
"""The elements with words whose contrast to what lies below them is less than 4.5, as WCAG 2 computes it."""


@pytest.fixture
def report(hostile: Path) -> Path:
    """The report of a run of four epochs."""
    return (train_file("tiny.seg", ["train.epochs=4"], quiet=True).run / "report.html").absolute()


@pytest.fixture
def browser() -> Iterator:
    """A headless browser, with nothing of an earlier use."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()


def opened(browser, report: Path, width: int = 1280, scheme: str = "light"):
    """The page, and what it complained of."""
    page = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on(
        "request", lambda request: complaints.extend([request.url] if request.url[:5] not in ("file:", "data:") else [])
    )
    page.goto(report.as_uri())
    return page, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_reads_well(browser, report: Path, width: int, scheme: str) -> None:
    page, complaints = opened(browser, report, width, scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
        scheme == "light"
    )
    pictures = page.evaluate("[...document.images].map(one => [one.alt, one.naturalWidth])")
    assert len(pictures) == 9 and all(alt and wide for alt, wide in pictures)
    assert complaints == []


def test_nothing_of_the_data_runs(browser, report: Path) -> None:
    page, complaints = opened(browser, report)
    assert page.locator("table bdi", has_text="<script>window.hacked = 1</script>").count() >= 3
    for name in page.locator("bdi").all()[:20]:
        name.dispatch_event("mouseover")
    assert page.evaluate("[window.hacked, document.scripts.length, document.images.length]") == [None, 1, 9]
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.hacked = 5";
      document.body.append(script);
    }""")
    assert page.evaluate("window.hacked") is None and "Content Security Policy" in complaints[0], "the policy holds"


def test_contents_lead_to_closed_sections(browser, report: Path) -> None:
    page, _ = opened(browser, report, 360)
    assert not page.locator("#program pre").first.is_visible()
    page.get_by_role("link", name="Program").click()
    page.locator("#program pre").first.wait_for(state="visible")
    assert 0 <= page.locator("#program").bounding_box()["y"] < 200
    assert page.locator("#program .k").first.inner_text() == "seg"
    page.get_by_role("heading", name="Learning curves").click()
    assert not page.locator("#charts").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#charts").is_visible(), "the keyboard opens it again"


def test_curves_are_read_by_keyboard_and_pointer(browser, report: Path) -> None:
    with (report.parent / "metrics.csv").open(encoding="utf-8", newline="") as file:
        losses = [f"{float(row['train.loss']):.4g}" for row in csv.DictReader(file)]
    page, complaints = opened(browser, report)
    shown, training = page.locator("#epoch-shown"), page.locator("#charts [data-values]").first
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    assert (shown.inner_text(), training.inner_text()) == ("1", losses[0])
    page.keyboard.press("ArrowRight")
    assert (shown.inner_text(), training.inner_text()) == ("2", losses[1])
    box = page.locator("#charts figure > svg").last.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2)
    assert (shown.inner_text(), training.inner_text()) == ("4", losses[3])
    lines = page.evaluate("[...document.querySelectorAll('.cursor')].map(one => one.getAttribute('x1'))")
    assert len(set(lines)) == 1 and len(lines) == 3 and complaints == []


def test_tables_are_sorted_and_cells_are_read(browser, report: Path) -> None:
    page, complaints = opened(browser, report)
    table = page.locator("#classes table")
    for direction in (1, -1):
        table.get_by_role("button", name="dice").click()
        scores = [float(cell) for cell in table.locator("tbody td:nth-child(2)").all_inner_texts()]
        assert len(scores) == 3 and scores == sorted(scores, reverse=direction == -1)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    cell = page.locator("table.matrix tbody tr").first.locator("td").first
    cell.hover()
    readout = page.locator("#cell").inner_text()
    name = "<script>window.hacked = 1</script>"
    assert readout == f"{name}, predicted as {name}: {cell.inner_text()} %" and complaints == []
