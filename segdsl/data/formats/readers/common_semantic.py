"""Common Semantic Segmentation: images, index masks, and a meta file with the classes in every subset."""

from __future__ import annotations

from pathlib import Path

from segdsl.data.findings import Findings
from segdsl.data.formats.labels import META_FILE, LabelSpace, find_shared_label_space, read_label_space
from segdsl.data.formats.layout import (
    IMAGES,
    MASKS,
    Layout,
    Request,
    find_subset_folders,
    list_folders,
    make_unknown_layout_error,
    select_subsets,
)
from segdsl.data.formats.pairing import pair_files
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.diagnostics import SegError
from segdsl.words.formats import COMMON


def detect_common(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    # The root itself comes first: it is the whole dataset in the flat form, where subset folders are absent.
    for folder in (root, *list_folders(root)):
        if (folder / META_FILE).is_file() and ((folder / MASKS).is_dir() or (folder / IMAGES).is_dir()):
            return f"`{META_FILE}` in {'it' if folder == root else f'`{folder.name}`'}"
    return ""


def read_common(root: Path, request: Request, findings: Findings) -> Layout:
    """Read file names and meta files of the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    flat, folders = find_subset_folders(root, request.subsets or (), request.patterns)
    if not folders:
        raise make_unknown_layout_error(root, request.patterns)
    names = select_subsets(root, folders, request.subsets, is_flat=flat)
    files = {name: folders[name].folder / META_FILE for name in names}
    spaces: dict[str, LabelSpace] = {}
    for name in names:
        try:
            spaces[name] = read_label_space(files[name])
        except SegError as error:
            findings.extend(error.diagnostics)
    labels = find_shared_label_space(spaces, files, findings)
    pairs = {name: pair_files(name, folders[name], root, findings, request.patterns) for name in names}
    meta = tuple(dict.fromkeys(files.values()))
    return Layout(root, COMMON, labels, pairs, meta, class_file=meta[0] if meta else root)


register_reader(COMMON, FormatReader(read_common, detect_common))
