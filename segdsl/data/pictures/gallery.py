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
from segdsl.data.augment.pipeline import after
from segdsl.data.augment.sample import Rng, Sample, Setting, counter_rng
from segdsl.data.demo.defects import CLASSES, COLORS, VOID
from segdsl.data.demo.generate import SIZE, demo_sample
from segdsl.data.pictures.text import PANEL, PAPER
from segdsl.data.pictures.thumbnails import drawn, fitted, shrunk, small_mask
from segdsl.ir.program import Augmentation
from segdsl.ir.word import members
from segdsl.words.gallery_examples import shown

PICTURE, OTHERS, SEED = 45, (126, 50, 102, 12), 17
"""Numbers of demo images that show every class: the one that is augmented and those mixed into it; and a seed for which
every second draw applies a step of probability 0.5."""
DRAWS, SIDE, GAP, FIRST_GAP, SEAM = 4, 168, 12, 24, 4
"""Number of draws after the original; then, in pixels: side of an image, gap between images, gap after the original,
gap between image and mask."""
WIDTH, HEIGHT = (DRAWS + 1) * SIDE + FIRST_GAP + (DRAWS - 1) * GAP, 2 * SIDE + SEAM
QUALITIES = (85, 80, 75, 70, 60, 50)
MOST_BYTES = 60_000
"""Largest size of a file, so that a page with all of them loads fast; the highest quality below it is used."""
SETTING = Setting((SIZE, SIZE), VOID, CLASSES)


def strip(word: type[Augmentation]) -> Image.Image:
    """Return the original and four draws of an augmentation, with their masks below: RGB, WIDTH x HEIGHT."""
    # Draws differ in their counter only, so that the images of all augmentations are comparable.
    step = shown(word)
    draws = [after([step], _demo(PICTURE), counter_rng(SEED, 0, PICTURE, n), SETTING, _other) for n in range(DRAWS)]
    canvas = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    for number, sample in enumerate([_demo(PICTURE), *draws]):
        left = number * (SIDE + GAP) + (FIRST_GAP - GAP if number else 0)
        _draw(canvas, left, sample)
    return canvas


def _demo(number: int) -> Sample:
    return Sample(*map(np.ascontiguousarray, demo_sample(0, 0, number)))


def _other(rng: Rng) -> Sample:
    return _demo(int(rng.choice(OTHERS)))


def _draw(canvas: Image.Image, left: int, sample: Sample) -> None:
    """Draw image and mask at the scale of the original, so that a change of size is visible."""
    box = [min(SIDE, round(side * SIDE / SIZE)) for side in sample.size]
    size = fitted(*sample.size, (box[0], box[1]))
    small = shrunk(sample.image, size)
    over = drawn(small, small_mask(sample.mask, size, range(len(CLASSES))), COLORS, VOID)
    for top, pixels in ((0, small), (SIDE + SEAM, over)):
        ImageDraw.Draw(canvas).rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=PANEL)
        canvas.paste(Image.fromarray(pixels), (left + (SIDE - size[1]) // 2, top + (SIDE - size[0]) // 2))


def _encoded(picture: Image.Image) -> bytes:
    content = b""
    for quality in QUALITIES:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        content = buffer.getvalue()
        if len(content) < MOST_BYTES:
            break
    return content


def main(arguments: Sequence[str]) -> int:
    """Write an example image for every augmentation into the folder given as the only argument."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m segdsl.data.pictures.gallery FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, word in members(Augmentation).items():
        (folder / f"{name}.jpg").write_bytes(_encoded(strip(word)))
        print(folder / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
