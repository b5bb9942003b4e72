"""Plain folders of images and masks with the same names; the program names the classes."""

from __future__ import annotations

from pathlib import Path

from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import META_FILE, LabelSpace
from segdsl.data.formats.layout import (
    DEFAULT_PATTERNS,
    IMAGES,
    MASKS,
    FilePatterns,
    Layout,
    Request,
    find_subset_folders,
    list_folders,
    make_unknown_layout_error,
    parse_patterns,
    select_subsets,
)
from segdsl.data.formats.pairing import pair_files
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.ir.file_pattern import SUBSET
from segdsl.words.formats import FOLDERS

USUAL_PATTERNS = tuple(
    parse_patterns(images, masks)
    for images, masks in (
        (f"{IMAGES}/{SUBSET}", f"{MASKS}/{SUBSET}"),
        (f"img_dir/{SUBSET}", f"ann_dir/{SUBSET}"),
        (f"{IMAGES}/{SUBSET}", f"labels/{SUBSET}"),
    )
)
"""Layouts with the subsets inside the folders of images and masks, which are read without a setting."""


def detect_folders(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string, also if a meta file names classes."""
    swapped = find_usual_patterns(root)
    if swapped:
        return f"`{swapped[0].folder}` and `{swapped[1].folder}`"
    both = [f for f in (root, *list_folders(root)) if (f / IMAGES).is_dir() and (f / MASKS).is_dir()]
    # With a meta file the same folders are Common Semantic Segmentation.
    if not both or any((folder / META_FILE).is_file() for folder in both):
        return ""
    return f"`{IMAGES}` and `{MASKS}` in {'it' if both[0] == root else f'`{both[0].name}`'}, and no `{META_FILE}`"


def find_usual_patterns(root: Path) -> FilePatterns | None:
    """Return the patterns of a dataset with the subsets inside its folders of images and masks, or None."""
    for patterns in USUAL_PATTERNS:
        subsets = find_subset_folders(root, patterns=patterns)[1].values()
        # In other formats the folders have these names too, but hold something else than masks.
        if any(next(folders.masks.glob("*.png"), None) for folders in subsets):
            return patterns
    return None


def read_folders(root: Path, request: Request, findings: Findings) -> Layout:
    """Read the file names of the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    patterns = request.patterns
    if patterns == DEFAULT_PATTERNS:
        patterns = find_usual_patterns(root) or patterns
    flat, folders = find_subset_folders(root, request.subsets or (), patterns)
    if not folders:
        raise make_unknown_layout_error(root, patterns)
    names = select_subsets(root, folders, request.subsets, is_flat=flat)
    if patterns[0].folder == patterns[1].folder and patterns[1].is_whole_name:
        message = f"images and masks cannot both be in `{patterns[0].folder}`"
        help = "set two different folders, or what the names of masks have in addition: `data.images` and `data.masks`"
        findings.append(make_finding("names-differ", message, help, root))
    # Reading goes on, so that all other errors are reported along with the missing classes.
    if not request.classes:
        help = (
            'name them in the order of their ids: `data.classes = ["background", "…"]`, or `--class NAME` for each;\n'
            f'or put `{META_FILE}` into every subset: {{"label_map": {{"0": "background", "1": "…"}}}}'
        )
        shown = "" if patterns == DEFAULT_PATTERNS else f" (`{patterns[0].folder}`, `{patterns[1].folder}`)"
        findings.append(make_finding("meta-missing", f"plain folders{shown} do not define class names", help, root))
    pairs = {name: pair_files(name, folders[name], root, findings, patterns) for name in names}
    labels = LabelSpace(tuple(request.classes)) if request.classes else None
    return Layout(root, FOLDERS, labels, pairs, (), class_file=root)


# Two folders of images prove little, and many broken datasets have them.
register_reader(FOLDERS, FormatReader(read_folders, detect_folders, is_conclusive=False))
