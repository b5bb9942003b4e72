"""The proof that an exported model does what the trained one does, made before the export gets its name.

The trained model in torch, and each form of the exported one, look at the same images; what differs is counted at the
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
"""The rows of the trained model, of the file as the device prefers to compute it, and of the ONNX file."""
SINGLE = ("fp32", ONNX)
"""The rows in single precision."""
TIES: dict[str, float] = {"fp32": 1e-4, ONNX: 1e-4}
ROUNDED_TIE = 1e-2
"""Two best logits closer than this share of the spread of all are a tie; half precision moves logits by a thousandth of
their spread."""
RESOLUTION = 1e-6
"""Logits closer than this share of the largest may swap in single precision, however small their spread is."""
UNSCORED = 10
"""Where no mask tells what it costs, half precision may move so many times as many pixels as single precision."""

VOID = "the masks of the validation subset are void"
"""Why the Dice is not known where there are masks."""

Look = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8]], "tuple[Maps, Mask]"]
"""A form of the model: a normalised image (1, C, h, w) and its pixels, to logits (K, h, w) and class ids (h, w)."""


@dataclass(slots=True)
class Row:
    """What was counted of one form of the model over all images.

    ``pixels`` were looked at, ``ties`` of them could go either way in torch, ``moved`` got another class than there,
    ``differing`` did so without being a tie. ``max_error`` is that of a probability, ``max_logit_error`` that of a
    logit, ``relative`` the same over the standard deviation of the image's logits in torch; ``scored`` says whether
    there was a mask.
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
        """Adds an image of ``size``: the logits and ids of this form, and torch's logits."""
        best = expected.argmax(0).astype(np.uint8)
        tied = ties(expected, TIES.get(self.name, ROUNDED_TIE))
        shown, truth, tied = (restore(a.astype(np.uint8), *size) for a in (ids, best, tied))
        other = shown != truth
        error = float(np.abs(logits - expected).max())
        probabilities = np.abs(_softmax(logits) - _softmax(expected)).max()
        self.pixels += truth.size
        self.ties += int(tied.sum())
        self.moved += int(other.sum())
        self.differing += int((other & (tied == 0)).sum())
        # Unlike max(), this keeps what is not a number.
        self.max_error = float(np.maximum(self.max_error, probabilities))
        self.max_logit_error = float(np.maximum(self.max_logit_error, error))
        self.relative = float(np.maximum(self.relative, error / max(float(expected.std()), _resolution(expected))))
        if mask is not None:
            self.confusion.update(shown, mask)
            self.scored = True

    def summary(self, torch_row: Row) -> dict[str, Any]:
        """The row as JSON has it; changes are over torch, and None where no mask is known."""
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
    """Pixels (h, w) whose two best logits are closer than ``tie`` times the standard deviation of all logits."""
    if len(logits) < 2:
        return np.zeros(logits.shape[1:], bool)
    best = np.partition(logits, -2, axis=0)[-2:]
    return np.abs(best[1] - best[0]) <= max(tie * float(logits.std()), _resolution(logits))


def _resolution(logits: Maps) -> float:
    # Not 0 where all of them are: a share of nothing is none.
    return max(RESOLUTION * float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))


def measure(program: Program, network: Any, forms: Mapping[str, Look], trials: Trials) -> dict[str, Row]:
    """A row for torch and for each of ``forms``; ``network`` gives logits from normalised images in torch."""
    size, normalize = program.data.input_size, program.data.normalize
    rows = {name: Row(name, Confusion(program.classes, program.void)) for name in (TORCH, *forms)}
    for image, mask in trials:
        tensor = prepare(image, size, normalize)
        with torch.inference_mode():
            expected = network(torch.from_numpy(tensor))[0].numpy()
        at_image = image.shape[:2]
        rows[TORCH].add(expected, expected.argmax(0).astype(np.uint8), expected, at_image, mask)
        for name, look in forms.items():
            rows[name].add(*look(tensor, image), expected, at_image, mask)
    return rows


def certificate_of(
    precision: str, rows: Mapping[str, Row], trials: Trials, tolerance: Tolerance, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The certificate as JSON has it: the figures of the shipped form, the limits, and a row for each form."""
    table = {name: row.summary(rows[TORCH]) for name, row in rows.items()}
    shipped = {key: table[precision][key] for key in ("differing", "ties", "max_error", "dice", "dice_change")}
    return {
        "precision": precision,
        "images": len(trials),
        "source": trials.source,
        "unscored": trials.why or (VOID if table[TORCH]["dice"] is None else None),
        **shipped,
        "tolerance": {"pixels": tolerance.pixels, "dice": tolerance.dice, "logits": tolerance.logits},
        "rows": table,
        **extra,
    }


def check(certificate: Mapping[str, Any], tolerance: Tolerance) -> None:
    """Raises SegError (`export-differs`) with everything that is beyond a limit."""
    faults = list(_faults(certificate, tolerance))
    if faults:
        raise SegError([finding for fault in faults for finding in fault.diagnostics])


def _faults(certificate: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    rows, precision = certificate["rows"], certificate["precision"]
    for name in dict.fromkeys(("fp32", precision, DEVICE)):
        row = rows.get(name)
        if row is None:
            continue
        if not np.isfinite(row["max_logit_error"]):
            message = f"{_called(name)}: the scores of the model are not all finite numbers"
            yield fail("export-differs", message, "look at the run: a loss that was not finite leaves such weights")
            continue
        yield from _beyond(name, row, tolerance)


def _beyond(name: str, row: Mapping[str, Any], tolerance: Tolerance) -> Iterable[SegError]:
    single = name in SINGLE
    most = tolerance.pixels if single else UNSCORED * tolerance.pixels
    told_by_pixels = single or (name == "fp16" and row["dice"] is None)
    if told_by_pixels and row["differing"] > most:
        message = (
            f"{_called(name)} gives {row['differing']:.2%} of the pixels another class than the trained model, at most "
            f"{most:.2%} may get one; scores differ by up to {row['max_error']:.1e}{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "pixels"))
    loss = -(row["dice_change"] or 0.0)
    if loss > tolerance.dice:
        message = (
            f"{_called(name)} loses {100 * loss:.2f} points of Dice on the validation subset ({row['dice']:.4f}), "
            f"at most {100 * tolerance.dice:.2f} may be lost{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "dice"))
    if single and tolerance.logits is not None and row["relative_logit_error"] > tolerance.logits:
        message = (
            f"{_called(name)} has a logit that is off by {row['relative_logit_error']:.1e} of their standard "
            f"deviation, at most {tolerance.logits:.1e} is allowed{_parted(row)}"
        )
        yield fail("export-differs", message, _remedy(name, "logits"))


def _called(name: str) -> str:
    return "the exported model in the precision that this device prefers" if name == DEVICE else f"the {name} model"


def _parted(row: Mapping[str, Any]) -> str:
    return f"; they part at `{row['parts_at']}`" if row.get("parts_at") else ""


def _remedy(name: str, limit: Literal["pixels", "dice", "logits"]) -> str:
    """What can be done about a form that is beyond one of the limits in `export.tolerance`."""
    if name in SINGLE:
        return f"the conversion is at fault: please report it; `export.tolerance.{limit}` is the limit"
    if name == DEVICE:
        return f"raise `export.tolerance.{limit}`, and let the model compute in single precision where it is used"
    if limit == "pixels":
        times = f"{UNSCORED} times `export.tolerance.pixels`"
        return f"export with `--precision fp32`; or name data with masks (`--data`), without which the limit is {times}"
    return f"export with `--precision fp32`, or raise the limit: `--set export.tolerance.{limit}=0.02`"


def _softmax(logits: Sequence[Any] | Maps) -> Maps:
    shifted = np.exp(logits - np.max(logits, axis=0))
    return shifted / shifted.sum(0)
