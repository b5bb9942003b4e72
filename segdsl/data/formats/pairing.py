"""Pairs of images and masks in two folders, by name. Nothing is decoded; all problems are collected, file by file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.decode.images import IMAGE_EXTENSIONS
from segdsl.data.decode.masks import MASK_EXTENSIONS
from segdsl.data.findings import Findings, check_link, make_finding
from segdsl.data.formats.layout import DEFAULT_PATTERNS, FilePatterns, Subset, SubsetFolders
from segdsl.diagnostics import Diagnostic, Setting
from segdsl.ir.file_pattern import NAME, FilePattern
from segdsl.storage.file_states import ImageNames, encode_names, find_odd_stems, sort_image_names, split_name
from segdsl.text.listing import format_string


class NameRule(NamedTuple):
    """Which images of a folder are meant: those of ``pattern``, and not those of ``sibling_pattern``, which are masks
    among images, or images among masks."""

    pattern: FilePattern
    sibling_pattern: FilePattern | None = None


ANY_NAME = NameRule(FilePattern(""))


def pair_files(
    name: str, folders: SubsetFolders, root: Path, findings: Findings, patterns: FilePatterns = DEFAULT_PATTERNS
) -> Subset:
    """Pair images and masks by name. Append errors and warnings to ``findings``."""
    folder, image_folder, mask_folder = folders
    # Masks that lie among the images are no images themselves.
    rules = [NameRule(p, other if image_folder == mask_folder else None) for p, other in (patterns, patterns[::-1])]
    images = list_image_names(image_folder, root, findings, mask_folder.name, rules[0])
    masks = list_image_names(mask_folder, root, findings, image_folder.name, rules[1])
    if images is None or masks is None:
        return Subset(name, folder, image_folder, mask_folder, encode_names(()), encode_names(()))
    odd = find_odd_stems(images, masks, {os.fsencode(ending) for ending in MASK_EXTENSIONS})
    left, right = images.list_all_stems(), masks.list_all_stems()
    # If no name matches at all, one error with an example says more than two per file.
    if len(left) and len(right) and not np.isin(left, right).any():
        findings.append(_make_names_differ_finding(folder, images, masks))
    else:
        wrong = (
            _check_stem((image_folder, mask_folder), images.get_names(stem), masks.get_names(stem), patterns[1])
            for stem in odd.tolist()
        )
        findings.extend(fault for fault in wrong if fault)
        if not len(left) and not len(right):
            help = f"put images into `{image_folder.name}` and masks with the same names into `{mask_folder.name}`"
            findings.append(
                make_finding("subset-empty", f"the subset `{name}` has no images and no masks", help, folder)
            )
    columns = [p.names[~np.isin(p.stems, odd)] if len(odd) else p.names for p in (images, masks)]
    return Subset(name, folder, image_folder, mask_folder, *columns)


def _make_names_differ_finding(folder: Path, images: ImageNames, masks: ImageNames) -> Diagnostic:
    image, mask = (os.fsdecode(names.list_all_stems()[0]) for names in (images, masks))
    message = f"no mask has the name of an image: images are named like `{image}`, masks like `{mask}`"
    addition = find_addition(images, masks)
    if addition is None:
        help = "give every mask the name of its image, with the suffix `.png` and nothing added"
    else:
        which, pattern = addition
        help = f"set `data.{which} = {format_string(pattern)}` (for `data` and `new`, `--{which} '{pattern}'`)"
    settings = () if addition is None else (Setting(f"data.{addition[0]}", format_string(addition[1])),)
    return make_finding("names-differ", message, help, folder, settings=settings)


def find_addition(images: ImageNames, masks: ImageNames) -> tuple[str, str] | None:
    """Return what all masks have in addition to the names of their images, or all images to those of their masks.

    The result is the setting (`masks` or `images`) and its pattern, `{name}_mask.png`; None if the names differ in
    another way.
    """
    for which, short, long in (("masks", images, masks), ("images", masks, images)):
        known, stems = set(short.stems.tolist()), long.stems.tolist()
        suffixes = {split_name(name)[1] for name in long.names.tolist()}
        suffix = suffixes.pop() if len(suffixes) == 1 else b""
        for prefix, ending in _list_additions(known, stems[0] if stems else b""):
            names = [stem[len(prefix) : len(stem) - len(ending)] for stem in stems]
            fits = all(stem.startswith(prefix) and stem.endswith(ending) for stem in stems)
            if fits and known.intersection(names):
                return which, f"{os.fsdecode(prefix)}{NAME}{os.fsdecode(ending + suffix)}"
    return None


def _list_additions(known: set[bytes], example: bytes) -> list[tuple[bytes, bytes]]:
    """Return what may stand before and after a known name in ``example``, the shortest additions first."""
    ends = [
        (example[:start], example[end:])
        for start in range(len(example))
        for end in range(start + 1, len(example) + 1)
        if example[start:end] in known
    ]
    return sorted(ends, key=lambda pair: len(pair[0]) + len(pair[1]))[:8]


def _check_stem(
    folders: tuple[Path, Path], images: list[str] | None, masks: list[str] | None, pattern: FilePattern
) -> Diagnostic | None:
    """Return what is wrong with the images and masks of one stem; an empty list means a link already reported."""
    if images == [] or masks == []:
        return None
    for names, folder in zip((images, masks), folders, strict=True):
        if names and len(names) > 1:
            listing = ", ".join(f"`{n}`" for n in names)
            message = f"{listing} differ only in their suffix"
            return make_finding("name-twice", message, "keep one of them", folder / names[1])
    if images and not masks:
        wanted = pattern.prefix + Path(images[0]).stem + pattern.ending + (".png" if "." not in pattern.ending else "")
        message = f"the image has no mask: `{folders[1].name}/{wanted}` does not exist"
        help = "add the mask (all background if there is nothing to label), or remove the image"
        return make_finding("mask-missing", message, help, folders[0] / images[0])
    if not masks:
        return None
    path = folders[1] / masks[0]
    if path.suffix.lower() not in MASK_EXTENSIONS:
        message = f"the mask is a `{path.suffix}` file, which does not keep class ids"
        help = "export masks as 8-bit PNG from the original annotation; JPEG alters pixel values, and so class ids"
        return make_finding("mask-format", message, help, path)
    message = f"the mask has no image: there is no image file named `{path.stem}` in `{folders[0].name}`"
    return make_finding("image-missing", message, "add the image, or remove the mask", path)


def list_image_files(folder: Path, root: Path, findings: Findings, above: str = "") -> dict[str, list[str]]:
    """Return the image files of a folder and its subfolders by stem, `below/photo`: their paths in the folder.

    An empty list means a dangling link. A missing folder is an error.
    """
    nested: list[str] = []
    files = list_image_names(folder / above, root, findings, nested=nested)
    if files is None:
        return {}
    start = f"{above}/" if above else ""
    names: dict[str, list[str]] = {start + os.fsdecode(stem): [] for stem in files.dead_stems}
    for stem, name in zip(files.stems.tolist(), files.names.tolist(), strict=True):
        names.setdefault(start + os.fsdecode(stem), []).append(start + os.fsdecode(name))
    for name in nested:
        # A link may lead back to a folder above it.
        if not (folder / above / name).is_symlink():
            names.update(list_image_files(folder, root, findings, start + name))
    return names


def list_image_names(
    folder: Path,
    root: Path,
    findings: Findings,
    sibling: str = "",
    wanted: NameRule = ANY_NAME,
    nested: list[str] | None = None,
) -> ImageNames | None:
    """Return the images in a folder, or None, with an error, if it is missing. ``sibling`` is the other folder.

    Hidden files are skipped silently; other files that are not images, or not ``wanted``, give a warning. Subfolders
    are appended to ``nested``; without it, they are errors.
    """
    scan = _FolderScan(wanted)
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
    if nested is not None:
        nested.extend(os.fsdecode(name) for name in sorted(scan.folders))
    for name in sorted(scan.folders) if nested is None and folder != root else ():
        help = f"move its files up into `{folder.name}`, under unique names"
        message = f"folders inside `{folder.name}` are not supported"
        findings.append(make_finding("data-nested", message, help, folder / os.fsdecode(name)))
    dead = [name for name in sorted(scan.links) if not check_link(folder / os.fsdecode(name), root, findings)]
    findings.extend(_find_unused_files(folder, scan))
    return images.drop_dead_links(dead)


def _find_unused_files(folder: Path, scan: _FolderScan) -> Iterator[Diagnostic]:
    """Yield warnings of files that are not read."""
    if scan.others:
        first, count = os.fsdecode(min(scan.others)), len(scan.others)
        several = f"{count} files are not images and were ignored, such as `{first}`"
        message = several if count > 1 else f"`{first}` is not an image and was ignored"
        them = "them" if count > 1 else "it"
        help = f"remove {them}, or convert {them} to PNG or JPEG if {'they are' if count > 1 else 'it is'} data"
        yield make_finding("data-file-unused", message, help, folder, severity="warning")
    if scan.unfitting:
        first, count = os.fsdecode(min(scan.unfitting)), len(scan.unfitting)
        several = f"{count} images are not named `{scan.pattern.file_name}` and were ignored, such as `{first}`"
        message = several if count > 1 else f"`{first}` is not named `{scan.pattern.file_name}` and was ignored"
        help = "correct the pattern (`data.images`, `data.masks`), or remove what is not part of the dataset"
        yield make_finding("data-file-unused", message, help, folder, severity="warning")


_IMAGE_SUFFIXES = frozenset(os.fsencode(ending) for ending in IMAGE_EXTENSIONS)


class _FolderScan:
    """The subfolders, links and other files found while the images of a folder are listed; links count as images."""

    def __init__(self, wanted: NameRule) -> None:
        self.pattern, self.sibling_pattern = wanted
        self.unfitting: list[bytes] = []
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
                if self.sibling_pattern is not None and self._is_of_sibling(name, stem):
                    continue
                short = stem if self.pattern.is_whole_name else self.pattern.find_stem(name, stem)
                if short is None:
                    if self.sibling_pattern is None:
                        self.unfitting.append(name)
                    continue
                if not plain and entry.is_symlink():
                    self.links.append(name)
                yield name, short
            else:
                self.others.append(name)

    def _is_of_sibling(self, name: bytes, stem: bytes) -> bool:
        """Return whether a file belongs to the other part of a subset; a pattern for any name matches what is left."""
        other = self.sibling_pattern
        if other is None or other.is_whole_name:
            return False
        return other.find_stem(name, stem) is not None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that points to itself.
        return False
