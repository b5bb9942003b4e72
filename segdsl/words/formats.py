"""The layouts of data sets that can be read, in words; `segdsl/data/formats/registry.py` has the readers."""

from __future__ import annotations

from typing import NamedTuple


class FormatDoc(NamedTuple):
    """What lies where, what its masks mean, and what it was tried on."""

    layout: str
    masks: str
    tried: str


FORMATS: dict[str, FormatDoc] = {
    "common_semantic_segmentation": FormatDoc(
        "`<subset>/images`, `<subset>/masks`, `<subset>/dataset_meta.json`; or the three in the root, subset `default`",
        "index PNG, or palette and RGB by the colours of the meta file; 255 is void",
        "CamVid (468 images); what Datumaro writes",
    ),
    "voc_segmentation": FormatDoc(
        "`JPEGImages`, `SegmentationClass`, lists of names in `ImageSets/Segmentation`, `labelmap.txt`",
        "palette or RGB by the label map, without it Pascal VOC 2012's; the label `ignored` is void",
        "CrackForest (118 images); what Datumaro and Pascal VOC's own tools write",
    ),
    "coco_instances": FormatDoc(
        "`annotations/instances_<subset>.json`, `images/<subset>`",
        "polygons and run lengths, drawn once; the smallest instance counts, crowds lie under all, else background",
        "nuclei (110 images, 3,668 polygons); both forms of run lengths",
    ),
    "datumaro": FormatDoc(
        "`annotations/<subset>.json`, `images/<subset>`, as Datumaro exports them with `save_media=True`",
        "polygons, ellipses and masks, drawn once by `z_order`; what none covers is the label `background` or "
        "`data.background`",
        "what Datumaro 1.13 writes, against the masks that it makes of it",
    ),
    "cityscapes": FormatDoc(
        "`leftImg8bit/<subset>/<city>`, `gtFine/<subset>/<city>/…_gtFine_labelIds.png`",
        "ids 0 to 33; the 19 classes that are scored, all else is void",
        "a tree of the published layout",
    ),
    "kitti_segmentation": FormatDoc(
        "`<subset>/image_2`, `<subset>/semantic`",
        "classes and ids of Cityscapes",
        "a tree of the published layout",
    ),
    "ade20k": FormatDoc(
        "scene parsing: `images/<subset>`, `annotations/<subset>`; names in `objectInfo150.txt` or from the program",
        "ids from 1; 0 is void",
        "a tree of the published layout; the full ADE20K of 3,688 classes is not read",
    ),
    "mapillary_vistas": FormatDoc(
        "`<subset>/images`, `<subset>/v2.0/labels` (or `v1.2/labels`, `labels`), `config_v2.0.json`",
        "ids of the configuration; what is not evaluated is void",
        "a tree of the published layout, versions 1.2 and 2.0",
    ),
    "folders": FormatDoc(
        "`<subset>/images`, `<subset>/masks` (other names: `data.images`, `data.masks`), or the two in the root",
        "index PNG in the order of `data.classes`, or the values of `data.values`; 255 is void",
        "small trees, with masks of ids and of 0 and 255, and of DIS5K's layout",
    ),
}
"""Every format by its name in `data.format`."""
