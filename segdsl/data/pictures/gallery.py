"""Example images of the augmentations for the reference.

Run `python -m segdsl.data.pictures.gallery grammar/augmentations` to draw them. They are made from images of the demo
dataset and are reproducible, except for differences between versions of OpenCV and of the JPEG encoder. So they are
stored with the reference, and drawn again if an augmentation changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.data.augment.pipeline import apply_steps
from segdsl.data.augment.sample import AugmentContext, Rng, Sample, counter_rng
from segdsl.data.demo.defects import CLASSES, COLORS, IGNORE
from segdsl.data.demo.generate import IMAGE_SIZE, make_demo_sample
from segdsl.data.pictures.text import PANEL, PAPER
from segdsl.data.pictures.thumbnails import draw_overlay, fit_box, resize_thumbnail, shrink_mask
from segdsl.ir.program import Augmentation
from segdsl.ir.word import list_words

EXAMPLE_NUMBER, PARTNER_NUMBERS, SEED = 45, (126, 50, 102, 12), 17
"""Numbers of demo images that show every class: the one that is augmented and those mixed into it; and a seed for which
every second draw applies a step of probability 0.5."""
DRAW_COUNT, TILE_SIZE, GAP, FIRST_GAP, MASK_GAP = 4, 168, 12, 24, 4
"""Number of draws after the original; then, in pixels: side of an image, gap between images, gap after the original,
gap between image and mask."""
WIDTH, HEIGHT = (DRAW_COUNT + 1) * TILE_SIZE + FIRST_GAP + (DRAW_COUNT - 1) * GAP, 2 * TILE_SIZE + MASK_GAP
QUALITIES = (85, 80, 75, 70, 60, 50)
MAX_BYTES = 60_000
"""Largest size of a file, so that a page with all of them loads fast; the highest quality below it is used."""
CONTEXT = AugmentContext((IMAGE_SIZE, IMAGE_SIZE), IGNORE, CLASSES)


def render_augmentation(word: type[Augmentation]) -> Image.Image:
    """Return the original and four draws of an augmentation, with their masks below: RGB, WIDTH x HEIGHT."""
    # Draws differ in their counter only, so that the images of all augmentations are comparable.
    step = word.make_gallery_example()
    draws = [
        apply_steps(
            [step], _make_example(EXAMPLE_NUMBER), counter_rng(SEED, 0, EXAMPLE_NUMBER, n), CONTEXT, _make_partner
        )
        for n in range(DRAW_COUNT)
    ]
    canvas = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    for number, sample in enumerate([_make_example(EXAMPLE_NUMBER), *draws]):
        left = number * (TILE_SIZE + GAP) + (FIRST_GAP - GAP if number else 0)
        _draw_tile(canvas, left, sample)
    return canvas


def _make_example(number: int) -> Sample:
    return Sample(*map(np.ascontiguousarray, make_demo_sample(0, 0, number)))


def _make_partner(rng: Rng) -> Sample:
    return _make_example(int(rng.choice(PARTNER_NUMBERS)))


def _draw_tile(canvas: Image.Image, left: int, sample: Sample) -> None:
    """Draw image and mask at the scale of the original, so that a change of size is visible."""
    box = [min(TILE_SIZE, round(side * TILE_SIZE / IMAGE_SIZE)) for side in sample.size]
    size = fit_box(*sample.size, (box[0], box[1]))
    small = resize_thumbnail(sample.image, size)
    over = draw_overlay(small, shrink_mask(sample.mask, size, range(len(CLASSES))), COLORS, IGNORE)
    for top, pixels in ((0, small), (TILE_SIZE + MASK_GAP, over)):
        ImageDraw.Draw(canvas).rectangle((left, top, left + TILE_SIZE - 1, top + TILE_SIZE - 1), fill=PANEL)
        canvas.paste(Image.fromarray(pixels), (left + (TILE_SIZE - size[1]) // 2, top + (TILE_SIZE - size[0]) // 2))


def _encode_jpeg(picture: Image.Image) -> bytes:
    content = b""
    for quality in QUALITIES:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        content = buffer.getvalue()
        if len(content) < MAX_BYTES:
            break
    return content


def write_gallery(arguments: Sequence[str]) -> int:
    """Write an example image for every augmentation into the folder given as the only argument."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m segdsl.data.pictures.gallery FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, word in list_words(Augmentation).items():
        (folder / f"{name}.jpg").write_bytes(_encode_jpeg(render_augmentation(word)))
        print(folder / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(write_gallery(sys.argv[1:]))
