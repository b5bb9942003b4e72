"""The index of a data set: its classes, and the files of each subset, sorted by id.

Datumaro imports; what it would drop in silence or stumble over is checked before (``layout``). It decodes every mask
while importing, so that a tree of files that it has read once is not given to it again until a file changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segdsl.data.cache import FactCache, stamp
from segdsl.data.formats import FORMATS, read_layout
from segdsl.data.images import Reading
from segdsl.data.labels import META_FILE, LabelSpace
from segdsl.data.layout import COMMON, Findings, Layout, Request, Subset
from segdsl.diagnostics import Diagnostic, SegError, fail

MAX_SHOWN = 20
"""Errors that a run reports before it says how many more there are."""


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
    for subset in layout.subsets.values() if layout.format == COMMON else ():
        if not _imports(layout, subset):
            _explain(layout, format, asked)
    labels = layout.labels
    digest = _digest(layout)
    return Index(layout.root, layout.format, labels, asked.ignore, layout.subsets, asked.reading, digest)


def shortened(errors: Findings, limit: int = MAX_SHOWN) -> Findings:
    """The first of many errors, the last of them with the number of those left out."""
    if len(errors) <= limit:
        return errors
    last = errors[limit - 1]
    rest = f"{last.help} ({len(errors) - limit} more errors; `segdsl data check` lists all)"
    return [*errors[: limit - 1], Diagnostic(last.slug, last.message, rest, path=last.path)]


def _digest(layout: Layout) -> str:
    total = hashlib.sha256()
    for file in layout.meta:
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    for subset in layout.subsets.values():
        total.update(f"{subset.name}\0".encode())
        for position in range(len(subset)):
            for path in (subset.image(position), *(() if layout.drawn else (subset.mask(position),))):
                size = (stamp(path) or (0, 0))[0]
                total.update(os.fsencode(path.name) + f"\0{size}\0".encode())
    return total.hexdigest()


def _imports(layout: Layout, subset: Subset) -> bool:
    """Whether Datumaro imports the subset; these very files are not given to it again once they went through."""
    state = _state(subset)
    with FactCache(layout.root) as cache:
        if cache.get(f"{subset.name}/", (len(subset), 0)) == state:
            return True
        if not _import(layout, subset):
            return False
        cache.put(f"{subset.name}/", (len(subset), 0), state)
        return True


def _state(subset: Subset) -> str:
    total = hashlib.sha256((subset.folder / META_FILE).read_bytes())
    for position in range(len(subset)):
        for path in (subset.image(position), subset.mask(position)):
            total.update(os.fsencode(path.name) + repr(stamp(path)).encode())
    return total.hexdigest()


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
    from segdsl.data.check import check_data

    check_data(layout.root, format, asked).require()


def _disagrees(subset: Subset, message: str) -> SegError:
    help = "report it as a bug of segdsl, with the names of the files; a plain layout of unique names avoids it"
    return fail("index-disagrees", f"Datumaro reads this subset differently: {message}", help, path=str(subset.folder))


__all__ = ["FORMATS", "Index", "Subset", "open_index", "shortened"]
