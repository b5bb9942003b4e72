"""The sections on classes: a table of scores, notes on missing classes, and the confusion matrix."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

import numpy as np

from segdsl.data.pictures.canvas import colors_of
from segdsl.run.console.missing_classes import absences, absent, unpredicted
from segdsl.run.report.markup import UNKNOWN, Html, facts, joined, named, scrolled, table, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.images import swatch
from segdsl.scores.confusion import Confusion

MANY = 24
"""With more classes than this, the matrix is rendered small, in whole percent."""
SCORES = ("dice", "iou", "precision", "recall")
"""Columns of the table of classes; unknown ones are omitted."""
SHADES = 10
"""Number of shades of a cell."""
CONFUSED = 12
"""Number of most confused pairs that are listed."""


def class_table(material: Material) -> Html:
    """Render the scores of every class and its share of the training images."""
    scores = _scores(material)
    kinds = [kind for kind in SCORES if any(kind in known for known in scores.values())]
    stats = material.stats.get(material.program.data.train.subset)
    header = ["class", *kinds, *(["training pixels", "training images"] if stats else []), ""]
    rows: list[list[str]] = []
    for k, name in enumerate(material.classes):
        shares = [_percent(stats.of(k).pixels / stats.pixels), f"{stats.of(k).images:,}"] if stats else []
        numbers = [_score(scores[name].get(kind)) for kind in kinds]
        rows.append([_label(material, k), *numbers, *shares, _doubt(material, k)])
    parts: list[str] = [_compared_at(material), table(header, rows, caption="Scores of each class", sortable=True)]
    ranking = material.ranking
    if ranking is None:
        text = f"Scores are those of the best epoch in the log: {material.missing}."
        return joined(tag("p", text, class_="missing"), *parts)
    return joined(
        _means(material, ranking.confusion),
        *(tag("p", f"{text[0].upper()}{text[1:]}.") for text in absences(ranking.confusion)),
        *parts,
    )


def _means(material: Material, confusion: Confusion) -> Html:
    """Render the means over the classes, with and without the background."""
    whole, front = confusion.summary(), confusion.foreground(material.background)
    without = f"without {material.classes[material.background]}"
    return facts(
        ("mean dice", _score(whole["dice"])),
        ("mean IoU", _score(whole["miou"])),
        (f"mean dice {without}", _score(front["dice"])),
        (f"mean IoU {without}", _score(front["miou"])),
        ("pixel accuracy", _score(whole["accuracy"])),
    )


def _compared_at(material: Material) -> Html:
    """Render a note on the size at which predictions were compared with masks."""
    # Users compare these scores with those of `segdsl eval`, which are others.
    command = f"segdsl eval {shlex.quote(str(material.folder.root))}"
    size = material.program.data.input_size
    text = f"Whole images, compared at the input size of the network, {size}; "
    return tag("p", text, tag("code", command), " compares at image size.")


def _scores(material: Material) -> dict[str, Mapping[str, float | None]]:
    """Return the scores by class; if the model could not be evaluated, those of the best epoch in the log."""
    if material.ranking is not None:
        return dict(material.ranking.confusion.per_class())
    best, history = material.best, material.history
    kinds = [kind for kind in SCORES if f"val.{kind}.{material.classes[0]}" in history.columns]
    if best is None:
        return {name: {} for name in material.classes}
    return {name: {kind: history.column(f"val.{kind}.{name}")[best] for kind in kinds} for name in material.classes}


def _doubt(material: Material, k: int) -> str:
    if material.ranking is None:
        return ""
    if k in absent(material.ranking.confusion):
        return "not in the validation subset"
    return "never predicted" if k in unpredicted(material.ranking.confusion) else ""


def _label(material: Material, k: int) -> Html:
    colors = colors_of(material.index.labels) if material.index is not None else []
    return joined(*([swatch(colors[k])] if colors else []), named(material.classes[k]))


def confusion_section(material: Material) -> Html:
    """Render the confusion matrix, in shares of the true class, and the most confused pairs."""
    if material.ranking is None:
        return tag("p", f"No confusion matrix: {material.missing}.", class_="missing")
    confusion = material.ranking.confusion
    about = "Each row shows how the pixels of one true class were predicted, in percent of the row."
    return joined(tag("p", about), _matrix(confusion, _shares(confusion)), *confused(confusion))


def _shares(confusion: Confusion) -> np.ndarray:
    """Return the share of pixels of each true class (rows) by predicted class, float64 (classes, classes)."""
    return confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)


def _matrix(confusion: Confusion, shares: np.ndarray) -> Html:
    dense = len(confusion.classes) > MANY
    corner = tag("td", "true ↓ predicted →", class_="corner")
    top = tag("tr", corner, *(tag("th", tag("span", named(n)), scope="col") for n in confusion.classes))
    totals = confusion.counts.sum(1)
    rows = [
        tag("tr", tag("th", named(name), scope="row"), _cells(shares[k], k, dense, bool(totals[k])))
        for k, name in enumerate(confusion.classes)
    ]
    label = "Confusion matrix, in percent of the true class"
    inner = tag(
        "table", tag("caption", tag("span", label)), tag("thead", top), tag("tbody", *rows), class_=_kind(dense)
    )
    readout = tag("p", Html("&nbsp;"), class_="readout", id="cell", aria_live="polite")
    return joined(scrolled(inner, label, tall=True), readout)


def _kind(dense: bool) -> str:
    return "matrix dense" if dense else "matrix"


def _cells(shares: np.ndarray, row: int, dense: bool, known: bool) -> Html:
    """Render the cells of a row; zeros are empty, and a row without pixels has a dash on the diagonal."""
    # Written without end tags and quotes: a matrix of 150 classes has 22,500 cells.
    texts: list[str] = []
    for column, share in enumerate(shares.tolist()):
        text = f"{100 * share:.0f}" if dense else f"{100 * share:.1f}"
        if not known and column == row:
            texts.append(f"<td>{UNKNOWN}")
        elif float(text) == 0:
            texts.append("<td>")
        else:
            texts.append(f"<td class={'d' if column == row else 'e'}{math.ceil(share * SHADES)}>{text}")
    return Html("".join(texts))


def confused(confusion: Confusion) -> list[Html]:
    """Render the largest shares off the diagonal as a table; return an empty list if there are none."""
    shares = _shares(confusion)
    wrong = np.where(np.eye(len(shares), dtype=bool), 0.0, shares)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    pairs = [divmod(int(index), len(shares)) for index in order if wrong.flat[index] > 0]
    if not pairs:
        return []
    rows: list[list[str]] = [
        [
            named(confusion.classes[a]),
            named(confusion.classes[b]),
            _percent(shares[a, b]),
            f"{confusion.counts[a, b]:,}",
        ]
        for a, b in pairs
    ]
    caption = "Most confused classes, by share of the true class's pixels, largest first"
    header = ["true class", "predicted as", "share", "pixels"]
    return [table(header, rows, caption=caption, texts=2, sortable=True, falling=2)]


def _score(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    # A class that is present must not appear as 0.00%.
    return f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%"
