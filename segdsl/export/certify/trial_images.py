"""What an export is measured on: validation samples, or seeded noise where there are none; and calibration images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segdsl.data.augment.sample import by_fours
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import SegError, fail
from segdsl.inference.preprocess import Image, Mask
from segdsl.ir.program import Program

NOISE = 4
"""How many pictures of noise stand in for a validation subset."""
Source = Literal["val", "noise"]


class Trial(NamedTuple):
    """An image (H, W, C), and its mask (H, W) where one is known."""

    image: Image
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Trials:
    """The images that an export is tried on, read one by one; where they are noise, ``why`` says what is at fault with
    the validation subset."""

    program: Program
    samples: EvalDataset | None
    positions: tuple[int, ...]
    why: str = ""

    @property
    def source(self) -> Source:
        """Where they are from."""
        return "noise" if self.samples is None else "val"

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def described(self) -> str:
        """How many they are, and of what kind."""
        return counted(len(self), self.source)

    def __iter__(self) -> Iterator[Trial]:
        if self.samples is None:
            size = self.program.data.input_size
            pictures = noise_images(size.height, size.width, len(self), self.program.channels)
            yield from (Trial(picture, None) for picture in pictures)
            return
        for position in self.positions:
            sample = self.samples[position]
            yield Trial(sample.image, sample.mask)

    def fewer(self, most: int) -> Trials:
        """At most so many of them, evenly chosen."""
        return replace(self, positions=tuple(self.positions[k] for k in evenly(len(self), most)))


def counted(images: int, source: Source) -> str:
    """So many images of a source, in words."""
    if source == "noise":
        return f"{images} pictures of noise"
    return f"{images} validation image{'s' if images > 1 else ''}"


def val_trials(program: Program, base: Path) -> Trials:
    """The validation subset, at most `export.images` of it, evenly chosen; noise where the data is not at hand.

    ``base`` is the folder that a relative `data.root` starts from.
    """
    try:
        samples = open_subset(program, base, program.data.val.subset)
    except SegError as error:
        return noise_trials(program, error.diagnostics[0].message)
    return Trials(program, samples, tuple(evenly(len(samples), program.export.images or len(samples))))


def seen_at(program: Program, root: str) -> Program:
    """The program with its data in the folder ``root``, relative to the working directory."""
    data = program.data.model_copy(update={"root": str(Path(root).absolute())})
    return program.model_copy(update={"data": data})


def noise_trials(program: Program, why: str = "no validation images were given") -> Trials:
    """Noise alone, since the validation subset lacks for the reason ``why``."""
    return Trials(program, None, tuple(range(NOISE)), why)


def calibration_images(program: Program, base: Path, count: int) -> Iterator[Image]:
    """At most ``count`` images of the training subset at the size of the input, evenly chosen.

    Raises SegError (`int8-without-data`, and what reading raises).
    """
    try:
        size = (program.data.input_size.height, program.data.input_size.width)
        samples = open_subset(program, base, program.data.train.subset, size)
    except SegError as error:
        reason = error.diagnostics[0].message
        raise without_data(f"the ranges of 8-bit layers are taken from training images: {reason}") from error
    for position in evenly(len(samples), count):
        yield samples[position].image


def without_data(message: str) -> SegError:
    """The fault of INT8 where images or masks lack that it needs."""
    return fail("int8-without-data", message, "name the folder of the data with `--data`, or export fp32 or fp16")


def open_subset(program: Program, base: Path, subset: str, size: tuple[int, int] | None = None) -> EvalDataset:
    """A subset of the program's data. Raises SegError where there is none, or one of other classes."""
    if program.data.root is None:
        raise fail("data-root-unset", "the program does not say where its data lies", "set `data.root`")
    index = open_index(base / program.data.root, program.data.format, Request.of(program, [subset]))
    if index.classes != program.classes:
        raise fail(
            "classes-differ", "the data has other classes than the model", "export with the data it was trained on"
        )
    return EvalDataset(index, subset, size)


def evenly(length: int, most: int) -> list[int]:
    """At most ``most`` positions, evenly spread over ``length``."""
    return sorted({round(k) for k in np.linspace(0, length - 1, min(most, length))}) if length else []


def noise_images(height: int, width: int, count: int = NOISE, channels: int = 3) -> list[Image]:
    """Seeded pictures with structure at every scale, which look like none but excite every channel."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        layers = [_layer(generator, height, width, cells, channels) for cells in (2, 4, 8, 16, 32)]
        total = np.sum(layers, axis=0)
        low, high = total.min(), total.max()
        pictures.append(((total - low) / (high - low) * 255).astype(np.uint8))
    return pictures


def _layer(
    generator: np.random.Generator, height: int, width: int, cells: int, channels: int
) -> npt.NDArray[np.float32]:
    coarse = generator.random((cells, cells, channels), dtype=np.float32)
    return by_fours(lambda part, _: cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), coarse)
