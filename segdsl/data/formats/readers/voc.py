"""Pascal VOC: lists of image names, JPEG images, and masks whose palette or colors are the classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from segdsl.data.decode.images import IMAGE_EXTENSIONS, Color, read_bytes
from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import MAX_CLASSES, VOID_NAMES, LabelSpace
from segdsl.data.formats.layout import Layout, Request, Subset, select_subsets
from segdsl.data.formats.pairing import list_image_files
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.diagnostics import SegError, fail
from segdsl.storage.file_states import encode_names
from segdsl.words.formats import VOC

LIST_FOLDER, IMAGES, MASKS, LABEL_MAP_FILE = (
    Path("ImageSets", "Segmentation"),
    "JPEGImages",
    "SegmentationClass",
    "labelmap.txt",
)
BORDER_COLOR = (224, 224, 192)
"""Color of ignored pixels in Pascal VOC's own masks."""
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC 2012, used if a dataset has no label map."""
LABEL_MAP_FORM = "one `name:r,g,b::` per line, in the order of the ids"


def detect_voc(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    return (
        f"`{LIST_FOLDER.as_posix()}` and `{MASKS}`" if (root / LIST_FOLDER).is_dir() and (root / MASKS).is_dir() else ""
    )


def read_voc(root: Path, request: Request, findings: Findings) -> Layout:
    """Read the name lists of the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    lists = {p.stem: p for p in sorted((root / LIST_FOLDER).glob("*.txt"))} if (root / LIST_FOLDER).is_dir() else {}
    if not lists:
        help = (
            f"it should contain lists of names in `{LIST_FOLDER.as_posix()}`, and the folders `{IMAGES}` and `{MASKS}`"
        )
        message = "this is not a Pascal VOC dataset: it has no list of names"
        raise fail("data-layout-unknown", message, help, path=str(root))
    subsets = select_subsets(root, lists, request.subsets)
    try:
        labels = _read_label_map(root / LABEL_MAP_FILE, request.ignore)
    except SegError as error:
        findings.extend(error.diagnostics)
        labels = None
    images = list_image_files(root / IMAGES, root, findings)
    masks = list_image_files(root / MASKS, root, findings)
    pairs = {name: _read_subset(name, lists[name], root, images, masks, findings) for name in subsets}
    meta = [lists[name] for name in subsets] + [p for p in [root / LABEL_MAP_FILE] if p.is_file()]
    return Layout(root, VOC, labels, pairs, tuple(meta), class_file=meta[-1] if meta else root)


def _read_subset(
    name: str, file: Path, root: Path, images: dict[str, list[str]], masks: dict[str, list[str]], findings: Findings
) -> Subset:
    pairs: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(_read_lines(file), 1):
        stem = _parse_list_entry(line, images)
        if not stem:
            continue
        if stem in pairs:
            findings.append(make_finding("name-twice", f"duplicate entry `{stem}` in line {number}", "remove it", file))
        elif len(images.get(stem, ())) > 1:
            listing = ", ".join(f"`{n}`" for n in images[stem])
            message = f"{listing} differ only in their suffix"
            findings.append(make_finding("name-twice", message, "keep one of them", root / IMAGES / images[stem][1]))
        elif not images.get(stem):
            message = f"there is no image for `{stem}` (line {number}) in `{IMAGES}`"
            findings.append(
                make_finding("image-missing", message, "add the image, or remove the name from the list", file)
            )
        elif not masks.get(stem):
            message = f"the image has no mask: `{MASKS}/{stem}.png` does not exist"
            help = f"add the mask, or remove `{stem}` from `{file.name}`"
            findings.append(make_finding("mask-missing", message, help, root / IMAGES / images[stem][0]))
        else:
            pairs[stem] = images[stem][0], masks[stem][0]
    if not pairs:
        help = f"list one image name per line; images must be in `{IMAGES}`, their masks in `{MASKS}`"
        findings.append(make_finding("subset-empty", f"no image of the subset `{name}` has a mask", help, file))
    columns = [encode_names(pairs[stem][part] for stem in sorted(pairs)) for part in (0, 1)]
    return Subset(name, file, root / IMAGES, root / MASKS, *columns)


def _parse_list_entry(line: str, images: Mapping[str, object]) -> str:
    """Return the name of the image in a line of a list, which may have blanks, and may be in quotes."""
    line = line.strip().replace("\\", "/")
    if len(line) > 1 and line[0] == line[-1] == '"':
        return line[1:-1]
    if line in images or not line:
        return line
    # Lists of a single class, such as `car_train.txt`, have a second column: 1 or -1 for its presence.
    name, _, present = line.rpartition(" ")
    name = name.strip().removeprefix('"').removesuffix('"') if present in ("1", "-1", "0") else line
    return name if name in images or PurePosixPath(name).suffix not in IMAGE_EXTENSIONS else name.rpartition(".")[0]


def _read_lines(file: Path) -> list[str]:
    try:
        return read_bytes(file).decode("utf-8-sig").splitlines() if file.stat().st_size else []
    except UnicodeDecodeError:
        raise fail("meta-malformed", "the file is not UTF-8 text", "save it as UTF-8", path=str(file)) from None


def _read_label_map(file: Path, ignore: int) -> LabelSpace:
    """Read the classes and colors of a label map; without one, return those of Pascal VOC 2012.

    The color of ignored pixels is at index ``ignore``. Raise :class:`SegError` naming the file if it is malformed.
    """
    if not file.is_file():
        # The original dataset has no label map: its classes and colors are part of the format.
        colors = [compute_voc_color(k) for k in range(len(VOC_CLASSES))]
        return LabelSpace(VOC_CLASSES, _place_void_color(colors, [BORDER_COLOR], ignore))
    names: list[str] = []
    colors: list[Color | None] = []
    void: list[Color] = []
    for number, line in enumerate(_read_lines(file), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, color = _parse_entry(line, number, file)
        if name.lower() in VOID_NAMES:
            void += [color] if color else []
        elif name in names:
            help = "give every class a unique name"
            raise fail("meta-class-twice", f"two classes are named `{name}`", help, path=str(file))
        else:
            names.append(name)
            colors.append(color)
    _require_unique_colors(colors, file)
    if not names or len(names) > MAX_CLASSES:
        message = f"the file declares {len(names) or 'no'} classes; a mask can hold 1 to {MAX_CLASSES}"
        raise fail("meta-malformed", message, f"write {LABEL_MAP_FORM}", path=str(file))
    return _add_void_colors(
        LabelSpace(tuple(names), _place_void_color(colors, void or [BORDER_COLOR], ignore)), void[1:], ignore
    )


def _require_unique_colors(colors: list[Color | None], file: Path) -> None:
    present = [color for color in colors if color is not None]
    twice = next((color for color in present if present.count(color) > 1), None)
    if twice is not None:
        message = f"two classes have the color {','.join(map(str, twice))}"
        raise fail("color-twice", message, "give every class a unique color", path=str(file))


def _add_void_colors(labels: LabelSpace, extra_colors: list[Color], ignore: int) -> LabelSpace:
    """Add further colors of ignored pixels, at unused ids that ``value_to_id`` maps to ``ignore``."""
    count = len(labels.classes)
    # Colors are looked up as one color per id, so each additional color needs an id of its own.
    free = [k for k in range(count, MAX_CLASSES) if k != ignore][: len(extra_colors)]
    if not free or not labels.colors:
        return labels
    colors = [*labels.colors, *[None] * (max(*free, ignore) + 1 - len(labels.colors))]
    table = [k if k < count else -1 for k in range(MAX_CLASSES)]
    for place, color in zip(free, extra_colors, strict=False):
        colors[place] = color
        table[place] = ignore
    table[ignore] = ignore
    return LabelSpace(labels.classes, tuple(colors), tuple(table))


def _parse_entry(line: str, number: int, file: Path) -> tuple[str, Color | None]:
    name, _, rest = line.partition(":")
    parts = rest.partition(":")[0].split(",")
    if not name.strip() or (rest and len(parts) != 3 and parts != [""]):
        raise fail(
            "meta-malformed",
            f"invalid label in line {number}: `{line[:60]}`",
            f"write {LABEL_MAP_FORM}",
            path=str(file),
        )
    if len(parts) != 3:
        return name.strip(), None
    if not all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        message = f"invalid color in line {number}: `{','.join(parts)[:40]}`"
        raise fail("meta-malformed", message, "write three numbers from 0 to 255", path=str(file))
    red, green, blue = (int(part) for part in parts)
    return name.strip(), (red, green, blue)


def _place_void_color(colors: list[Color | None], void: list[Color], ignore: int) -> tuple[Color | None, ...]:
    """Return the colors by id with the ignore color at ``ignore``; unchanged if no class has a color."""
    if not any(color is not None for color in colors) or ignore < len(colors):
        return tuple(colors)
    return (*colors, *[None] * (ignore - len(colors)), void[0])


def compute_voc_color(index: int) -> Color:
    """Return Pascal VOC's color of a palette index."""
    # The color map of the VOC development kit: three bits of the index per step, from the top bit of R, G and B down.
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= (index >> 1 & 1) << shift
        blue |= (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue


register_reader(VOC, FormatReader(read_voc, detect_voc))
