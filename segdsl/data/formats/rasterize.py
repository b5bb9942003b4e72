"""Rasterization of polygons and run lengths to index masks, once per dataset, into the cache.

pycocotools rasterizes exactly. Its input is validated first, because it trusts lengths, and takes memory for every
pixel along an outline.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from segdsl.data.decode.images import MAX_PIXELS, picture_size
from segdsl.data.findings import Findings, finding, link_holds
from segdsl.data.formats.labels import LabelSpace, same_label_space
from segdsl.data.formats.layout import Layout, Request, Subset, wanted_subsets
from segdsl.diagnostics import SegError, fail
from segdsl.storage.cache import cache_folder
from segdsl.storage.fact_cache import stamp
from segdsl.storage.file_states import encoded, stamps

VOID = "void"
"""Value of `data.background` that ignores pixels without an annotation."""
BACKGROUND = "background"
"""Class of these pixels by default."""
VERSION = 3
"""Increment whenever rasterization changes, so that older cache entries are not found."""
WHOLE = ".whole"
"""File that marks a folder with all masks of a subset; it holds a hash of their names and stamps."""
MAX_OUTLINE = 5_000_000
"""Maximum pixels along one outline; pycocotools takes about 100 bytes for each."""

Size = tuple[int, int]


class Pictured(NamedTuple):
    """One image of an annotation file: its ``key`` there, its name in messages, and possible paths, most likely first.
    ``size`` is the (height, width) in the file, None if there is none."""

    key: Any
    name: str
    places: Sequence[str]
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A subset of an annotation file: its images below ``image_folder``, and how to rasterize their masks.

    ``digest`` covers everything that affects the masks. ``rasterize`` returns the class ids, uint8, of an image key at
    (height, width); None if ids are undefined, which the format then reports. It raises :class:`SegError`.
    """

    file: Path
    digest: str
    images: Path
    pictures: Sequence[Pictured]
    mask: Callable[[Any, Size], np.ndarray | None]


class Annotated(Protocol):
    """An annotation file as read by a format: at least the classes of its masks."""

    @property
    def labels(self) -> LabelSpace:
        """The label space of its masks."""
        ...


A = TypeVar("A", bound=Annotated)


def drawn_layout(
    root: Path,
    format: str,
    files: Mapping[str, Path],
    asked: Request,
    parts: tuple[Callable[[Path, Request], A], Callable[[str, Path, A, Findings], Subset]],
    found: Findings,
) -> Layout:
    """Read and rasterize the requested subsets of the annotation ``files``, which are given by subset name.

    The two ``readers`` read one file, and make a subset of the result. Append errors and warnings to ``findings``.
    """
    read_file, make_subset = parts
    names = wanted_subsets(root, files, asked.subsets)
    annotations: dict[str, A] = {}
    for name in names:
        try:
            annotations[name] = read_file(files[name], asked)
        except SegError as error:
            found.extend(error.diagnostics)
    spaces = {name: part.labels for name, part in annotations.items()}
    labels = same_label_space(spaces, {name: files[name] for name in annotations}, found)
    pairs = {name: make_subset(name, root, part, found) for name, part in annotations.items()}
    meta = tuple(files[name] for name in names)
    return Layout(root, format, labels if len(annotations) == len(names) else None, pairs, meta, drawn=True)


def drawn_subset(name: str, root: Path, drawing: Drawing, found: Findings) -> Subset:
    """Rasterize the masks of a subset into the cache. Append errors and warnings to ``findings``.

    Raise :class:`SegError` if the cache cannot be written.
    """
    pairs = _pictures_there(root, drawing, found)
    if not pairs:
        help = f"put the images named by the annotations into `{drawing.images.name}`"
        found.append(finding("subset-empty", f"the subset `{name}` has no images", help, drawing.file))
    masks = cache_folder() / "masks" / _version(name, drawing, pairs)
    names = encoded(f"{key}.png" for key in sorted(pairs))
    lacking: set[str] = set()
    if not _is_whole(masks, names):
        lacking = _draw(drawing, pairs, masks, found)
        # Only a subset without errors is marked: others are looked at, and reported, every time.
        if not lacking and len(pairs) == len(drawing.pictures):
            _write(masks / WHOLE, _state(masks, names))
    keys = sorted(pairs.keys() - lacking)
    columns = (encoded(pairs[key][0] for key in keys), encoded(f"{key}.png" for key in keys))
    return Subset(name, drawing.file, drawing.images, masks, *columns)


def _is_whole(masks: Path, names: np.ndarray) -> bool:
    """Return whether all masks are unchanged in the cache; if not, remove them so that they are rasterized again."""
    try:
        recorded = (masks / WHOLE).read_bytes()
    except OSError:
        return False
    if recorded == _state(masks, names):
        return True
    for path in [masks / os.fsdecode(name) for name in names.tolist()]:
        # A file that cannot be removed stays, and reading it reports the error.
        with contextlib.suppress(OSError):
            path.unlink()
    return False


def _state(masks: Path, names: np.ndarray) -> bytes:
    """Hash the names and stamps of masks."""
    return hashlib.sha256(names.tobytes() + stamps(masks, names).tobytes()).hexdigest().encode()


_Pairs = dict[str, tuple[str, Pictured]]
"""Path and entry of each image, by path without suffix."""


def _pictures_there(root: Path, drawing: Drawing, found: Findings) -> _Pairs:
    pairs: _Pairs = {}
    for entry in drawing.pictures:
        # Annotation files come from elsewhere: a path in them must not make us read any other file of the machine.
        if any(_leaves(path) for path in entry.places):
            message = f"{entry.name} has the path `{_short(entry.places[-1])}`, which is outside the dataset"
            help = f"write its path relative to `{drawing.images.name}`, without `..`; copy the image there if needed"
            found.append(finding("meta-malformed", message, help, drawing.file))
            continue
        existing = next((path for path in entry.places if _is_file(drawing.images / path)), None)
        path = PurePosixPath(existing or entry.places[0])
        key = str(path.with_suffix(""))
        if key in pairs:
            message = f"two images have the name `{_short(key)}`"
            found.append(finding("name-twice", message, "give each image a unique name", drawing.file))
        elif existing is None:
            message = f"the image `{_short(str(path))}` of `{drawing.file.name}` does not exist"
            help = "add it, or remove it from the annotations"
            found.append(finding("image-missing", message, help, drawing.images / path))
        else:
            pairs[key] = existing, entry
    _look_at_links(root, drawing.images, (path for path, _ in pairs.values()), found)
    return pairs


def _look_at_links(root: Path, images: Path, places: Iterable[str], found: Findings) -> None:
    """Report images, and folders on their paths, that are links to outside the dataset."""
    steps = {step for place in places for step in (place, *map(str, PurePosixPath(place).parents[:-1]))}
    for step in sorted(steps):
        if (images / step).is_symlink():
            link_holds(images / step, root, found)


def _leaves(text: str) -> bool:
    """Return whether a path from an annotation file is invalid, or may lead out of the image folder."""
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts or not path.name or "\0" in text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name is too long, or a folder on the path is not readable.
        return False


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _version(name: str, drawing: Drawing, pairs: _Pairs) -> str:
    """Return the name of the mask folder: a hash of everything that affects the masks."""
    total = hashlib.sha256(repr((VERSION, name, drawing.digest, sorted(pairs))).encode())
    # Without a size in the annotations a mask has that of the image file, which may be replaced.
    for path, entry in pairs.values():
        if entry.size is None:
            total.update(repr((path, stamp(drawing.images / path))).encode())
    return total.hexdigest()[:32]


def _draw(drawing: Drawing, pairs: _Pairs, folder: Path, found: Findings) -> set[str]:
    """Rasterize the masks that are not in the cache yet. Return the keys of those that failed."""
    failed: set[str] = set()
    for key, (image_path, entry) in pairs.items():
        path = folder / f"{key}.png"
        if path.is_file():
            continue
        try:
            mask = drawing.mask(entry.key, _true_size(drawing, image_path, entry))
        except SegError as error:
            found.extend(error.diagnostics)
            mask = None
        if mask is None:
            failed.add(key)
            continue
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        _write(path, file.getvalue())
    return failed


def _true_size(drawing: Drawing, place: str, picture: Pictured) -> Size:
    """Return the size of a mask. Raise :class:`SegError` if the image file has another size than the annotations."""
    upright, turned = picture_size(drawing.images / place)
    size = picture.size or upright
    # Annotation tools ignore EXIF orientation or apply it, so either size may be meant.
    if size not in (upright, turned):
        height, width = size
        message = f"{picture.name} is annotated as {width} x {height} pixels (width x height), but "
        message += f"`{_short(place)}` is {upright[1]} x {upright[0]}"
        help = "correct the size, or use the image that was annotated"
        raise fail("mask-size-differs", message, help, path=str(drawing.file))
    return size


def stated_size(height: object, width: object, name: str, file: Path) -> Size:
    """Parse an image size from an annotation file. Raise :class:`SegError` if it is invalid."""
    if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 0:
        message = f"{name} has an invalid size: height {_short(repr(height))}, width {_short(repr(width))}"
        help = f"write both in pixels, with at most {MAX_PIXELS:,} pixels in total"
        raise fail("meta-malformed", message, help, path=str(file))
    return height, width


def uncovered(names: Sequence[str], background: str | None, ignore: int) -> tuple[int, int | None]:
    """Return the id of the first label, and the id of pixels without annotation: ``ignore``, one of the labels, a new
    class 0, or None if undefined."""
    if background == VOID:
        return 0, ignore
    if background:
        return (0, names.index(background)) if background in names else (1, 0)
    return 0, next((k for k, name in enumerate(names) if name.lower() == BACKGROUND), None)


class Shape(NamedTuple):
    """An area as run lengths of pycocotools, and its class id."""

    runs: Any
    label: int


def painted(shapes: Iterable[Shape], size: Size, fill: int | None) -> np.ndarray | None:
    """Paint shapes in order, later ones on top, and return their class ids, uint8 of ``size``.

    Other pixels get ``fill_id``; if that is None and there are such pixels, return None.
    """
    from pycocotools import mask as rle

    mask = np.full(size, fill or 0, np.uint8)
    free = np.ones(size, bool) if fill is None else None
    for shape in shapes:
        where = rle.decode(shape.runs).view(bool)
        mask[where] = shape.label
        if free is not None:
            free[where] = False
    return None if free is not None and free.any() else mask


def outline(value: object, size: Size) -> Any:
    """Return a list of polygons, or COCO run lengths in either form, as run lengths; None if the value is invalid."""
    from pycocotools import mask as rle

    height, width = size
    if isinstance(value, list) and value:
        if all(_is_ring(ring) for ring in value):
            return rle.merge(rle.frPyObjects(value, height, width))
    elif isinstance(value, dict) and value.get("size") == [height, width]:
        counts = value.get("counts")
        # Decoded and summed up here, since pycocotools trusts the lengths that it is given.
        counts = run_lengths(counts) if isinstance(counts, str) else counts
        if (
            isinstance(counts, list)
            and all(type(n) is int and n >= 0 for n in counts)
            and sum(counts) == height * width
        ):
            return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # pyright: ignore
    return None


def _is_ring(ring: object) -> bool:
    """Return whether it is a flat list of at least three points, with an outline of acceptable length."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        return False
    if not all(isinstance(value, (int, float)) and abs(value) < 1e6 for value in ring):
        return False
    points = np.array(ring, np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) <= MAX_OUTLINE


def run_lengths(text: str) -> list[int] | None:
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


def _write(path: Path, data: bytes) -> None:
    """Write a cache file atomically. Raise SegError (`cache-not-written`) on failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        help = "fix the folder, or set the environment variable `SEGDSL_CACHE` to another one"
        message = f"cannot write masks to the cache: {reason}"
        raise fail("cache-not-written", message, help, path=str(path.parent)) from error
