"""Example images of the augmentations for the reference.

Run `python -m segdsl.data.pictures.gallery grammar/augmentations` to draw them. They are made from images of the demo
dataset and are reproducible, except for differences between versions of OpenCV and of the JPEG encoder. So they are
stored with the reference, and drawn again if an augmentation changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.data.augment.pipeline import apply_steps
from segdsl.data.augment.sample import AugmentContext, Rng, Sample, counter_rng
from segdsl.data.demo.defects import CLASSES, COLORS, IGNORE
from segdsl.data.demo.generate import IMAGE_SIZE, make_demo_sample
from segdsl.data.pictures.grid import draw_tile, make_canvas
from segdsl.data.pictures.thumbnails import draw_thumbnails, encode_jpeg
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


def render_augmentation(word: type[Augmentation]) -> np.ndarray:
    """Return the original and four draws of an augmentation, with their masks below, uint8 (HEIGHT, WIDTH, 3)."""
    # Draws differ in their counter only, so that the images of all augmentations are comparable.
    step = word.make_gallery_example()
    draws = [
        apply_steps(
            [step], _make_example(EXAMPLE_NUMBER), counter_rng(SEED, 0, EXAMPLE_NUMBER, n), CONTEXT, _make_partner
        )
        for n in range(DRAW_COUNT)
    ]
    canvas = make_canvas(HEIGHT, WIDTH)
    for number, sample in enumerate([_make_example(EXAMPLE_NUMBER), *draws]):
        left = number * (TILE_SIZE + GAP) + (FIRST_GAP - GAP if number else 0)
        _draw_sample(canvas, left, sample)
    return canvas


def _make_example(number: int) -> Sample:
    return Sample(*map(np.ascontiguousarray, make_demo_sample(0, 0, number)))


def _make_partner(rng: Rng) -> Sample:
    return _make_example(int(rng.choice(PARTNER_NUMBERS)))


def _draw_sample(canvas: np.ndarray, left: int, sample: Sample) -> None:
    """Draw image and mask at the scale of the original, so that a change of size is visible."""
    height, width = (min(TILE_SIZE, round(side * TILE_SIZE / IMAGE_SIZE)) for side in sample.size)
    tiles = draw_thumbnails(sample.image, [sample.mask], COLORS, IGNORE, (height, width))
    for number, pixels in enumerate(tiles):
        draw_tile(canvas, (number * (TILE_SIZE + MASK_GAP), left), pixels, (TILE_SIZE, TILE_SIZE))


def write_gallery(arguments: Sequence[str]) -> int:
    """Write an example image for every augmentation into the folder given as the only argument."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m segdsl.data.pictures.gallery FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, word in list_words(Augmentation).items():
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(render_augmentation(word), QUALITIES, MAX_BYTES))
        print(folder / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(write_gallery(sys.argv[1:]))
