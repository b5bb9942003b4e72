"""Masks that are drawn from annotations, polygons and run lengths: once, into the cache.

pycocotools draws, exactly. What it is given is looked at before: it trusts lengths, and takes memory for every pixel
along an outline.
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
"""`data.background` where pixels that no annotation covers are void."""
BACKGROUND = "background"
"""The class of these pixels where it is left out."""
VERSION = 3
"""Raised whenever a mask would be drawn differently today."""
WHOLE = ".whole"
"""Stands in a folder of masks in which none is missing."""
MAX_OUTLINE = 5_000_000
"""Pixels along one outline; pycocotools takes some 100 bytes for each."""

Size = tuple[int, int]


class Pictured(NamedTuple):
    """One picture of an annotation file: its ``key`` there, what messages call it, and the paths at which it may lie,
    the likeliest first. ``size`` is (height, width) as the file states it; None where it states none."""

    key: Any
    name: str
    places: Sequence[str]
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """What an annotation file says of a subset: its pictures below the folder ``images``, and how each mask is made.

    ``digest`` is of all that decides the masks. ``mask`` gives the ids, uint8 of the (height, width) that it is told;
    None where they cannot be known, which the format then says itself. It raises :class:`SegError`.
    """

    file: Path
    digest: str
    images: Path
    pictures: Sequence[Pictured]
    mask: Callable[[Any, Size], np.ndarray | None]


class Annotated(Protocol):
    """What a format has read of one annotation file: at least the classes of the masks that it says."""

    @property
    def labels(self) -> LabelSpace:
        """Their label space."""
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
    """The subsets that are asked for, each of one of the annotation ``files`` by name; ``parts`` read such a file, and
    make a subset of what was read. Appends what is at fault to ``found``, raises :class:`SegError` as they do."""
    read_file, subset = parts
    wanted = wanted_subsets(root, files, asked.subsets)
    read: dict[str, A] = {}
    for name in wanted:
        try:
            read[name] = read_file(files[name], asked)
        except SegError as error:
            found.extend(error.diagnostics)
    labels = same_label_space({n: a.labels for n, a in read.items()}, {n: files[n] for n in read}, found)
    pairs = {name: subset(name, root, read[name], found) for name in wanted if name in read}
    meta = tuple(files[name] for name in wanted)
    return Layout(root, format, labels if len(read) == len(wanted) else None, pairs, meta, drawn=True)


def drawn_subset(name: str, root: Path, drawing: Drawing, found: Findings) -> Subset:
    """The subset of an annotation file, its masks drawn into the cache. Appends what is at fault to ``found``.

    Raises :class:`SegError` where the cache cannot be written.
    """
    pairs = _pictures_there(root, drawing, found)
    if not pairs:
        help = f"annotations name images that lie in `{drawing.images.name}`"
        found.append(finding("subset-empty", f"the subset `{name}` has no image", help, drawing.file))
    masks = cache_folder() / "masks" / _version(name, drawing, pairs)
    names = encoded(f"{key}.png" for key in sorted(pairs))
    lacking: set[str] = set()
    if not _is_whole(masks, names):
        lacking = _draw(drawing, pairs, masks, found)
        if not lacking and len(pairs) == len(drawing.pictures):
            _write(masks / WHOLE, _state(masks, names))
    keys = sorted(pairs.keys() - lacking)
    columns = (encoded(pairs[key][0] for key in keys), encoded(f"{key}.png" for key in keys))
    return Subset(name, drawing.file, drawing.images, masks, *columns)


def _is_whole(masks: Path, names: np.ndarray) -> bool:
    """Whether all masks are there as they were drawn; removes those that are not, to be drawn again."""
    try:
        kept = (masks / WHOLE).read_bytes()
    except OSError:
        return False
    if kept == _state(masks, names):
        return True
    for path in [masks / os.fsdecode(name) for name in names.tolist()]:
        with contextlib.suppress(OSError):  # it stays what it is, and is said where it is read
            path.unlink()
    return False


def _state(masks: Path, names: np.ndarray) -> bytes:
    """The names and stamps of masks in one hash."""
    return hashlib.sha256(names.tobytes() + stamps(masks, names).tobytes()).hexdigest().encode()


_Pairs = dict[str, tuple[str, Pictured]]
"""The path of a picture and what is known of it, by its path without the ending."""


def _pictures_there(root: Path, drawing: Drawing, found: Findings) -> _Pairs:
    pairs: _Pairs = {}
    for picture in drawing.pictures:
        if any(_leaves(place) for place in picture.places):
            message = (
                f"{picture.name} is called `{_short(picture.places[-1])}`, which lies in no folder of the data set"
            )
            help = f"name it by its path from `{drawing.images.name}`, without `..`; copy it there if it lies elsewhere"
            found.append(finding("meta-malformed", message, help, drawing.file))
            continue
        here = next((place for place in picture.places if _is_file(drawing.images / place)), None)
        place = PurePosixPath(here or picture.places[0])
        key = str(place.with_suffix(""))
        if key in pairs:
            message = f"two images are called `{_short(key)}`"
            found.append(finding("name-twice", message, "give each a name of its own", drawing.file))
        elif here is None:
            message = f"the image `{_short(str(place))}` of `{drawing.file.name}` does not exist"
            help = "add it, or remove it from the annotations"
            found.append(finding("image-missing", message, help, drawing.images / place))
        else:
            pairs[key] = here, picture
    _look_at_links(root, drawing.images, (place for place, _ in pairs.values()), found)
    return pairs


def _look_at_links(root: Path, images: Path, places: Iterable[str], found: Findings) -> None:
    """Reports pictures, and folders on the way to them, that are links out of the data set."""
    steps = {step for place in places for step in (place, *map(str, PurePosixPath(place).parents[:-1]))}
    for step in sorted(steps):
        if (images / step).is_symlink():
            link_holds(images / step, root, found)


def _leaves(text: str) -> bool:
    """Whether a path out of a file may lead out of the folder that it starts from, or is none."""
    place = PurePosixPath(text)
    return place.is_absolute() or ".." in place.parts or not place.name or "\0" in text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that is closed
        return False


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _version(name: str, drawing: Drawing, pairs: _Pairs) -> str:
    """The name of a folder of masks. Where no size is stated it is that of the picture, which may change."""
    total = hashlib.sha256(repr((VERSION, name, drawing.digest, sorted(pairs))).encode())
    for place, picture in pairs.values():
        if picture.size is None:
            total.update(repr((place, stamp(drawing.images / place))).encode())
    return total.hexdigest()[:32]


def _draw(drawing: Drawing, pairs: _Pairs, folder: Path, found: Findings) -> set[str]:
    """Draws the masks that are not in the cache yet; the keys of those that cannot be drawn."""
    lacking: set[str] = set()
    for key, (place, picture) in pairs.items():
        path = folder / f"{key}.png"
        if path.is_file():
            continue
        try:
            mask = drawing.mask(picture.key, _true_size(drawing, place, picture))
        except SegError as error:
            found.extend(error.diagnostics)
            mask = None
        if mask is None:
            lacking.add(key)
            continue
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        _write(path, file.getvalue())
    return lacking


def _true_size(drawing: Drawing, place: str, picture: Pictured) -> Size:
    """The size at which a mask is drawn. Raises :class:`SegError` where the picture has another one than is stated."""
    upright, turned = picture_size(drawing.images / place)
    stated = picture.size or upright
    if stated not in (upright, turned):
        height, width = stated
        message = f"{picture.name} is {width} x {height} pixels there (width x height), the picture `{_short(place)}` "
        message += f"{upright[1]} x {upright[0]}"
        help = "correct the size, or give the picture that was annotated"
        raise fail("mask-size-differs", message, help, path=str(drawing.file))
    return stated


def stated_size(height: object, width: object, name: str, file: Path) -> Size:
    """A size that an annotation file states. Raises :class:`SegError` where it is none."""
    if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 0:
        message = f"{name} has no size that can be: height {_short(repr(height))}, width {_short(repr(width))}"
        raise fail("meta-malformed", message, f"state both in pixels, at most {MAX_PIXELS:,} in all", path=str(file))
    return height, width


def uncovered(names: Sequence[str], background: str | None, ignore: int) -> tuple[int, int | None]:
    """The id of the first label, and of what no annotation covers: void, one of the labels ``names``, or a new class 0;
    None where nothing says it."""
    if background == VOID:
        return 0, ignore
    if background:
        return (0, names.index(background)) if background in names else (1, 0)
    return 0, next((k for k, name in enumerate(names) if name.lower() == BACKGROUND), None)


class Shape(NamedTuple):
    """Run lengths, as pycocotools has them, and the class id of all that they cover."""

    runs: Any
    label: int


def painted(shapes: Iterable[Shape], size: Size, fill: int | None) -> np.ndarray | None:
    """The ids of shapes, each over those before it, uint8 of ``size``; ``fill`` where none is.

    None where ``fill`` is None and shapes leave a pixel free.
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
    """The run lengths of a list of polygons, or of run lengths in either of COCO's forms; None where it is neither."""
    from pycocotools import mask as rle

    height, width = size
    if isinstance(value, list) and value:
        if all(_is_ring(ring) for ring in value):
            return rle.merge(rle.frPyObjects(value, height, width))
    elif isinstance(value, dict) and value.get("size") == [height, width]:
        counts = value.get("counts")
        counts = run_lengths(counts) if isinstance(counts, str) else counts
        if (
            isinstance(counts, list)
            and all(type(n) is int and n >= 0 for n in counts)
            and sum(counts) == height * width
        ):
            return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # pyright: ignore
    return None


def _is_ring(ring: object) -> bool:
    """Whether it is a flat list of three points or more, at a length that can be drawn."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        return False
    if not all(isinstance(value, (int, float)) and abs(value) < 1e6 for value in ring):
        return False
    points = np.array(ring, np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) <= MAX_OUTLINE


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
