"""Hostile files: each gives a diagnostic naming it, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bombs import build_png, deflate_zeros
from PIL import Image

from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError

SIDE = 16_000
"""Side of an image that would take 770 MB as RGB, and as much again to be rotated."""
IMAGE, MASK = "train/images/b", "train/masks/b.png"


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="minisblack", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def tiff_bomb() -> bytes:
    """A TIFF of 8 x 6 pixels and five channels whose only strip inflates to 1.2 GB."""
    whole = bytearray(tiff(np.zeros((6, 8, 5), np.uint8), planarconfig="contig", compression="zlib"))
    strip = deflate_zeros(1200 << 20)
    offset = struct.unpack("<I", whole[4:8])[0]
    for entry in range(struct.unpack("<H", whole[offset : offset + 2])[0]):
        place = offset + 2 + 12 * entry
        tag = struct.unpack("<H", whole[place : place + 2])[0]
        if tag in (273, 279):
            whole[place + 2 : place + 12] = struct.pack("<HII", 4, 1, len(whole) if tag == 273 else len(strip))
    return bytes(whole) + strip


def jpeg_claiming(side: int) -> bytes:
    """A JPEG whose header declares ``side`` times ``side`` pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def with_text(length: int) -> bytes:
    """A PNG with a compressed text chunk that inflates to ``length`` bytes."""
    whole = build_png(8, 6, "L", 6 * 9)
    text = b"Comment\0\0" + zlib.compress(bytes(length), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return whole[:33] + chunk + whole[33:]


HOSTILE: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    "a bomb": (f"{IMAGE}.png", lambda: build_png(SIDE, SIDE, "RGB", SIDE * (3 * SIDE + 1)), {"image-too-large"}),
    "a bomb as mask": (MASK, lambda: build_png(SIDE, SIDE, "L", SIDE * (SIDE + 1)), {"image-too-large"}),
    "a bomb as palette mask": (MASK, lambda: build_png(SIDE, SIDE, "P", SIDE * (SIDE + 1)), {"image-too-large"}),
    "a claim": (f"{IMAGE}.png", lambda: build_png(60_000, 60_000, "RGB", 18), {"image-too-large"}),
    "a claim of billions": (f"{IMAGE}.png", lambda: build_png(2**31 - 1, 2**31 - 1, "L", 18), {"image-too-large"}),
    "a claim as mask": (MASK, lambda: build_png(60_000, 60_000, "L", 18), {"image-too-large"}),
    "a claim as JPEG": (f"{IMAGE}.jpg", lambda: jpeg_claiming(60_000), {"image-too-large"}),
    "a size of nothing": (f"{IMAGE}.png", lambda: build_png(0, 6, "L", 6), {"image-unknown", "image-truncated"}),
    "more behind a small claim": (f"{IMAGE}.png", lambda: build_png(32, 24, "RGB", 20_000 * 30_001), set()),
    "a text that unfolds": (f"{IMAGE}.png", lambda: with_text(1 << 30), {"image-truncated"}),
    "a TIFF that unfolds": (f"{IMAGE}.tif", tiff_bomb, {"image-truncated"}),
}
SOURCE = """
import pathlib, sys
from segdsl.cli.invoke import run_cli
for folder in sys.argv[1:]:
    run_cli(["data", "check", folder, "--json"])
    told = pathlib.Path("/proc/self/status")
    # What getrusage says begins with the memory of the process that started this one.
    lines = told.read_text().splitlines() if told.exists() else ["VmHWM: 0 kB"]
    print("peak", next(line.split()[1] for line in lines if line.startswith("VmHWM")), flush=True)
"""


def place(tree: Path, name: str, data: bytes) -> Path:
    path = tree / name
    for old in path.parent.glob(f"{path.stem}.*"):
        old.unlink()
    path.write_bytes(data)
    return path


def test_hostile_files_are_reported_in_bounded_memory(tree: Path, tmp_path: Path) -> None:
    trees = {name: Path(shutil.copytree(tree, tmp_path / str(index))) for index, name in enumerate(HOSTILE)}
    placed = {name: place(trees[name], file, make()) for name, (file, make, _) in HOSTILE.items()}
    command = [sys.executable, "-c", SOURCE, *map(str, trees.values())]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in process.stderr
    outputs = re.findall(r"(.*?)^peak (\d+)\n", process.stdout, re.MULTILINE | re.DOTALL)
    for (name, (_, _, slugs)), (output, peak) in zip(HOSTILE.items(), outputs, strict=True):
        errors = json.loads(output)["errors"]
        assert {e["slug"] for e in errors} <= slugs | {"mask-size-differs"}, name
        assert {e["file"] for e in errors} <= {str(placed[name]), str(trees[name] / MASK)}, name
        assert bool(errors) == bool(slugs), name
        assert int(peak) < 1 << 20, f"{name}: {peak} KiB at the peak"


@pytest.mark.parametrize("name", [n for n, (file, _, _) in HOSTILE.items() if file == MASK])
def test_bombs_stop_a_run_before_it_starts(tree: Path, name: str) -> None:
    place(tree, MASK, HOSTILE[name][1]())
    with pytest.raises(SegError) as caught:
        open_index(tree, "common_semantic_segmentation", Request(["train"]))
    assert caught.value.diagnostics[0].slug == "image-too-large"


PIPES = [
    ("common_semantic_segmentation", "train/dataset_meta.json"),
    ("common_semantic_segmentation", MASK),
    ("coco_instances", "annotations/instances_train.json"),
    ("datumaro", "annotations/train.json"),
    ("voc_segmentation", "ImageSets/Segmentation/train.txt"),
    ("mapillary_vistas", "config_v2.0.json"),
    ("ade20k", "objectInfo150.txt"),
]


@pytest.mark.parametrize(("format", "name"), PIPES, ids=[f"{f} {Path(n).name}" for f, n in PIPES])
def test_pipe_instead_of_a_file_does_not_block(tree: Path, format: str, name: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for folder in ("JPEGImages", "SegmentationClass", "images/train", "annotations/train", "train/v2.0/labels"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    source = (
        f"from segdsl.data.check.checker import check_data; print(len(check_data({str(tree)!r}, {format!r}).errors))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=60, check=True, text=True)
    assert int(done.stdout) > 0


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/hostname", "/dev/zero", "/no/such/file"])
def test_link_out_of_the_dataset_is_reported(tree: Path, target: str) -> None:
    path = tree / f"{IMAGE}.png"
    path.unlink()
    path.symlink_to(target)
    report = check_data(tree)
    found = {d.slug for d in (*report.errors, *report.warnings) if d.path == str(path)}
    assert found & {"data-link-outside", "data-file-missing"}


@pytest.mark.parametrize("name", ["line\nbreak", "日本語", "e\u0301", "a b", "\x1b[31mred", "-dash", "…", "x" * 200])
def test_names_in_any_script_are_accepted(tree: Path, name: str) -> None:
    for kind in ("images", "masks"):
        (tree / "train" / kind / "b.png").rename(tree / "train" / kind / f"{name}.png")
    assert check_data(tree, request=Request(["train", "val"])).errors == []
    index = open_index(tree, "common_semantic_segmentation", Request(["train"]))
    assert name in index.get_subset("train").list_item_ids()


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes no such name")
def test_undecodable_name_is_accepted(tree: Path) -> None:
    for kind in ("images", "masks"):
        (tree / "train" / kind / "b.png").rename(tree / "train" / kind / os.fsdecode(b"\xff\xfe.png"))
    assert check_data(tree, request=Request(["train", "val"])).errors == []
