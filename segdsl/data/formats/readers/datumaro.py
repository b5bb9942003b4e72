"""Datumaro's own format: images, and one JSON file of labels and items per subset, rasterized once to index masks.

Polygons, ellipses and masks are used, painted in the order of `z_order` as Datumaro does; without any `z_order` in an
image, the smallest is on top, as with COCO. If pixels are left without annotation, `data.background` must define them,
unless there is a label called `background`.
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
from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import LabelSpace, make_annotation_labels
from segdsl.data.formats.layout import ANNOTATIONS, IMAGES, Layout, Request, Subset
from segdsl.data.formats.rasterize import (
    DEFAULT_BACKGROUND,
    VOID,
    AnnotationImage,
    RasterJob,
    Shape,
    Size,
    encode_outline,
    paint_shapes,
    parse_image_size,
    rasterize_layout,
    rasterize_subset,
    resolve_background,
)
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.text.json import parse_json
from segdsl.text.listing import quote_names
from segdsl.words.formats import DATUMARO

SEGMENT_TYPES = ("polygon", "mask", "ellipse")
ELLIPSE_POINTS = 720
HEAD_BYTES = 1 << 16
"""Bytes at the start of a file in which its first keys are found."""
SIGNATURE = re.compile(rb'"dm_format_version"\s*:|"categories"\s*:\s*\{')
"""Matches the start of Datumaro's JSON only: in COCO's, `categories` is a list."""
FORM_HELP = "export it from Datumaro again: an object with `categories.label.labels` and a list `items`"


def detect_datumaro(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    file = next((file for file in _list_annotation_files(root).values() if is_datumaro_file(file)), None)
    return f"`items` in `{ANNOTATIONS}/{file.name}`" if file else ""


def is_datumaro_file(file: Path) -> bool:
    """Return whether a JSON file starts like Datumaro's."""
    try:
        if not file.is_file():
            return False
        # Annotation files may have gigabytes: detection must not parse them.
        with file.open("rb") as stream:
            return bool(SIGNATURE.search(stream.read(HEAD_BYTES)))
    except OSError:
        return False


def _list_annotation_files(root: Path) -> dict[str, Path]:
    folder = root / ANNOTATIONS
    return {p.stem: p for p in sorted(folder.glob("[!.]*.json"))} if folder.is_dir() else {}


def read_datumaro(root: Path, request: Request, findings: Findings) -> Layout:
    """Read the annotations of the requested subsets, and rasterize their masks into the cache.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    files = _list_annotation_files(root)
    if not files:
        help = f"it should contain `{ANNOTATIONS}/<subset>.json` and `{IMAGES}/<subset>`"
        raise fail("data-layout-unknown", "this is not a Datumaro dataset: it has no annotations", help, path=str(root))
    return rasterize_layout(root, DATUMARO, files, request, (_read_annotations, _make_subset), findings)


@dataclass(frozen=True, slots=True)
class _DatumaroFile:
    """One annotation file: its classes, the id of label 0, the id of bare pixels (None: undefined), and its items."""

    file: Path
    digest: str
    labels: LabelSpace
    first_id: int
    fill_id: int | None
    items: Sequence[Mapping[str, Any]]


def _read_annotations(file: Path, request: Request) -> _DatumaroFile:
    data = read_bytes(file)
    try:
        names, items = _parse_content(parse_json(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # A KeyError's text is the key in quotes.
        what = f"the file has no {error}" if isinstance(error, KeyError) else "the file is not JSON of Datumaro"
        raise fail("meta-malformed", what.replace("'", "`"), FORM_HELP, path=str(file)) from None
    first, fill = resolve_background(names, request.background, request.ignore)
    added = [request.background] if first and request.background else []
    labels = make_annotation_labels([*added, *names], len(names), request.ignore, file)
    digest = hashlib.sha256(data + repr((first, fill)).encode()).hexdigest()
    return _DatumaroFile(file, digest, labels, first, fill, items)


def _parse_content(content: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the label names and the items. Let Python raise what it may if the content has another form."""
    names = [entry["name"] for entry in content["categories"]["label"]["labels"]]
    items = [{**item, "annotations": [dict(a) for a in item.get("annotations", [])]} for item in content["items"]]
    texts = [*names, *(item["id"] for item in items), *(a["type"] for item in items for a in item["annotations"])]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError
    return names, items


def _make_subset(name: str, root: Path, annotations: _DatumaroFile, findings: Findings) -> Subset:
    entries: list[AnnotationImage] = []
    item_ids: set[str] = set()
    for item in annotations.items:
        try:
            entries.append(_parse_item_image(name, item, item_ids, annotations.file))
        except SegError as error:
            findings.extend(error.diagnostics)
    unused = Counter(
        a["type"] for item in annotations.items for a in item["annotations"] if a["type"] not in SEGMENT_TYPES
    )
    if unused:
        listing = ", ".join(f"{count} `{kind}`" for kind, count in sorted(unused.items()))
        help = f"annotate what the model should learn as {', '.join(f'`{kind}`' for kind in SEGMENT_TYPES)}"
        message = f"annotations without an area were ignored: {listing}"
        findings.append(make_finding("annotation-unused", message, help, annotations.file, severity="warning"))
    # Whether a background is needed shows only when masks are rasterized: collect the items, then report once.
    incomplete: list[str] = []

    def rasterize_item(item: Mapping[str, Any], size: Size) -> np.ndarray | None:
        ids = paint_shapes(_parse_shapes(item, size, annotations), size, annotations.fill_id)
        if ids is None:
            incomplete.append(item["id"])
        return ids

    subset = rasterize_subset(
        name, root, RasterJob(annotations.file, annotations.digest, root / IMAGES, entries, rasterize_item), findings
    )
    if incomplete:
        findings.append(make_background_finding(annotations.file, incomplete))
    return subset


def make_background_finding(file: Path, item_ids: Sequence[str]) -> Diagnostic:
    """Return the finding that pixels of these items have no annotation, although no class is set for them."""
    message = f"pixels of the item {quote_names(item_ids, 1)} have no annotation, and their class is undefined"
    help = (
        f'set `data.background = "{DEFAULT_BACKGROUND}"` to make them a class, or "{VOID}" to ignore them in training '
        "and scores (`--background` without a program)"
    )
    return make_finding("background-unsaid", message, help, file)


def _parse_item_image(subset: str, item: Mapping[str, Any], item_ids: set[str], file: Path) -> AnnotationImage:
    """Parse the image of an item; add the item's id to ``item_ids``. Raise :class:`SegError` if it is malformed."""
    name, image = f"item `{item['id']}`", item.get("image")
    if item["id"] in item_ids:
        raise fail("name-twice", f"two items have the id `{item['id']}`", "keep one of them", path=str(file))
    item_ids.add(item["id"])
    if not isinstance(image, dict):
        raise fail("image-missing", f"{name} has no `image`", "add the image, or remove the item", path=str(file))
    path, size = image.get("path") or f"{item['id']}.jpg", image.get("size")
    if not isinstance(path, str) or not (size is None or (isinstance(size, list) and len(size) == 2)):
        help = "it must have a `path`, a string, and optionally a `size`, [height, width]"
        raise fail("meta-malformed", f"the `image` of {name} is malformed", help, path=str(file))
    # Datumaro's exporter puts images into a folder per subset, but the files of other tools do not.
    paths = [f"{subset}/{path}", path]
    return AnnotationImage(item, name, paths, None if size is None else parse_image_size(size[0], size[1], name, file))


def _parse_shapes(item: Mapping[str, Any], size: Size, annotations: _DatumaroFile) -> list[Shape]:
    """Return the areas of an item's annotations in painting order. Raise :class:`SegError` if one is malformed."""
    from pycocotools import mask as rle

    shapes: list[tuple[int, int, Shape]] = []
    entries = [(number, entry) for number, entry in enumerate(item["annotations"], 1) if entry["type"] in SEGMENT_TYPES]
    ordered = any(entry.get("z_order") is not None for _, entry in entries)
    for number, entry in entries:
        name = f"annotation {number} (`{entry['type']}`) of item `{item['id']}`"
        shape = Shape(
            _parse_runs(entry, size, name, annotations.file),
            annotations.first_id + _parse_label(entry, name, annotations),
        )
        order = entry.get("z_order") or 0
        if type(order) is not int:
            message = f"the `z_order` of {name} is not an integer"
            raise fail(
                "meta-malformed", message, "write an integer, or remove the `z_order`", path=str(annotations.file)
            )
        shapes.append((order if ordered else -int(rle.area(shape.runs)), number, shape))
    return [shape for _, _, shape in sorted(shapes, key=lambda row: row[:2])]


def _parse_label(entry: Mapping[str, Any], name: str, annotations: _DatumaroFile) -> int:
    label, count = entry.get("label_id"), len(annotations.labels.classes) - annotations.first_id
    if type(label) is int and 0 <= label < count:
        return label
    message = f"{name} has label {json.dumps(label)[:40]}; labels go from 0 to {count - 1}"
    raise fail("meta-malformed", message, "use a declared label, or remove the annotation", path=str(annotations.file))


def _parse_runs(entry: Mapping[str, Any], size: Size, name: str, file: Path) -> Any:
    """Return an annotation as run lengths. Raise :class:`SegError` if it is malformed or outside its image."""
    points = entry.get("points")
    ring = trace_ellipse(points) if entry["type"] == "ellipse" else points
    runs = encode_outline(entry.get("rle") if entry["type"] == "mask" else [ring], size)
    if runs is None:
        message = f"{name} needs an outline of at least three points, or run lengths of its image's size"
        raise fail("meta-malformed", message, "annotate it again, or remove it", path=str(file))
    # A shape that only crosses the border is cut there; one that is outside belongs to another image or scale.
    if entry["type"] != "mask" and _is_outside(ring, size):
        message = f"{name} is outside its image, which is {size[1]} x {size[0]} pixels (width x height)"
        raise fail("annotation-outside", message, "check that it belongs to this image, or remove it", path=str(file))
    return runs


def _is_outside(ring: Any, size: Size) -> bool:
    columns, rows = ring[::2], ring[1::2]
    return max(columns) <= 0 or max(rows) <= 0 or min(columns) >= size[1] or min(rows) >= size[0]


def trace_ellipse(points: object) -> object:
    """Return the outline of an ellipse from the corners of its bounding box, or None if they are invalid."""
    if not isinstance(points, list) or len(points) != 4 or not all(isinstance(p, (int, float)) for p in points):
        return None
    left, top, right, bottom = points
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS)
    columns = 0.5 * (left + right) + 0.5 * (right - left) * np.cos(angle)
    rows = 0.5 * (top + bottom) + 0.5 * (bottom - top) * np.sin(angle)
    return np.stack([columns, rows], axis=1).ravel().tolist()


register_reader(DATUMARO, FormatReader(read_datumaro, detect_datumaro))
