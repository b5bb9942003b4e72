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
from segdsl.export.certify.trial_images import TrialSet
from segdsl.inference.preprocess import ClassMaps, Mask, preprocess_image, restore_mask_size
from segdsl.ir.program import Program, Tolerance
from segdsl.scores.confusion import Confusion, nan_to_none

TORCH, DEVICE = "torch", "device"
"""Rows of the trained model, and of the file in the precision that the device prefers."""
TIE_THRESHOLD, ROUNDING_TIE_THRESHOLD = 1e-4, 1e-2
"""A pixel is a tie if its two best logits differ by less than this share of the standard deviation of all logits.

The second threshold is for forms that do not compute in single precision.

Half precision changes logits by about a thousandth of their standard deviation.
"""
RELATIVE_RESOLUTION = 1e-6
"""Logits closer than this share of the largest can swap in single precision, however small their spread is."""
UNSCORED_FACTOR = 10
"""Without masks, half precision may change this many times as many pixels as single precision."""

ALL_IGNORED = "all pixels of the validation masks are ignored"
"""The reason for an unknown Dice where masks exist."""

Predictor = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8]], "tuple[ClassMaps, Mask]"]
"""A form of the model: maps a normalized image (1, C, h, w) and its pixels to logits (K, h, w) and class ids (h, w)."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form of an exported model: how it predicts, whether it computes in single precision, and facts for its row."""

    predict: Predictor
    is_single: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class CertificateRow:
    """Differences between one form of the model and PyTorch, over all images.

    Of all ``pixels``, ``ties`` are undecided in PyTorch, ``class_changes`` have another class than in PyTorch, and
    ``mismatches`` have another class without being a tie. ``max_error`` is the largest error of a probability,
    ``max_logit_error`` that of a logit, ``relative_logit_error`` the same divided by the standard deviation of the
    image's logits in PyTorch. ``has_mask`` tells whether any image had a mask, ``is_single`` whether the
    form computes in single precision.
    """

    name: str
    confusion: Confusion
    is_single: bool = True
    pixels: int = 0
    ties: int = 0
    mismatches: int = 0
    class_changes: int = 0
    max_error: float = 0.0
    max_logit_error: float = 0.0
    relative_logit_error: float = 0.0
    has_mask: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def add_image(
        self, logits: ClassMaps, ids: Mask, expected: ClassMaps, image_size: tuple[int, int], mask: Mask | None
    ) -> None:
        """Add an image: logits (K, h, w) and ids (h, w) of this form, the ``expected`` logits, its size and mask."""
        best = expected.argmax(0).astype(np.uint8)
        tied = find_ties(expected, TIE_THRESHOLD if self.is_single else ROUNDING_TIE_THRESHOLD)
        # Counted at the size of the image: that is the mask which users of the model get.
        predicted, truth, tied = (restore_mask_size(a.astype(np.uint8), *image_size) for a in (ids, best, tied))
        changed = predicted != truth
        error = float(np.abs(logits - expected).max())
        probabilities = np.abs(_softmax(logits) - _softmax(expected)).max()
        self.pixels += truth.size
        self.ties += int(tied.sum())
        self.class_changes += int(changed.sum())
        self.mismatches += int((changed & (tied == 0)).sum())
        # np.maximum propagates NaN, which max() may drop; a NaN has to fail the check.
        self.max_error = float(np.maximum(self.max_error, probabilities))
        self.max_logit_error = float(np.maximum(self.max_logit_error, error))
        self.relative_logit_error = float(
            np.maximum(self.relative_logit_error, error / max(float(expected.std()), _logit_resolution(expected)))
        )
        if mask is not None:
            self.confusion.update(predicted, mask)
            self.has_mask = True

    def to_json(self, torch_row: CertificateRow) -> dict[str, Any]:
        """Return the row for JSON; changes are relative to ``torch_row``, scores are None without masks."""
        dice, base = self.confusion.dice_by_class, torch_row.confusion.dice_by_class
        names = self.confusion.classes
        per_class = {
            name: {"dice": nan_to_none(dice[k]), "change": nan_to_none(dice[k] - base[k])}
            for k, name in enumerate(names)
        }
        return {
            "pixels": self.class_changes / self.pixels,
            "differing": self.mismatches / self.pixels,
            "ties": self.ties / self.pixels,
            "max_error": self.max_error,
            "max_logit_error": self.max_logit_error,
            "relative_logit_error": self.relative_logit_error,
            "dice": nan_to_none(self.confusion.dice) if self.has_mask else None,
            "dice_change": nan_to_none(self.confusion.dice - torch_row.confusion.dice) if self.has_mask else None,
            "per_class": per_class if self.has_mask else None,
            "single_precision": self.is_single,
            **self.facts,
        }


def find_ties(logits: ClassMaps, threshold: float) -> npt.NDArray[np.bool_]:
    """Return the pixels (h, w) whose two best logits differ by at most ``threshold`` standard deviations of all."""
    if len(logits) < 2:
        return np.zeros(logits.shape[1:], bool)
    best = np.partition(logits, -2, axis=0)[-2:]
    return np.abs(best[1] - best[0]) <= max(threshold * float(logits.std()), _logit_resolution(logits))


def _logit_resolution(logits: ClassMaps) -> float:
    # Above 0 even if all logits are 0: callers divide by it.
    return max(RELATIVE_RESOLUTION * float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))


def measure_forms(
    program: Program, network: Any, forms: Mapping[str, Form], trials: TrialSet
) -> dict[str, CertificateRow]:
    """Run PyTorch and each of ``forms`` on ``trials`` and return a row for each.

    ``network`` is the trained model in PyTorch, from normalized images to logits.
    """
    size, normalize = program.data.input_size, program.data.normalize
    rows = {TORCH: CertificateRow(TORCH, Confusion(program.classes, program.void))}
    for name, form in forms.items():
        counts = Confusion(program.classes, program.void)
        rows[name] = CertificateRow(name, counts, form.is_single, facts=dict(form.facts))
    for image, mask in trials:
        tensor = preprocess_image(image, size, normalize)
        with torch.inference_mode():
            expected = network(torch.from_numpy(tensor))[0].numpy()
        image_size = image.shape[:2]
        rows[TORCH].add_image(expected, expected.argmax(0).astype(np.uint8), expected, image_size, mask)
        for name, form in forms.items():
            rows[name].add_image(*form.predict(tensor, image), expected, image_size, mask)
    return rows


def build_certificate(
    precision: str, rows: Mapping[str, CertificateRow], trials: TrialSet, tolerance: Tolerance, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the certificate for JSON: the figures of the published form, the limits, and a row for each form."""
    table = {name: row.to_json(rows[TORCH]) for name, row in rows.items()}
    published = {key: table[precision][key] for key in ("differing", "ties", "max_error", "dice", "dice_change")}
    return {
        "precision": precision,
        "images": len(trials),
        "source": trials.source,
        "unscored": trials.missing_reason or (ALL_IGNORED if table[TORCH]["dice"] is None else None),
        **published,
        "tolerance": {"pixels": tolerance.pixels, "dice": tolerance.dice, "logits": tolerance.logits},
        "rows": table,
        **extra,
    }


def check_certificate(certificate: Mapping[str, Any], tolerance: Tolerance) -> None:
    """Raise SegError (`export-differs`) with one diagnostic for each exceeded limit."""
    violations = list(_find_violations(certificate, tolerance))
    if violations:
        raise SegError([diagnostic for error in violations for diagnostic in error.diagnostics])


def _find_violations(certificate: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    rows, precision = certificate["rows"], certificate["precision"]
    # A form that is not published, such as fp16 beside an exported int8, is reported but not held to the limits.
    for name in dict.fromkeys(("fp32", precision, DEVICE)):
        row = rows.get(name)
        if row is None:
            continue
        if not np.isfinite(row["max_logit_error"]):
            message = f"{_describe_form(name)} produces scores that are not finite"
            yield fail("export-differs", message, "check the loss of the run: a non-finite loss leaves such weights")
            # Every other figure of this row is meaningless.
            continue
        yield from _check_row(name, row, tolerance)


def _check_row(name: str, row: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    single = row["single_precision"]
    limit = tolerance.pixels if single else UNSCORED_FACTOR * tolerance.pixels
    # Lower precision changes borders without harm, so with masks it is judged by Dice instead of by changed pixels.
    limits_pixels = single or (name != DEVICE and row["dice"] is None)
    if limits_pixels and row["differing"] > limit:
        message = (
            f"{_describe_form(name)} classifies {row['differing']:.2%} of the pixels differently from the trained "
            f"model, more than the allowed {limit:.2%}; probabilities differ by up to {row['max_error']:.1e}"
            f"{_format_divergence(row)}"
        )
        yield fail("export-differs", message, _suggest_remedy(name, single, "pixels"))
    loss = -(row["dice_change"] or 0.0)
    if loss > tolerance.dice:
        message = (
            f"{_describe_form(name)} loses {100 * loss:.2f} points of Dice on the validation subset "
            f"({row['dice']:.4f}), more than the allowed {100 * tolerance.dice:.2f}{_format_divergence(row)}"
        )
        yield fail("export-differs", message, _suggest_remedy(name, single, "dice"))
    if single and tolerance.logits is not None and row["relative_logit_error"] > tolerance.logits:
        message = (
            f"{_describe_form(name)} has a logit error of {row['relative_logit_error']:.1e} standard deviations, "
            f"more than the allowed {tolerance.logits:.1e}{_format_divergence(row)}"
        )
        yield fail("export-differs", message, _suggest_remedy(name, single, "logits"))


def _describe_form(name: str) -> str:
    return "the exported model in the precision preferred by this device" if name == DEVICE else f"the {name} model"


def _format_divergence(row: Mapping[str, Any]) -> str:
    return f"; results diverge at `{row['parts_at']}`" if row.get("parts_at") else ""


def _suggest_remedy(name: str, single: bool, limit: Literal["pixels", "dice", "logits"]) -> str:
    """Suggest what to do about a form that exceeds one of the limits in `export.tolerance`."""
    if single:
        return f"the conversion is wrong: please report it, or raise the limit `export.tolerance.{limit}`"
    if name == DEVICE:
        return f"raise `export.tolerance.{limit}`, and run the deployed model in single precision"
    if limit == "pixels":
        # Raising the limit on Dice would not help: without masks it is not checked.
        limit_text = f"without masks, the limit is {UNSCORED_FACTOR} times `export.tolerance.pixels`"
        return f"export with `--precision fp32`, or pass a dataset with masks (`--data`); {limit_text}"
    return f"export with `--precision fp32`, or raise the limit: `--set export.tolerance.{limit}=0.02`"


def _softmax(logits: Sequence[Any] | ClassMaps) -> ClassMaps:
    shifted = np.exp(logits - np.max(logits, axis=0))
    return shifted / shifted.sum(0)
