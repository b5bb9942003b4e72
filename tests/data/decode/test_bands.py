"""Images of other depths and channels: each is read correctly, or rejected with its name."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from segdsl.data.augment.pipeline import STEPS, apply_augmentations
from segdsl.data.augment.sample import AugmentContext, Sample, apply_by_channels, counter_rng, fit_sample
from segdsl.data.check.checker import check_data
from segdsl.data.decode.images import RGB_OPTIONS, ImageData, ReadOptions, decode_image, get_normalization
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError
from segdsl.ir.values import Range, Size
from segdsl.words import augmentations as words

RAMP = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
BANDS = np.random.default_rng(0).integers(0, 256, (6, 8, 5), np.uint8)


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png(samples: np.ndarray) -> bytes:
    return cv2.imencode(".png", samples)[1].tobytes()


def decode(data: bytes, channels: int | None = 3, levels: Range | None = None) -> ImageData:
    return decode_image(data, "a.tif", ReadOptions(channels, levels))


def slug(data: bytes, channels: int | None = 3, levels: Range | None = None) -> str:
    with pytest.raises(SegError) as caught:
        decode(data, channels, levels)
    (found,) = caught.value.diagnostics
    assert found.path == "a.tif" and found.help
    return found.slug


FORMS = {
    "chunky": lambda a: tiff(a, planarconfig="contig", photometric="minisblack"),
    "planar": lambda a: tiff(np.moveaxis(a, 2, 0), planarconfig="separate", photometric="minisblack"),
    "pages": lambda a: tiff(np.moveaxis(a, 2, 0), photometric="minisblack"),
    "deflated": lambda a: tiff(a, planarconfig="contig", photometric="minisblack", compression="zlib"),
    "big": lambda a: tiff(a, planarconfig="contig", photometric="minisblack", bigtiff=True),
    "big end first": lambda a: tiff(a, planarconfig="contig", photometric="minisblack", byteorder=">"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_bands_round_trip(form: str, channels: int) -> None:
    samples = BANDS[:, :, :channels]
    if form == "pages" and channels < 2:
        return
    picture = decode(FORMS[form](samples), channels)
    assert picture.pixels.dtype == np.uint8
    assert (picture.pixels == samples).all()
    assert (decode(FORMS[form](samples), None).pixels == samples).all(), "without a model, as many as there are"


def test_16_bits_are_reduced_or_scaled() -> None:
    for data in (png(RAMP), tiff(RAMP)):
        assert (decode(data, 1).pixels[..., 0] == RAMP >> 8).all()
        stretched = decode(data, 3, Range(1000, 47000)).pixels
        assert (stretched[0, :2] == 0).all() and (stretched[-1, -1] == 255).all()
        assert (stretched[..., 0] == np.rint((RAMP.astype(float) - 1000) / 46000 * 255).clip(0, 255)).all()


@pytest.mark.parametrize("encode", [lambda a: png(a[..., ::-1]), lambda a: tiff(a, photometric="rgb")])
def test_16_bit_rgb_keeps_its_channel_order(encode) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (6, 8, 3), np.uint16)
    picture = decode(encode(deep))
    assert (picture.pixels == deep >> 8).all() and picture.mode == "16 bits x 3"
    assert (decode(encode(deep), 3, Range(0, 1000)).pixels[deep >= 1000] == 255).all()


def test_16_bit_lzw_is_read() -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (6, 8, 3), np.uint16)
    data = cv2.imencode(".tiff", deep[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    assert (decode(data).pixels == deep >> 8).all()


def test_other_depths_need_levels() -> None:
    for samples in (RAMP.astype(np.float32) / 100, RAMP.astype(np.int32) * 9 - 5):
        data = tiff(samples)
        assert slug(data) == "image-depth-unknown"
        low, high = float(samples.min()), float(samples.max())
        assert decode(data, 1, Range(low, high)).pixels.ravel()[[0, -1]].tolist() == [0, 255]


def test_gray_and_rgb_are_converted() -> None:
    grey = decode(png((RAMP >> 8).astype(np.uint8))).pixels
    assert (grey == (RAMP >> 8)[..., None]).all()
    rgb = BANDS[:, :, :3]
    weighed = decode(png(rgb[..., ::-1]), 1).pixels
    assert weighed.shape == (6, 8, 1)
    assert np.abs(weighed[..., 0] - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


@pytest.mark.parametrize(("have", "wanted"), [(5, 3), (4, 3), (2, 1), (3, 4), (1, 4), (2, 5), (4, 2)])
def test_other_channel_counts_are_rejected(have: int, wanted: int) -> None:
    samples = BANDS[:, :, :have]
    assert slug(FORMS["chunky"](samples) if have > 1 else png(samples), wanted) == "image-channels"


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_truncated_multiband_tiff_is_rejected(share: float) -> None:
    whole = tiff(np.tile(BANDS, (40, 40, 1)), planarconfig="contig", photometric="minisblack", compression="zlib")
    assert slug(whole[: int(len(whole) * share)], 5) in ("image-truncated", "image-unknown")


def test_huge_header_is_rejected_before_decoding() -> None:
    data = bytearray(FORMS["chunky"](BANDS))
    offset = struct.unpack("<I", data[4:8])[0]
    for entry in range(struct.unpack("<H", data[offset : offset + 2])[0]):
        place = offset + 2 + 12 * entry
        if struct.unpack("<H", data[place : place + 2])[0] in (256, 257):
            data[place + 8 : place + 12] = struct.pack("<I", 60000)
    assert slug(bytes(data), 5) == "image-too-large"


STEPS_OF_ALL = (
    words.RandomResizedCrop(),
    words.RandomCrop(size=Size(9, 9)),
    words.PhotometricDistortion(p=1.0),
    words.HorizontalFlip(p=1.0),
    words.Rotate(p=1.0),
    words.Resize(),
)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_every_augmentation_takes_any_number_of_channels(channels: int) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (30, 40, 1), np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    sample = Sample(np.repeat(grey, channels, axis=2), mask)
    for word in STEPS_OF_ALL:
        assert type(word) in STEPS
        out = apply_augmentations([word], sample, counter_rng(0, 0, 0), AugmentContext((16, 24), 255))
        assert out.image.shape == (16, 24, channels) and out.image.dtype == np.uint8
        if channels != 3:
            assert (out.image == out.image[:, :, :1]).all(), "equal channels stay equal"
    assert fit_sample(sample, (15, 20)).image.shape == (15, 20, channels)


def test_channels_are_processed_in_groups_of_four() -> None:
    seen: list[int] = []
    out = apply_by_channels(lambda part, fill: (seen.append(part.shape[2]), part)[1], np.zeros((2, 2, 9), np.uint8))
    assert seen == [4, 4, 1] and out.shape == (2, 2, 9)


def test_normalization_of_other_channels_is_the_mean_of_rgb() -> None:
    mean, deviation = get_normalization("imagenet", 5)
    assert len(mean) == len(deviation) == 5
    assert mean[0] == pytest.approx(sum(get_normalization("imagenet")[0]) / 3)
    assert get_normalization("none", 2) == ((0.0, 0.0), (255.0, 255.0))
    assert RGB_OPTIONS.channels == 3


def test_check_uses_the_model_channels(tree: Path) -> None:
    for path in tree.glob("*/images/*.png"):
        size = Image.open(path).size
        path.with_suffix(".tif").write_bytes(FORMS["chunky"](np.resize(BANDS, (size[1], size[0], 5))))
        path.unlink()
    asked = Request(["train", "val"])
    assert {d.slug for d in check_data(tree, request=asked).errors} == {"image-channels"}
    assert check_data(tree, request=asked._replace(read_options=ReadOptions(5))).errors == []
    assert check_data(tree, request=asked._replace(read_options=ReadOptions(None))).errors == []
