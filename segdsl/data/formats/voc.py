"""Pascal VOC on disk: lists of names, photographs, and masks whose palette or colours are the classes."""

from __future__ import annotations

from pathlib import Path

from segdsl.data.decode.images import Color, read_bytes
from segdsl.data.findings import Findings, finding
from segdsl.data.formats.labels import MAX_CLASSES, VOID_NAMES, LabelSpace
from segdsl.data.formats.layout import Layout, Request, Subset, picture_files, wanted_subsets
from segdsl.diagnostics import SegError, fail
from segdsl.storage.file_states import encoded

LISTS, IMAGES, MASKS, LABELS = Path("ImageSets", "Segmentation"), "JPEGImages", "SegmentationClass", "labelmap.txt"
BORDER = (224, 224, 192)
"""Void's colour in Pascal VOC's own masks."""
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC 2012, which a data set without a label map has."""
FORM = "one `name:r,g,b::` a line, in the order of the ids"


def looks_like_voc(root: Path) -> str:
    """What of this format a folder has; empty where it has not enough."""
    return f"`{LISTS.as_posix()}` and `{MASKS}`" if (root / LISTS).is_dir() and (root / MASKS).is_dir() else ""


def read_voc(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads the lists of the subsets that are asked for. Appends what is at fault to ``found``.

    Raises :class:`SegError` where there is no data set of this format at all.
    """
    lists = {p.stem: p for p in sorted((root / LISTS).glob("*.txt"))} if (root / LISTS).is_dir() else {}
    if not lists:
        help = f"expected lists of names in `{LISTS.as_posix()}`, `{IMAGES}` and `{MASKS}`"
        raise fail(
            "data-layout-unknown", "this is no Pascal VOC data set: it has no list of names", help, path=str(root)
        )
    wanted = wanted_subsets(root, lists, asked.subsets)
    try:
        labels = _label_space(root / LABELS, asked.ignore)
    except SegError as error:
        found.extend(error.diagnostics)
        labels = None
    images = picture_files(root / IMAGES, root, found)
    masks = picture_files(root / MASKS, root, found)
    pairs = {name: _subset(name, lists[name], root, images, masks, found) for name in wanted}
    meta = [lists[name] for name in wanted] + [p for p in [root / LABELS] if p.is_file()]
    return Layout(root, "voc_segmentation", labels, pairs, tuple(meta))


def _subset(
    name: str, file: Path, root: Path, images: dict[str, list[str]], masks: dict[str, list[str]], found: Findings
) -> Subset:
    pairs: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(_lines(file), 1):
        stem = line.split()[0] if line.split() else ""  # a second column says whether a class is in the image
        if not stem:
            continue
        if stem in pairs:
            found.append(finding("name-twice", f"line {number} names `{stem}` again", "keep it once", file))
        elif len(images.get(stem, ())) > 1:
            listing = ", ".join(f"`{n}`" for n in images[stem])
            message = f"{listing} have the same name but for the ending"
            found.append(finding("name-twice", message, "keep one of them", root / IMAGES / images[stem][1]))
        elif not images.get(stem):
            message = f"line {number} names `{stem}`, and `{IMAGES}` holds no picture of that name"
            found.append(finding("image-missing", message, "add the image, or take the name off the list", file))
        elif not masks.get(stem):
            message = f"the image has no mask: `{MASKS}/{stem}.png` does not exist"
            help = f"add the mask, or take `{stem}` off `{file.name}`"
            found.append(finding("mask-missing", message, help, root / IMAGES / images[stem][0]))
        else:
            pairs[stem] = images[stem][0], masks[stem][0]
    if not pairs:
        help = f"list the names of images, one a line; they lie in `{IMAGES}`, their masks in `{MASKS}`"
        found.append(finding("subset-empty", f"the subset `{name}` has no image with a mask", help, file))
    columns = [encoded(pairs[stem][part] for stem in sorted(pairs)) for part in (0, 1)]
    return Subset(name, file, root / IMAGES, root / MASKS, *columns)


def _lines(file: Path) -> list[str]:
    try:
        return read_bytes(file).decode("utf-8-sig").splitlines() if file.stat().st_size else []
    except UnicodeDecodeError:
        raise fail("meta-malformed", "it is no text in UTF-8", "save it as such", path=str(file)) from None


def _label_space(file: Path, ignore: int) -> LabelSpace:
    """The classes and colours of a label map; of Pascal VOC itself where there is none.

    Void's colour stands at the place of ``ignore``. Raises :class:`SegError` that names the file.
    """
    if not file.is_file():
        colors = [voc_color(k) for k in range(len(NAMES))]
        return LabelSpace(NAMES, _with_void(colors, [BORDER], ignore))
    names: list[str] = []
    colors: list[Color | None] = []
    void: list[Color] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, color = _entry(line, number, file)
        if name.lower() in VOID_NAMES:
            void += [color] if color else []
        elif name in names:
            raise fail(
                "meta-class-twice", f"two classes are called `{name}`", "give each a name of its own", path=str(file)
            )
        else:
            names.append(name)
            colors.append(color)
    given = [color for color in colors if color is not None]
    twice = next((color for color in given if given.count(color) > 1), None)
    if twice is not None:
        message = f"two classes have the colour {','.join(map(str, twice))}"
        raise fail("color-twice", message, "give every class a colour of its own", path=str(file))
    if not names or len(names) > MAX_CLASSES:
        message = f"it declares {len(names) or 'no'} classes; a mask holds from 1 to {MAX_CLASSES}"
        raise fail("meta-malformed", message, f"write {FORM}", path=str(file))
    return _void_of_many_colors(
        LabelSpace(tuple(names), _with_void(colors, void or [BORDER], ignore)), void[1:], ignore
    )


def _void_of_many_colors(labels: LabelSpace, more: list[Color], ignore: int) -> LabelSpace:
    """The label space with further colours of void, at free places that the table makes void."""
    count = len(labels.classes)
    free = [k for k in range(count, MAX_CLASSES) if k != ignore][: len(more)]
    if not free or not labels.colors:
        return labels
    colors = [*labels.colors, *[None] * (max(*free, ignore) + 1 - len(labels.colors))]
    table = [k if k < count else -1 for k in range(MAX_CLASSES)]
    for place, color in zip(free, more, strict=False):
        colors[place] = color
        table[place] = ignore
    table[ignore] = ignore
    return LabelSpace(labels.classes, tuple(colors), tuple(table))


def _entry(line: str, number: int, file: Path) -> tuple[str, Color | None]:
    name, _, rest = line.partition(":")
    parts = rest.partition(":")[0].split(",")
    if not name.strip() or (rest and len(parts) != 3 and parts != [""]):
        raise fail("meta-malformed", f"line {number} is no label: `{line[:60]}`", f"write {FORM}", path=str(file))
    if len(parts) != 3:
        return name.strip(), None
    if not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        message = f"line {number} has a colour that is none: `{','.join(parts)[:40]}`"
        raise fail("meta-malformed", message, "write three numbers from 0 to 255", path=str(file))
    red, green, blue = (int(part) for part in parts)
    return name.strip(), (red, green, blue)


def _with_void(colors: list[Color | None], void: list[Color], ignore: int) -> tuple[Color | None, ...]:
    """The colours by id, void's at ``ignore``; none of them where no class has one."""
    if not any(color is not None for color in colors) or ignore < len(colors):
        return tuple(colors)
    return (*colors, *[None] * (ignore - len(colors)), void[0])


def voc_color(index: int) -> Color:
    """The colour that Pascal VOC gives a palette index: its bits, dealt out over the three channels."""
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= (index >> 1 & 1) << shift
        blue |= (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue
