"""COCO instances: images, and one JSON file of polygons and run lengths per subset, rasterized once to index masks.

Where instances overlap, a pixel gets the class of the smallest one; crowds count as their class, below all other
instances. Pixels without an instance are background (`data.background`). pycocotools rasterizes exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.decode.images import read_bytes
from segdsl.data.findings import Findings, finding
from segdsl.data.formats.datumaro import is_datumaro
from segdsl.data.formats.labels import LabelSpace, drawn_classes
from segdsl.data.formats.layout import ANNOTATIONS, IMAGES, Layout, Request, Subset
from segdsl.data.formats.rasterize import (
    BACKGROUND,
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
from segdsl.diagnostics import SegError, fail

START = "instances_"
OUTLINES = "a list of polygons with at least three points, or run lengths of the image's size"


def looks_like_coco(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    files = sorted((root / ANNOTATIONS).glob(f"{START}*.json")) if (root / ANNOTATIONS).is_dir() else []
    # Datumaro may call a subset `instances_train`, so the content has to decide.
    file = next((file for file in files if not is_datumaro(file)), None)
    return f"`{ANNOTATIONS}/{file.name}`" if file else ""


def read_coco(root: Path, asked: Request, found: Findings) -> Layout:
    """Read the annotations of the requested subsets, and rasterize their masks into the cache.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    folder = root / ANNOTATIONS
    files = {p.stem.removeprefix(START): p for p in sorted(folder.glob(f"{START}*.json"))} if folder.is_dir() else {}
    if not files:
        help = f"it should contain `{ANNOTATIONS}/{START}<subset>.json` and `{IMAGES}/<subset>`"
        raise fail("data-layout-unknown", "this is not a COCO dataset: it has no annotations", help, path=str(root))
    return drawn_layout(root, "coco_instances", files, asked, (_read, _subset), found)


@dataclass(frozen=True, slots=True)
class _Annotations:
    """One annotation file: its classes, the class id of each category, the id of pixels without an instance, the images
    by id, and the instances of each image."""

    file: Path
    digest: str
    labels: LabelSpace
    ids: Mapping[int, int]
    fill: int
    images: Mapping[int, Mapping[str, Any]]
    instances: Mapping[int, list[Mapping[str, Any]]]


def _read(file: Path, asked: Request) -> _Annotations:
    data = read_bytes(file)
    try:
        content = json.loads(data)
        parts = [content["categories"], content["images"], content["annotations"]]
        categories, images, annotations = ([dict(entry) for entry in part] for part in parts)
        pairs = sorted((int(entry["id"]), str(entry["name"])) for entry in categories)
        by_id = {int(entry["id"]): entry for entry in images}
        instances: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for entry in annotations:
            instances[int(entry["image_id"])].append(entry)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        # A KeyError's text is the key in quotes.
        what = f"the file has no {error}" if isinstance(error, KeyError) else "the file is not JSON in COCO's format"
        help = "COCO instances are an object with the lists `images`, `annotations` and `categories`"
        raise fail("meta-malformed", what.replace("'", "`"), help, path=str(file)) from None
    names = [name for _, name in pairs]
    rest = asked.background or BACKGROUND
    first, fill = uncovered(names, rest, asked.ignore)
    labels = drawn_classes((*([rest] * first), *names), len(names), asked.ignore, file)
    ids = {number: position + first for position, (number, _) in enumerate(pairs)}
    # Masks in the cache depend on the file and on where the ids start, nothing else of the request.
    digest = hashlib.sha256(data + repr((first, fill)).encode()).hexdigest()
    return _Annotations(file, digest, labels, ids, fill or 0, by_id, instances)


def _subset(name: str, root: Path, read: _Annotations, found: Findings) -> Subset:
    inside = root / IMAGES / name
    missing = sorted(set(read.instances) - set(read.images))
    if missing:
        message = f"annotations refer to image {missing[0]}, which is not in `images`"
        found.append(finding("meta-malformed", message, "add the image, or remove the annotations", read.file))
    entries: list[Pictured] = []
    for number, image in sorted(read.images.items()):
        try:
            size = stated_size(image.get("height"), image.get("width"), f"image {number}", read.file)
        except SegError as error:
            found.extend(error.diagnostics)
        else:
            entries.append(Pictured(number, f"image {number}", [str(image.get("file_name", ""))], size))
    images = inside if inside.is_dir() else root / IMAGES
    drawing = Drawing(read.file, read.digest, images, entries, lambda number, size: _mask(read, number, size))
    return drawn_subset(name, root, drawing, found)


def _mask(read: _Annotations, number: int, size: Size) -> np.ndarray | None:
    """Rasterize an image's instances to class ids, uint8 (H, W). Raise :class:`SegError` naming a bad annotation."""
    from pycocotools import mask as rle

    # Painted in this order, the last on top: crowds, then large instances, then small ones; position breaks ties.
    shapes: list[tuple[bool, int, int, Shape]] = []
    for entry in read.instances.get(number, ()):
        shape = _shape(entry, size, read)
        shapes.append((not entry.get("iscrowd"), -int(rle.area(shape.runs)), len(shapes), shape))
    return painted((row[3] for row in sorted(shapes, key=lambda row: row[:3])), size, read.fill)


def _shape(entry: Mapping[str, Any], size: Size, read: _Annotations) -> Shape:
    """Parse the area of an annotation. Raise :class:`SegError` naming the annotation if it is malformed."""
    name = f"annotation {entry.get('id')} of image {entry.get('image_id')}"
    if type(entry.get("category_id")) is not int or entry["category_id"] not in read.ids:
        message = f"{name} has category {entry.get('category_id')}, which is not declared"
        raise fail("meta-malformed", message, "add it to `categories`, or correct the annotation", path=str(read.file))
    runs = outline(entry.get("segmentation"), size)
    if runs is None:
        message = f"the `segmentation` of {name} is invalid: it must be {OUTLINES}"
        raise fail("meta-malformed", message, "annotate the instance again, or remove it", path=str(read.file))
    return Shape(runs, read.ids[entry["category_id"]])
