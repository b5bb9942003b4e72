"""The report of a run's training: scores by class, rates of parameter groups, and settings."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from segdsl.pages.page import open_templates
from segdsl.run.engine.setup import build_network, pick_device
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.program_data import open_data
from segdsl.run.report.best_worst import build_validation_loader, rank_images
from segdsl.run.report.chart import FAINT_STYLE, STYLE_COUNT
from segdsl.run.report.history import History
from segdsl.run.report.page import TEMPLATES
from segdsl.run.report.sections.class_curves import collect_class_curves
from segdsl.run.report.sections.classes import list_confused_pairs
from segdsl.run.report.sections.training import format_word
from segdsl.run.report.write import write_report
from segdsl.run.train import train_file
from segdsl.scores.confusion import Confusion
from segdsl.words.losses import CrossEntropy, WeightedSum
from segdsl.words.optimizers import AdamW, Group


def words_of(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_table_has_precision_and_recall(project: Path) -> None:
    folder = train_file("tiny.seg", ["train.epochs=3", "train.optimizer.lr=0.1"], quiet=True).run
    opened = open_run(folder)
    index = open_data(opened.program)
    network = build_network(opened.program, opened.model, pick_device())
    counts = rank_images(
        network, build_validation_loader(opened.program, index), opened.classes, index.ignore
    ).confusion
    words = words_of(page_of(folder))
    assert "precision recall" in words
    for name, known in counts.collect_class_scores().items():
        values = " ".join(
            "-" if known[k] is None else f"{known[k]:.4f}" for k in ("dice", "iou", "precision", "recall")
        )
        assert f"{name} {values}" in words
    front = counts.compute_foreground_scores(0)
    assert f"without ground {front['dice']:.4f} mean" in words and f"without ground {front['miou']:.4f}" in words
    assert f" 24x32; segdsl eval {folder}" in words


def test_without_data_the_table_has_what_the_log_has(project: Path) -> None:
    folder = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    (project / "set").rename(project / "elsewhere")
    write_report(folder)
    (row,) = rows(folder)
    words = words_of(page_of(folder))
    assert f"red {float(row['val.dice.red']):.4f} {float(row['val.iou.red']):.4f}" in words
    assert "precision recall" not in words
    log = folder / "metrics.csv"
    log.write_text(re.sub(r"val\.iou\.\w+", "other", log.read_text(encoding="utf-8")), encoding="utf-8")
    write_report(folder)
    assert f"red {float(row['val.dice.red']):.4f} blue" in words_of(page_of(folder)), "the log of an older version"


def history_of(count: int, epochs: int) -> tuple[list[str], History]:
    """Return classes with a constant Dice each, decreasing by number."""
    names = [f"class {k}" for k in range(count)]
    columns = {f"val.dice.{name}": [1 - (k + 1) / (count + 1)] * epochs for k, name in enumerate(names)}
    return names, History(tuple(range(1, epochs + 1)), columns)


def draw_class_curves(names: list[str], history: History, best: int | None) -> str:
    template = open_templates(TEMPLATES).get_template("class_curves.html.j2")
    return template.module.class_curves(collect_class_curves(names, history, best))  # pyright: ignore


@pytest.mark.parametrize("count", [2, 8, 11, 150])
def test_every_class_has_a_curve_and_the_lowest_are_colored(count: int) -> None:
    names, history = history_of(count, 5)
    html = draw_class_curves(names, history, 4)
    assert html.count("<path") == count == html.count('type="checkbox"')
    coloured = re.findall(r'<g class="line (\w+)">', html)
    assert [s for s in coloured[::-1] if s != FAINT_STYLE] == [f"c{k + 1}" for k in range(min(count, STYLE_COUNT))]
    listed = re.findall(r"<bdi>(class \d+)</bdi>", html)
    assert listed == names[::-1], "the lowest first"
    assert html.count(" checked") == min(count, STYLE_COUNT)
    for place, name in enumerate(listed[:STYLE_COUNT]):
        assert f'class="line c{place + 1}"><line' in html[: html.index(f"<bdi>{name}</bdi>")].rpartition("<li>")[2]


def test_a_class_without_a_score_comes_last() -> None:
    names, history = history_of(12, 3)
    history.columns["val.dice.class 11"] = [float("nan")] * 3
    listed = re.findall(r"<bdi>(class \d+)</bdi>", draw_class_curves(names, history, None))
    assert listed[0] == "class 10" and listed[-1] == "class 11"


def test_the_page_of_many_classes_and_epochs_is_small(project: Path) -> None:
    folder = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    header, row = (line.split(",") for line in (folder / "metrics.csv").read_text(encoding="utf-8").splitlines())
    program = (folder / "program.seg").read_text(encoding="utf-8")
    names = [f"a class number {k}" for k in range(250)]
    classes = ", ".join(f'"{name}"' for name in names)
    program = re.sub(r"classes += \[.*?\]", lambda _: f"classes = [{classes}]", program, count=1, flags=re.DOTALL)
    program = program.replace("Tiny(classes = 3)", "Tiny(classes = 250)")
    (folder / "program.seg").write_text(program, encoding="utf-8")
    head = [*header, *(f"val.dice.{name}" for name in names)]
    lines = [",".join([str(k), *row[1:], *["0.123456"] * 250]) for k in range(1, 401)]
    (folder / "metrics.csv").write_text("\n".join([",".join(head), *lines]), encoding="utf-8")
    write_report(folder)
    assert page_of(folder).count('type="checkbox"') == 250 and len(page_of(folder)) < 2_500_000


def test_the_rates_of_groups_are_drawn(project: Path) -> None:
    groups = "groups = [Group([stem], lr = 1e-3), Group([bn], weight_decay = 0), Group([classifier], lr = 0.1)]"
    settings = [f"train.optimizer=AdamW(lr = 0.01, {groups})", "train.epochs=2"]
    folder = train_file("tiny.seg", settings, quiet=True).run
    at = int(max(rows(folder), key=lambda row: float(row["val.dice"]))["epoch"]) - 1
    rate = float(rows(folder)[at]["lr"])
    page = page_of(folder)
    words = words_of(page[page.index("Learning rate</h3>") :])
    assert f"others {rate:.4g} stem {rate / 10:.4g} classifier {rate * 10:.4g}" in words
    plain = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    assert words_of(page_of(plain)[page_of(plain).index("Learning rate</h3>") :]).startswith("Learning rate rate ")


def test_the_summary_lists_the_training_settings(project: Path, wording: Callable[[str], None]) -> None:
    settings = [
        "train.loss=WeightedSum([CrossEntropy(class_weights = auto), Dice()])", "train.ema=EMA(decay = 0.9)",
        "data.train.sampler=ClassBalanced()", "train.accumulate=2", "train.precision=bf16", "train.epochs=1",
        "train.stop=EarlyStopping()", "train.monitor=val.dice.red", "train.freeze=[stem]",
    ]  # fmt: skip
    folder = train_file("tiny.seg", settings, quiet=True).run
    words = words_of(page_of(folder)[page_of(folder).index("<h1") : page_of(folder).index("<section")])
    weights = json.loads((folder / "lock.json").read_text(encoding="utf-8"))["class_weights"]
    heaviest = sorted(weights, key=lambda name: -weights[name])
    for fact in (
        "loss WeightedSum(losses = [CrossEntropy(class_weights = auto), Dice()])",
        "; ".join(f"{name}: {weights[name]:.3g}" for name in heaviest),
        "optimizer AdamW(lr = 0.05)",
        "schedule Warmup(over = 2 iters) -> Poly()",
        "batch 4 images, 2 batches",
        "sampler ClassBalanced()",
        "EMA(decay = 0.9)",
        "bf16",
        "frozen stem",
        "val.dice.red, by EarlyStopping()",
    ):
        assert fact in words, fact
    about = page_of(folder).partition('<dl class="about">')[2].partition("</dl>")[0]
    wording("\n".join(words_of(row) for row in about.split("</div>")))
    plain = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    words = words_of(page_of(plain)[page_of(plain).index("<h1") : page_of(plain).index("<section")])
    assert "(fp32)" in words and "monitored val.dice" in words
    assert "class weights" not in words and "sampler" not in words and "averaged" not in words


def test_a_word_is_formatted_without_defaults() -> None:
    assert format_word(AdamW()) == "AdamW()"
    word = AdamW(lr=0.1, groups=(Group(paths=("a.b",), lr=0.01),))
    assert format_word(word) == 'AdamW(lr = 0.1, groups = [Group(paths = ["a.b"], lr = 0.01)])'
    loss = WeightedSum(losses=(CrossEntropy(), CrossEntropy(hardest=0.5)), weights=(1.0, 2.0))
    assert "losses = [CrossEntropy(), CrossEntropy(hardest = 0.5)], weights = [1.0, 2.0]" in format_word(loss)


def test_confused_pairs_are_sorted_by_share() -> None:
    confusion = Confusion(("a", "b", "c"), 255)
    confusion.counts[:] = [[90, 10, 0], [1, 1, 2], [300, 0, 700]]
    pairs_template = open_templates(TEMPLATES).get_template("confused_pairs.html.j2")
    html = pairs_template.module.confused_pairs(list_confused_pairs(confusion))  # pyright: ignore
    pairs = re.findall(r"<bdi>(\w)</bdi></th><td><bdi>(\w)</bdi></td><td>([\d.]+)%</td><td>([\d,]+)", html)
    assert pairs == [
        ("b", "c", "50.00", "2"),
        ("c", "a", "30.00", "300"),
        ("b", "a", "25.00", "1"),
        ("a", "b", "10.00", "10"),
    ]
    assert 'aria-sort="descending">share<' in html and 'data-sortable="2"' in html
    assert "largest first" in words_of(html)
