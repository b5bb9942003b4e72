"""Images for the checks of an export: validation samples, or seeded noise without them; and calibration images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segdsl.data.augment.sample import apply_by_channels
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import SegError, fail
from segdsl.inference.preprocess import Image, Mask
from segdsl.ir.program import Program
from segdsl.text.plural import format_count

NOISE_COUNT = 4
"""Number of noise images that replace a missing validation subset."""
Source = Literal["val", "noise"]


class Trial(NamedTuple):
    """An image (H, W, C) and its mask (H, W), if it has one."""

    image: Image
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class TrialSet:
    """The images on which an export is checked, read one by one.

    Without ``samples`` they are noise; ``missing_reason`` is then the reason why the validation subset is missing.
    """

    program: Program
    samples: EvalDataset | None
    positions: tuple[int, ...]
    missing_reason: str = ""

    @property
    def source(self) -> Source:
        """The kind of the images."""
        return "noise" if self.samples is None else "val"

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def description(self) -> str:
        """Number and kind of the images, as text."""
        return format_image_count(len(self), self.source)

    def __iter__(self) -> Iterator[Trial]:
        if self.samples is None:
            size = self.program.data.input_size
            images = generate_noise_images(size.height, size.width, len(self), self.program.channels)
            yield from (Trial(image, None) for image in images)
            return
        for position in self.positions:
            sample = self.samples[position]
            yield Trial(sample.image, sample.mask)

    def take_evenly(self, limit: int) -> TrialSet:
        """Return at most ``limit`` of the images, evenly spread."""
        return replace(self, positions=tuple(self.positions[k] for k in spread_evenly(len(self), limit)))


def format_image_count(images: int, source: Source) -> str:
    """Format a number of images, such as `4 noise images`."""
    if source == "noise":
        return format_count(images, "noise image")
    return format_count(images, "validation image")


def open_trials(program: Program, base_folder: Path) -> TrialSet:
    """Open the validation subset, at most `export.images` of it, evenly spread; return noise if it is not available.

    A relative `data.root` starts from ``base_folder``.
    """
    try:
        samples = open_subset(program, base_folder, program.data.val.subset)
    except SegError as error:
        # A missing dataset does not prevent an export in fp32 or fp16: the certificate then states the reason.
        return make_noise_trials(program, error.diagnostics[0].message)
    return TrialSet(program, samples, tuple(spread_evenly(len(samples), program.export.images or len(samples))))


def replace_data_root(program: Program, root: str) -> Program:
    """Return the program with the dataset folder ``root``, relative to the working directory."""
    data = program.data.model_copy(update={"root": str(Path(root).absolute())})
    return program.model_copy(update={"data": data})


def make_noise_trials(program: Program, reason: str = "no validation images were given") -> TrialSet:
    """Return noise images in place of a validation subset that is missing for ``reason``."""
    return TrialSet(program, None, tuple(range(NOISE_COUNT)), reason)


def read_calibration_images(program: Program, base_folder: Path, count: int) -> Iterator[Image]:
    """Yield at most ``count`` images of the training subset at input size, evenly spread.

    Raises SegError (`int8-without-data`, and the errors of reading images).
    """
    try:
        size = (program.data.input_size.height, program.data.input_size.width)
        samples = open_subset(program, base_folder, program.data.train.subset, size)
    except SegError as error:
        reason = error.diagnostics[0].message
        raise missing_data_error(f"8-bit layers are calibrated on training images: {reason}") from error
    for position in spread_evenly(len(samples), count):
        yield samples[position].image


def missing_data_error(message: str) -> SegError:
    """Return the error for images or masks that INT8 needs and that are missing."""
    return fail("int8-without-data", message, "pass the dataset folder with `--data`, or export fp32 or fp16")


def open_subset(program: Program, base_folder: Path, subset: str, size: tuple[int, int] | None = None) -> EvalDataset:
    """Open a subset of the program's dataset. Raises SegError if it is missing or has other classes."""
    if program.data.root is None:
        raise fail("data-root-unset", "the program has no dataset folder", "set `data.root`")
    index = open_index(base_folder / program.data.root, program.data.format, Request.from_program(program, [subset]))
    if index.classes != program.classes:
        raise fail(
            "classes-differ",
            "the dataset has other classes than the model",
            "export with the dataset that the model was trained on",
        )
    return EvalDataset(index, subset, size)


def spread_evenly(length: int, limit: int) -> list[int]:
    """Return at most ``limit`` positions, evenly spread over ``length``."""
    return sorted({round(k) for k in np.linspace(0, length - 1, min(limit, length))}) if length else []


def generate_noise_images(height: int, width: int, count: int = NOISE_COUNT, channels: int = 3) -> list[Image]:
    """Return ``count`` seeded noise images (height, width, channels) with structure at every scale."""
    # White noise would leave most channels of a trained network near 0; a sum of coarse and fine grids does not.
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        layers = [_generate_noise_layer(generator, height, width, cells, channels) for cells in (2, 4, 8, 16, 32)]
        total = np.sum(layers, axis=0)
        low, high = total.min(), total.max()
        images.append(((total - low) / (high - low) * 255).astype(np.uint8))
    return images


def _generate_noise_layer(
    generator: np.random.Generator, height: int, width: int, cells: int, channels: int
) -> npt.NDArray[np.float32]:
    coarse = generator.random((cells, cells, channels), dtype=np.float32)
    return apply_by_channels(lambda part, _: cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), coarse)
