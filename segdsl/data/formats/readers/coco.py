"""COCO instances: images, and one JSON file of polygons and run lengths per subset, rasterized once to index masks.

Where instances overlap, a pixel gets the class of the smallest one; crowds count as their class, below all other
instances. Pixels without an instance are background (`data.background`). pycocotools rasterizes exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np

from segdsl.data.decode.images import read_bytes
from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import LabelSpace, make_annotation_labels
from segdsl.data.formats.layout import ANNOTATIONS, IMAGES, Layout, Request, Subset
from segdsl.data.formats.rasterize import (
    DEFAULT_BACKGROUND,
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
from segdsl.data.formats.readers.datumaro import is_datumaro_file
from segdsl.diagnostics import SegError, fail
from segdsl.text.json import parse_json
from segdsl.words.formats import COCO

FILE_PREFIX = "instances_"
OUTLINE_FORMS = "a list of polygons with at least three points, or run lengths of the image's size"


def detect_coco(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    files = sorted((root / ANNOTATIONS).glob(f"{FILE_PREFIX}*.json")) if (root / ANNOTATIONS).is_dir() else []
    # Datumaro may call a subset `instances_train`, so the content has to decide.
    file = next((file for file in files if not is_datumaro_file(file)), None)
    return f"`{ANNOTATIONS}/{file.name}`" if file else ""


def read_coco(root: Path, request: Request, findings: Findings) -> Layout:
    """Read the annotations of the requested subsets, and rasterize their masks into the cache.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    folder = root / ANNOTATIONS
    files = (
        {p.stem.removeprefix(FILE_PREFIX): p for p in sorted(folder.glob(f"{FILE_PREFIX}*.json"))}
        if folder.is_dir()
        else {}
    )
    if not files:
        help = f"it should contain `{ANNOTATIONS}/{FILE_PREFIX}<subset>.json` and `{IMAGES}/<subset>`"
        raise fail("data-layout-unknown", "this is not a COCO dataset: it has no annotations", help, path=str(root))
    return rasterize_layout(root, COCO, files, request, (_read_annotations, _make_subset), findings)


@dataclass(frozen=True, slots=True)
class _CocoFile:
    """One annotation file: its classes, the class id of each category, the id of pixels without an instance, the images
    by id, and the instances of each image."""

    file: Path
    digest: str
    labels: LabelSpace
    class_ids: Mapping[int, int]
    fill_id: int
    images: Mapping[int, Mapping[str, Any]]
    instances: Mapping[int, list[Mapping[str, Any]]]


def _read_annotations(file: Path, request: Request) -> _CocoFile:
    data = read_bytes(file)
    try:
        content = parse_json(data)
        parts = [content["categories"], content["images"], content["annotations"]]
        categories, images, annotations = ([dict(entry) for entry in part] for part in parts)
        pairs = sorted((int(entry["id"]), str(entry["name"])) for entry in categories)
        by_id = {int(entry["id"]): entry for entry in images}
        instances: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for entry in annotations:
            instances[int(entry["image_id"])].append(entry)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        # A KeyError's text is the key in quotes.
        what = f"the file has no {error}" if isinstance(error, KeyError) else "the file is not JSON in COCO's format"
        help = "COCO instances are an object with the lists `images`, `annotations` and `categories`"
        raise fail("meta-malformed", what.replace("'", "`"), help, path=str(file)) from None
    names = [name for _, name in pairs]
    rest = request.background or DEFAULT_BACKGROUND
    first, fill = resolve_background(names, rest, request.ignore)
    labels = make_annotation_labels((*([rest] * first), *names), len(names), request.ignore, file)
    ids = {number: position + first for position, (number, _) in enumerate(pairs)}
    # Masks in the cache depend on the file and on where the ids start, nothing else of the request.
    digest = hashlib.sha256(data + repr((first, fill)).encode()).hexdigest()
    return _CocoFile(file, digest, labels, ids, fill or 0, by_id, instances)


def _make_subset(name: str, root: Path, annotations: _CocoFile, findings: Findings) -> Subset:
    inside = root / IMAGES / name
    images = inside if inside.is_dir() else root / IMAGES
    missing = sorted(set(annotations.instances) - set(annotations.images))
    if missing:
        message = f"annotations refer to image {missing[0]}, which is not in `images`"
        findings.append(
            make_finding("meta-malformed", message, "add the image, or remove the annotations", annotations.file)
        )
    entries: list[AnnotationImage] = []
    for number, image in sorted(annotations.images.items()):
        try:
            size = parse_image_size(image.get("height"), image.get("width"), f"image {number}", annotations.file)
        except SegError as error:
            findings.extend(error.diagnostics)
        else:
            paths = _list_possible_paths(str(image.get("file_name", "")), images.relative_to(root))
            entries.append(AnnotationImage(number, f"image {number}", paths, size))
    drawing = RasterJob(
        annotations.file,
        annotations.digest,
        images,
        entries,
        lambda number, size: _rasterize_image(annotations, number, size),
    )
    return rasterize_subset(name, root, drawing, findings)


def _list_possible_paths(file_name: str, folder: PurePath) -> list[str]:
    """Return the paths below the image folder that a `file_name` may mean, most likely first.

    Windows writes backslashes, and some tools write paths from the root of the dataset, or from that of a disk.
    """
    path = file_name.replace("\\", "/")
    if re.match(r"[A-Za-z]:/", path):
        return [PurePosixPath(path).name]
    starts = (f"{folder.as_posix()}/", f"{folder.parts[0]}/", f"{folder.parts[-1]}/")
    return [path, *(path.removeprefix(start) for start in starts if path.startswith(start))]


def _rasterize_image(annotations: _CocoFile, number: int, size: Size) -> np.ndarray | None:
    """Rasterize an image's instances to class ids, uint8 (H, W). Raise :class:`SegError` naming a bad annotation."""
    from pycocotools import mask as rle

    # Painted in this order, the last on top: crowds, then large instances, then small ones; position breaks ties.
    shapes: list[tuple[bool, int, int, Shape]] = []
    for entry in annotations.instances.get(number, ()):
        shape = _parse_shape(entry, size, annotations)
        shapes.append((not entry.get("iscrowd"), -int(rle.area(shape.runs)), len(shapes), shape))
    return paint_shapes((row[3] for row in sorted(shapes, key=lambda row: row[:3])), size, annotations.fill_id)


def _parse_shape(entry: Mapping[str, Any], size: Size, annotations: _CocoFile) -> Shape:
    """Parse the area of an annotation. Raise :class:`SegError` naming the annotation if it is malformed."""
    name = f"annotation {entry.get('id')} of image {entry.get('image_id')}"
    if type(entry.get("category_id")) is not int or entry["category_id"] not in annotations.class_ids:
        message = f"{name} has category {entry.get('category_id')}, which is not declared"
        raise fail(
            "meta-malformed", message, "add it to `categories`, or correct the annotation", path=str(annotations.file)
        )
    runs = encode_outline(entry.get("segmentation"), size)
    if runs is None:
        message = f"the `segmentation` of {name} is invalid: it must be {OUTLINE_FORMS}"
        raise fail("meta-malformed", message, "annotate the instance again, or remove it", path=str(annotations.file))
    return Shape(runs, annotations.class_ids[entry["category_id"]])


register_reader(COCO, FormatReader(read_coco, detect_coco))
