"""Plain folders of images and masks with the same names; the program names the classes."""

from __future__ import annotations

from pathlib import Path

from segdsl.data.findings import Findings, finding
from segdsl.data.formats.labels import META_FILE, LabelSpace
from segdsl.data.formats.layout import (
    IMAGES,
    MASKS,
    Layout,
    Request,
    folders_in,
    nothing_found,
    pairs_of,
    subset_folders,
    wanted_subsets,
)


def looks_like_folders(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string, also if a meta file names classes."""
    both = [f for f in (root, *folders_in(root)) if (f / IMAGES).is_dir() and (f / MASKS).is_dir()]
    # With a meta file the same folders are Common Semantic Segmentation.
    if not both or any((folder / META_FILE).is_file() for folder in both):
        return ""
    return f"`{IMAGES}` and `{MASKS}` in {'it' if both[0] == root else f'`{both[0].name}`'}, and no `{META_FILE}`"


def read_folders(root: Path, asked: Request, found: Findings) -> Layout:
    """Read the file names of the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if ``root`` is not a dataset of this format.
    """
    flat, folders = subset_folders(root, asked.subsets or (), asked.parts)
    if not folders:
        raise nothing_found(root, asked.parts)
    names = wanted_subsets(root, folders, asked.subsets, flat=flat)
    if asked.parts[0] == asked.parts[1]:
        message = f"images and masks cannot both be in `{asked.parts[0]}`"
        help = "set two different folders: `data.images` and `data.masks`"
        found.append(finding("names-differ", message, help, root))
    # Reading goes on, so that all other errors are reported along with the missing classes.
    if not asked.classes:
        help = (
            'name them in the order of their ids: `data.classes = ["background", "…"]`, or `--class NAME` for each;\n'
            f'or put `{META_FILE}` into every subset: {{"label_map": {{"0": "background", "1": "…"}}}}'
        )
        found.append(finding("meta-missing", "plain folders do not define class names", help, root))
    pairs = {name: pairs_of(name, folders[name], root, found, asked.parts) for name in names}
    return Layout(root, "folders", LabelSpace(tuple(asked.classes)) if asked.classes else None, pairs, ())
