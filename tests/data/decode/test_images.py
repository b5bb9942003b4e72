"""Decoding: every kind of file becomes RGB or class ids, or gives a diagnostic naming it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.data.decode.images import decode_image, get_max_pixels, read_image
from segdsl.data.decode.masks import read_mask
from segdsl.diagnostics import SegError

COLORS = ((10, 20, 30), (40, 50, 60), (70, 80, 90))
RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8)


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def slug_of(call: Callable[[], object], path: Path | str) -> str:
    with pytest.raises(SegError) as caught:
        call()
    (found,) = caught.value.diagnostics
    assert found.path == str(path) and found.message and found.help
    return found.slug


def test_rgb_round_trip(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == noise()).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(RAMP), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(noise()).convert("RGBA"), noise()),
        (Image.fromarray(np.dstack([RAMP, 255 - RAMP]), "LA"), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(RAMP.astype(np.uint16) * 256 + 255), np.repeat(RAMP[..., None], 3, axis=2)),
    ],
    ids=["grey", "alpha", "grey with alpha", "16 bits"],
)
def test_other_modes_become_8_bit_rgb(tmp_path: Path, image: Image.Image, expected: np.ndarray) -> None:
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.dtype == np.uint8 and (pixels == expected).all()


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    image = Image.fromarray(noise())
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == noise()).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255
    undone = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(undone[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_image(encoded(stored, "PNG", exif=exif), "a.png")
    assert picture.orientation == orientation
    assert (picture.pixels == upright).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated_file_is_rejected(tmp_path: Path, format: str, share: float) -> None:
    whole = encoded(Image.fromarray(noise()), format)
    path = tmp_path / "a.img"
    path.write_bytes(whole)
    assert read_image(path).shape == (40, 60, 3)
    path.write_bytes(whole[: int(len(whole) * share)])
    assert slug_of(lambda: read_image(path), path) in ("image-truncated", "image-unknown")


def test_png_with_a_flipped_bit_is_rejected(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(noise()), "PNG"))
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    assert slug_of(lambda: read_image(tmp_path / "a.png"), tmp_path / "a.png") == "image-truncated"


@pytest.mark.parametrize(
    ("data", "slug"), [(b"", "data-file-empty"), (b"<html>404</html>", "image-unknown"), (None, "data-file-missing")]
)
def test_file_that_is_not_an_image_is_rejected(tmp_path: Path, data: bytes | None, slug: str) -> None:
    path = tmp_path / "a.jpg"
    if data is not None:
        path.write_bytes(data)
    assert slug_of(lambda: read_image(path), path) == slug
    assert slug_of(lambda: read_mask(path), path) == slug


def test_folder_instead_of_a_file_is_rejected(tmp_path: Path) -> None:
    assert slug_of(lambda: read_image(tmp_path), tmp_path) == "data-file-unreadable"


def bomb(width: int, height: int) -> bytes:
    """A PNG that declares a size but holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_001, 30_000])
def test_decompression_bomb_is_rejected_by_its_header(tmp_path: Path, side: int) -> None:
    assert side * side > get_max_pixels()
    path = tmp_path / "a.png"
    path.write_bytes(bomb(side, side))
    assert slug_of(lambda: read_image(path), path) == "image-too-large"
    assert slug_of(lambda: read_mask(path), path) == "image-too-large"


def test_large_image_prints_no_pillow_warning(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(10_001, 10_001))
    code = "import sys\nfrom segdsl.data.decode.images import read_image, SegError\n"
    code += "try:\n    read_image(sys.argv[1])\nexcept SegError:\n    print('refused')"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_value_range_are_rejected(tmp_path: Path, mode: str) -> None:
    values = np.full((4, 4), -3, dtype=np.float32 if mode == "F" else np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert slug_of(lambda: read_image(tmp_path / "a.tif"), tmp_path / "a.tif") == "image-depth-unknown"


def test_index_mask_is_read_unchanged(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png", COLORS)
    assert mask.dtype == np.uint8 and (mask == RAMP).all()


def test_color_mask_is_looked_up_by_color(tmp_path: Path) -> None:
    ids = RAMP % 3
    Image.fromarray(np.array(COLORS, dtype=np.uint8)[ids]).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", COLORS) == ids).all()
    shuffled = (COLORS[2], COLORS[0], COLORS[1])
    assert (read_mask(tmp_path / "m.png", shuffled) == (ids + 1) % 3).all()


def palette_mask(path: Path, ids: np.ndarray, palette: dict[int, tuple[int, int, int]]) -> None:
    mask = Image.fromarray(ids)
    mask.putpalette([value for i in range(256) for value in palette.get(i, (0, 0, 0))])
    assert mask.mode == "P"
    mask.save(path)


def test_palette_mask_is_read_by_index_unless_its_colors_disagree(tmp_path: Path) -> None:
    ids = (RAMP % 3).astype(np.uint8)
    ids[0, 0] = 255
    palette_mask(tmp_path / "m.png", ids, {0: COLORS[0], 1: COLORS[1], 2: (1, 1, 1), 255: (224, 224, 192)})
    assert (read_mask(tmp_path / "m.png", COLORS) == ids).all()
    assert (read_mask(tmp_path / "m.png") == ids).all()


def test_a_palette_mask_in_another_order_is_read_by_color(tmp_path: Path) -> None:
    ids = (RAMP % 3).astype(np.uint8)
    palette_mask(tmp_path / "m.png", ids, {0: COLORS[2], 1: COLORS[0], 2: COLORS[1]})
    assert (read_mask(tmp_path / "m.png", COLORS) == (ids + 2) % 3).all()


def test_ambiguous_palette_mask_is_rejected(tmp_path: Path) -> None:
    palette_mask(tmp_path / "m.png", (RAMP % 3).astype(np.uint8), {0: COLORS[1], 1: (9, 9, 9), 2: (8, 8, 8)})
    assert slug_of(lambda: read_mask(tmp_path / "m.png", COLORS), tmp_path / "m.png") == "mask-palette-ambiguous"


@pytest.mark.parametrize(
    ("image", "colors", "slug"),
    [
        (Image.fromarray(RAMP.astype(np.uint16)), COLORS, "mask-depth"),
        (Image.fromarray(noise()), COLORS, "mask-color-unknown"),
        (Image.fromarray(noise()), (), "mask-colors-missing"),
        (Image.fromarray(np.dstack([RAMP, RAMP]), "LA"), COLORS, "mask-channels"),
        (Image.fromarray(RAMP.astype(np.int32)), COLORS, "mask-depth"),
        (Image.fromarray(np.dstack([noise(), noise()[..., :1]]), "RGBA"), COLORS, "mask-channels"),
    ],
    ids=["16 bits", "unknown colour", "no colours", "grey with alpha", "32 bits", "transparent"],
)
def test_mask_in_an_unsafe_form_is_rejected(tmp_path: Path, image: Image.Image, colors: tuple, slug: str) -> None:
    path = tmp_path / "m.png"
    image.save(path)
    assert slug_of(lambda: read_mask(path, colors), path) == slug


IDS = (RAMP % 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (Image.fromarray(IDS > 0), ".png"),
        (Image.fromarray(IDS > 0), ".bmp"),
        (Image.fromarray(IDS > 0), ".tif"),
        (Image.fromarray(IDS), ".bmp"),
        (Image.fromarray(IDS), ".tiff"),
        (Image.fromarray(IDS), ".pgm"),
        (Image.fromarray(np.dstack([IDS] * 3)), ".png"),
        (Image.fromarray(np.dstack([IDS] * 3)), ".bmp"),
        (Image.fromarray(np.dstack([IDS, np.full_like(IDS, 255)]), "LA"), ".png"),
        (Image.fromarray(np.dstack([IDS, IDS, IDS, np.full_like(IDS, 255)]), "RGBA"), ".png"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_ids_in_any_lossless_form_are_the_same(tmp_path: Path, image: Image.Image, suffix: str) -> None:
    image.save(tmp_path / f"m{suffix}")
    assert (read_mask(tmp_path / f"m{suffix}") == IDS).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_a_few_bits_are_not_spread(tmp_path: Path, bits: int) -> None:
    ids = np.random.default_rng(0).integers(0, 2**bits, (5, 16)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :].reshape(5, -1), axis=1)
    header = struct.pack(">IIBBBBB", 16, 5, bits, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    text = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + text)
    assert (read_mask(tmp_path / "m.png") == ids).all()


def test_a_mask_that_lost_values_to_compression_is_rejected(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "m.tif", compression="jpeg")
    assert slug_of(lambda: read_mask(tmp_path / "m.tif"), tmp_path / "m.tif") == "mask-format"


def test_jpeg_mask_named_png_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(encoded(Image.fromarray(RAMP), "JPEG"))
    assert slug_of(lambda: read_mask(path), path) == "mask-format"


def test_unknown_color_is_reported_with_its_position(tmp_path: Path) -> None:
    colors = np.array(COLORS, dtype=np.uint8)[RAMP % 3]
    colors[2, 5] = (7, 7, 7)
    Image.fromarray(colors).save(tmp_path / "m.png")
    with pytest.raises(SegError, match=r"mask-color-unknown.*\[7, 7, 7\] at x = 5, y = 2"):
        read_mask(tmp_path / "m.png", COLORS)


def test_a_program_called_an_image_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(attack) print\n%%EOF\n"
    (tmp_path / "0.png").write_bytes(text)
    assert slug_of(lambda: read_image(tmp_path / "0.png"), tmp_path / "0.png") == "image-unknown"
    assert slug_of(lambda: read_mask(tmp_path / "0.png"), tmp_path / "0.png") == "image-unknown"
    assert not (tmp_path / "started").exists()


def test_the_limit_of_pixels_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (1100, 1000)).save(tmp_path / "a.png")
    for limit in ("2", "", "x", "1" * 5000):
        monkeypatch.setenv("SEGDSL_MAX_MEGAPIXELS", limit)
        assert read_image(tmp_path / "a.png").shape == (1000, 1100, 3)
    monkeypatch.setenv("SEGDSL_MAX_MEGAPIXELS", "1")
    assert slug_of(lambda: read_image(tmp_path / "a.png"), tmp_path / "a.png") == "image-too-large"
