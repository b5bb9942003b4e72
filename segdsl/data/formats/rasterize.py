"""Rasterization of polygons and run lengths to index masks, once per dataset, into the cache.

pycocotools rasterizes exactly. Its input is validated first, because it trusts lengths, and takes memory for every
pixel along an outline.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from segdsl.data.decode.images import get_max_pixels, read_image_size
from segdsl.data.findings import Findings, check_link, make_finding
from segdsl.data.formats.labels import LabelSpace, find_shared_label_space
from segdsl.data.formats.layout import Layout, Request, Subset, select_subsets
from segdsl.diagnostics import SegError, fail
from segdsl.ir.data_format import DataFormat
from segdsl.storage.atomic import write_atomically
from segdsl.storage.cache import get_cache_folder
from segdsl.storage.fact_cache import read_stamp
from segdsl.storage.file_states import encode_names, read_stamps

VOID = "void"
"""Value of `data.background` that ignores pixels without an annotation."""
DEFAULT_BACKGROUND = "background"
"""Class of these pixels by default."""
VERSION = 3
"""Increment whenever rasterization changes, so that older cache entries are not found."""
COMPLETE_MARKER = ".whole"
"""File that marks a folder with all masks of a subset; it holds a hash of their names and stamps."""
MAX_OUTLINE_PIXELS = 5_000_000
"""Maximum pixels along one outline; pycocotools takes about 100 bytes for each."""

Size = tuple[int, int]


class AnnotationImage(NamedTuple):
    """One image of an annotation file: its ``key`` there, its name in messages, and possible paths, most likely first.
    ``size`` is the (height, width) in the file, None if there is none."""

    key: Any
    name: str
    candidate_paths: Sequence[str]
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class RasterJob:
    """A subset of an annotation file: its images below ``image_folder``, and how to rasterize their masks.

    ``digest`` covers everything that affects the masks. ``rasterize`` returns the class ids, uint8, of an image key at
    (height, width); None if ids are undefined, which the format then reports. It raises :class:`SegError`.
    """

    file: Path
    digest: str
    image_folder: Path
    entries: Sequence[AnnotationImage]
    rasterize: Callable[[Any, Size], np.ndarray | None]


class AnnotationFile(Protocol):
    """An annotation file as read by a format: at least the classes of its masks."""

    @property
    def labels(self) -> LabelSpace:
        """The label space of its masks."""
        ...


A = TypeVar("A", bound=AnnotationFile)


def rasterize_layout(
    root: Path,
    format: DataFormat,
    files: Mapping[str, Path],
    request: Request,
    readers: tuple[Callable[[Path, Request], A], Callable[[str, Path, A, Findings], Subset]],
    findings: Findings,
) -> Layout:
    """Read and rasterize the requested subsets of the annotation ``files``, which are given by subset name.

    The two ``readers`` read one file, and make a subset of the result. Append errors and warnings to ``findings``.
    """
    read_file, make_subset = readers
    names = select_subsets(root, files, request.subsets)
    annotations: dict[str, A] = {}
    for name in names:
        try:
            annotations[name] = read_file(files[name], request)
        except SegError as error:
            findings.extend(error.diagnostics)
    spaces = {name: part.labels for name, part in annotations.items()}
    labels = find_shared_label_space(spaces, {name: files[name] for name in annotations}, findings)
    pairs = {name: make_subset(name, root, part, findings) for name, part in annotations.items()}
    meta = tuple(files[name] for name in names)
    shared = labels if len(annotations) == len(names) else None
    return Layout(root, format, shared, pairs, meta, class_file=meta[-1] if meta else root)


def rasterize_subset(name: str, root: Path, job: RasterJob, findings: Findings) -> Subset:
    """Rasterize the masks of a subset into the cache. Append errors and warnings to ``findings``.

    Raise :class:`SegError` if the cache cannot be written.
    """
    pairs = _find_images(root, job, findings)
    if not pairs:
        help = f"put the images named by the annotations into `{job.image_folder.name}`"
        findings.append(make_finding("subset-empty", f"the subset `{name}` has no images", help, job.file))
    masks = get_cache_folder() / "masks" / _hash_job(name, job, pairs)
    names = encode_names(f"{key}.png" for key in sorted(pairs))
    lacking: set[str] = set()
    if not _is_complete(masks, names):
        lacking = _rasterize_masks(job, pairs, masks, findings)
        # Only a subset without errors is marked: others are looked at, and reported, every time.
        if not lacking and len(pairs) == len(job.entries):
            write_cache_file(masks / COMPLETE_MARKER, _hash_masks(masks, names))
    keys = sorted(pairs.keys() - lacking)
    columns = (encode_names(pairs[key][0] for key in keys), encode_names(f"{key}.png" for key in keys))
    return Subset(name, job.file, job.image_folder, masks, *columns)


def _is_complete(masks: Path, names: np.ndarray) -> bool:
    """Return whether all masks are unchanged in the cache; if not, remove them so that they are rasterized again."""
    try:
        recorded = (masks / COMPLETE_MARKER).read_bytes()
    except OSError:
        return False
    if recorded == _hash_masks(masks, names):
        return True
    for path in [masks / os.fsdecode(name) for name in names.tolist()]:
        # A file that cannot be removed stays, and reading it reports the error.
        with contextlib.suppress(OSError):
            path.unlink()
    return False


def _hash_masks(masks: Path, names: np.ndarray) -> bytes:
    """Hash the names and stamps of masks."""
    return hashlib.sha256(names.tobytes() + read_stamps(masks, names).tobytes()).hexdigest().encode()


_ImagesByKey = dict[str, tuple[str, AnnotationImage]]
"""Path and entry of each image, by path without suffix."""


def _find_images(root: Path, job: RasterJob, findings: Findings) -> _ImagesByKey:
    pairs: _ImagesByKey = {}
    for entry in job.entries:
        # Annotation files come from elsewhere: a path in them must not make us read any other file of the machine.
        if any(_escapes_folder(path) for path in entry.candidate_paths):
            message = (
                f"{entry.name} has the path `{_truncate_text(entry.candidate_paths[-1])}`, which is outside the dataset"
            )
            help = f"write its path relative to `{job.image_folder.name}`, without `..`; copy the image there if needed"
            findings.append(make_finding("meta-malformed", message, help, job.file))
            continue
        existing = next((path for path in entry.candidate_paths if _is_file(job.image_folder / path)), None)
        path = PurePosixPath(existing or entry.candidate_paths[0])
        key = str(path.with_suffix(""))
        if key in pairs:
            message = f"two images have the name `{_truncate_text(key)}`"
            findings.append(make_finding("name-twice", message, "give each image a unique name", job.file))
        elif existing is None:
            message = f"the image `{_truncate_text(str(path))}` of `{job.file.name}` does not exist"
            help = "add it, or remove it from the annotations"
            findings.append(make_finding("image-missing", message, help, job.image_folder / path))
        else:
            pairs[key] = existing, entry
    _check_links(root, job.image_folder, (path for path, _ in pairs.values()), findings)
    return pairs


def _check_links(root: Path, images: Path, paths: Iterable[str], findings: Findings) -> None:
    """Report images, and folders on their paths, that are links to outside the dataset."""
    steps = {step for place in paths for step in (place, *map(str, PurePosixPath(place).parents[:-1]))}
    for step in sorted(steps):
        if (images / step).is_symlink():
            check_link(images / step, root, findings)


def _escapes_folder(text: str) -> bool:
    """Return whether a path from an annotation file is invalid, or may lead out of the image folder."""
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts or not path.name or "\0" in text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name is too long, or a folder on the path is not readable.
        return False


def _truncate_text(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _hash_job(name: str, job: RasterJob, pairs: _ImagesByKey) -> str:
    """Return the name of the mask folder: a hash of everything that affects the masks."""
    total = hashlib.sha256(repr((VERSION, name, job.digest, sorted(pairs))).encode())
    # Without a size in the annotations a mask has that of the image file, which may be replaced.
    for path, entry in pairs.values():
        if entry.size is None:
            total.update(repr((path, read_stamp(job.image_folder / path))).encode())
    return total.hexdigest()[:32]


def _rasterize_masks(job: RasterJob, pairs: _ImagesByKey, folder: Path, findings: Findings) -> set[str]:
    """Rasterize the masks that are not in the cache yet. Return the keys of those that failed."""
    failed: set[str] = set()
    for key, (image_path, entry) in pairs.items():
        path = folder / f"{key}.png"
        if path.is_file():
            continue
        try:
            mask = job.rasterize(entry.key, _resolve_mask_size(job, image_path, entry))
        except SegError as error:
            findings.extend(error.diagnostics)
            mask = None
        if mask is None:
            failed.add(key)
            continue
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        write_cache_file(path, file.getvalue())
    return failed


def _resolve_mask_size(job: RasterJob, image_path: str, entry: AnnotationImage) -> Size:
    """Return the size of a mask. Raise :class:`SegError` if the image file has another size than the annotations."""
    upright, turned = read_image_size(job.image_folder / image_path)
    size = entry.size or upright
    # Annotation tools ignore EXIF orientation or apply it, so either size may be meant.
    if size not in (upright, turned):
        height, width = size
        message = f"{entry.name} is annotated as {width} x {height} pixels (width x height), but "
        message += f"`{_truncate_text(image_path)}` is {upright[1]} x {upright[0]}"
        help = "correct the size, or use the image that was annotated"
        raise fail("mask-size-differs", message, help, path=str(job.file))
    return size


def parse_image_size(height: object, width: object, name: str, file: Path) -> Size:
    """Parse an image size from an annotation file. Raise :class:`SegError` if it is invalid."""
    if type(height) is not int or type(width) is not int or not 0 < height * width <= get_max_pixels() or height < 0:
        message = (
            f"{name} has an invalid size: height {_truncate_text(repr(height))}, width {_truncate_text(repr(width))}"
        )
        help = f"write both in pixels, with at most {get_max_pixels():,} pixels in total"
        raise fail("meta-malformed", message, help, path=str(file))
    return height, width


def resolve_background(names: Sequence[str], background: str | None, ignore: int) -> tuple[int, int | None]:
    """Return the id of the first label, and the id of pixels without annotation: ``ignore``, one of the labels, a new
    class 0, or None if undefined."""
    if background == VOID:
        return 0, ignore
    if background:
        return (0, names.index(background)) if background in names else (1, 0)
    return 0, next((k for k, name in enumerate(names) if name.lower() == DEFAULT_BACKGROUND), None)


class Shape(NamedTuple):
    """An area as run lengths of pycocotools, and its class id."""

    runs: Any
    class_id: int


def paint_shapes(shapes: Iterable[Shape], size: Size, fill_id: int | None) -> np.ndarray | None:
    """Paint shapes in order, later ones on top, and return their class ids, uint8 of ``size``.

    Other pixels get ``fill_id``; if that is None and there are such pixels, return None.
    """
    from pycocotools import mask as rle

    mask = np.full(size, fill_id or 0, np.uint8)
    free = np.ones(size, bool) if fill_id is None else None
    for shape in shapes:
        where = rle.decode(shape.runs).view(bool)
        mask[where] = shape.class_id
        if free is not None:
            free[where] = False
    return None if free is not None and free.any() else mask


def encode_outline(value: object, size: Size) -> Any:
    """Return a list of polygons, or COCO run lengths in either form, as run lengths; None if the value is invalid."""
    from pycocotools import mask as rle

    height, width = size
    if isinstance(value, list) and value:
        if all(_is_drawable_ring(ring) for ring in value):
            return rle.merge(rle.frPyObjects(value, height, width))
    elif isinstance(value, dict) and value.get("size") == [height, width]:
        counts = value.get("counts")
        # Decoded and summed up here, since pycocotools trusts the lengths that it is given.
        counts = decode_coco_counts(counts) if isinstance(counts, str) else counts
        if (
            isinstance(counts, list)
            and all(type(n) is int and n >= 0 for n in counts)
            and sum(counts) == height * width
        ):
            return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # pyright: ignore
    return None


def _is_drawable_ring(ring: object) -> bool:
    """Return whether it is a flat list of at least three points, with an outline of acceptable length."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        return False
    if not all(isinstance(value, (int, float)) and abs(value) < 1e6 for value in ring):
        return False
    points = np.array(ring, np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) <= MAX_OUTLINE_PIXELS


def decode_coco_counts(text: str) -> list[int] | None:
    """Decode COCO's compressed run lengths; return None if they are malformed."""
    # Five bits per character, counted from 48 ("0"); the sixth bit means that more follow. From the third number on,
    # each is the difference to the one two before (`rleFrString` of the COCO API). pycocotools would read past the end
    # of a truncated string.
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


def write_cache_file(path: Path, data: bytes) -> None:
    """Write a cache file atomically. Raise SegError (`cache-not-written`) on failure."""
    try:
        write_atomically(path, data)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        help = "fix the folder, or set the environment variable `SEGDSL_CACHE` to another one"
        message = f"cannot write masks to the cache: {reason}"
        raise fail("cache-not-written", message, help, path=str(path.parent)) from error
