"""The sections on classes: a table of scores, notes on missing classes, and the confusion matrix."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

import numpy as np

from segdsl.data.pictures.canvas import choose_colors
from segdsl.run.console.missing_classes import find_absent_classes, find_unpredicted_classes, format_absence_notes
from segdsl.run.report.markup import (
    UNKNOWN,
    Html,
    isolate_name,
    join_html,
    render_facts,
    render_table,
    tag,
    wrap_scrollable,
)
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.images import render_swatch
from segdsl.scores.confusion import Confusion

DENSE_MATRIX_CLASSES = 24
"""With more classes than this, the matrix is rendered small, in whole percent."""
SCORE_COLUMNS = ("dice", "iou", "precision", "recall")
"""Columns of the table of classes; unknown ones are omitted."""
SHADES = 10
"""Number of shades of a cell."""
MAX_CONFUSED_PAIRS = 12
"""Number of most confused pairs that are listed."""


def render_class_table(run: RunData) -> Html:
    """Render the scores of every class and its share of the training images."""
    scores = _collect_scores(run)
    kinds = [kind for kind in SCORE_COLUMNS if any(kind in known for known in scores.values())]
    stats = run.stats.get(run.program.data.train.subset)
    header = ["class", *kinds, *(["training pixels", "training images"] if stats else []), ""]
    rows: list[list[str]] = []
    for k, name in enumerate(run.classes):
        shares = (
            [_format_percent(stats.get_class(k).pixels / stats.pixels), f"{stats.get_class(k).images:,}"]
            if stats
            else []
        )
        numbers = [_format_score(scores[name].get(kind)) for kind in kinds]
        rows.append([_render_label(run, k), *numbers, *shares, _describe_class_issue(run, k)])
    parts: list[str] = [
        _render_size_note(run),
        render_table(header, rows, caption="Scores of each class", sortable=True),
    ]
    ranking = run.ranking
    if ranking is None:
        text = f"Scores are those of the best epoch in the log: {run.missing}."
        return join_html(tag("p", text, class_="missing"), *parts)
    return join_html(
        _render_means(run, ranking.confusion),
        *(tag("p", f"{text[0].upper()}{text[1:]}.") for text in format_absence_notes(ranking.confusion)),
        *parts,
    )


def _render_means(run: RunData, confusion: Confusion) -> Html:
    """Render the means over the classes, with and without the background."""
    whole, front = confusion.summarize_scores(), confusion.compute_foreground_scores(run.background)
    without = f"without {run.classes[run.background]}"
    return render_facts(
        ("mean dice", _format_score(whole["dice"])),
        ("mean IoU", _format_score(whole["miou"])),
        (f"mean dice {without}", _format_score(front["dice"])),
        (f"mean IoU {without}", _format_score(front["miou"])),
        ("pixel accuracy", _format_score(whole["accuracy"])),
    )


def _render_size_note(run: RunData) -> Html:
    """Render a note on the size at which predictions were compared with masks."""
    # Users compare these scores with those of `segdsl eval`, which are others.
    command = f"segdsl eval {shlex.quote(str(run.folder.root))}"
    size = run.program.data.input_size
    text = f"Whole images, compared at the input size of the network, {size}; "
    return tag("p", text, tag("code", command), " compares at image size.")


def _collect_scores(run: RunData) -> dict[str, Mapping[str, float | None]]:
    """Return the scores by class; if the model could not be evaluated, those of the best epoch in the log."""
    if run.ranking is not None:
        return dict(run.ranking.confusion.collect_class_scores())
    best, history = run.best_index, run.history
    kinds = [kind for kind in SCORE_COLUMNS if f"val.{kind}.{run.classes[0]}" in history.columns]
    if best is None:
        return {name: {} for name in run.classes}
    return {name: {kind: history.get_column(f"val.{kind}.{name}")[best] for kind in kinds} for name in run.classes}


def _describe_class_issue(run: RunData, k: int) -> str:
    if run.ranking is None:
        return ""
    if k in find_absent_classes(run.ranking.confusion):
        return "not in the validation subset"
    return "never predicted" if k in find_unpredicted_classes(run.ranking.confusion) else ""


def _render_label(run: RunData, k: int) -> Html:
    colors = choose_colors(run.index.labels) if run.index is not None else []
    return join_html(*([render_swatch(colors[k])] if colors else []), isolate_name(run.classes[k]))


def render_confusion(run: RunData) -> Html:
    """Render the confusion matrix, in shares of the true class, and the most confused pairs."""
    if run.ranking is None:
        return tag("p", f"No confusion matrix: {run.missing}.", class_="missing")
    confusion = run.ranking.confusion
    about = "Each row shows how the pixels of one true class were predicted, in percent of the row."
    return join_html(
        tag("p", about), _render_matrix(confusion, _compute_shares(confusion)), *render_confused_pairs(confusion)
    )


def _compute_shares(confusion: Confusion) -> np.ndarray:
    """Return the share of pixels of each true class (rows) by predicted class, float64 (classes, classes)."""
    return confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)


def _render_matrix(confusion: Confusion, shares: np.ndarray) -> Html:
    dense = len(confusion.classes) > DENSE_MATRIX_CLASSES
    corner = tag("td", "true ↓ predicted →", class_="corner")
    top = tag("tr", corner, *(tag("th", tag("span", isolate_name(n)), scope="col") for n in confusion.classes))
    totals = confusion.counts.sum(1)
    rows = [
        tag("tr", tag("th", isolate_name(name), scope="row"), _render_cells(shares[k], k, dense, bool(totals[k])))
        for k, name in enumerate(confusion.classes)
    ]
    label = "Confusion matrix, in percent of the true class"
    inner = tag(
        "table",
        tag("caption", tag("span", label)),
        tag("thead", top),
        tag("tbody", *rows),
        class_=_get_matrix_style(dense),
    )
    readout = tag("p", Html("&nbsp;"), class_="readout", id="cell", aria_live="polite")
    return join_html(wrap_scrollable(inner, label, is_tall=True), readout)


def _get_matrix_style(is_dense: bool) -> str:
    return "matrix dense" if is_dense else "matrix"


def _render_cells(shares: np.ndarray, row: int, is_dense: bool, has_pixels: bool) -> Html:
    """Render the cells of a row; zeros are empty, and a row without pixels has a dash on the diagonal."""
    # Written without end tags and quotes: a matrix of 150 classes has 22,500 cells.
    texts: list[str] = []
    for column, share in enumerate(shares.tolist()):
        text = f"{100 * share:.0f}" if is_dense else f"{100 * share:.1f}"
        if not has_pixels and column == row:
            texts.append(f"<td>{UNKNOWN}")
        elif float(text) == 0:
            texts.append("<td>")
        else:
            texts.append(f"<td class={'d' if column == row else 'e'}{math.ceil(share * SHADES)}>{text}")
    return Html("".join(texts))


def render_confused_pairs(confusion: Confusion) -> list[Html]:
    """Render the largest shares off the diagonal as a table; return an empty list if there are none."""
    shares = _compute_shares(confusion)
    wrong = np.where(np.eye(len(shares), dtype=bool), 0.0, shares)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSED_PAIRS]
    pairs = [divmod(int(index), len(shares)) for index in order if wrong.flat[index] > 0]
    if not pairs:
        return []
    rows: list[list[str]] = [
        [
            isolate_name(confusion.classes[a]),
            isolate_name(confusion.classes[b]),
            _format_percent(shares[a, b]),
            f"{confusion.counts[a, b]:,}",
        ]
        for a, b in pairs
    ]
    caption = "Most confused classes, by share of the true class's pixels, largest first"
    header = ["true class", "predicted as", "share", "pixels"]
    return [render_table(header, rows, caption=caption, text_columns=2, sortable=True, descending_column=2)]


def _format_score(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.4f}"


def _format_percent(share: float) -> str:
    # A class that is present must not appear as 0.00%.
    return f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%"
