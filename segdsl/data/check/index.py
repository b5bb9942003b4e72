"""The index of a data set: its classes, and the files of each subset, sorted by id.

Datumaro imports; what it would drop in silence or stumble over is checked before (``layout``). It decodes every mask
while importing, and makes objects of each. So a tree of files that it has read once is not given to it again until a
file changes, and a subset of more than :data:`MAX_IMPORTED` items not at all: there our own reading stands alone, which
smaller sets show to be the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdsl.data.decode.images import Reading, picture_size
from segdsl.data.findings import Findings
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import COMMON, Layout, Request, Subset
from segdsl.data.formats.registry import FORMATS, read_layout
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.storage.fact_cache import FactCache
from segdsl.storage.file_states import blocks, states

MAX_SHOWN = 20
"""Errors that a run reports before it says how many more there are."""
MAX_IMPORTED = 5_000
"""Items of a subset that Datumaro is given: some ten milliseconds each, where a mask has two megapixels."""


@dataclass(frozen=True, slots=True)
class Index:
    """A data set: its label space, the value of void, its subsets by name, and how its images are read."""

    root: Path
    format: str
    labels: LabelSpace
    ignore: int
    subsets: dict[str, Subset]
    reading: Reading
    digest: str
    """Names, sizes and meta files of all subsets in one hash: the same for the same data on another machine."""
    written: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """When the images of each subset, and its masks where they are files of it, were written (`st_mtime_ns`)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are learnt, in the order of their ids."""
        return self.labels.classes

    def subset(self, name: str) -> Subset:
        """The subset called ``name``. Raises :class:`SegError` where the index was opened without it."""
        if name not in self.subsets:
            have = ", ".join(f"`{n}`" for n in self.subsets)
            message = f"the data set has no subset `{name}`, it has {have}"
            raise fail("subset-missing", message, "name one of them", path=str(self.root))
        return self.subsets[name]


def open_index(root: str | Path, format: str, asked: Request) -> Index:
    """Indexes what is asked for of the data set at ``root``.

    Raises :class:`SegError` with every missing, doubled and misnamed file; contents are checked by ``check_data``.
    """
    found: Findings = []
    layout = read_layout(Path(root), format, asked, found)
    errors = [d for d in found if d.severity == "error"]
    if errors or layout.labels is None:
        raise SegError(shortened(errors))
    digest, found_states, written = _digests(layout)
    for name, subset in layout.subsets.items() if layout.format == COMMON else ():
        if len(subset) <= MAX_IMPORTED and not _imports(layout, subset, found_states[name]):
            _explain(layout, format, asked)
    return Index(layout.root, layout.format, layout.labels, asked.void, layout.subsets, asked.reading, digest, written)


def shortened(errors: Findings, limit: int = MAX_SHOWN) -> Findings:
    """The first of many errors, the last of them with the number of those left out."""
    if len(errors) <= limit:
        return errors
    last = errors[limit - 1]
    rest = f"{last.help} ({len(errors) - limit} more errors; `segdsl data check` lists all)"
    return [*errors[: limit - 1], Diagnostic(last.slug, last.message, rest, path=last.path)]


def _digests(layout: Layout) -> tuple[str, dict[str, str], dict[str, list[np.ndarray]]]:
    """The digest of the data; for each subset one of the very files: of their names, sizes and times of change; and
    when the files were written."""
    total = hashlib.sha256()
    for file in layout.meta:
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    found: dict[str, str] = {}
    written: dict[str, list[np.ndarray]] = {}
    for subset in layout.subsets.values():
        total.update(f"{subset.name}\0".encode())
        state = hashlib.sha256(b"".join(file.read_bytes() for file in layout.meta))
        folders = [subset.image_folder] + ([] if layout.drawn else [subset.mask_folder])
        times: list[list[np.ndarray]] = [[np.array([], np.int64)] for _ in folders]
        for columns in blocks(subset.images, subset.masks):
            rows: list[list[bytes]] = []
            for folder, names, column in zip(folders, columns, times, strict=False):
                known = states(folder, names)
                state.update(names.tobytes() + known[:, :2].tobytes())
                rows.append(_named_sizes(names, known))
                column.append(known[:, 2])
            total.update(b"".join(text for row in zip(*rows, strict=True) for text in row))
        found[subset.name] = state.hexdigest()
        written[subset.name] = [np.concatenate(column) for column in times]
    return total.hexdigest(), found, written


def _named_sizes(names: np.ndarray, stamped: np.ndarray) -> list[bytes]:
    """The name without folders and the size (0 without a file) of each file, as the digest takes them."""
    sizes = np.maximum(stamped[:, 0], 0).tolist()
    return [
        b"%s\0%d\0" % (name[name.rfind(b"/") + 1 :], size) for name, size in zip(names.tolist(), sizes, strict=True)
    ]


def _imports(layout: Layout, subset: Subset, state: str) -> bool:
    """Whether Datumaro imports the subset; the files of one ``state`` are not given to it again once they went
    through."""
    with FactCache(layout.root) as cache:
        if cache.get(f"{subset.name}/", (len(subset), 0)) == state:
            return True
        if _has_a_bomb(subset) or not _import(layout, subset):
            return False
        cache.put(f"{subset.name}/", (len(subset), 0), state)
        return True


def _has_a_bomb(subset: Subset) -> bool:
    """Whether a mask is so large, or so damaged, that another reader should not be given it."""
    try:
        for position in range(len(subset)):
            picture_size(subset.mask(position))
    except SegError:
        return True
    return False


def _import(layout: Layout, subset: Subset) -> bool:
    """One import by Datumaro, False where it fails. Raises :class:`SegError` where it differs from our own reading."""
    assert layout.labels is not None
    with _quiet():
        # Each subset is imported by itself: in the form with subset folders Datumaro takes every folder for a subset.
        from datumaro.components.annotation import AnnotationType
        from datumaro.components.dataset import Dataset

        try:
            dataset = Dataset.import_from(str(subset.folder), "common_semantic_segmentation")
            categories = dataset.categories().get(AnnotationType.label)
            imported = {item.id for item in dataset if item.media is not None}
        except Exception:
            return False
    names = tuple(str(getattr(c, "name", c)) for c in getattr(categories, "items", ()))
    if names != layout.labels.in_masks:
        raise _disagrees(subset, f"it reads the classes {', '.join(names)}")
    lost = [stem for stem in subset.ids() if stem not in imported]
    if lost:
        raise _disagrees(subset, f"it leaves out {len(lost)} items, such as `{lost[0]}`")
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _explain(layout: Layout, format: str, asked: Request) -> None:
    """Says which files stopped an import, by our own check. Raises :class:`SegError` with all that is at fault.

    Where nothing is, the set is usable although Datumaro cannot read it: palette masks whose void has a colour of its
    own (as Pascal VOC has them), hidden files.
    """
    from segdsl.data.check.checker import check_data

    check_data(layout.root, format, asked).require()


def _disagrees(subset: Subset, message: str) -> SegError:
    help = "report it as a bug of segdsl, with the names of the files; a plain layout of unique names avoids it"
    return fail("index-disagrees", f"Datumaro reads this subset differently: {message}", help, path=str(subset.folder))


__all__ = ["FORMATS", "Index", "Subset", "open_index", "shortened"]
