"""Datasets as subsets of image/mask pairs with a label space.

Only file names and meta files are read here; nothing is decoded. All problems are collected, file by file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segdsl.data.decode.images import IMAGE_EXTENSIONS, MASK_EXTENSIONS, RGB_OPTIONS, ReadOptions
from segdsl.data.findings import Findings, check_link, make_finding
from segdsl.data.formats.labels import META_FILE, LabelSpace
from segdsl.diagnostics import Diagnostic, SegError, fail, find_closest_name
from segdsl.ir.data_format import DATA_FORMATS, DataFormat
from segdsl.ir.labels import VOID_ID, Merges
from segdsl.ir.values import Range
from segdsl.storage.file_states import ImageNames, encode_names, find_odd_stems, sort_image_names, split_name

if TYPE_CHECKING:
    from segdsl.ir.program import Program

IMAGES, MASKS, ANNOTATIONS = "images", "masks", "annotations"
FolderNames = tuple[str, str]
"""Names of the image folder and of the mask folder."""
FLAT_SUBSET = "default"
"""Name of the only subset if `images`, `masks` and the meta file are in the root itself, as in Datumaro."""


class Request(NamedTuple):
    """What to read of a dataset: the subsets (None: all), and the settings of `data` on labels, folders and images."""

    subsets: Sequence[str] | None = None
    ignore: int = 255
    classes: Sequence[str] | None = None
    background: str | None = None
    values: Sequence[Range] | None = None
    exclude: Sequence[str] = ()
    merges: Merges = ()
    folder_names: FolderNames = (IMAGES, MASKS)
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
            (data.images, data.masks), ReadOptions(program.channels, data.levels),
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


def find_subset_folders(
    root: Path, subsets: Sequence[str] = (), folder_names: FolderNames = (IMAGES, MASKS)
) -> tuple[bool, dict[str, Path]]:
    """Return whether the layout is flat (images and masks in the root itself), and the folder of every subset."""
    # Two of images, masks and meta file make a subset, so that the third can be reported as missing; a subset that was
    # requested by name needs only one.
    folders = {
        p.name: p for p in list_folders(root) if _count_parts(p, folder_names) >= (1 if p.name in subsets else 2)
    }
    if _count_parts(root, folder_names) >= (1 if not folders else 2):
        return True, {FLAT_SUBSET: root}
    return False, folders


def _count_parts(folder: Path, folder_names: FolderNames) -> int:
    return sum((folder / part).is_dir() for part in folder_names) + (folder / META_FILE).is_file()


def list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def make_unknown_layout_error(root: Path, folder_names: FolderNames = (IMAGES, MASKS)) -> SegError:
    inside = [p for p in list_folders(root) if find_subset_folders(p, folder_names=folder_names)[1]]
    if inside:
        help = f"did you mean `{inside[0]}`?"
    elif (other := _find_landmark_format(root)) is not None:
        help = f"this looks like `{other.name}`: set that format (`data.format`; for `data` and `new`, `--format`)"
    else:
        help = (
            _COMMON_LAYOUT_HELP
            if folder_names == (IMAGES, MASKS)
            else f"it should contain the folders `{folder_names[0]}` and `{folder_names[1]}`"
        )
    return fail("data-layout-unknown", "no subset with images and masks found", help, path=str(root))


def _find_landmark_format(root: Path) -> DataFormat | None:
    """Return the format whose landmark is in the folder; of several, the one with the most specific pattern."""
    # The reader of the format found nothing, so its own detector would not match either.
    found = [f for f in DATA_FORMATS.values() if f.landmark and any(root.glob(f.landmark))]
    return max(found, key=lambda record: len(record.landmark), default=None)


def _make_missing_subset_finding(root: Path, name: str, available: Sequence[str], is_flat: bool) -> Diagnostic:
    have = ", ".join(f"`{n}`" for n in available)
    if is_flat:
        above = [p.name for p in list_folders(root.parent)]
        help = f'the only subset is the root itself: set `data.train.subset` and `data.val.subset` to "{FLAT_SUBSET}"'
        if root.name in ("train", "val", "test") and name in above:
            help = f"the subset `{name}` is next to this folder: use `{root.parent}` as the root"
    else:
        near = find_closest_name(name, available) or next((n for n in available if n.startswith(name[:3])), None)
        choice = near or available[0]
        help = (
            f"did you mean `{choice}`? Set the subsets for training and validation: "
            f'`data.train.subset = "{choice}"`, `data.val.subset`; for a command with this option, `--subset {choice}`'
        )
    return Diagnostic("subset-missing", f"the dataset has no subset `{name}`, only {have}", help, path=str(root))


def pair_files(
    name: str, folder: Path, root: Path, findings: Findings, folder_names: FolderNames = (IMAGES, MASKS)
) -> Subset:
    """Pair images and masks by name. Append errors and warnings to ``findings``."""
    image_folder, mask_folder = folder / folder_names[0], folder / folder_names[1]
    images = list_image_names(image_folder, root, findings, sibling=folder_names[1])
    masks = list_image_names(mask_folder, root, findings, sibling=folder_names[0])
    if images is None or masks is None:
        return Subset(name, folder, image_folder, mask_folder, encode_names(()), encode_names(()))
    odd = find_odd_stems(images, masks, {os.fsencode(ending) for ending in MASK_EXTENSIONS})
    left, right = images.list_all_stems(), masks.list_all_stems()
    # If no name matches at all, one error with an example says more than two per file.
    if len(left) and len(right) and not np.isin(left, right).any():
        findings.append(_make_names_differ_finding(folder, os.fsdecode(left[0]), os.fsdecode(right[0])))
    else:
        wrong = (
            _check_stem((image_folder, mask_folder), images.get_names(stem), masks.get_names(stem))
            for stem in odd.tolist()
        )
        findings.extend(fault for fault in wrong if fault)
        if not len(left) and not len(right):
            help = f"put images into `{folder_names[0]}` and masks with the same names into `{folder_names[1]}`"
            findings.append(
                make_finding("subset-empty", f"the subset `{name}` has no images and no masks", help, folder)
            )
    columns = [p.names[~np.isin(p.stems, odd)] if len(odd) else p.names for p in (images, masks)]
    return Subset(name, folder, image_folder, mask_folder, *columns)


def _make_names_differ_finding(folder: Path, image: str, mask: str) -> Diagnostic:
    message = f"no mask has the name of an image: images are named like `{image}`, masks like `{mask}`"
    help = "give every mask the name of its image, with the suffix `.png` and nothing added"
    return make_finding("names-differ", message, help, folder)


def _check_stem(folders: tuple[Path, Path], images: list[str] | None, masks: list[str] | None) -> Diagnostic | None:
    """Return what is wrong with the images and masks of one stem; an empty list means a link already reported."""
    if images == [] or masks == []:
        return None
    for names, folder in zip((images, masks), folders, strict=True):
        if names and len(names) > 1:
            listing = ", ".join(f"`{n}`" for n in names)
            message = f"{listing} differ only in their suffix"
            return make_finding("name-twice", message, "keep one of them", folder / names[1])
    if images and not masks:
        message = f"the image has no mask: `{folders[1].name}/{Path(images[0]).stem}.png` does not exist"
        help = "add the mask (all background if there is nothing to label), or remove the image"
        return make_finding("mask-missing", message, help, folders[0] / images[0])
    if not masks:
        return None
    path = folders[1] / masks[0]
    if path.suffix.lower() not in MASK_EXTENSIONS:
        message = f"the mask is a `{path.suffix}` file, expected `.png`"
        help = "export masks as 8-bit PNG from the original annotation; JPEG alters pixel values, and so class ids"
        return make_finding("mask-format", message, help, path)
    message = f"the mask has no image: there is no image file named `{path.stem}` in `{folders[0].name}`"
    return make_finding("image-missing", message, "add the image, or remove the mask", path)


def list_image_files(folder: Path, root: Path, findings: Findings) -> dict[str, list[str]]:
    """Return the image files of a folder by stem; an empty list means a dangling link. A missing folder is an error."""
    files = list_image_names(folder, root, findings)
    if files is None:
        return {}
    names: dict[str, list[str]] = {os.fsdecode(stem): [] for stem in files.dead_stems}
    for stem, name in zip(files.stems.tolist(), files.names.tolist(), strict=True):
        names.setdefault(os.fsdecode(stem), []).append(os.fsdecode(name))
    return names


def list_image_names(folder: Path, root: Path, findings: Findings, sibling: str = "") -> ImageNames | None:
    """Return the images in a folder, or None, with an error, if it is missing. ``sibling`` is the other folder.

    Hidden files are skipped silently; other files that are not images give a warning.
    """
    scan = _FolderScan()
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            images = sort_image_names(scan.iterate_images(entries))
    except FileNotFoundError:
        help = f"put `{folder.name}` next to `{sibling}`: a subset needs both"
        if not sibling:
            help = "this format keeps its files there: check that the root is right and all archives are unpacked"
        findings.append(make_finding("data-folder-missing", f"the folder `{folder.name}` is missing", help, folder))
        return None
    except OSError:
        findings.append(
            make_finding("data-file-unreadable", "the folder cannot be read", "check its permissions", folder)
        )
        return None
    for name in sorted(scan.folders):
        help = f"move its files up into `{folder.name}`, under unique names"
        message = f"folders inside `{folder.name}` are not supported"
        findings.append(make_finding("data-nested", message, help, folder / os.fsdecode(name)))
    dead = [name for name in sorted(scan.links) if not check_link(folder / os.fsdecode(name), root, findings)]
    if scan.others:
        first, count = os.fsdecode(min(scan.others)), len(scan.others)
        several = f"{count} files are not images and were ignored, such as `{first}`"
        message = several if count > 1 else f"`{first}` is not an image and was ignored"
        them = "them" if count > 1 else "it"
        help = f"remove {them}, or convert {them} to PNG or JPEG if {'they are' if count > 1 else 'it is'} data"
        findings.append(make_finding("data-file-unused", message, help, folder, severity="warning"))
    return images.drop_dead_links(dead)


_IMAGE_SUFFIXES = frozenset(os.fsencode(ending) for ending in IMAGE_EXTENSIONS)


class _FolderScan:
    """The subfolders, links and other files found while the images of a folder are listed; links count as images."""

    def __init__(self) -> None:
        self.folders: list[bytes] = []
        self.links: list[bytes] = []
        self.others: list[bytes] = []

    def iterate_images(self, entries: Iterable[os.DirEntry[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """Yield name and stem of each image among the entries of a folder."""
        for entry in entries:
            name = entry.name
            stem, ending = split_name(name)
            if name.startswith(b"."):
                continue
            plain = entry.is_file(follow_symlinks=False)
            # Following a link costs a system call, so only entries that are no regular file are looked at closer.
            if not plain and _is_folder(entry):
                self.folders.append(name)
            elif ending.lower() in _IMAGE_SUFFIXES:
                if not plain and entry.is_symlink():
                    self.links.append(name)
                yield name, stem
            else:
                self.others.append(name)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that points to itself.
        return False
