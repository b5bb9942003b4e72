"""Complete output of `segdsl data check` for bad data, compared with `tests/goldens/data`.

Each case is a valid dataset with one thing wrong.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bombs import build_png
from PIL import Image

from segdsl.cli.invoke import run_cli

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "data"
IMAGE, MASK, META = "train/images/b.png", "train/masks/b.png", "val/dataset_meta.json"
Break = Callable[[Path], object]


def relink(path: Path, target: str | Path) -> None:
    path.unlink()
    path.symlink_to(target)


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def mask(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(change(np.array(Image.open(path)))).save(path)


def meta(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def metas(root: Path, change: Callable[[dict], object]) -> None:
    for path in root.glob("*/dataset_meta.json"):
        meta(path, change)


def jpeg(path: Path, keep: float = 1.0, **options: object) -> Path:
    """Replace an image with a JPEG, of which only a part is kept."""
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "JPEG", **options)  # type: ignore[arg-type]
    path.unlink()
    target = path.with_suffix(".jpg")
    target.write_bytes(buffer.getvalue()[: int(buffer.tell() * keep)])
    return target


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def palette(path: Path, *colors: tuple[int, int, int]) -> None:
    picture = Image.fromarray(np.array(Image.open(path)) % 3).convert("P")
    picture.putpalette([channel for color in colors for channel in color])
    picture.save(path)


def voc(root: Path) -> None:
    """The same images as Pascal VOC, written by a tool that made ignored pixels a class called `ignored`."""
    metas(root, lambda m: (m.pop("segmentation_colors"), m["label_map"].update({"2": "ignored"})))


LISTED: dict[str, Break] = {
    "missing-mask": lambda r: (r / MASK).unlink(),
    "missing-image": lambda r: (r / IMAGE).unlink(),
    "sizes-differ": lambda r: mask(r / MASK, lambda m: m[:-1]),
    "value-outside": lambda r: mask(r / MASK, lambda m: np.where(m == 1, 7, m).astype(np.uint8)),
    "undeclared-colour": lambda r: mask(r / MASK, lambda m: np.dstack([m, m, m + 1])),
    "same-image-in-two-subsets": lambda r: shutil.copy(r / IMAGE, r / "val/images/d.png"),
    "same-stem-twice": lambda r: Image.open(r / IMAGE).save(r / "train/images/b.bmp"),
    "empty-subset": lambda r: [p.unlink() for k in ("images", "masks") for p in (r / "val" / k).iterdir()],
    "truncated-png": lambda r: cut(r / IMAGE, 0.6),
    "truncated-mask": lambda r: cut(r / MASK, 0.6),
    "truncated-jpeg": lambda r: jpeg(r / IMAGE, 0.6),
    "empty-file": lambda r: (r / IMAGE).write_bytes(b""),
    "mask-of-16-bits": lambda r: mask(r / MASK, lambda m: m.astype(np.uint16) * 256),
    "mask-as-jpeg": lambda r: jpeg(r / MASK),
    "exif-turn": lambda r: turned(r / IMAGE, 3),
    "exif-turn-and-mask-not": lambda r: turned(r / IMAGE, 6),
    "grey-and-alpha-among-rgb": lambda r: (
        Image.open(r / IMAGE).convert("L").save(r / IMAGE),
        Image.open(r / "train/images/c.png").convert("RGBA").save(r / "train/images/c.png"),
    ),
    "bomb": lambda r: (r / IMAGE).write_bytes(build_png(30_000, 30_000, "L", 30_000 * 30_001)),
    "60000-by-60000": lambda r: (r / IMAGE).write_bytes(build_png(60_000, 60_000, "L", 40_000 * 60_001)),
    "meta-missing": lambda r: (r / META).unlink(),
    "meta-no-json": lambda r: (r / META).write_text("{'label_map': {}}"),
    "meta-differs": lambda r: meta(r / META, lambda m: m["label_map"].update({"1": "lorry"})),
    "meta-name-twice": lambda r: metas(r, lambda m: m["label_map"].update({"2": "car"})),
    "void-as-a-class": voc,
    "link-out-of-the-set": lambda r: (
        shutil.move(r / IMAGE, r.parent / "elsewhere.png"),
        (r / IMAGE).symlink_to("../../../elsewhere.png"),
    ),
    "class-absent-from-val": lambda r: [
        mask(p, lambda m: np.where(m == 2, 0, m).astype(np.uint8)) for p in (r / "val/masks").iterdir()
    ],
}
"""The cases listed in the design. A file without permission is tested below, since root may read everything."""
MORE: dict[str, Break] = {
    "link-to-nothing": lambda r: relink(r / IMAGE, "gone.png"),
    "link-in-a-circle": lambda r: relink(r / IMAGE, "b.png"),
    "fifo": lambda r: ((r / IMAGE).unlink(), os.mkfifo(r / IMAGE)),
    "device": lambda r: relink(r / IMAGE, "/dev/zero"),
    "folder-as-image": lambda r: ((r / IMAGE).unlink(), (r / IMAGE).mkdir()),
    "nested-folder": lambda r: (r / "train/images/more").mkdir(),
    "other-files": lambda r: (r / "train/images/Thumbs.db").write_text("x"),
    "page-in-place-of-an-image": lambda r: (r / IMAGE).write_text("<html>404</html>"),
    "names-differ": lambda r: [p.rename(p.with_stem(p.stem + "_mask")) for p in (r / "train/masks").iterdir()],
    "no-masks-folder": lambda r: shutil.rmtree(r / "train/masks"),
    "names-of-any-script": lambda r: [
        (r / "train" / k / "b.png").rename(r / "train" / k / n)
        for k, n in (("images", "a\nb \x1b[31m日本 é.png"), ("masks", "other\n.png"))
    ],
    "keys-from-1": lambda r: metas(r, lambda m: m.update(label_map={"1": "road", "2": "car", "3": "sky"})),
    "keys-shuffled": lambda r: metas(r, lambda m: m.update(label_map={"0": "road", "2": "sky", "1": "car"})),
    "key-twice": lambda r: (r / META).write_text('{"label_map": {"0": "road", "0": "lane", "1": "car"}}'),
    "too-many-classes": lambda r: metas(r, lambda m: m.update(label_map={str(k): f"c{k}" for k in range(300)})),
    "colour-twice": lambda r: metas(r, lambda m: m.update(segmentation_colors=[[0, 0, 0], [0, 0, 0], [1, 1, 1]])),
    "colours-missing": lambda r: (
        metas(r, lambda m: m.pop("segmentation_colors")),
        mask(r / MASK, lambda m: np.dstack([m, m, m + 1])),
    ),
    "mask-transparent": lambda r: mask(r / MASK, lambda m: np.dstack([m, m, m, m])),
    "palette-in-another-order": lambda r: palette(r / MASK, (0, 0, 142), (128, 64, 128), (1, 1, 1)),
    "all-void": lambda r: mask(r / MASK, lambda m: np.full_like(m, 255)),
    "subset-all-void": lambda r: [mask(p, lambda m: np.full_like(m, 255)) for p in (r / "val/masks").iterdir()],
    "masks-of-0-and-255": lambda r: (
        metas(r, lambda m: (m.pop("segmentation_colors"), m.update(label_map={"0": "ground", "1": "object"}))),
        [mask(p, lambda m: np.where(m == 1, 255, 0).astype(np.uint8)) for p in r.glob("*/masks/*")],
    ),
    "floating-point-image": lambda r: tifffile.imwrite(r / IMAGE, np.ones((24, 32), np.float32) * 0.5),
    "five-channels": lambda r: tifffile.imwrite(
        r / IMAGE, np.ones((24, 32, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "image-of-16-bits": lambda r: Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32)).save(r / IMAGE),
    "class-in-no-mask": lambda r: metas(
        r, lambda m: (m["label_map"].update({"3": "bus"}), m["segmentation_colors"].append([9, 9, 9]))
    ),
    "root-is-empty": lambda r: (shutil.rmtree(r), r.mkdir()),
    "root-is-an-archive": lambda r: (shutil.rmtree(r), r.write_bytes(b"PK\3\4")),
    "root-is-gone": lambda r: r.rename(r.with_name("sets")),
    "root-is-one-above": lambda r: (r.rename(r.with_name("inner")), r.mkdir(), (r.with_name("inner")).rename(r / "in")),
    "many-at-once": lambda r: [cut(r / IMAGE, 0.5), (r / "train/masks/a.png").unlink(), (r / META).unlink()],
}
CASES = LISTED | MORE


@pytest.mark.parametrize("name", CASES)
def test_output_for_bad_data(
    name: str,
    tree: Path,
    golden: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    CASES[name](tree)
    monkeypatch.chdir(tree.parent)
    before = {p: p.lstat().st_mtime_ns for p in tree.rglob("*")}
    status = run_cli(["data", "check", "set"])
    out, err = capsys.readouterr()
    assert {p: p.lstat().st_mtime_ns for p in tree.rglob("*")} == before, "the check wrote something"
    assert ("error[" in err) == (status == 1) and "= help: " in err
    assert status == 0 or not out
    golden(GOLDENS / f"{name}.txt", re.sub(r"its [\d,]+ bytes", "its N bytes", err) + out)


def test_every_golden_has_a_case() -> None:
    assert {p.stem for p in GOLDENS.iterdir()} == set(CASES)


@pytest.mark.skipif(os.geteuid() == 0, reason="the root user may read everything")
@pytest.mark.parametrize("what", [IMAGE, MASK, META, "train/images"])
def test_unreadable_path_is_named(what: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / what).chmod(0)
    try:
        assert run_cli(["data", "check", str(tree)]) == 1
    finally:
        (tree / what).chmod(0o755)
    assert what in capsys.readouterr().err
