"""COCO instances on disk: images, and one JSON of polygons and run lengths for each subset, drawn once as index masks.

Every pixel gets the class of the smallest instance over it; a crowd counts as its class, and lies under all instances.
Pixels under none are background. Polygons and run lengths are drawn by pycocotools, which draws them exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from segdsl.data.images import read_bytes
from segdsl.data.labels import MAX_CLASSES, LabelSpace, same_label_space
from segdsl.data.layout import Findings, Layout, Request, Subset, encoded, finding, wanted_subsets
from segdsl.diagnostics import SegError, fail
from segdsl.weights.cache import cache_folder

ANNOTATIONS, IMAGES, START = "annotations", "images", "instances_"
BACKGROUND = "background"
VERSION = 1
"""Raised whenever a mask would be drawn differently today."""
MAX_PIXELS = 1 << 28


def looks_like_coco(root: Path) -> str:
    """What of this format a folder has; empty where it has not enough."""
    files = sorted((root / ANNOTATIONS).glob(f"{START}*.json")) if (root / ANNOTATIONS).is_dir() else []
    return f"`{ANNOTATIONS}/{files[0].name}`" if files else ""


def read_coco(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads the annotations of the subsets that are asked for, and draws their masks into the cache.

    Appends what is at fault to ``found``. Raises :class:`SegError` where there is no data set of this format at all.
    """
    folder = root / ANNOTATIONS
    files = {p.stem.removeprefix(START): p for p in sorted(folder.glob(f"{START}*.json"))} if folder.is_dir() else {}
    if not files:
        help = f"expected `{ANNOTATIONS}/{START}<subset>.json`, and `{IMAGES}/<subset>`"
        raise fail("data-layout-unknown", "this is no COCO data set: it has no annotations", help, path=str(root))
    wanted = wanted_subsets(root, files, asked.subsets)
    read: dict[str, _Annotations] = {}
    for name in wanted:
        try:
            read[name] = _read(files[name], asked.ignore)
        except SegError as error:
            found.extend(error.diagnostics)
    labels = same_label_space({n: a.labels for n, a in read.items()}, {n: files[n] for n in read}, found)
    pairs = {name: _subset(name, root, read[name], found) for name in wanted if name in read}
    meta = tuple(files[name] for name in wanted)
    return Layout(root, "coco_instances", labels if len(read) == len(wanted) else None, pairs, meta, drawn=True)


@dataclass(frozen=True, slots=True)
class _Annotations:
    """One JSON: its classes, the class of each category, images by id, and the instances of each image."""

    file: Path
    digest: str
    labels: LabelSpace
    ids: Mapping[int, int]
    images: Mapping[int, Mapping[str, Any]]
    instances: Mapping[int, list[Mapping[str, Any]]]


def _read(file: Path, ignore: int) -> _Annotations:
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
    start = 0 if names[:1] == [BACKGROUND] else 1
    classes = (*([BACKGROUND] * start), *names)
    twice = next((name for name in classes if classes.count(name) > 1), None)
    if twice is not None:
        raise fail(
            "meta-class-twice", f"two classes are called `{twice}`", "give each a name of its own", path=str(file)
        )
    if len(classes) > min(MAX_CLASSES, ignore if ignore >= len(names) else MAX_CLASSES) or not names:
        message = f"it declares {len(names)} categories; with the background a mask holds {MAX_CLASSES - 1} and void"
        raise fail("meta-malformed", message, "leave categories out", path=str(file))
    ids = {number: position + start for position, (number, _) in enumerate(listed)}
    return _Annotations(file, hashlib.sha256(data).hexdigest(), LabelSpace(classes), ids, by_id, instances)


def _subset(name: str, root: Path, read: _Annotations, found: Findings) -> Subset:
    inside = root / IMAGES / name
    images = inside if inside.is_dir() else root / IMAGES
    masks = cache_folder() / "masks" / f"{read.digest[:32]}-{VERSION}"
    before = len(found)
    stray = sorted(set(read.instances) - set(read.images))
    if stray:
        message = f"annotations name the image {stray[0]}, which is not among the `images`"
        found.append(finding("meta-malformed", message, "add the image, or remove the annotations", read.file))
    pairs: dict[str, tuple[str, int]] = {}
    for number, image in sorted(read.images.items()):
        place = PurePosixPath(str(image.get("file_name", "")))
        if place.is_absolute() or ".." in place.parts or not place.name or "\0" in place.name:
            message = f"the image {number} is called `{place}`, which lies in no folder of the data set"
            found.append(finding("meta-malformed", message, f"name it from `{IMAGES}`", read.file))
        elif place.stem in pairs:
            message = f"two images are called `{place.stem}`"
            found.append(finding("name-twice", message, "give each a name of its own", read.file))
        elif not (images / place).is_file():
            message = f"the image `{place}` of `{read.file.name}` does not exist"
            found.append(finding("image-missing", message, "add it, or remove it from the annotations", images / place))
        else:
            pairs[place.stem] = str(place), number
    if not pairs:
        help = f"annotations name images that lie in `{IMAGES}/{name}` or `{IMAGES}`"
        found.append(finding("subset-empty", f"the subset `{name}` has no image", help, read.file))
    _draw(pairs, read, masks, found)
    if len(found) == before:
        _write(masks / ".whole", b"")
    stems = sorted(pairs)
    columns = (encoded(pairs[stem][0] for stem in stems), encoded(f"{stem}.png" for stem in stems))
    return Subset(name, read.file, images, masks, *columns)


def _draw(pairs: Mapping[str, tuple[str, int]], read: _Annotations, folder: Path, found: Findings) -> None:
    """Draws the masks that are not in the cache yet."""
    if (folder / ".whole").is_file():
        return
    for stem, (_, number) in pairs.items():
        path = folder / f"{stem}.png"
        if path.is_file():
            continue
        try:
            mask = _mask(read, number)
        except SegError as error:
            found.extend(error.diagnostics)
            continue
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        _write(path, file.getvalue())


def _mask(read: _Annotations, number: int) -> np.ndarray:
    """The class ids of an image, uint8 (H, W). Raises :class:`SegError` that names the annotation."""
    from pycocotools import mask as rle

    image = read.images[number]
    height, width = image.get("height"), image.get("width")
    if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 0:
        message = f"the image {number} has no size: height {height!r}, width {width!r}"
        raise fail("meta-malformed", message, "state both in pixels", path=str(read.file))
    drawn: list[tuple[bool, int, int, Any]] = []
    for entry in read.instances.get(number, ()):
        shape = _encoded(entry, height, width, read)
        area, crowd = int(rle.area(shape)), bool(entry.get("iscrowd"))
        drawn.append((not crowd, -area, len(drawn), (shape, read.ids[int(entry["category_id"])])))
    mask = np.zeros((height, width), np.uint8)
    for _, _, _, (shape, label) in sorted(drawn, key=lambda d: d[:3]):
        mask[rle.decode(shape).astype(bool)] = label
    return mask


def _encoded(entry: Mapping[str, Any], height: int, width: int, read: _Annotations) -> Any:
    """The run lengths of an annotation. Raises :class:`SegError` that names it."""
    from pycocotools import mask as rle

    name, shape = f"the annotation {entry.get('id')} of the image {entry.get('image_id')}", entry.get("segmentation")
    if type(entry.get("category_id")) is not int or entry["category_id"] not in read.ids:
        message = f"{name} is of the category {entry.get('category_id')}, which is not declared"
        raise fail("meta-malformed", message, "add it to `categories`, or correct the annotation", path=str(read.file))
    if isinstance(shape, list) and shape:
        good = all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in shape)
        if good and all(isinstance(value, (int, float)) and abs(value) < 1e6 for ring in shape for value in ring):
            return rle.merge(rle.frPyObjects(shape, height, width))
    elif isinstance(shape, dict) and shape.get("size") == [height, width]:
        counts = shape.get("counts")
        counts = run_lengths(counts) if isinstance(counts, str) else counts
        if (
            isinstance(counts, list)
            and all(type(n) is int and n >= 0 for n in counts)
            and sum(counts) == height * width
        ):
            return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # pyright: ignore
    message = f"{name} has no outline: a list of polygons of three points or more, or run lengths of its image's size"
    raise fail("meta-malformed", message, "draw it again, or remove it", path=str(read.file))


def run_lengths(text: str) -> list[int] | None:
    """The run lengths in COCO's compressed form; None where it is none. pycocotools would read past the end of such.

    Five bits a character from 48 on, the sixth says that more follow; from the third on, the difference to the one two
    before (Lin et al. 2014, the format of the COCO API).
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if not shift else None


def _write(path: Path, data: bytes) -> None:
    """Writes a file of the cache, whole or not at all. Raises SegError (`cache-not-written`)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError as error:
        why = (error.strerror or "the system refuses it").lower()
        help = "see to the folder, or name another one in the environment variable `SEGDSL_CACHE`"
        raise fail("cache-not-written", f"the cache cannot take masks: {why}", help, path=str(path.parent)) from error
