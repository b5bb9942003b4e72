"""The classes of a run: a table of their scores, which of them are missing, and what is taken for what."""

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
"""With more classes than this the matrix is drawn small, in whole percent."""
SCORES = ("dice", "iou", "precision", "recall")
"""The columns of the table of classes, as far as they are known."""
SHADES = 10
"""Steps of the shading of a cell."""
CONFUSED = 12
"""So many of the pairs that are confused most are listed."""


def class_table(material: Material) -> Html:
    """The scores of every class, and how much of the training images it covers."""
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
        text = f"Only what the log has of the best epoch: {material.missing}."
        return joined(tag("p", text, class_="missing"), *parts)
    return joined(
        _means(material, ranking.confusion),
        *(tag("p", f"{text[0].upper()}{text[1:]}.") for text in absences(ranking.confusion)),
        *parts,
    )


def _means(material: Material, confusion: Confusion) -> Html:
    """The means over the classes, with the background and without."""
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
    """At which size a training compares, and where other scores come from."""
    command = f"segdsl eval {shlex.quote(str(material.folder.root))}"
    size = material.program.data.input_size
    text = f"Compared at the size that the network sees, {size}, on whole images; "
    return tag("p", text, tag("code", command), " compares at the size of the images.")


def _scores(material: Material) -> dict[str, Mapping[str, float | None]]:
    """The scores by class; where nothing could be scored, what the log has of the best epoch."""
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
    """The table of counts, each row as shares of the true class, and the pairs that are confused most."""
    if material.ranking is None:
        return tag("p", f"There is no table: {material.missing}.", class_="missing")
    confusion = material.ranking.confusion
    about = "A row has the pixels of one true class, and how they were predicted, in percent of the row."
    return joined(tag("p", about), _matrix(confusion, _shares(confusion)), *confused(confusion))


def _shares(confusion: Confusion) -> np.ndarray:
    """What share of the pixels of a true class (rows) was predicted as each class, float64 (classes, classes)."""
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
    label = "Confusion matrix, shares of the true class in percent"
    inner = tag(
        "table", tag("caption", tag("span", label)), tag("thead", top), tag("tbody", *rows), class_=_kind(dense)
    )
    readout = tag("p", Html("&nbsp;"), class_="readout", id="cell", aria_live="polite")
    return joined(scrolled(inner, label, tall=True), readout)


def _kind(dense: bool) -> str:
    return "matrix dense" if dense else "matrix"


def _cells(shares: np.ndarray, row: int, dense: bool, known: bool) -> Html:
    """The cells of a row; what rounds to nothing is left empty, a row without pixels has a dash where it is right."""
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
    """The largest shares beside the diagonal as a table; none where nothing is confused."""
    shares = _shares(confusion)
    wrong = np.where(np.eye(len(shares), dtype=bool), 0.0, shares)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    pairs = [divmod(int(place), len(shares)) for place in order if wrong.flat[place] > 0]
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
    caption = "Confused most: the largest shares of the pixels of a true class, the largest first"
    header = ["true class", "predicted as", "share", "pixels"]
    return [table(header, rows, caption=caption, texts=2, sortable=True, falling=2)]


def _score(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%"
