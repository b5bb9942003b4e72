"""The dataset formats of the language; `segdsl/data/formats/readers` has a reader for each.

A record is all that a format has outside its reader: choice, did-you-mean, documentation and validation follow from it.
"""

# Records are plain data: `check` and the reference need them without numpy or Pillow.

from __future__ import annotations

from segdsl.ir.data_format import DataFormat, register_format

COMMON = register_format(
    DataFormat(
        name="common_semantic_segmentation",
        layout="`<subset>/images`, `<subset>/masks`, `<subset>/dataset_meta.json`; or all three in the root, as the "
        "subset `default`",
        masks="index PNG, or palette and RGB masks with the colors of the meta file; 255 is ignored",
        evidence="CamVid (468 images); files written by Datumaro",
        aliases="semantic_segmentation common",
        settings=frozenset({"values", "images", "masks"}),
        split_help="create the folders `train` and `val`, each with `images`, `masks` and `dataset_meta.json`, and "
        "move about a fifth of the images with their masks into `val`",
    )
)
VOC = register_format(
    DataFormat(
        name="voc_segmentation",
        layout="`JPEGImages`, `SegmentationClass`, lists of names in `ImageSets/Segmentation`, `labelmap.txt`",
        masks="palette or RGB masks with the colors of the label map, or of Pascal VOC 2012 if there is none; the "
        "label `ignored` is ignored",
        evidence="CrackForest (118 images); files written by Datumaro and by Pascal VOC's own tools",
        aliases="voc pascal_voc pascal",
        landmark="JPEGImages",
        split_help="move about a fifth of the names into a second list, `ImageSets/Segmentation/val.txt`",
    )
)
COCO = register_format(
    DataFormat(
        name="coco_instances",
        layout="`annotations/instances_<subset>.json`, `images/<subset>`",
        masks="polygons and run-length encoding, rasterized once; smaller instances cover larger ones and crowds, all "
        "other pixels are background",
        evidence="nuclei (110 images, 3,668 polygons); both forms of run-length encoding",
        aliases="coco",
        settings=frozenset({"background"}),
        landmark="annotations/instances_*.json",
        split_help="move about a fifth of the images with their annotations into a second file, "
        "`annotations/instances_val.json`",
    )
)
DATUMARO = register_format(
    DataFormat(
        name="datumaro",
        layout="`annotations/<subset>.json`, `images/<subset>`, as Datumaro exports them with `save_media=True`",
        masks="polygons, ellipses and masks, rasterized once in `z_order`; all other pixels are the label `background` "
        "or `data.background`",
        evidence="files written by Datumaro 1.13, compared with the masks that Datumaro renders",
        settings=frozenset({"background"}),
        landmark="annotations",
        split_help="move about a fifth of the items into a second file, `annotations/val.json`",
    )
)
CITYSCAPES = register_format(
    DataFormat(
        name="cityscapes",
        layout="`leftImg8bit/<subset>/<city>`, `gtFine/<subset>/<city>/…_gtFine_labelIds.png`",
        masks="ids 0 to 33; the 19 evaluated classes are used, all other pixels are ignored",
        evidence="a synthetic dataset in the published layout",
        settings=frozenset(),
    )
)
KITTI = register_format(
    DataFormat(
        name="kitti_segmentation",
        layout="`<subset>/image_2`, `<subset>/semantic`",
        masks="the classes and ids of Cityscapes",
        evidence="a synthetic dataset in the published layout",
        aliases="kitti",
        settings=frozenset(),
    )
)
ADE20K = register_format(
    DataFormat(
        name="ade20k",
        layout="scene parsing: `images/<subset>`, `annotations/<subset>`; class names in `objectInfo150.txt` or in the "
        "program",
        masks="ids from 1; 0 is ignored",
        evidence="a synthetic dataset in the published layout; the full ADE20K with 3,688 classes is not supported",
        settings=frozenset(),
    )
)
VISTAS = register_format(
    DataFormat(
        name="mapillary_vistas",
        layout="`<subset>/images`, `<subset>/v2.0/labels` (or `v1.2/labels`, `labels`), `config_v2.0.json`",
        masks="ids of the configuration file; classes that are not evaluated are ignored",
        evidence="synthetic datasets in the published layouts, versions 1.2 and 2.0",
        aliases="mapillary",
        settings=frozenset(),
    )
)
FOLDERS = register_format(
    DataFormat(
        name="folders",
        layout="`<subset>/images`, `<subset>/masks`, or `images/<subset>`, `masks/<subset>`, or both in the root; any "
        "others with patterns in `data.images`, `data.masks`",
        masks="index PNG in the order of `data.classes`, or with the values of `data.values`; 255 is ignored",
        evidence="small datasets with masks of ids and of 0 and 255, and in the layout of DIS5K",
        aliases="folder directory custom image_folder",
        settings=frozenset({"values", "images", "masks"}),
        split_help="create the folders `train` and `val`, each with `images` and `masks`, and move about a fifth of "
        "the images with their masks into `val`",
    )
)
