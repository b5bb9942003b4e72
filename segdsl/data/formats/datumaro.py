"""Datumaro's own format: pictures, and one JSON of labels and items for each subset, drawn once as index masks.

Polygons, ellipses and masks segment. They are drawn in the order of `z_order`, as Datumaro joins them; an image whose
shapes state none is drawn as COCO's are, the smallest on top. What is where none lies must be said
(`data.background`), unless a label says it by being called `background`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.decode.images import read_bytes
from segdsl.data.findings import Findings, finding
from segdsl.data.formats.labels import LabelSpace, drawn_classes
from segdsl.data.formats.layout import ANNOTATIONS, IMAGES, Layout, Request, Subset
from segdsl.data.formats.rasterize import (
    BACKGROUND,
    VOID,
    Drawing,
    Pictured,
    Shape,
    Size,
    drawn_layout,
    drawn_subset,
    outline,
    painted,
    stated_size,
    uncovered,
)
from segdsl.diagnostics import Diagnostic, SegError, fail

FORMAT = "datumaro"
SEGMENTS = ("polygon", "mask", "ellipse")
ELLIPSE_POINTS = 720
HEAD = 1 << 16
"""Bytes of a file in which its first keys stand."""
MARK = re.compile(rb'"dm_format_version"\s*:|"categories"\s*:\s*\{')
"""What the start of Datumaro's JSON has, and no other; `categories` are a list in COCO's."""
FORM = "expected an object with `categories.label.labels` and a list `items`, as Datumaro exports them"


def looks_like_datumaro(root: Path) -> str:
    """What of this format a folder has; empty where it has not enough."""
    file = next((file for file in _files(root).values() if is_datumaro(file)), None)
    return f"`items` in `{ANNOTATIONS}/{file.name}`" if file else ""


def is_datumaro(file: Path) -> bool:
    """Whether a JSON of annotations starts like Datumaro's."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return bool(MARK.search(opened.read(HEAD)))
    except OSError:
        return False


def _files(root: Path) -> dict[str, Path]:
    folder = root / ANNOTATIONS
    return {p.stem: p for p in sorted(folder.glob("[!.]*.json"))} if folder.is_dir() else {}


def read_datumaro(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads the annotations of the subsets that are asked for, and draws their masks into the cache.

    Appends what is at fault to ``found``. Raises :class:`SegError` where there is no data set of this format at all.
    """
    files = _files(root)
    if not files:
        help = f"expected `{ANNOTATIONS}/<subset>.json`, and `{IMAGES}/<subset>`"
        raise fail(
            "data-layout-unknown", "this is no data set of Datumaro: it has no annotations", help, path=str(root)
        )
    return drawn_layout(root, FORMAT, files, asked, (_read, _subset), found)


@dataclass(frozen=True, slots=True)
class _Annotations:
    """One JSON: its classes, the id of its label 0, the id where no annotation lies (None: unsaid), and its items."""

    file: Path
    digest: str
    labels: LabelSpace
    first: int
    fill: int | None
    items: Sequence[Mapping[str, Any]]


def _read(file: Path, asked: Request) -> _Annotations:
    data = read_bytes(file)
    try:
        names, items = _parts(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "it is no JSON, or of another form"
        raise fail("meta-malformed", what.replace("'", "`"), FORM, path=str(file)) from None
    first, fill = uncovered(names, asked.background, asked.ignore)
    added = [asked.background] if first and asked.background else []
    labels = drawn_classes([*added, *names], len(names), asked.ignore, file)
    digest = hashlib.sha256(data + repr((first, fill)).encode()).hexdigest()
    return _Annotations(file, digest, labels, first, fill, items)


def _parts(content: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of the labels, and the items. Raises what Python does where one of them is of another form."""
    names = [entry["name"] for entry in content["categories"]["label"]["labels"]]
    items = [{**item, "annotations": [dict(a) for a in item.get("annotations", [])]} for item in content["items"]]
    texts = [*names, *(item["id"] for item in items), *(a["type"] for item in items for a in item["annotations"])]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError
    return names, items


def _subset(name: str, root: Path, read: _Annotations, found: Findings) -> Subset:
    pictures: list[Pictured] = []
    known: set[str] = set()
    for item in read.items:
        try:
            pictures.append(_pictured(name, item, known, read.file))
        except SegError as error:
            found.extend(error.diagnostics)
    unused = Counter(a["type"] for item in read.items for a in item["annotations"] if a["type"] not in SEGMENTS)
    if unused:
        listing = ", ".join(f"{count} of `{kind}`" for kind, count in sorted(unused.items()))
        help = f"draw what is meant to be learnt as {', '.join(f'`{kind}`' for kind in SEGMENTS)}"
        message = f"annotations that do not segment are not used: {listing}"
        found.append(finding("annotation-unused", message, help, read.file, severity="warning"))
    bare: list[str] = []

    def mask(item: Mapping[str, Any], size: Size) -> np.ndarray | None:
        drawn = painted(_shapes(item, size, read), size, read.fill)
        if drawn is None:
            bare.append(item["id"])
        return drawn

    subset = drawn_subset(name, root, Drawing(read.file, read.digest, root / IMAGES, pictures, mask), found)
    if bare:
        found.append(_unsaid(read.file, bare))
    return subset


def _unsaid(file: Path, items: Sequence[str]) -> Diagnostic:
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    message = f"annotations leave pixels of the item `{items[0]}`{more} free, and nothing says what is there"
    help = (
        f'say it: `data.background = "{BACKGROUND}"` makes it a class, "{VOID}" leaves it out of learning and scores '
        "(`--background` where there is no program)"
    )
    return finding("background-unsaid", message, help, file)


def _pictured(subset: str, item: Mapping[str, Any], known: set[str], file: Path) -> Pictured:
    """The picture of an item, whose name joins ``known``. Raises :class:`SegError` that names it."""
    name, image = f"the item `{item['id']}`", item.get("image")
    if item["id"] in known:
        raise fail("name-twice", f"two items are called `{item['id']}`", "keep one of them", path=str(file))
    known.add(item["id"])
    if not isinstance(image, dict):
        raise fail("image-missing", f"{name} has no `image`", "add the image, or remove the item", path=str(file))
    path, size = image.get("path") or f"{item['id']}.jpg", image.get("size")
    if not isinstance(path, str) or not (size is None or (isinstance(size, list) and len(size) == 2)):
        help = "expected `path`, a text, and `size`, [height, width] or left out"
        raise fail("meta-malformed", f"{name} has an `image` of another form", help, path=str(file))
    places = [f"{subset}/{path}", path]
    return Pictured(item, name, places, None if size is None else stated_size(size[0], size[1], name, file))


def _shapes(item: Mapping[str, Any], size: Size, read: _Annotations) -> list[Shape]:
    """What the annotations of an item cover, in the order in which it is drawn. Raises :class:`SegError`."""
    from pycocotools import mask as rle

    drawn: list[tuple[int, int, Shape]] = []
    entries = [(number, entry) for number, entry in enumerate(item["annotations"], 1) if entry["type"] in SEGMENTS]
    ordered = any(entry.get("z_order") is not None for _, entry in entries)
    for number, entry in entries:
        name = f"annotation {number} (`{entry['type']}`) of the item `{item['id']}`"
        shape = Shape(_runs(entry, size, name, read.file), read.first + _label(entry, name, read))
        order = entry.get("z_order") or 0
        if type(order) is not int:
            raise fail(
                "meta-malformed", f"{name} has a `z_order` that is no integer", "correct it", path=str(read.file)
            )
        drawn.append((order if ordered else -int(rle.area(shape.runs)), number, shape))
    return [shape for _, _, shape in sorted(drawn, key=lambda d: d[:2])]


def _label(entry: Mapping[str, Any], name: str, read: _Annotations) -> int:
    label, count = entry.get("label_id"), len(read.labels.classes) - read.first
    if type(label) is int and 0 <= label < count:
        return label
    message = f"{name} has the label {json.dumps(label)[:40]}; labels go from 0 to {count - 1}"
    raise fail("meta-malformed", message, "give it a label of the list, or remove it", path=str(read.file))


def _runs(entry: Mapping[str, Any], size: Size, name: str, file: Path) -> Any:
    """The run lengths of an annotation. Raises :class:`SegError` where it has none, or lies outside its image."""
    points = entry.get("points")
    ring = _ellipse(points) if entry["type"] == "ellipse" else points
    runs = outline(entry.get("rle") if entry["type"] == "mask" else [ring], size)
    if runs is None:
        message = f"{name} has no outline: three points or more, or run lengths of its image's size"
        raise fail("meta-malformed", message, "draw it again, or remove it", path=str(file))
    if entry["type"] != "mask" and _outside(ring, size):
        message = f"{name} lies outside its image, which is {size[1]} x {size[0]} pixels (width x height)"
        raise fail("annotation-outside", message, "see that it belongs to this image, or remove it", path=str(file))
    return runs


def _outside(ring: Any, size: Size) -> bool:
    columns, rows = ring[::2], ring[1::2]
    return max(columns) <= 0 or max(rows) <= 0 or min(columns) >= size[1] or min(rows) >= size[0]


def _ellipse(points: object) -> object:
    """The outline of an ellipse, given by the corners of the box around it; None where there are none."""
    if not isinstance(points, list) or len(points) != 4 or not all(isinstance(p, (int, float)) for p in points):
        return None
    left, top, right, bottom = points
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS)
    columns = 0.5 * (left + right) + 0.5 * (right - left) * np.cos(angle)
    rows = 0.5 * (top + bottom) + 0.5 * (bottom - top) * np.sin(angle)
    return np.stack([columns, rows], axis=1).ravel().tolist()
