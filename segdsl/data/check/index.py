"""The index of a dataset: its classes, and the files of each subset, sorted by id.

A damaged mask must stop a run before it starts, so every mask is decoded once, and again only if a file changes; in
subsets of more than :data:`MAX_VERIFIED_ITEMS` items, masks are first decoded when they are used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from segdsl.data.check.dataset_findings import make_single_class_finding
from segdsl.data.check.facts import read_mask_facts, read_pair_facts
from segdsl.data.decode.images import ReadOptions
from segdsl.data.findings import Findings
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Layout, Request, Subset
from segdsl.data.formats.registry import read_layout
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.data_format import DATA_FORMATS
from segdsl.storage.fact_cache import FactCache
from segdsl.storage.file_states import iterate_blocks, read_states

MAX_ERRORS = 20
"""Number of errors that a run prints before it only counts the rest."""
MAX_VERIFIED_ITEMS = 5_000
"""Largest subset whose masks are decoded in advance; masks of two megapixels take about ten milliseconds each."""

MAX_LOOKED_AT = 100
"""Masks of a subset that are looked at to explain what is wrong with all."""


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
    digest, states, written = _compute_digests(layout)
    # Rasterized masks are our own files.
    for name, subset in () if layout.format.is_rasterized else layout.subsets.items():
        if len(subset) <= MAX_VERIFIED_ITEMS:
            _require_readable_masks(layout, layout.labels, subset, states[name])
    return Index(
        layout.root,
        layout.format.name,
        layout.labels,
        request.void_id,
        layout.subsets,
        request.read_options,
        digest,
        written,
    )


def explain_single_class(index: Index) -> Diagnostic:
    """Return the error for a dataset with a single class, after a look at some of its masks."""
    pixels = np.zeros(256, np.int64)
    with FactCache(index.root) as cache:
        for subset in index.subsets.values():
            for mask in islice(read_mask_facts(subset, index.labels, cache), MAX_LOOKED_AT):
                for value, count in mask.counts.items() if mask else ():
                    pixels[value] += count
    return make_single_class_finding(index.root, DATA_FORMATS[index.format], index.classes[0], pixels)


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
        folders = [subset.image_folder] + ([] if layout.format.is_rasterized else [subset.mask_folder])
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


def _require_readable_masks(layout: Layout, labels: LabelSpace, subset: Subset, files_digest: str) -> None:
    """Decode every mask of a subset once. Raise :class:`SegError` with the unreadable files of the dataset.

    Success is cached for the digest ``files_digest`` of the subset's files.
    """
    with FactCache(layout.root) as cache:
        key, state = f"{subset.name}/", (len(subset), 0)
        if cache.get(key, state) == files_digest:
            return
        if all(mask is not None for mask in read_mask_facts(subset, labels, cache)):
            cache.put(key, state, files_digest)
            return
        parts = (read_pair_facts(part, labels, cache) for part in layout.subsets.values())
        found = [error for facts in parts for pair in facts for error in pair.diagnostics]
    raise SegError(truncate_errors(found))


__all__ = ["Index", "Subset", "open_index", "truncate_errors"]
