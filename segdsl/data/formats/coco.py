"""COCO instances on disk: images, and one JSON of polygons and run lengths for each subset, drawn once as index masks.

Every pixel gets the class of the smallest instance over it; a crowd counts as its class, and lies under all instances.
Pixels under none are background (`data.background`). pycocotools draws polygons and run lengths, exactly.
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
OUTLINES = "a list of polygons of three points or more, or run lengths of its image's size"


def looks_like_coco(root: Path) -> str:
    """What of this format a folder has; empty where it has not enough."""
    files = sorted((root / ANNOTATIONS).glob(f"{START}*.json")) if (root / ANNOTATIONS).is_dir() else []
    file = next((file for file in files if not is_datumaro(file)), None)
    return f"`{ANNOTATIONS}/{file.name}`" if file else ""


def read_coco(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads the annotations of the subsets that are asked for, and draws their masks into the cache.

    Appends what is at fault to ``found``. Raises :class:`SegError` where there is no data set of this format at all.
    """
    folder = root / ANNOTATIONS
    files = {p.stem.removeprefix(START): p for p in sorted(folder.glob(f"{START}*.json"))} if folder.is_dir() else {}
    if not files:
        help = f"expected `{ANNOTATIONS}/{START}<subset>.json`, and `{IMAGES}/<subset>`"
        raise fail("data-layout-unknown", "this is no COCO data set: it has no annotations", help, path=str(root))
    return drawn_layout(root, "coco_instances", files, asked, (_read, _subset), found)


@dataclass(frozen=True, slots=True)
class _Annotations:
    """One JSON: its classes, the class of each category, the id where no instance is, images by id, and the instances
    of each image."""

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
        listed = sorted((int(entry["id"]), str(entry["name"])) for entry in categories)
        by_id = {int(entry["id"]): entry for entry in images}
        instances: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for entry in annotations:
            instances[int(entry["image_id"])].append(entry)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "it is no JSON, or of another form"
        help = "expected an object with the lists `images`, `annotations` and `categories`, as COCO's instances have"
        raise fail("meta-malformed", what.replace("'", "`"), help, path=str(file)) from None
    names = [name for _, name in listed]
    rest = asked.background or BACKGROUND
    first, fill = uncovered(names, rest, asked.ignore)
    labels = drawn_classes((*([rest] * first), *names), len(names), asked.ignore, file)
    ids = {number: position + first for position, (number, _) in enumerate(listed)}
    digest = hashlib.sha256(data + repr((first, fill)).encode()).hexdigest()
    return _Annotations(file, digest, labels, ids, fill or 0, by_id, instances)


def _subset(name: str, root: Path, read: _Annotations, found: Findings) -> Subset:
    inside = root / IMAGES / name
    stray = sorted(set(read.instances) - set(read.images))
    if stray:
        message = f"annotations name the image {stray[0]}, which is not among the `images`"
        found.append(finding("meta-malformed", message, "add the image, or remove the annotations", read.file))
    pictures: list[Pictured] = []
    for number, image in sorted(read.images.items()):
        try:
            size = stated_size(image.get("height"), image.get("width"), f"the image {number}", read.file)
        except SegError as error:
            found.extend(error.diagnostics)
        else:
            pictures.append(Pictured(number, f"the image {number}", [str(image.get("file_name", ""))], size))
    images = inside if inside.is_dir() else root / IMAGES
    drawing = Drawing(read.file, read.digest, images, pictures, lambda number, size: _mask(read, number, size))
    return drawn_subset(name, root, drawing, found)


def _mask(read: _Annotations, number: int, size: Size) -> np.ndarray | None:
    """The class ids of an image, uint8 (H, W). Raises :class:`SegError` that names the annotation."""
    from pycocotools import mask as rle

    drawn: list[tuple[bool, int, int, Shape]] = []
    for entry in read.instances.get(number, ()):
        shape = _shape(entry, size, read)
        drawn.append((not entry.get("iscrowd"), -int(rle.area(shape.runs)), len(drawn), shape))
    return painted((d[3] for d in sorted(drawn, key=lambda d: d[:3])), size, read.fill)


def _shape(entry: Mapping[str, Any], size: Size, read: _Annotations) -> Shape:
    """What an annotation covers. Raises :class:`SegError` that names it."""
    name = f"the annotation {entry.get('id')} of the image {entry.get('image_id')}"
    if type(entry.get("category_id")) is not int or entry["category_id"] not in read.ids:
        message = f"{name} is of the category {entry.get('category_id')}, which is not declared"
        raise fail("meta-malformed", message, "add it to `categories`, or correct the annotation", path=str(read.file))
    runs = outline(entry.get("segmentation"), size)
    if runs is None:
        message = f"{name} has no outline: {OUTLINES}"
        raise fail("meta-malformed", message, "draw it again, or remove it", path=str(read.file))
    return Shape(runs, read.ids[entry["category_id"]])
