"""JPEG decoding with OpenCV against Pillow, and windows at reduced size against crops of the full image."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from segdsl.data.augment.geometry import crop_window, draw_window
from segdsl.data.augment.lazy import LazySample, PairReader, read_sample, snap_window
from segdsl.data.augment.pipeline import apply_augmentations
from segdsl.data.augment.sample import AugmentContext, counter_rng, resize_sample
from segdsl.data.check.index import open_index
from segdsl.data.decode.images import decode_image, open_reducible_jpeg
from segdsl.data.decode.jpeg import DECODE_FLAGS
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import SampleKey, TrainDataset
from segdsl.diagnostics import SegError
from segdsl.ir.values import Range
from segdsl.words.augmentations import HorizontalFlip, RandomResizedCrop


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """An image with smooth structure, like a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_pixels_match_pillow(mode: str, options: dict) -> None:
    data = jpeg(picture(45, 67).convert(mode), **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decode_image(data, "a.jpg").pixels == expected).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_matches_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(picture(45, 67), exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode_image(data, "a.jpg")
    assert (found.pixels == expected).all() and found.orientation == orientation


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_jpeg_is_rejected(share: float) -> None:
    data = jpeg(picture(200, 300))
    with pytest.raises(SegError) as caught:
        decode_image(data[: int(len(data) * share)], "a.jpg")
    assert caught.value.diagnostics[0].slug == "image-truncated"


def large(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    (root / "train" / "dataset_meta.json").write_text('{"labels": ["a", "b", "c"]}')
    (root / "train" / "images" / "a.jpg").write_bytes(jpeg(picture(403, 611), quality=95))
    mask = cv2.resize(np.random.default_rng(1).integers(0, 3, (9, 9), np.uint8), (611, 403), interpolation=0)
    Image.fromarray(mask).save(root / "train" / "masks" / "a.png")


@pytest.mark.parametrize("size", [(40, 40), (90, 60), (400, 600)])
def test_reduced_window_matches_the_full_one(tmp_path: Path, size: tuple[int, int]) -> None:
    large(tmp_path)
    index = open_index(tmp_path, "common_semantic_segmentation", Request(["train"]))
    subset = index.get_subset("train")
    pending, whole = PairReader(index, subset).open_pair(0), read_sample(index, subset, 0)
    assert isinstance(pending, LazySample) and pending.size == whole.size == (403, 611)
    word = RandomResizedCrop(scale=Range(0.3, 1.0))
    for number in range(12):
        fast = apply_augmentations(
            [word, HorizontalFlip(p=0)], pending, counter_rng(0, 0, number), AugmentContext(size, 255)
        )
        drawn = draw_window(word, whole.size, counter_rng(0, 0, number))
        factor = max(f for f in DECODE_FLAGS if (drawn[2] >= f * size[0] and drawn[3] >= f * size[1]) or f == 1)
        slow = resize_sample(crop_window(whole, *snap_window(drawn, factor)), size)
        assert all(0 <= d - s < factor for d, s in zip(drawn, snap_window(drawn, factor), strict=True))
        assert (fast.mask == slow.mask).all(), "labels do not depend on how the image is decoded"
        assert np.abs(fast.image.astype(int) - slow.image).mean() < 2
        if factor == 1:
            assert (
                fast.image
                == apply_augmentations([word], whole, counter_rng(0, 0, number), AugmentContext(size, 255)).image
            ).all()


def test_the_factor_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large(tmp_path)
    index = open_index(tmp_path, "common_semantic_segmentation", Request(["train"]))
    used: list[int] = []
    decode = cv2.imdecode
    kinds = {flag | cv2.IMREAD_IGNORE_ORIENTATION: factor for factor, flag in DECODE_FLAGS.items()}
    monkeypatch.setattr(cv2, "imdecode", lambda data, flag: used.append(kinds[flag]) or decode(data, flag))
    dataset = TrainDataset(index, "train", (40, 40), [RandomResizedCrop(scale=Range(0.5, 1.0))])
    assert [dataset[SampleKey(0, 0, k)].image.shape for k in range(10)] == [(40, 40, 3)] * 10
    assert set(used) <= {4, 8} and used


def test_mask_size_mismatch_is_reported_for_windows(tmp_path: Path) -> None:
    large(tmp_path)
    path = tmp_path / "train" / "masks" / "a.png"
    index = open_index(tmp_path, "common_semantic_segmentation", Request(["train"]))
    Image.fromarray(np.zeros((400, 611), np.uint8)).save(path)
    dataset = TrainDataset(index, "train", (40, 40), [RandomResizedCrop()])
    with pytest.raises(SegError) as caught:
        dataset[SampleKey(0, 0)]
    assert caught.value.diagnostics[0].slug == "mask-size-differs"
    Image.fromarray(np.full((403, 611), 9, np.uint8)).save(path)
    with pytest.raises(SegError) as caught:
        dataset[SampleKey(0, 0)]
    assert caught.value.diagnostics[0].slug == "mask-value-out-of-range"


def test_only_plain_jpeg_is_reduced(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture(20, 30).convert("CMYK")))
    from segdsl.data.decode.images import RGB_OPTIONS, ReadOptions

    assert open_reducible_jpeg(path, RGB_OPTIONS) is None
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(jpeg(picture(20, 30), exif=exif))
    assert open_reducible_jpeg(path, RGB_OPTIONS) is None
    path.write_bytes(jpeg(picture(20, 30)))
    assert open_reducible_jpeg(path, ReadOptions(1)) is None and open_reducible_jpeg(path, RGB_OPTIONS) is not None
