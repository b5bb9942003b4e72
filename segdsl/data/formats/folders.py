"""Plain folders: images and masks of the same names, whose classes the program names."""

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
    """What of this format a folder has; empty where it has not enough, or where a meta file names classes."""
    both = [f for f in (root, *folders_in(root)) if (f / IMAGES).is_dir() and (f / MASKS).is_dir()]
    if not both or any((folder / META_FILE).is_file() for folder in both):
        return ""
    return f"`{IMAGES}` and `{MASKS}` in {'it' if both[0] == root else f'`{both[0].name}`'}, and no `{META_FILE}`"


def read_folders(root: Path, asked: Request, found: Findings) -> Layout:
    """Reads the names of the subsets that are asked for. Appends what is at fault to ``found``.

    Raises :class:`SegError` where there is no data set of this format at all.
    """
    flat, folders = subset_folders(root, asked.subsets or (), asked.parts)
    if not folders:
        raise nothing_found(root, asked.parts)
    wanted = wanted_subsets(root, folders, asked.subsets, flat=flat)
    if asked.parts[0] == asked.parts[1]:
        message = f"images and masks cannot both lie in `{asked.parts[0]}`"
        found.append(finding("names-differ", message, "name two folders: `data.images`, `data.masks`", root))
    if not asked.classes:
        help = (
            'name them in the order of their ids: `data.classes = ["background", "…"]`, or `--class NAME` for each;\n'
            f'or write `{META_FILE}` into every subset: {{"label_map": {{"0": "background", "1": "…"}}}}'
        )
        found.append(finding("meta-missing", "plain folders do not say what the classes are called", help, root))
    pairs = {name: pairs_of(name, folders[name], root, found, asked.parts) for name in wanted}
    return Layout(root, "folders", LabelSpace(tuple(asked.classes)) if asked.classes else None, pairs, ())
