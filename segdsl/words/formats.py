"""Documentation of the dataset formats; ``segdsl/data/formats`` has their readers."""

from __future__ import annotations

from typing import NamedTuple


class FormatDoc(NamedTuple):
    """Documentation of one format: its folders and files, the meaning of its masks, and the data it was tested on."""

    layout: str
    masks: str
    evidence: str


# The texts are plain data, separate from the readers: the reference and `--help` need them without numpy or Pillow.
FORMAT_DOCS: dict[str, FormatDoc] = {
    "common_semantic_segmentation": FormatDoc(
        "`<subset>/images`, `<subset>/masks`, `<subset>/dataset_meta.json`; or all three in the root, as the subset "
        "`default`",
        "index PNG, or palette and RGB masks with the colors of the meta file; 255 is ignored",
        "CamVid (468 images); files written by Datumaro",
    ),
    "voc_segmentation": FormatDoc(
        "`JPEGImages`, `SegmentationClass`, lists of names in `ImageSets/Segmentation`, `labelmap.txt`",
        "palette or RGB masks with the colors of the label map, or of Pascal VOC 2012 if there is none; the label "
        "`ignored` is ignored",
        "CrackForest (118 images); files written by Datumaro and by Pascal VOC's own tools",
    ),
    "coco_instances": FormatDoc(
        "`annotations/instances_<subset>.json`, `images/<subset>`",
        "polygons and run-length encoding, rasterized once; smaller instances cover larger ones and crowds, all other "
        "pixels are background",
        "nuclei (110 images, 3,668 polygons); both forms of run-length encoding",
    ),
    "datumaro": FormatDoc(
        "`annotations/<subset>.json`, `images/<subset>`, as Datumaro exports them with `save_media=True`",
        "polygons, ellipses and masks, rasterized once in `z_order`; all other pixels are the label `background` or "
        "`data.background`",
        "files written by Datumaro 1.13, compared with the masks that Datumaro renders",
    ),
    "cityscapes": FormatDoc(
        "`leftImg8bit/<subset>/<city>`, `gtFine/<subset>/<city>/…_gtFine_labelIds.png`",
        "ids 0 to 33; the 19 evaluated classes are used, all other pixels are ignored",
        "a synthetic dataset in the published layout",
    ),
    "kitti_segmentation": FormatDoc(
        "`<subset>/image_2`, `<subset>/semantic`",
        "the classes and ids of Cityscapes",
        "a synthetic dataset in the published layout",
    ),
    "ade20k": FormatDoc(
        "scene parsing: `images/<subset>`, `annotations/<subset>`; class names in `objectInfo150.txt` or in the "
        "program",
        "ids from 1; 0 is ignored",
        "a synthetic dataset in the published layout; the full ADE20K with 3,688 classes is not supported",
    ),
    "mapillary_vistas": FormatDoc(
        "`<subset>/images`, `<subset>/v2.0/labels` (or `v1.2/labels`, `labels`), `config_v2.0.json`",
        "ids of the configuration file; classes that are not evaluated are ignored",
        "synthetic datasets in the published layouts, versions 1.2 and 2.0",
    ),
    "folders": FormatDoc(
        "`<subset>/images`, `<subset>/masks` (set other names with `data.images`, `data.masks`), or both in the root",
        "index PNG in the order of `data.classes`, or with the values of `data.values`; 255 is ignored",
        "small datasets with masks of ids and of 0 and 255, and in the layout of DIS5K",
    ),
}
"""Documentation of every value of `data.format`."""
