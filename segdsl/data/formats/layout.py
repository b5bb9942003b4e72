"""What a data set is once its names are read: subsets, pairs of files, a label space; and the format that says it most
directly, Common Semantic Segmentation.

Only names are read here, nothing is decoded. Everything at fault is collected, file by file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segdsl.data.decode.images import IMAGE_EXTENSIONS, MASK_EXTENSIONS, RGB, Reading
from segdsl.data.findings import Findings, finding, link_holds
from segdsl.data.formats.labels import META_FILE, LabelSpace, read_label_space, same_label_space
from segdsl.diagnostics import Diagnostic, SegError, fail, nearest
from segdsl.ir.labels import VOID_ID, Merges
from segdsl.ir.values import Range
from segdsl.storage.file_states import Pictures, encoded, odd_stems, pictures, split

if TYPE_CHECKING:
    from segdsl.ir.program import Program

COMMON = "common_semantic_segmentation"
IMAGES, MASKS, ANNOTATIONS = "images", "masks", "annotations"
Parts = tuple[str, str]
"""What the folders of images and of masks are called."""
FLAT_SUBSET = "default"
"""Datumaro's name for the only subset where `images`, `masks` and the meta file lie in the root itself."""


class Request(NamedTuple):
    """What is wanted of a data set: subsets (None: all), and what `data` says of its label space and its folders."""

    subsets: Sequence[str] | None = None
    ignore: int = 255
    classes: Sequence[str] | None = None
    background: str | None = None
    values: Sequence[Range] | None = None
    exclude: Sequence[str] = ()
    merges: Merges = ()
    parts: Parts = (IMAGES, MASKS)
    reading: Reading = RGB

    @property
    def void(self) -> int:
        """The id of void. Where `values` say what masks hold, ``ignore`` is a value there and no id."""
        return self.ignore if self.values is None else VOID_ID

    @classmethod
    def of(cls, program: Program, subsets: Sequence[str]) -> Request:
        """What a program asks for."""
        data = program.data
        return cls(
            subsets, data.ignore, data.classes, data.background, data.values, data.exclude, data.merges,
            (data.images, data.masks), Reading(program.channels, data.levels),
        )  # fmt: skip


ALL = Request()
"""All that a data set has, as it is."""


@dataclass(frozen=True, slots=True)
class Subset:
    """One subset: ``folder`` stands for it in messages; sorted by id, the names of its files below ``image_folder`` and
    ``mask_folder``.

    ``images`` and ``masks`` are numpy arrays of encoded file names: a million images are tens of megabytes, no objects.
    """

    name: str
    folder: Path
    image_folder: Path
    mask_folder: Path
    images: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def image(self, position: int) -> Path:
        """The image at ``position``."""
        return self.image_folder / os.fsdecode(self.images[position])

    def mask(self, position: int) -> Path:
        """The mask at ``position``."""
        return self.mask_folder / os.fsdecode(self.masks[position])

    def id(self, position: int) -> str:
        """The name of the item at ``position``: a file name without its ending."""
        name = bytes(self.masks[position])
        return os.fsdecode(split(name[name.rfind(b"/") + 1 :])[0])

    def ids(self) -> list[str]:
        """The names of the items."""
        return [self.id(position) for position in range(len(self))]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a root holds: the subsets asked for, and the label space that they share (None where it is unusable).

    ``meta`` are the files that say what the classes are and what belongs to a subset; where masks are made of them
    (polygons), they alone are the data set's annotation (``drawn``).
    """

    root: Path
    format: str
    labels: LabelSpace | None
    subsets: dict[str, Subset]
    meta: tuple[Path, ...]
    drawn: bool = False


def read_common(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads names and meta files of the subsets that are asked for. Appends what is at fault to ``found``.

    Raises :class:`SegError` where there is no data set of this format at all.
    """
    flat, folders = subset_folders(root, asked.subsets or ())
    if not folders:
        raise nothing_found(root)
    wanted = wanted_subsets(root, folders, asked.subsets, flat=flat)
    spaces: dict[str, LabelSpace] = {}
    for name in wanted:
        try:
            spaces[name] = read_label_space(folders[name] / META_FILE)
        except SegError as error:
            found.extend(error.diagnostics)
    labels = same_label_space(spaces, {name: folders[name] / META_FILE for name in wanted}, found)
    pairs = {name: pairs_of(name, folders[name], root, found) for name in wanted}
    return Layout(root, COMMON, labels, pairs, tuple(folders[name] / META_FILE for name in wanted))


def wanted_subsets(root: Path, here: Iterable[str], subsets: Sequence[str] | None, *, flat: bool = False) -> list[str]:
    """The names of ``subsets``, of all that are ``here`` where that is None.

    Raises :class:`SegError` for those that are not there.
    """
    known = list(here)
    wanted = list(dict.fromkeys(known if subsets is None else subsets))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SegError([_missing_subset(root, name, known, flat) for name in missing])
    return wanted


def looks_like_common(root: Path) -> str:
    """What of this format a folder has; empty where it has not enough."""
    for folder in (root, *folders_in(root)):
        if (folder / META_FILE).is_file() and ((folder / MASKS).is_dir() or (folder / IMAGES).is_dir()):
            return f"`{META_FILE}` in {'it' if folder == root else f'`{folder.name}`'}"
    return ""


def require_folder(root: Path) -> None:
    if not root.exists():
        raise fail("data-root-missing", "the folder of the data set does not exist", _near_path(root), path=str(root))
    if not root.is_dir():
        raise fail(
            "data-root-not-folder",
            "the data set must be a folder, this is a file",
            "unpack it if it is an archive, and give the folder",
            path=str(root),
        )
    try:
        empty = not any(root.iterdir())
    except OSError:
        raise fail(
            "data-file-unreadable", "the folder cannot be listed", "check its permissions", path=str(root)
        ) from None
    if empty:
        raise fail("data-root-empty", "the folder of the data set is empty", _EXPECTED, path=str(root))


_EXPECTED = f"expected `<subset>/{IMAGES}`, `<subset>/{MASKS}` and `<subset>/{META_FILE}` in it"


def _near_path(root: Path) -> str:
    parent = root.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    child = root.parts[len(parent.parts)] if len(root.parts) > len(parent.parts) else ""
    near = nearest(child, [p.name for p in folders_in(parent)]) if child else None
    if near:
        return f"did you mean `{parent / near}`?"
    return f"`{parent}` exists, but not `{child}` in it; give the folder with `data.root` or `--data`"


def subset_folders(
    root: Path, wanted: Sequence[str] = (), parts: Parts = (IMAGES, MASKS)
) -> tuple[bool, dict[str, Path]]:
    """Whether the layout is flat, and the folder of every subset: one with two of its three parts, so that the third
    can be reported as missing; of one that is asked for, one part is enough."""
    folders = {p.name: p for p in folders_in(root) if _parts(p, parts) >= (1 if p.name in wanted else 2)}
    if _parts(root, parts) >= (1 if not folders else 2):
        return True, {FLAT_SUBSET: root}
    return False, folders


def _parts(folder: Path, parts: Parts) -> int:
    return sum((folder / part).is_dir() for part in parts) + (folder / META_FILE).is_file()


def folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def nothing_found(root: Path, parts: Parts = (IMAGES, MASKS)) -> SegError:
    inside = [p for p in folders_in(root) if subset_folders(p, parts=parts)[1]]
    if inside:
        help = f"did you mean `{inside[0]}`?"
    elif (root / "JPEGImages").is_dir() or (root / ANNOTATIONS).is_dir():
        coco = "coco_instances" if any((root / ANNOTATIONS).glob("instances_*.json")) else "datumaro"
        other = "voc_segmentation" if (root / "JPEGImages").is_dir() else coco
        help = f"this looks like `{other}`: name it as the format (`data.format`; of `data` and `new`, `--format`)"
    else:
        help = _EXPECTED if parts == (IMAGES, MASKS) else f"expected folders `{parts[0]}` and `{parts[1]}` in it"
    return fail("data-layout-unknown", "no subset with images and masks was found here", help, path=str(root))


def _missing_subset(root: Path, name: str, found: Sequence[str], flat: bool) -> Diagnostic:
    have = ", ".join(f"`{n}`" for n in found)
    if flat:
        above = [p.name for p in folders_in(root.parent)]
        help = f'the root itself is the only subset: set `data.train.subset` and `data.val.subset` to "{FLAT_SUBSET}"'
        if root.name in ("train", "val", "test") and name in above:
            help = f"the subset `{name}` lies beside it: give `{root.parent}` as the root"
    else:
        near = nearest(name, found) or next((n for n in found if n.startswith(name[:3])), None)
        choice = near or found[0]
        help = (
            f"did you mean `{choice}`? A program names what is learnt from and what is scored: "
            f'`data.train.subset = "{choice}"`, `data.val.subset`; a command that asks for one, `--subset {choice}`'
        )
    return Diagnostic("subset-missing", f"the data set has no subset `{name}`, it has {have}", help, path=str(root))


def pairs_of(name: str, folder: Path, root: Path, found: Findings, parts: Parts = (IMAGES, MASKS)) -> Subset:
    """The images and masks of the same names in the two folders ``parts``. Appends what is at fault to ``found``."""
    here, there = folder / parts[0], folder / parts[1]
    images = picture_names(here, root, found, beside=parts[1])
    masks = picture_names(there, root, found, beside=parts[0])
    if images is None or masks is None:
        return Subset(name, folder, here, there, encoded(()), encoded(()))
    odd = odd_stems(images, masks, {os.fsencode(ending) for ending in MASK_EXTENSIONS})
    left, right = images.all_stems(), masks.all_stems()
    if len(left) and len(right) and not np.isin(left, right).any():
        found.append(_names_differ(folder, os.fsdecode(left[0]), os.fsdecode(right[0])))
    else:
        wrong = (_fault((here, there), images.called(stem), masks.called(stem)) for stem in odd.tolist())
        found.extend(fault for fault in wrong if fault)
        if not len(left) and not len(right):
            help = f"put images into `{parts[0]}` and masks of the same names into `{parts[1]}`"
            found.append(finding("subset-empty", f"the subset `{name}` has no image and no mask", help, folder))
    columns = [p.names[~np.isin(p.stems, odd)] if len(odd) else p.names for p in (images, masks)]
    return Subset(name, folder, here, there, *columns)


def _names_differ(folder: Path, image: str, mask: str) -> Diagnostic:
    message = f"no image and mask have the same name: images are called like `{image}`, masks like `{mask}`"
    help = "give every mask the name of its image, with the ending `.png` and nothing added"
    return finding("names-differ", message, help, folder)


def _fault(folders: tuple[Path, Path], images: list[str] | None, masks: list[str] | None) -> Diagnostic | None:
    """What is wrong with the images and masks of one stem, in the folders of both; an empty list stands for one that
    has a finding."""
    if images == [] or masks == []:
        return None
    for names, folder in zip((images, masks), folders, strict=True):
        if names and len(names) > 1:
            listing = ", ".join(f"`{n}`" for n in names)
            message = f"{listing} have the same name but for the ending"
            return finding("name-twice", message, "keep one of them", folder / names[1])
    if images and not masks:
        message = f"the image has no mask: `{folders[1].name}/{Path(images[0]).stem}.png` does not exist"
        help = "add the mask (all background if nothing is on it), or remove the image"
        return finding("mask-missing", message, help, folders[0] / images[0])
    if not masks:
        return None
    path = folders[1] / masks[0]
    if path.suffix.lower() not in MASK_EXTENSIONS:
        message = f"the mask is a `{path.suffix}` file, expected `.png`"
        help = "save masks as 8-bit PNG from the original annotation; JPEG changes pixel values, and so class ids"
        return finding("mask-format", message, help, path)
    message = f"the mask has no image: `{folders[0].name}` holds no `{path.stem}` with a picture's ending"
    return finding("image-missing", message, "add the image, or remove the mask", path)


def picture_files(folder: Path, root: Path, found: Findings) -> dict[str, list[str]]:
    """File names by stem of a folder that must be there; an empty list stands for a link that leads to nothing."""
    here = picture_names(folder, root, found)
    if here is None:
        return {}
    names: dict[str, list[str]] = {os.fsdecode(stem): [] for stem in here.dead}
    for stem, name in zip(here.stems.tolist(), here.names.tolist(), strict=True):
        names.setdefault(os.fsdecode(stem), []).append(os.fsdecode(name))
    return names


def picture_names(folder: Path, root: Path, found: Findings, beside: str = "") -> Pictures | None:
    """The pictures in a folder; None without the folder, which then should lie ``beside`` another.

    Hidden files are no data; others that are no pictures are named.
    """
    seen = _Seen()
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            listed = pictures(seen.pictures(entries))
    except FileNotFoundError:
        help = f"a subset needs `{folder.name}` and `{beside}`, side by side"
        if not beside:
            help = "the pictures of this format lie there: see that the root is right, and that all was unpacked"
        found.append(finding("data-folder-missing", f"the folder `{folder.name}` is missing", help, folder))
        return None
    except OSError:
        found.append(finding("data-file-unreadable", "the folder cannot be listed", "check its permissions", folder))
        return None
    for name in sorted(seen.folders):
        help = f"move its files up into `{folder.name}`, each with a name of its own"
        message = f"a folder in `{folder.name}`; what is in it is not used"
        found.append(finding("data-nested", message, help, folder / os.fsdecode(name)))
    dead = [name for name in sorted(seen.links) if not link_holds(folder / os.fsdecode(name), root, found)]
    if seen.others:
        first = os.fsdecode(min(seen.others))
        many = f"{len(seen.others)} files here are no pictures and are not used, such as `{first}`"
        message = many if len(seen.others) > 1 else f"`{first}` is no picture and is not used"
        help = "remove them, or convert them to PNG or JPEG if they are meant as data"
        found.append(finding("data-file-unused", message, help, folder, severity="warning"))
    return listed.without(dead)


_ENDINGS = frozenset(os.fsencode(ending) for ending in IMAGE_EXTENSIONS)


class _Seen:
    """What a folder holds beside pictures, gathered while its pictures are listed; links are pictures too."""

    def __init__(self) -> None:
        self.folders: list[bytes] = []
        self.links: list[bytes] = []
        self.others: list[bytes] = []

    def pictures(self, entries: Iterable[os.DirEntry[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """The names of the pictures among the entries of a folder, and their stems."""
        for entry in entries:
            name = entry.name
            stem, ending = split(name)
            if name.startswith(b"."):
                continue
            plain = entry.is_file(follow_symlinks=False)
            if not plain and _is_folder(entry):
                self.folders.append(name)
            elif ending.lower() in _ENDINGS:
                if not plain and entry.is_symlink():
                    self.links.append(name)
                yield name, stem
            else:
                self.others.append(name)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
