"""The dataset formats that Datumaro reads and segdsl does not: `data.format = "datumaro:camvid"`.

Left out are formats without areas or classes, those of volumes, point clouds and packed images, and those that
`segdsl/words/formats.py` has.
"""

from __future__ import annotations

from typing import NamedTuple

from segdsl.ir.data_format import DATA_FORMATS, DataFormat, register_format

PREFIX = "datumaro:"
"""What the names of these formats start with; Datumaro's own name follows."""
MASK_RULE = (
    "rasterized once in `z_order`, without it the smallest on top; all other pixels are the label `background` or "
    "`data.background`"
)
BY_DATUMARO = "files written by Datumaro 1.13"
BY_HAND = "a synthetic dataset in the published layout"


class _Row(NamedTuple):
    """One format: Datumaro's name, its files, what marks the areas, the tests, and a landmark."""

    name: str
    layout: str
    areas: str
    evidence: str
    landmark: str = ""


ROWS = (
    _Row(
        "camvid",
        "`<subset>.txt` with pairs of paths of image and mask, `label_colors.txt`",
        "color masks",
        BY_DATUMARO,
        "label_colors.txt",
    ),
    _Row(
        "coco_panoptic",
        "`annotations/panoptic_<subset>.json`, a folder of masks with its name, `images/<subset>`",
        "masks of segments",
        BY_DATUMARO,
        "annotations/panoptic_*.json",
    ),
    _Row(
        "coco_stuff",
        "`annotations/stuff_<subset>.json`, `images/<subset>`",
        "polygons and run lengths",
        BY_DATUMARO,
        "annotations/stuff_*.json",
    ),
    _Row("cvat", "`<subset>.xml`, `images`, of CVAT for images", "polygons and masks", BY_DATUMARO),
    _Row(
        "label_me",
        "`Annotations/<subset>/NAME.xml`, `Images/<subset>`, `Masks/<subset>`, of the LabelMe of MIT",
        "polygons and masks",
        BY_DATUMARO,
        "Annotations/*/*.xml",
    ),
    _Row("mots", "`<subset>/images`, `<subset>/instances`, of MOTS", "masks of instances", BY_DATUMARO),
    _Row(
        "open_images",
        "`annotations/<subset>-annotations-object-segmentation.csv`, `images/<subset>`, `masks/<subset>`",
        "masks of instances",
        BY_DATUMARO,
        "annotations/*-annotations-object-segmentation.csv",
    ),
    _Row(
        "voc_instance_segmentation",
        "`JPEGImages`, `SegmentationObject`, `SegmentationClass`, lists of names in `ImageSets/Segmentation`",
        "masks of instances",
        BY_DATUMARO,
    ),
    _Row(
        "ade20k2017",
        "the full ADE20K of 2017: `<subset>/…/NAME.jpg`, `NAME_seg.png`, `NAME_parts_1.png` …, `NAME_atr.txt`",
        "masks of objects and their parts",
        BY_HAND,
    ),
    _Row(
        "ade20k2020",
        "the full ADE20K of 2020: `<subset>/…/NAME.jpg`, `NAME.json`, `NAME_seg.png`, `NAME/instance_….png` …",
        "masks of objects and their parts",
        BY_HAND,
    ),
    _Row(
        "mvtec_segmentation",
        "one category of MVTec AD: `<subset>/<class>/NAME.png`, `ground_truth/<class>/NAME_mask.png`",
        "masks of defects",
        BY_HAND,
        "ground_truth",
    ),
    _Row(
        "roboflow_coco",
        "`<subset>/_annotations.coco.json` beside its images",
        "polygons and run lengths",
        BY_HAND,
        "*/_annotations.coco.json",
    ),
    _Row("synthia_rand", "`RGB`, `GTTXT`, of SYNTHIA-RAND; its only subset is `default`", "tables of ids", BY_HAND),
    _Row("synthia_sf", "`RGBLeft`, `GTLeft`, of SYNTHIA-SF; its only subset is `default`", "color masks", BY_HAND),
)

for _row in ROWS:
    register_format(
        DataFormat(
            name=f"{PREFIX}{_row.name}",
            layout=_row.layout,
            masks=f"{_row.areas}, {MASK_RULE}",
            evidence=_row.evidence,
            # The name alone is what people write who know the format, but not that Datumaro reads it.
            aliases=_row.name,
            settings=frozenset({"background"}),
            landmark=_row.landmark,
        )
    )


def list_imported_formats() -> list[DataFormat]:
    """Return the records of all formats that Datumaro imports."""
    return [record for name, record in DATA_FORMATS.items() if name.startswith(PREFIX)]


def strip_prefix(name: str) -> str:
    """Return Datumaro's own name of a format."""
    return name.removeprefix(PREFIX)
