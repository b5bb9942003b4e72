"""Datasets as subsets of image/mask pairs with a label space.

Only file names and meta files are read here; nothing is decoded. All problems are collected, file by file.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segdsl.data.decode.images import RGB_OPTIONS, ReadOptions
from segdsl.data.formats.foreign import find_foreign_layout
from segdsl.data.formats.labels import META_FILE, LabelSpace
from segdsl.diagnostics import Diagnostic, SegError, fail, find_closest_name
from segdsl.ir.data_format import DATA_FORMATS, DataFormat
from segdsl.ir.file_pattern import SUBSET, FilePattern, parse_file_pattern
from segdsl.ir.labels import VOID_ID, Merges
from segdsl.ir.values import Range
from segdsl.storage.file_states import split_name

if TYPE_CHECKING:
    from segdsl.ir.program import Program

IMAGES, MASKS, ANNOTATIONS = "images", "masks", "annotations"
FilePatterns = tuple[FilePattern, FilePattern]
"""Where the images and the masks of each subset are."""
DEFAULT_PATTERNS = (FilePattern(IMAGES), FilePattern(MASKS))
FLAT_SUBSET = "default"
"""Name of the only subset if `images`, `masks` and the meta file are in the root itself, as in Datumaro."""


def parse_patterns(images: str, masks: str) -> FilePatterns:
    """Parse the settings `data.images` and `data.masks`, which are valid."""
    return parse_file_pattern(images, IMAGES), parse_file_pattern(masks, MASKS)


class Request(NamedTuple):
    """What to read of a dataset: the subsets (None: all), and the settings of `data` on labels, folders and images."""

    subsets: Sequence[str] | None = None
    ignore: int = 255
    classes: Sequence[str] | None = None
    background: str | None = None
    values: Sequence[Range] | None = None
    exclude: Sequence[str] = ()
    merges: Merges = ()
    patterns: FilePatterns = DEFAULT_PATTERNS
    read_options: ReadOptions = RGB_OPTIONS

    @property
    def void_id(self) -> int:
        """The id of ignored pixels. With `values`, ``ignore`` is a value in the mask files and not an id."""
        return self.ignore if self.values is None else VOID_ID

    @classmethod
    def from_program(cls, program: Program, subsets: Sequence[str]) -> Request:
        """Return the request of a program for some of its subsets."""
        data = program.data
        return cls(
            subsets, data.ignore, data.classes, data.background, data.values, data.exclude, data.merges,
            parse_patterns(data.images, data.masks), ReadOptions(program.channels, data.levels),
        )  # fmt: skip


DEFAULT_REQUEST = Request()
"""The whole dataset, with default settings."""


@dataclass(frozen=True, slots=True)
class Subset:
    """One subset: the names of its files below ``image_folder`` and ``mask_folder``, sorted by id.

    Messages about the whole subset point to ``folder``.
    """

    # Numpy arrays of encoded names: a million images take tens of megabytes, and no Python object each.

    name: str
    folder: Path
    image_folder: Path
    mask_folder: Path
    images: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def get_image_path(self, position: int) -> Path:
        """Return the path of the image at ``position``."""
        return self.image_folder / os.fsdecode(self.images[position])

    def get_mask_path(self, position: int) -> Path:
        """Return the path of the mask at ``position``."""
        return self.mask_folder / os.fsdecode(self.masks[position])

    def get_item_id(self, position: int) -> str:
        """Return the id of the item at ``position``: the file name without suffix."""
        name = bytes(self.masks[position])
        return os.fsdecode(split_name(name[name.rfind(b"/") + 1 :])[0])

    def list_item_ids(self) -> list[str]:
        """Return the ids of all items."""
        return [self.get_item_id(position) for position in range(len(self))]


@dataclass(frozen=True, slots=True)
class Layout:
    """The requested subsets of a dataset, and the label space that they share (None if it is unusable).

    ``meta_files`` define the classes and the members of subsets; messages about the classes point to ``class_file``. If
    the format rasterizes masks (polygons, run lengths), the meta files alone are the dataset's annotation.
    """

    root: Path
    format: DataFormat
    labels: LabelSpace | None
    subsets: dict[str, Subset]
    meta_files: tuple[Path, ...]
    class_file: Path


def select_subsets(
    root: Path, available: Iterable[str], subsets: Sequence[str] | None, *, is_flat: bool = False
) -> list[str]:
    """Return the names of ``subsets`` without duplicates; of all ``available`` ones if that is None.

    Raise :class:`SegError` for subsets that do not exist.
    """
    existing = list(available)
    names = list(dict.fromkeys(existing if subsets is None else subsets))
    missing = [name for name in names if name not in existing]
    if len(names) > 1 and len(existing) == 1:
        raise SegError([_make_single_subset_finding(root, existing[0], is_flat)])
    if missing:
        raise SegError([_make_missing_subset_finding(root, name, existing, is_flat) for name in missing])
    return names


def require_dataset_folder(root: Path) -> None:
    if not root.exists():
        raise fail("data-root-missing", "the dataset folder does not exist", _suggest_root(root), path=str(root))
    if not root.is_dir():
        raise fail(
            "data-root-not-folder",
            "the dataset is a file, but must be a folder",
            "if it is an archive, unpack it and give the folder",
            path=str(root),
        )
    try:
        empty = not any(root.iterdir())
    except OSError:
        raise fail(
            "data-file-unreadable", "the folder cannot be read", "check its permissions", path=str(root)
        ) from None
    if empty:
        raise fail("data-root-empty", "the dataset folder is empty", _COMMON_LAYOUT_HELP, path=str(root))


_COMMON_LAYOUT_HELP = f"it should contain `<subset>/{IMAGES}`, `<subset>/{MASKS}` and `<subset>/{META_FILE}`"


def _suggest_root(root: Path) -> str:
    parent = root.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    child = root.parts[len(parent.parts)] if len(root.parts) > len(parent.parts) else ""
    near = find_closest_name(child, [p.name for p in list_folders(parent)]) if child else None
    if near:
        return f"did you mean `{parent / near}`?"
    return f"`{parent}` exists, but has no `{child}`; set the folder with `data.root` or `--data`"


class SubsetFolders(NamedTuple):
    """The folders of one subset; messages about the whole subset point to ``folder``."""

    folder: Path
    images: Path
    masks: Path


def find_subset_folders(
    root: Path, subsets: Sequence[str] = (), patterns: FilePatterns = DEFAULT_PATTERNS
) -> tuple[bool, dict[str, SubsetFolders]]:
    """Return whether the layout is flat (images and masks in the root itself), and the folders of every subset."""
    if any(pattern.has_subset for pattern in patterns):
        found = [_list_subsets(root, pattern) for pattern in patterns if pattern.has_subset]
        # A subset that has images but no masks, or the reverse, is reported only if it is wanted.
        names = sorted(set.intersection(*found) | (set.union(*found) & set(subsets)))
        return False, {name: SubsetFolders(root, *(p.locate(root, name) for p in patterns)) for name in names}
    # Two of images, masks and meta file make a subset, so that the third can be reported as missing; a subset that was
    # requested by name needs only one.
    folders = {p.name: p for p in list_folders(root) if _count_parts(p, patterns) >= (1 if p.name in subsets else 2)}
    is_flat = _count_parts(root, patterns) >= (1 if not folders else 2)
    places = {FLAT_SUBSET: root} if is_flat else folders
    return is_flat, {name: SubsetFolders(p, *(q.locate(p, name) for q in patterns)) for name, p in places.items()}


def _list_subsets(root: Path, pattern: FilePattern) -> set[str]:
    """Return the names that `{subset}` stands for."""
    before, _, after = pattern.folder.partition(SUBSET)
    above, _, start = before.rpartition("/")
    ending, _, below = after.partition("/")
    names = [p.name for p in list_folders(root / above) if p.name.startswith(start) and p.name.endswith(ending)]
    fitting = (name[len(start) : len(name) - len(ending)] for name in names if (root / above / name / below).is_dir())
    return {name for name in fitting if name}


def _count_parts(folder: Path, patterns: FilePatterns) -> int:
    found = sum(pattern.folder != "." and pattern.locate(folder, "").is_dir() for pattern in patterns)
    if all(pattern.folder == "." for pattern in patterns):
        # Images and masks side by side: any folder with a mask is a subset.
        return 2 * any(folder.glob(f"{glob.escape(patterns[1].prefix)}?*{glob.escape(patterns[1].ending)}*"))
    return found + (folder / META_FILE).is_file()


def list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def make_unknown_layout_error(root: Path, patterns: FilePatterns = DEFAULT_PATTERNS) -> SegError:
    inside = [p for p in list_folders(root) if find_subset_folders(p, patterns=patterns)[1]]
    message = "no subset with images and masks found"
    if inside:
        help = f"did you mean `{inside[0]}`?"
    elif (other := _find_landmark_format(root)) is not None:
        help = f"this looks like `{other.name}`: set that format (`data.format`; for `data` and `new`, `--format`)"
    elif (foreign := find_foreign_layout(root)) is not None:
        message, help = f"{message}; the folder has {foreign.evidence}", foreign.help
    elif patterns == DEFAULT_PATTERNS:
        help = (
            f"{_COMMON_LAYOUT_HELP};\n`segdsl explain data-layout-unknown` lists the formats (`data.format`), and "
            "patterns for other folders (`data.images`, `data.masks`)"
        )
    else:
        help = f"it should contain the folders `{patterns[0].folder}` and `{patterns[1].folder}`"
    return fail("data-layout-unknown", message, help, path=str(root))


def _find_landmark_format(root: Path) -> DataFormat | None:
    """Return the format whose landmark is in the folder; of several, the one with the most specific pattern."""
    # The reader of the format found nothing, so its own detector would not match either.
    found = [f for f in DATA_FORMATS.values() if f.landmark and any(root.glob(f.landmark))]
    return max(found, key=lambda record: len(record.landmark), default=None)


def _make_single_subset_finding(root: Path, name: str, is_flat: bool) -> Diagnostic:
    message = f"the dataset has a single subset, `{name}`; training needs a second one for validation"
    beside = [p.name for p in list_folders(root.parent)] if is_flat else []
    if root.name in ("train", "val", "test") and len({"train", "val", "test"} & set(beside)) > 1:
        help = f"the other subsets are next to this folder: use `{root.parent}` as the root"
    elif is_flat:
        help = (
            "make the folders `train` and `val` with these folders inside, and move about a fifth of the images with "
            "their masks into `val`;\nkeep images of the same scene, video or patient together"
        )
    else:
        help = (
            "move about a fifth of the images with their masks into a second subset, `val`; keep images of the same "
            f'scene, video or patient together.\nThen set `data.train.subset = "{name}"`'
        )
    return Diagnostic("subset-single", message, help, path=str(root))


def _make_missing_subset_finding(root: Path, name: str, available: Sequence[str], is_flat: bool) -> Diagnostic:
    have = ", ".join(f"`{n}`" for n in available)
    above = [p.name for p in list_folders(root.parent)] if is_flat else []
    near = find_closest_name(name, available) or next((n for n in available if n.startswith(name[:3])), None)
    choice = near or available[0]
    help = (
        f'did you mean `{choice}`? Set `data.train.subset` or `data.val.subset` to "{choice}", or pass '
        f"`--subset {choice}`"
    )
    if root.name in ("train", "val", "test") and name in above:
        help = f"the subset `{name}` is next to this folder: use `{root.parent}` as the root"
    return Diagnostic("subset-missing", f"the dataset has no subset `{name}`, only {have}", help, path=str(root))
