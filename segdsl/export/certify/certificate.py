"""The certificate of an export: a comparison of the exported model with the trained one, made before publication.

The trained model in PyTorch and each form of the exported one process the same images; differences are counted at the
size of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from segdsl.diagnostics import SegError, fail
from segdsl.export.certify.trial_images import Trials
from segdsl.inference.preprocess import Maps, Mask, prepare, restore
from segdsl.ir.program import Program, Tolerance
from segdsl.scores.confusion import Confusion, or_none

TORCH, DEVICE, ONNX = "torch", "device", "onnx"
"""Rows of the trained model, of the file in the precision that the device prefers, and of the ONNX file."""
SINGLE = ("fp32", ONNX)
"""Rows computed in single precision."""
TIES: dict[str, float] = {"fp32": 1e-4, ONNX: 1e-4}
ROUNDED_TIE = 1e-2
"""A pixel is a tie if its two best logits differ by less than this share of the standard deviation of all logits.

Half precision changes logits by about a thousandth of their standard deviation.
"""
RESOLUTION = 1e-6
"""Logits closer than this share of the largest can swap in single precision, however small their spread is."""
UNSCORED = 10
"""Without masks, half precision may change this many times as many pixels as single precision."""

VOID = "all pixels of the validation masks are ignored"
"""The reason for an unknown Dice where masks exist."""

Look = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8]], "tuple[Maps, Mask]"]
"""A form of the model: maps a normalized image (1, C, h, w) and its pixels to logits (K, h, w) and class ids (h, w)."""


@dataclass(slots=True)
class Row:
    """Differences between one form of the model and PyTorch, over all images.

    Of all ``pixels``, ``ties`` are undecided in PyTorch, ``class_changes`` have another class than in PyTorch, and
    ``mismatches`` have another class without being a tie. ``max_error`` is the largest error of a probability,
    ``max_logit_error`` that of a logit, ``relative_logit_error`` the same divided by the standard deviation of the
    image's logits in PyTorch. ``has_mask`` tells whether any image had a mask.
    """

    name: str
    confusion: Confusion
    pixels: int = 0
    ties: int = 0
    differing: int = 0
    moved: int = 0
    max_error: float = 0.0
    max_logit_error: float = 0.0
    relative: float = 0.0
    scored: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, logits: Maps, ids: Mask, expected: Maps, size: tuple[int, int], mask: Mask | None) -> None:
        """Add an image: logits (K, h, w) and ids (h, w) of this form, the ``expected`` logits, its size and mask."""
        best = expected.argmax(0).astype(np.uint8)
        tied = ties(expected, TIES.get(self.name, ROUNDED_TIE))
        # Counted at the size of the image: that is the mask which users of the model get.
        predicted, truth, tied = (restore(a.astype(np.uint8), *size) for a in (ids, best, tied))
        changed = predicted != truth
        error = float(np.abs(logits - expected).max())
        probabilities = np.abs(_softmax(logits) - _softmax(expected)).max()
        self.pixels += truth.size
        self.ties += int(tied.sum())
        self.moved += int(changed.sum())
        self.differing += int((changed & (tied == 0)).sum())
        # np.maximum propagates NaN, which max() may drop; a NaN has to fail the check.
        self.max_error = float(np.maximum(self.max_error, probabilities))
        self.max_logit_error = float(np.maximum(self.max_logit_error, error))
        self.relative = float(np.maximum(self.relative, error / max(float(expected.std()), _resolution(expected))))
        if mask is not None:
            self.confusion.update(predicted, mask)
            self.scored = True

    def summary(self, torch_row: Row) -> dict[str, Any]:
        """Return the row for JSON; changes are relative to ``torch_row``, scores are None without masks."""
        dice, base = self.confusion.dice_by_class, torch_row.confusion.dice_by_class
        names = self.confusion.classes
        per_class = {
            name: {"dice": or_none(dice[k]), "change": or_none(dice[k] - base[k])} for k, name in enumerate(names)
        }
        return {
            "pixels": self.moved / self.pixels,
            "differing": self.differing / self.pixels,
            "ties": self.ties / self.pixels,
            "max_error": self.max_error,
            "max_logit_error": self.max_logit_error,
            "relative_logit_error": self.relative,
            "dice": or_none(self.confusion.dice) if self.scored else None,
            "dice_change": or_none(self.confusion.dice - torch_row.confusion.dice) if self.scored else None,
            "per_class": per_class if self.scored else None,
            **self.facts,
        }


def ties(logits: Maps, tie: float) -> npt.NDArray[np.bool_]:
    """Return the pixels (h, w) whose two best logits differ by at most ``threshold`` standard deviations of all."""
    if len(logits) < 2:
        return np.zeros(logits.shape[1:], bool)
    best = np.partition(logits, -2, axis=0)[-2:]
    return np.abs(best[1] - best[0]) <= max(tie * float(logits.std()), _resolution(logits))


def _resolution(logits: Maps) -> float:
    # Above 0 even if all logits are 0: callers divide by it.
    return max(RESOLUTION * float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))


def measure(program: Program, network: Any, forms: Mapping[str, Look], trials: Trials) -> dict[str, Row]:
    """Run PyTorch and each of ``forms`` on ``trials`` and return a row for each.

    ``network`` is the trained model in PyTorch, from normalized images to logits.
    """
    size, normalize = program.data.input_size, program.data.normalize
    rows = {name: Row(name, Confusion(program.classes, program.void)) for name in (TORCH, *forms)}
    for image, mask in trials:
        tensor = prepare(image, size, normalize)
        with torch.inference_mode():
            expected = network(torch.from_numpy(tensor))[0].numpy()
        image_size = image.shape[:2]
        rows[TORCH].add(expected, expected.argmax(0).astype(np.uint8), expected, image_size, mask)
        for name, predict in forms.items():
            rows[name].add(*predict(tensor, image), expected, image_size, mask)
    return rows


def certificate_of(
    precision: str, rows: Mapping[str, Row], trials: Trials, tolerance: Tolerance, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the certificate for JSON: the figures of the published form, the limits, and a row for each form."""
    table = {name: row.summary(rows[TORCH]) for name, row in rows.items()}
    published = {key: table[precision][key] for key in ("differing", "ties", "max_error", "dice", "dice_change")}
    return {
        "precision": precision,
        "images": len(trials),
        "source": trials.source,
        "unscored": trials.why or (VOID if table[TORCH]["dice"] is None else None),
        **published,
        "tolerance": {"pixels": tolerance.pixels, "dice": tolerance.dice, "logits": tolerance.logits},
        "rows": table,
        **extra,
    }


def check(certificate: Mapping[str, Any], tolerance: Tolerance) -> None:
    """Raise SegError (`export-differs`) with one diagnostic for each exceeded limit."""
    violations = list(_faults(certificate, tolerance))
    if violations:
        raise SegError([diagnostic for error in violations for diagnostic in error.diagnostics])


def _faults(certificate: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    rows, precision = certificate["rows"], certificate["precision"]
    # A form that is not published, such as fp16 beside an exported int8, is reported but not held to the limits.
    for name in dict.fromkeys(("fp32", precision, DEVICE)):
        row = rows.get(name)
        if row is None:
            continue
        if not np.isfinite(row["max_logit_error"]):
            message = f"{_called(name)} produces scores that are not finite"
            yield fail("export-differs", message, "check the loss of the run: a non-finite loss leaves such weights")
            # Every other figure of this row is meaningless.
            continue
        yield from _beyond(name, row, tolerance)


def _beyond(name: str, row: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    single = name in SINGLE
    limit = tolerance.pixels if single else UNSCORED * tolerance.pixels
    # Lower precision changes borders without harm, so with masks it is judged by Dice instead of by changed pixels.
    limits_pixels = single or (name == "fp16" and row["dice"] is None)
    if limits_pixels and row["differing"] > limit:
        message = (
            f"{_called(name)} classifies {row['differing']:.2%} of the pixels differently from the trained model, more "
            f"than the allowed {limit:.2%}; probabilities differ by up to {row['max_error']:.1e}{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "pixels"))
    loss = -(row["dice_change"] or 0.0)
    if loss > tolerance.dice:
        message = (
            f"{_called(name)} loses {100 * loss:.2f} points of Dice on the validation subset ({row['dice']:.4f}), "
            f"more than the allowed {100 * tolerance.dice:.2f}{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "dice"))
    if single and tolerance.logits is not None and row["relative_logit_error"] > tolerance.logits:
        message = (
            f"{_called(name)} has a logit error of {row['relative_logit_error']:.1e} standard deviations, "
            f"more than the allowed {tolerance.logits:.1e}{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "logits"))


def _called(name: str) -> str:
    return "the exported model in the precision preferred by this device" if name == DEVICE else f"the {name} model"


def _parted(row: Mapping[str, Any]) -> str:
    return f"; results diverge at `{row['parts_at']}`" if row.get("parts_at") else ""


def _remedy(name: str, limit: Literal["pixels", "dice", "logits"]) -> str:
    """Suggest what to do about a form that exceeds one of the limits in `export.tolerance`."""
    if name in SINGLE:
        return f"the conversion is wrong: please report it, or raise the limit `export.tolerance.{limit}`"
    if name == DEVICE:
        return f"raise `export.tolerance.{limit}`, and run the deployed model in single precision"
    if limit == "pixels":
        # Raising the limit on Dice would not help: without masks it is not checked.
        limit_text = f"without masks, the limit is {UNSCORED} times `export.tolerance.pixels`"
        return f"export with `--precision fp32`, or pass a dataset with masks (`--data`); {limit_text}"
    return f"export with `--precision fp32`, or raise the limit: `--set export.tolerance.{limit}=0.02`"


def _softmax(logits: Sequence[Any] | Maps) -> Maps:
    shifted = np.exp(logits - np.max(logits, axis=0))
    return shifted / shifted.sum(0)
