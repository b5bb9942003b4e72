"""Public benchmarks with their own mask ids: Cityscapes, KITTI, ADE20K (scene parsing) and Mapillary Vistas.

Ids are mapped to positions in the list of classes; ids that the benchmark does not score are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segdsl.data.decode.images import read_bytes
from segdsl.data.findings import Findings, check_link, make_finding
from segdsl.data.formats.labels import MAX_CLASSES, LabelSpace
from segdsl.data.formats.layout import Layout, Request, Subset, select_subsets
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.diagnostics import fail
from segdsl.ir.data_format import DataFormat
from segdsl.storage.file_states import encode_names
from segdsl.text.json import parse_json
from segdsl.words.formats import ADE20K, CITYSCAPES, KITTI, VISTAS

SUBSET_ALIASES = {"train": "training", "val": "validation"}
"""Full names of the subsets `train` and `val` in datasets that spell them out."""
STREET_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""The 19 classes that Cityscapes and KITTI score (Cordts et al. 2016, table 1)."""
STREET_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Their ids in `labelIds` masks, which use 0 to 33; all others are not scored."""
ADE_CLASS_FILE = "objectInfo150.txt"


class FilePattern(NamedTuple):
    """The files of one subset: a folder, searched recursively, and the ending of their names."""

    folder: Path
    suffix: str

    def find_files(self, root: Path, findings: Findings) -> dict[str, str]:
        """Return paths relative to ``root``, by path below the folder without the ending. Report dangling links."""
        paths = sorted(self.folder.rglob(f"*{self.suffix}")) if self.folder.is_dir() else []
        files = [p for p in paths if p.name[0] != "." and (not p.is_symlink() or check_link(p, root, findings))]
        keyed = [(p.relative_to(self.folder).as_posix()[: -len(self.suffix)], p) for p in files]
        return {key: p.relative_to(root).as_posix() for key, p in keyed}


class Benchmark(NamedTuple):
    """A benchmark: the files of images and masks of each subset, and the classes with their mapping of mask values."""

    record: DataFormat
    subsets: dict[str, tuple[FilePattern, FilePattern]]
    labels: LabelSpace
    meta_files: tuple[Path, ...] = ()


def read_benchmark(benchmark: Benchmark, root: Path, subsets: Sequence[str] | None, findings: Findings) -> Layout:
    """Read the file names of ``subsets`` (None: all). Append errors and warnings to ``findings``.

    Raise :class:`SegError` if a subset does not exist.
    """
    files = dict(benchmark.subsets)
    # A program names `train` and `val` by default, and should work with a benchmark as downloaded.
    files |= {name: files[full] for name, full in SUBSET_ALIASES.items() if name not in files and full in files}
    names = select_subsets(root, files, list(benchmark.subsets) if subsets is None else subsets)
    pairs = {name: _pair_subset(name, *files[name], root, findings) for name in names}
    meta = benchmark.meta_files
    return Layout(root, benchmark.record, benchmark.labels, pairs, meta, class_file=meta[-1] if meta else root)


def _pair_subset(name: str, images: FilePattern, masks: FilePattern, root: Path, findings: Findings) -> Subset:
    image_paths, mask_paths = images.find_files(root, findings), masks.find_files(root, findings)
    for key in sorted(image_paths.keys() - mask_paths.keys()):
        path = f"{masks.folder.relative_to(root).as_posix()}/{key}{masks.suffix}"
        message = f"the image has no mask: `{path}` does not exist"
        findings.append(
            make_finding("mask-missing", message, "add the mask, or remove the image", root / image_paths[key])
        )
    for key in sorted(mask_paths.keys() - image_paths.keys()):
        path = f"{images.folder.relative_to(root).as_posix()}/{key}{images.suffix}"
        message = f"the mask has no image: `{path}` does not exist"
        findings.append(
            make_finding("image-missing", message, "add the image, or remove the mask", root / mask_paths[key])
        )
    both = sorted(image_paths.keys() & mask_paths.keys())
    if not both and not image_paths and not mask_paths:
        help = f"add images ending in `{images.suffix}` and masks ending in `{masks.suffix}`"
        findings.append(
            make_finding("subset-empty", f"the subset `{name}` has no images and no masks", help, images.folder)
        )
    columns = (encode_names(image_paths[key] for key in both), encode_names(mask_paths[key] for key in both))
    return Subset(name, images.folder, root, root, *columns)


def _build_value_table(ids: Sequence[int], all_values: Sequence[int], ignore: int) -> tuple[int, ...]:
    """Return what each mask value becomes: a class id, ``ignore``, or -1 for a value that the dataset does not use."""
    table = [-1] * 256
    # By convention 255 means ignored, also in a benchmark that does not define it.
    for value in (*all_values, 255):
        table[value] = ignore
    for position, value in enumerate(ids):
        table[value] = position
    return tuple(table)


def _list_folder_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".") if folder.is_dir() else []


def detect_cityscapes(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    return "`leftImg8bit` and `gtFine`" if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir() else ""


def read_cityscapes(root: Path, request: Request, findings: Findings) -> Layout:
    """Read Cityscapes: `leftImg8bit/<subset>/<city>/…`, `gtFine/<subset>/<city>/…_gtFine_labelIds.png`."""
    images, masks = root / "leftImg8bit", root / "gtFine"
    names = [n for n in _list_folder_names(images) if (masks / n).is_dir()]
    _require_subsets(names, root, "Cityscapes", "`leftImg8bit/<subset>` and `gtFine/<subset>`")
    files = {
        n: (FilePattern(images / n, "_leftImg8bit.png"), FilePattern(masks / n, "_gtFine_labelIds.png")) for n in names
    }
    return read_benchmark(Benchmark(CITYSCAPES, files, _make_street_labels(request)), root, request.subsets, findings)


def _make_street_labels(request: Request) -> LabelSpace:
    return LabelSpace(STREET_CLASSES, (), _build_value_table(STREET_IDS, range(34), request.ignore))


def detect_kitti(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    names = _find_kitti_subsets(root)
    return f"`image_2` and `semantic` in `{names[0]}`" if names else ""


def _find_kitti_subsets(root: Path) -> list[str]:
    return [n for n in _list_folder_names(root) if (root / n / "image_2").is_dir() and (root / n / "semantic").is_dir()]


def read_kitti(root: Path, request: Request, findings: Findings) -> Layout:
    """Read KITTI semantic segmentation: `<subset>/image_2`, and `<subset>/semantic` with Cityscapes ids."""
    names = _find_kitti_subsets(root)
    _require_subsets(names, root, "KITTI", "`<subset>/image_2` and `<subset>/semantic`")
    files = {n: (FilePattern(root / n / "image_2", ".png"), FilePattern(root / n / "semantic", ".png")) for n in names}
    return read_benchmark(Benchmark(KITTI, files, _make_street_labels(request)), root, request.subsets, findings)


def detect_ade20k(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    names = _find_ade_subsets(root)
    return f"`images/{names[0]}` and `annotations/{names[0]}`" if names else ""


def _find_ade_subsets(root: Path) -> list[str]:
    return [n for n in _list_folder_names(root / "images") if (root / "annotations" / n).is_dir()]


def read_ade20k(root: Path, request: Request, findings: Findings) -> Layout:
    """Read ADE20K scene parsing: `images/<subset>`, `annotations/<subset>` (0: ignored), and the class names."""
    names = _find_ade_subsets(root)
    _require_subsets(names, root, "ADE20K (scene parsing)", "`images/<subset>` and `annotations/<subset>`")
    files = {
        n: (FilePattern(root / "images" / n, ".jpg"), FilePattern(root / "annotations" / n, ".png")) for n in names
    }
    file, classes = root / ADE_CLASS_FILE, request.classes
    if classes is None and file.is_file():
        # One line per class after the heading; the last column holds its synonyms, the usual name first.
        rows = [
            line.split("\t") for line in read_bytes(file).decode("utf-8", "replace").splitlines()[1:] if line.strip()
        ]
        classes = [row[-1].split(",")[0].strip() for row in rows]
    if not classes or len(classes) > MAX_CLASSES - 1 or len(set(classes)) != len(classes):
        option = '`data.classes = ["wall", "…"]`, `--class NAME` for each'
        help = f"put `{ADE_CLASS_FILE}` into the root, or name them: {option}"
        raise fail("meta-missing", "the class names are missing or not unique", help, path=str(file))
    # Mask value 0 stands for all other objects, and class ids start at 1.
    table = _build_value_table(range(1, len(classes) + 1), [0], request.ignore)
    meta = (file,) if file.is_file() else ()
    benchmark = Benchmark(ADE20K, files, LabelSpace(tuple(classes), (), table), meta)
    return read_benchmark(benchmark, root, request.subsets, findings)


VISTAS_VERSIONS = (("config_v2.0.json", Path("v2.0", "labels")), ("config_v1.2.json", Path("v1.2", "labels")),
          ("config.json", Path("labels")))  # fmt: skip
"""Versions of Vistas, newest first: the file with the classes, and the mask folder within a subset."""


def _find_vistas(root: Path) -> tuple[Path, dict[str, Path]] | None:
    for config, labels in VISTAS_VERSIONS:
        names = {n: root / n / labels for n in _list_folder_names(root) if (root / n / labels).is_dir()}
        names = {n: folder for n, folder in names.items() if (root / n / "images").is_dir()}
        # Version 2.0 comes with the masks of 1.2 beside its own; the first match is the newest.
        if (root / config).is_file() and names:
            return root / config, names
    return None


def detect_vistas(root: Path) -> str:
    """Return what marks ``root`` as a dataset of this format, or an empty string."""
    found = _find_vistas(root)
    return f"`{found[0].name}` and `{next(iter(found[1]))}/images`" if found else ""


def read_vistas(root: Path, request: Request, findings: Findings) -> Layout:
    """Read Mapillary Vistas 1.2 or 2.0: `<subset>/images`, `<subset>/…/labels`, and the classes in `config….json`."""
    version = _find_vistas(root)
    if version is None:
        _require_subsets(
            [], root, "Mapillary Vistas", "`config_v2.0.json`, `<subset>/images` and `<subset>/v2.0/labels`"
        )
        raise AssertionError
    file, masks = version
    try:
        entries = [dict(entry) for entry in parse_json(read_bytes(file))["labels"]]
        names = [str(entry["readable"]) for entry in entries]
        scored = [k for k, entry in enumerate(entries) if entry.get("evaluate", True) is not False]
    except (ValueError, KeyError, TypeError):
        help = "download it again; it should have a list `labels` of objects with `readable` and `evaluate`"
        raise fail("meta-malformed", "the file does not define the classes", help, path=str(file)) from None
    classes = [names[k] for k in scored]
    if not classes or len(entries) >= MAX_CLASSES or len(set(classes)) != len(classes):
        unique = len(set(classes))
        message = f"the file declares {len(entries)} labels, of which {unique} are scored under unique names"
        raise fail("meta-malformed", message, "download it again", path=str(file))
    files = {n: (FilePattern(root / n / "images", ".jpg"), FilePattern(folder, ".png")) for n, folder in masks.items()}
    labels = LabelSpace(tuple(classes), (), _build_value_table(scored, range(len(entries)), request.ignore))
    return read_benchmark(Benchmark(VISTAS, files, labels, (file,)), root, request.subsets, findings)


def _require_subsets(names: Sequence[str], root: Path, dataset: str, layout: str) -> None:
    if not names:
        raise fail(
            "data-layout-unknown", f"this is not a {dataset} dataset", f"it should contain {layout}", path=str(root)
        )


register_reader(CITYSCAPES, FormatReader(read_cityscapes, detect_cityscapes))
register_reader(KITTI, FormatReader(read_kitti, detect_kitti))
register_reader(ADE20K, FormatReader(read_ade20k, detect_ade20k))
register_reader(VISTAS, FormatReader(read_vistas, detect_vistas))
