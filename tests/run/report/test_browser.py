"""A report in a real browser: at phone width, in light and dark mode, with pointer and keyboard."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from segdsl.pages.page import open_templates
from segdsl.run.report.history import History
from segdsl.run.report.page import TEMPLATES
from segdsl.run.report.sections.class_curves import collect_class_curves
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
"""The elements whose text has a contrast below 4.5 as defined by WCAG 2."""


@pytest.fixture
def report(hostile: Path) -> Path:
    """The report of a run of four epochs."""
    return (train_file("tiny.seg", ["train.epochs=4"], quiet=True).run / "report.html").absolute()


@pytest.fixture
def browser() -> Iterator:
    """A headless browser with a fresh profile."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()


def opened(browser, report: Path, width: int = 1280, scheme: str = "light"):
    """Return the page and its messages."""
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
def test_the_page_fits_and_is_legible(browser, report: Path, width: int, scheme: str) -> None:
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


def test_names_never_run_as_script(browser, report: Path) -> None:
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
    page.locator("#charts figure > svg").last.scroll_into_view_if_needed()
    box = page.locator("#charts figure > svg").last.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2)
    assert (shown.inner_text(), training.inner_text()) == ("4", losses[3])
    lines = page.evaluate("[...document.querySelectorAll('.cursor')].map(one => one.getAttribute('x1'))")
    assert len(set(lines)) == 1 and len(lines) == 4 and complaints == []


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


def test_selected_classes_are_on_top(browser, report: Path) -> None:
    page, complaints = opened(browser, report)
    figure = page.locator("#by-class")
    boxes, lines = figure.get_by_role("checkbox"), figure.locator("svg[role=img] > g")
    styles = "all => all.map(one => one.getAttribute('class'))"
    assert boxes.count() == 3 and lines.evaluate_all(styles) == ["line c3", "line c2", "line c1"]
    boxes.nth(0).uncheck()
    assert lines.evaluate_all(styles) == ["line c3", "line c2", "line faint"]
    boxes.nth(1).focus()
    page.keyboard.press("Space")
    assert lines.evaluate_all(styles) == ["line c3", "line faint", "line faint"]
    boxes.nth(1).check()
    assert lines.evaluate_all(styles) == ["line c3", "line faint", "line c1"], "the free style, drawn last"
    assert figure.locator("li svg").evaluate_all(styles) == ["line faint", "line c1", "line c3"]
    assert complaints == []


def test_the_oldest_of_too_many_selected_classes_is_dropped(browser, report: Path) -> None:
    names = [f"class {k}" for k in range(12)]
    columns = {f"val.dice.{name}": [0.1, k / 20] for k, name in enumerate(names)}
    template = open_templates(TEMPLATES).get_template("class_curves.html.j2")
    chart = template.module.class_curves(collect_class_curves(names, History((1, 2), columns), 1))  # pyright: ignore
    page, complaints = opened(browser, report)
    page.evaluate("html => { document.getElementById('by-class').outerHTML = html; choosing(); }", chart)
    boxes = page.locator("#by-class").get_by_role("checkbox")
    chosen = "all => all.map(one => one.checked)"
    assert boxes.evaluate_all(chosen) == [True] * 8 + [False] * 4
    boxes.nth(9).check()
    boxes.nth(11).check()
    assert boxes.evaluate_all(chosen) == [False] * 2 + [True] * 6 + [False, True, False, True]
    lines = page.locator("#by-class svg[role=img] > g").evaluate_all("all => all.map(one => one.className.baseVal)")
    assert lines[-2:] == ["line c1", "line c2"] and sorted(lines).count("line faint") == 4 and complaints == []


@pytest.mark.parametrize("width", [360, 1280])
def test_wide_tables_scroll_under_the_names_of_their_rows(browser, report: Path, width: int) -> None:
    page, _ = opened(browser, report, width)
    box = page.locator("#classes .scroll")
    wide = box.evaluate("one => one.scrollWidth > one.clientWidth")
    assert wide == (width == 360)
    box.evaluate("one => one.scrollTo(10_000, 0)")
    edge = box.bounding_box()["x"]
    name, last = box.locator("tbody th").first.bounding_box(), box.locator("tbody td").last.bounding_box()
    assert abs(name["x"] - edge) < 1, "the name stays in sight"
    assert last["x"] + last["width"] <= edge + box.bounding_box()["width"] + 1, "the last column can be reached"
    caption = box.locator("caption span").bounding_box()
    assert caption["x"] >= edge and caption["x"] + caption["width"] <= width


def test_confused_pairs_can_be_sorted_by_name(browser, report: Path) -> None:
    page, complaints = opened(browser, report)
    table = page.locator("#confusion table:not(.matrix)")
    assert table.locator("th[aria-sort]").inner_text().startswith("share")
    table.get_by_role("button", name="predicted as").click()
    names = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert names == page.evaluate("names => [...names].sort((a, b) => a.localeCompare(b))", names)
    assert len(names) >= 2 and complaints == []
