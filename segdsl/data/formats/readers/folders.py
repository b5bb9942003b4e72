"""Plain folders of images and masks with the same names; the program names the classes."""

from __future__ import annotations

from pathlib import Path

from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import META_FILE, LabelSpace
from segdsl.data.formats.layout import (
    IMAGES,
    MASKS,
    Layout,
    Request,
    find_subset_folders,
    list_folders,
    make_unknown_layout_error,
    pair_files,
    select_subsets,
)
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.words.formats import FOLDERS


def detect_folders(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string, also if a meta file names classes."""
    both = [f for f in (root, *list_folders(root)) if (f / IMAGES).is_dir() and (f / MASKS).is_dir()]
    # With a meta file the same folders are Common Semantic Segmentation.
    if not both or any((folder / META_FILE).is_file() for folder in both):
        return ""
    return f"`{IMAGES}` and `{MASKS}` in {'it' if both[0] == root else f'`{both[0].name}`'}, and no `{META_FILE}`"


def read_folders(root: Path, request: Request, findings: Findings) -> Layout:
    """Read the file names of the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    flat, folders = find_subset_folders(root, request.subsets or (), request.folder_names)
    if not folders:
        raise make_unknown_layout_error(root, request.folder_names)
    names = select_subsets(root, folders, request.subsets, is_flat=flat)
    if request.folder_names[0] == request.folder_names[1]:
        message = f"images and masks cannot both be in `{request.folder_names[0]}`"
        help = "set two different folders: `data.images` and `data.masks`"
        findings.append(make_finding("names-differ", message, help, root))
    # Reading goes on, so that all other errors are reported along with the missing classes.
    if not request.classes:
        help = (
            'name them in the order of their ids: `data.classes = ["background", "…"]`, or `--class NAME` for each;\n'
            f'or put `{META_FILE}` into every subset: {{"label_map": {{"0": "background", "1": "…"}}}}'
        )
        findings.append(make_finding("meta-missing", "plain folders do not define class names", help, root))
    pairs = {name: pair_files(name, folders[name], root, findings, request.folder_names) for name in names}
    labels = LabelSpace(tuple(request.classes)) if request.classes else None
    return Layout(root, FOLDERS, labels, pairs, (), class_file=root)


# Two folders of images prove little, and many broken datasets have them.
register_reader(FOLDERS, FormatReader(read_folders, detect_folders, is_conclusive=False))
