"""The formats that Datumaro imports: indexed once, and their masks rasterized once, into the cache.

The cache key covers names, sizes and times of all files of the dataset: Datumaro runs again only after a change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.decode.images import IMAGE_EXTENSIONS, read_bytes, read_image_size
from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.datumaro_import import guard_import, import_dataset
from segdsl.data.formats.labels import make_annotation_labels
from segdsl.data.formats.layout import Layout, Request, Subset, select_subsets
from segdsl.data.formats.rasterize import (
    AnnotationImage,
    RasterJob,
    Shape,
    Size,
    encode_outline,
    paint_shapes,
    rasterize_subset,
    resolve_background,
    write_cache_file,
)
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.data.formats.readers.benchmarks import SUBSET_ALIASES
from segdsl.data.formats.readers.datumaro import SEGMENT_TYPES, make_background_finding, trace_ellipse
from segdsl.diagnostics import fail
from segdsl.ir.data_format import DataFormat
from segdsl.storage.cache import get_cache_folder
from segdsl.storage.fact_cache import read_stamp
from segdsl.text.json import parse_json
from segdsl.text.plural import format_count
from segdsl.words.imported_formats import list_imported_formats, strip_prefix

VERSION = 1
"""Increment whenever the index changes, so that older cache entries are not found."""
BOX_TYPES = frozenset({"bbox", "rotated_bbox", "polyline", "points", "skeleton"})
"""Annotations of objects without an area, which are reported unless the object has an area as well."""
TEXT_SUFFIXES = frozenset({".txt", ".csv", ".json", ".xml"})
"""Files of annotations and lists, which are part of the digest with their contents."""


@dataclass(frozen=True, slots=True)
class _ImportIndex:
    """What the cache keeps of a dataset: its labels, by subset the path and size of each image, and what is wrong.

    ``unused`` counts the annotations without an area or a label, ``bare`` the items without an image, and ``notes`` are
    what Datumaro logged.
    """

    labels: tuple[str, ...]
    subsets: Mapping[str, list[tuple[str, Size | None]]]
    unused: Mapping[str, int]
    bare: tuple[str, ...]
    notes: tuple[str, ...]


def read_imported(record: DataFormat, root: Path, request: Request, findings: Findings) -> Layout:
    """Import a dataset with Datumaro, or read its index from the cache, and rasterize the requested subsets.

    Append errors and warnings to ``findings``. Raise :class:`SegError` if Datumaro cannot import it.
    """
    name = strip_prefix(record.name)
    source = _ImportedDataset(root, name, *_survey_files(root, name))
    index = source.read_index()
    available = {**index.subsets}
    available |= {n: available[full] for n, full in SUBSET_ALIASES.items() if n not in available and full in available}
    names = select_subsets(root, available, list(index.subsets) if request.subsets is None else request.subsets)
    first, fill = resolve_background(index.labels, request.background, request.ignore)
    added = [request.background] if first and request.background else []
    labels = make_annotation_labels([*added, *index.labels], len(index.labels), request.ignore, root)
    _report_losses(root, index, findings)
    subsets: dict[str, Subset] = {}
    for name in names:
        subsets[name] = _rasterize_items(source, name, available[name], (first, fill), findings)
    return Layout(root, record, labels, subsets, (source.index_file,), class_file=root)


def _report_losses(root: Path, index: _ImportIndex, findings: Findings) -> None:
    """Append findings about annotations and items that are not used."""
    if index.unused:
        listing = ", ".join(f"{count} `{kind}`" for kind, count in sorted(index.unused.items()))
        help = (
            f"annotate what the model should learn as {', '.join(f'`{kind}`' for kind in SEGMENT_TYPES)}, with a label"
        )
        message = f"annotations without an area or a label were ignored: {listing}"
        findings.append(make_finding("annotation-unused", message, help, root, severity="warning"))
    if index.notes:
        more = f", and {format_count(len(index.notes) - 1, 'more warning')}" if len(index.notes) > 1 else ""
        message = f"Datumaro may have left something out: {next(iter(index.notes))}{more}"
        help = "compare the counts of `segdsl data stats` with what you expect; correct the files if they differ"
        findings.append(make_finding("import-incomplete", message, help, root, severity="warning"))
    for item in index.bare:
        message, help = f"item `{item}` has no image", "add the image, or remove the item"
        findings.append(make_finding("image-missing", message, help, root))


def _rasterize_items(
    source: _ImportedDataset,
    name: str,
    images: list[tuple[str, Size | None]],
    ids: tuple[int, int | None],
    findings: Findings,
) -> Subset:
    """Rasterize the masks of a subset. ``ids`` are the id of the first label, and that of pixels without annotation."""
    first, fill = ids
    incomplete: list[str] = []

    def rasterize_item(path: str, size: Size) -> np.ndarray | None:
        mask = paint_shapes(source.read_shapes(path, size, first), size, fill)
        if mask is None:
            incomplete.append(path)
        return mask

    entries = [AnnotationImage(path, f"item `{path}`", [path], size) for path, size in images]
    digest = f"{source.state}{first}{fill}"
    job = RasterJob(source.root, digest, source.root, entries, rasterize_item)
    subset = rasterize_subset(name, source.root, job, findings)
    if incomplete:
        findings.append(make_background_finding(source.root, incomplete))
    return subset


@dataclass(frozen=True)
class _ImportedDataset:
    """A dataset that Datumaro imports when its index or a mask is not in the cache.

    ``state`` changes with every copy of the files, ``digest`` with their names and contents only.
    """

    root: Path
    name: str
    state: str
    digest: str

    @property
    def index_file(self) -> Path:
        """The file of the index in the cache."""
        return get_cache_folder() / "imports" / self.state / "index.json"

    def read_index(self) -> _ImportIndex:
        """Return the index, from the cache if the files are unchanged. Raise :class:`SegError` if the import fails."""
        try:
            content = parse_json(self.index_file.read_bytes())
            subsets = {name: [(path, size and (size[0], size[1])) for path, size in rows]
                       for name, rows in content["subsets"].items()}  # fmt: skip
            return _ImportIndex(tuple(content["labels"]), subsets, content["unused"], tuple(content["bare"]),
                                tuple(content["notes"]))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            # Absent, or damaged: it is made again.
            index = self._make_index()
        write_cache_file(self.index_file, json.dumps({**asdict(index), "files": self.digest}).encode())
        return index

    def _make_index(self) -> _ImportIndex:
        names = [label.name for label in self._get_label_categories()]
        subsets: dict[str, list[tuple[str, Size | None]]] = {}
        unused: Counter[str] = Counter()
        bare: list[str] = []
        for item in self._items:
            path = self._locate_image(item)
            if path is None:
                bare.append(str(item.id))
                continue
            subsets.setdefault(str(item.subset), []).append((path, _get_stated_size(item)))
            unused.update(_find_unused_kinds(item))
        if not names or not subsets:
            message = f"Datumaro finds no {'labels' if subsets else 'images'} here in the format `{self.name}`"
            help = "check the root and the format; the language reference describes the files of each"
            raise fail("import-failed", message, help, path=str(self.root))
        rows = {name: sorted(subsets[name]) for name in sorted(subsets)}
        return _ImportIndex(tuple(names), rows, dict(unused), tuple(sorted(bare)), tuple(self._imported[1]))

    @cached_property
    def _imported(self) -> tuple[Any, list[str]]:
        # Datumaro decodes masks without a bound on their size, so that each header is read first.
        files = _walk_files(self.root, Path(os.path.realpath(self.root)))
        sizes = {path.stem: read_image_size(path)[0] for path in files if path.suffix.lower() in IMAGE_EXTENSIONS}
        return import_dataset(self.root, self.name, sizes)

    @cached_property
    def _items(self) -> list[Any]:
        with guard_import(self.root, self.name):
            return list(self._imported[0])

    @cached_property
    def _items_by_path(self) -> dict[str | None, Any]:
        return {self._locate_image(item): item for item in self._items}

    def _get_label_categories(self) -> list[Any]:
        from datumaro.components.annotation import AnnotationType

        return list(getattr(self._imported[0].categories().get(AnnotationType.label), "items", ()))

    def _locate_image(self, item: Any) -> str | None:
        """Return the path of an item's image relative to the root (maybe outside it), or None if it has none."""
        path = getattr(item.media, "path", None)
        return Path(os.path.relpath(path, self.root)).as_posix() if isinstance(path, str) and path else None

    def read_shapes(self, path: str, size: Size, first_id: int) -> list[Shape]:
        """Return the areas of an item in painting order. Raise :class:`SegError` if one is malformed."""
        from pycocotools import mask as rle

        rows: list[tuple[int, int, int, Shape]] = []
        annotations = [a for a in self._items_by_path[path].annotations if _is_segment(a)]
        ordered = any(annotation.z_order for annotation in annotations)
        for number, annotation in enumerate(annotations, 1):
            with guard_import(self.root, self.name):
                runs = _encode_area(annotation, size)
            if runs is None:
                message = f"area {number} (`{annotation.type.name}`) of item `{path}` does not fit its image"
                help = f"it must have at least three points, or a mask of {size[1]} x {size[0]} pixels (width x height)"
                raise fail("meta-malformed", message, help, path=str(self.root))
            area = 0 if ordered else -int(rle.area(runs))
            rows.append((annotation.z_order, area, number, Shape(runs, first_id + annotation.label)))
        return [shape for *_, shape in sorted(rows, key=lambda row: row[:3])]


def _survey_files(root: Path, name: str) -> tuple[str, str]:
    """Return the state of the dataset in the format ``name`` for the cache, and a digest that all copies of it share.

    Raise :class:`SegError` for links to the outside, which an importer would follow, and for images that are too large.
    """
    # Another version of Datumaro may read the same files in another way.
    tag = (VERSION, version("datumaro"), name, os.fspath(root.absolute()))
    state, digest = hashlib.sha256(repr(tag).encode()), hashlib.sha256()
    for path in _walk_files(root, Path(os.path.realpath(root))):
        stamp, place = read_stamp(path), path.relative_to(root).as_posix()
        state.update(os.fsencode(f"{place}\0{stamp}\0"))
        digest.update(os.fsencode(f"{place}\0{stamp[0] if stamp else -1}\0"))
        if path.suffix.lower() in TEXT_SUFFIXES:
            digest.update(hashlib.sha256(read_bytes(path) if stamp and stamp[0] else b"").digest())
    return state.hexdigest()[:32], digest.hexdigest()


def _walk_files(root: Path, real_root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if Path(folder, f).is_symlink())]):
            path = Path(folder, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(real_root):
                message = f"the link points outside the dataset, to `{os.path.realpath(path)}`"
                help = "copy the file into the dataset: an importer would follow the link"
                raise fail("import-outside", message, help, path=str(path))
            if name in files:
                yield path


def _get_stated_size(item: Any) -> Size | None:
    # Datumaro reads the size from the file if the annotations have none, and that is done here.
    size = getattr(item.media, "_size", None)
    return (int(size[0]), int(size[1])) if size is not None else None


def _is_segment(annotation: Any) -> bool:
    return annotation.type.name in SEGMENT_TYPES and annotation.label is not None


def _find_unused_kinds(item: Any) -> list[str]:
    """Return the kinds of an item's annotations that mark an object, but no labeled area."""
    groups = {a.group for a in item.annotations if _is_segment(a)} - {0}
    return [
        a.type.name
        for a in item.annotations
        if not _is_segment(a) and a.type.name in (*SEGMENT_TYPES, *BOX_TYPES) and a.group not in groups
    ]


def _encode_area(annotation: Any, size: Size) -> Any:
    """Return the area of an annotation as run lengths, or None if it does not fit into an image of this size."""
    from pycocotools import mask as rle

    if annotation.type.name == "ellipse":
        return encode_outline([trace_ellipse(list(annotation.points))], size)
    if annotation.type.name == "polygon":
        return encode_outline([[float(value) for value in annotation.points]], size)
    encoded = getattr(annotation, "_rle", None)
    if encoded is not None:
        # Run lengths as they are in the file: pycocotools, to which Datumaro passes them, trusts their sums.
        content = getattr(encoded, "segmentation", encoded)
        content = content[0] if isinstance(content, list) and isinstance(content[0], dict) else content
        if isinstance(content, dict):
            counts = content.get("counts")
            text = counts.decode("ascii") if isinstance(counts, bytes) else counts
            content = {"size": [int(side) for side in content["size"]], "counts": text}
        return encode_outline(content, size)
    mask = np.asarray(annotation.image)
    return rle.encode(np.asfortranarray(mask != 0, np.uint8)) if mask.shape == size else None


def _has_no_sign(root: Path) -> str:
    """Detect nothing: what Datumaro can import is chosen by name."""
    return ""


for _record in list_imported_formats():
    register_reader(_record, FormatReader(partial(read_imported, _record), _has_no_sign))
