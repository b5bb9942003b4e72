"""The index of a dataset: its classes, and the files of each subset, sorted by id.

Common Semantic Segmentation is read by this package, and Datumaro's importer cross-checks the result. Datumaro decodes
every mask, so files that it has imported once are skipped until one changes, and subsets of more than
:data:`MAX_DATUMARO_ITEMS` items are never imported.
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

from segdsl.data.decode.images import ReadOptions, read_image_size
from segdsl.data.findings import Findings
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import COMMON_FORMAT, Layout, Request, Subset
from segdsl.data.formats.registry import FORMATS, read_layout
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.storage.fact_cache import FactCache
from segdsl.storage.file_states import iterate_blocks, read_states
from segdsl.text.plural import format_count

MAX_ERRORS = 20
"""Number of errors that a run prints before it only counts the rest."""
MAX_DATUMARO_ITEMS = 5_000
"""Largest subset that Datumaro imports; masks of two megapixels take about ten milliseconds each."""


@dataclass(frozen=True, slots=True)
class Index:
    """A dataset: its label space, the ignore value, its subsets by name, and how to read its images."""

    root: Path
    format: str
    labels: LabelSpace
    ignore: int
    subsets: dict[str, Subset]
    read_options: ReadOptions
    digest: str
    """Hash of names, sizes and meta files of all subsets: equal for the same data on another machine."""
    write_times: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """`st_mtime_ns` of the images of each subset, and of its masks unless they are rasterized."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes to train on, in the order of their ids."""
        return self.labels.classes

    def get_subset(self, name: str) -> Subset:
        """Return the subset ``name``. Raise :class:`SegError` if the index was opened without it."""
        if name not in self.subsets:
            have = ", ".join(f"`{n}`" for n in self.subsets)
            message = f"the dataset has no subset `{name}`, only {have}"
            raise fail("subset-missing", message, "use one of these", path=str(self.root))
        return self.subsets[name]


def open_index(root: str | Path, format: str, request: Request) -> Index:
    """Index the requested subsets of the dataset at ``root``.

    Raise :class:`SegError` with every missing, duplicate and misnamed file. Contents are checked by ``check_data``.
    """
    found: Findings = []
    layout = read_layout(Path(root), format, request, found)
    errors = [d for d in found if d.severity == "error"]
    if errors or layout.labels is None:
        raise SegError(truncate_errors(errors))
    digest, found_states, written = _compute_digests(layout)
    for name, subset in layout.subsets.items() if layout.format == COMMON_FORMAT else ():
        if len(subset) <= MAX_DATUMARO_ITEMS and not _is_importable(layout, subset, found_states[name]):
            _raise_check_errors(layout, format, request)
    return Index(
        layout.root,
        layout.format,
        layout.labels,
        request.void_id,
        layout.subsets,
        request.read_options,
        digest,
        written,
    )


def truncate_errors(errors: Findings, limit: int = MAX_ERRORS) -> Findings:
    """Return the first ``limit`` errors; the last of them mentions how many were left out."""
    if len(errors) <= limit:
        return errors
    last = errors[limit - 1]
    rest = f"{last.help} ({len(errors) - limit} more errors; `segdsl data check` lists all)"
    return [*errors[: limit - 1], Diagnostic(last.slug, last.message, rest, path=last.path)]


def _compute_digests(layout: Layout) -> tuple[str, dict[str, str], dict[str, list[np.ndarray]]]:
    """Return the digest of the dataset, a digest of each subset's files with their times, and the write times.

    The first is the same wherever the data is; the second changes with every copy, for caches on this machine.
    """
    total = hashlib.sha256()
    for file in layout.meta_files:
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    states_by_subset: dict[str, str] = {}
    write_times: dict[str, list[np.ndarray]] = {}
    for subset in layout.subsets.values():
        total.update(f"{subset.name}\0".encode())
        state = hashlib.sha256(b"".join(file.read_bytes() for file in layout.meta_files))
        folders = [subset.image_folder] + ([] if layout.is_rasterized else [subset.mask_folder])
        times: list[list[np.ndarray]] = [[np.array([], np.int64)] for _ in folders]
        for columns in iterate_blocks(subset.images, subset.masks):
            rows: list[list[bytes]] = []
            for folder, names, column in zip(folders, columns, times, strict=False):
                stats = read_states(folder, names)
                state.update(names.tobytes() + stats[:, :2].tobytes())
                rows.append(_encode_names_and_sizes(names, stats))
                column.append(stats[:, 2])
            # Image, mask, image, mask, …: runs store this digest, so the order must never change.
            total.update(b"".join(text for row in zip(*rows, strict=True) for text in row))
        states_by_subset[subset.name] = state.hexdigest()
        write_times[subset.name] = [np.concatenate(column) for column in times]
    return total.hexdigest(), states_by_subset, write_times


def _encode_names_and_sizes(names: np.ndarray, file_states: np.ndarray) -> list[bytes]:
    """Encode each file's name without folders, and its size (0 if it does not exist), for the digest."""
    sizes = np.maximum(file_states[:, 0], 0).tolist()
    return [
        b"%s\0%d\0" % (name[name.rfind(b"/") + 1 :], size) for name, size in zip(names.tolist(), sizes, strict=True)
    ]


def _is_importable(layout: Layout, subset: Subset, files_digest: str) -> bool:
    """Return whether Datumaro imports the subset. Success is cached for the digest ``files_digest`` of its files."""
    with FactCache(layout.root) as cache:
        if cache.get(f"{subset.name}/", (len(subset), 0)) == files_digest:
            return True
        if _has_undecodable_mask(subset) or not _import_with_datumaro(layout, subset):
            return False
        cache.put(f"{subset.name}/", (len(subset), 0), files_digest)
        return True


def _has_undecodable_mask(subset: Subset) -> bool:
    """Return whether a mask is too large or too damaged to be passed to another library."""
    try:
        for position in range(len(subset)):
            read_image_size(subset.get_mask_path(position))
    except SegError:
        return True
    return False


def _import_with_datumaro(layout: Layout, subset: Subset) -> bool:
    """Import once with Datumaro; return False on failure. Raise :class:`SegError` if it differs from our own index."""
    assert layout.labels is not None
    with _silence_logging():
        # Import each subset on its own: at the root, Datumaro takes every folder for a subset.
        from datumaro.components.annotation import AnnotationType
        from datumaro.components.dataset import Dataset

        # Datumaro raises anything on data that it does not like; our own check then finds the cause.
        try:
            dataset = Dataset.import_from(str(subset.folder), "common_semantic_segmentation")
            categories = dataset.categories().get(AnnotationType.label)
            imported = {item.id for item in dataset if item.media is not None}
        except Exception:
            return False
    names = tuple(str(getattr(c, "name", c)) for c in getattr(categories, "items", ()))
    if names != layout.labels.mask_classes:
        raise _make_disagreement_error(subset, f"it finds the classes {', '.join(names)}")
    lost = [stem for stem in subset.list_item_ids() if stem not in imported]
    if lost:
        raise _make_disagreement_error(subset, f"it misses {format_count(len(lost), 'item')}, such as `{lost[0]}`")
    return True


@contextlib.contextmanager
def _silence_logging() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _raise_check_errors(layout: Layout, format: str, request: Request) -> None:
    """Find the files that stopped an import with our own check. Raise :class:`SegError` with all errors."""
    # If there are no errors, the dataset is usable although Datumaro cannot read it: palette masks whose ignored pixels
    # have a color of their own (as in Pascal VOC), or hidden files.
    from segdsl.data.check.checker import check_data

    check_data(layout.root, format, request).raise_errors()


def _make_disagreement_error(subset: Subset, message: str) -> SegError:
    help = "please report this as a bug of segdsl, with the file names; a plain layout with unique names avoids it"
    return fail("index-disagrees", f"Datumaro reads this subset differently: {message}", help, path=str(subset.folder))


__all__ = ["FORMATS", "Index", "Subset", "open_index", "truncate_errors"]
