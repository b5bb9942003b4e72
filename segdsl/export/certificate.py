"""A small proof that an exported model does what the trained one does, made before the export gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segdsl.data.formats import read_layout
from segdsl.data.images import read_image
from segdsl.data.layout import Request
from segdsl.data.sample import by_fours
from segdsl.diagnostics import SegError, fail
from segdsl.export import runtime
from segdsl.export.pixels import Image, Maps, prepare
from segdsl.ir.program import Program

IMAGES = 4
"""How many images are compared."""
RESOLUTION = 1e-6
"""Logits closer than this may swap in a softmax in single precision, however small their spread is."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two best logits closer than ``tie`` times the spread of all are a tie; outside of ties at most the share
    ``differing`` of the pixels may get another class."""

    tie: float
    differing: float


TOLERANCES = {"fp32": Tolerance(1e-4, 0.0), "fp16": Tolerance(1e-2, 1e-3)}
"""Half-precision weights move logits by about a thousandth of their spread."""


@dataclass(slots=True)
class Comparison:
    """Counts over all images: pixels, those that are ties, those that differ and are none, and the largest error."""

    tie: float
    pixels: int = 0
    ties: int = 0
    differing: int = 0
    max_error: float = 0.0

    def update(self, logits: Maps, scores: Maps) -> None:
        """Adds one image: torch's logits and the softmax of the exported model, (C, h, w) each."""
        tied = ties(logits, self.tie)
        other = (logits.argmax(0) != scores.argmax(0)) & ~tied
        expected = torch.from_numpy(logits).softmax(0).numpy()
        self.pixels += tied.size
        self.ties += int(tied.sum())
        self.differing += int(other.sum())
        # Unlike max(), this keeps what is not a number.
        self.max_error = float(np.maximum(self.max_error, np.abs(expected - scores).max()))


def ties(logits: Maps, tie: float) -> npt.NDArray[np.bool_]:
    """Pixels (h, w) whose two best logits are closer than ``tie`` times the standard deviation of all logits."""
    if len(logits) < 2:
        return np.zeros(logits.shape[1:], bool)
    best = np.partition(logits, -2, axis=0)[-2:]
    return np.abs(best[1] - best[0]) <= max(tie * float(logits.std()), RESOLUTION)


def certify(program: Program, network: nn.Module, xml: Path, precision: str, images: Sequence[Image]) -> dict[str, Any]:
    """Compares torch with the file at ``xml``, both in single precision; ``network.model`` gives logits.

    Raises SegError (`export-differs`) when more differs than the precision explains.
    """
    tolerance = TOLERANCES[precision]
    compared = Comparison(tolerance.tie)
    compiled = runtime.compile_model(runtime.read_model(xml), "f32", xml)
    size, normalize = program.data.input_size, program.data.normalize
    for image in images or noise_images(size.height, size.width, channels=program.channels):
        tensor = prepare(image, size, normalize)
        with torch.inference_mode():
            logits = network.model(torch.from_numpy(tensor))[0].numpy()  # type: ignore[operator]
        compared.update(logits, compiled(tensor)[0][0])
    certificate = _summary(compared, precision, "val" if images else "noise", len(images) or IMAGES)
    if not certificate["differing"] <= tolerance.differing or not np.isfinite(compared.max_error):
        raise _differs(certificate, tolerance)
    return certificate


def _summary(compared: Comparison, precision: str, source: str, images: int) -> dict[str, Any]:
    return {
        "precision": precision,
        "images": images,
        "source": source,
        "differing": compared.differing / compared.pixels,
        "ties": compared.ties / compared.pixels,
        "max_error": compared.max_error,
    }


def _differs(certificate: dict[str, Any], tolerance: Tolerance) -> SegError:
    if not np.isfinite(certificate["max_error"]):
        message = "the scores of the model are not all finite numbers"
        return fail("export-differs", message, "look at the run: a loss that was not finite leaves such weights")
    message = (
        f"the exported model gives {certificate['differing']:.2%} of the pixels another class than the trained one, "
        f"at most {tolerance.differing:.2%} may get one; scores differ by up to {certificate['max_error']:.1e}"
    )
    smaller = certificate["precision"] != "fp32"
    help = "export with `--precision fp32`" if smaller else "the conversion is at fault: please report it"
    return fail("export-differs", message, help)


def trial_images(program: Program, base: Path) -> list[Image]:
    """The first images of the validation subset, stretched over it; none where the data is not at hand.

    ``base`` is the folder that a relative `data.root` starts from.
    """
    if program.data.root is None:
        return []
    try:
        subset = program.data.val.subset
        asked = Request.of(program, [subset])
        found = read_layout(base / program.data.root, program.data.format, asked, []).subsets[subset]
        places = sorted({round(k) for k in np.linspace(0, len(found) - 1, min(IMAGES, len(found)))})
        return [read_image(found.image(k), asked.reading) for k in places]
    except SegError:
        return []


def noise_images(height: int, width: int, count: int = IMAGES, channels: int = 3) -> list[Image]:
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
