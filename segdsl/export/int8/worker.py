"""The quantization process: post-training quantization by NNCF, and a search for the layers that must stay in float.

`python -m segdsl.export.int8.worker JOB.json` writes the model of the job, and `outcome.json` next to the job.
Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdsl.export.int8.job import PROGRESS_MARK, QuantizationJob
from segdsl.export.int8.layer_cost import list_int8_layers, rank_costly_parts, restore_float_layers
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.tensor_names import add_outputs
from segdsl.scores.confusion import Confusion
from segdsl.text.plural import format_count

PROBE_IMAGES = 8
"""Number of images on which the cost of a part of the network is measured."""


@dataclass(frozen=True, slots=True)
class Score:
    """Macro Dice and Dice by class (nan if a class is neither in masks nor predicted), and logits of some images."""

    dice: float
    by_class: npt.NDArray[np.float64]
    logits: list[npt.NDArray[np.float32]]

    def compute_dice_loss(self, other: Score) -> float:
        """Return the Dice that ``other`` has lost, averaged over the classes."""
        # Gains of one class do not offset losses of another: macro Dice may stay equal while a sixth of the pixels
        # change. A class that is missing on one side only counts as Dice 1 there.
        known = ~(np.isnan(self.by_class) & np.isnan(other.by_class))
        ours, theirs = (np.nan_to_num(scores[known], nan=1.0) for scores in (self.by_class, other.by_class))
        return float(np.maximum(ours - theirs, 0.0).mean()) if known.any() else 0.0

    def compute_logit_error(self, other: Score) -> float:
        """Return the root mean square error of the logits of ``other``, over the standard deviation of these."""
        squares = [np.mean(np.square(a - b, dtype=np.float64)) for a, b in zip(self.logits, other.logits, strict=True)]
        spread = [np.var(a, dtype=np.float64) for a in self.logits]
        return float(np.sqrt(np.mean(squares) / np.mean(spread)))


class Quantizer:
    """Quantizes the model of a job and scores it."""

    def __init__(self, job: QuantizationJob) -> None:
        self.job = job
        self.base = openvino_runtime.read_model(Path(job.model))
        self.calibration = np.load(job.calibration, mmap_mode="r")
        self.trials = np.load(job.trials, mmap_mode="r")
        self.masks = np.load(job.masks, mmap_mode="r")

    def quantize_model(self, float_layers: Sequence[str]) -> Any:
        """Quantize all supported layers except ``float_layers``; weights stay in float before their quantizers."""
        # Float weights keep the quantizers removable, so that the search can restore single layers.
        import nncf
        from nncf.openvino.quantization.backend_parameters import BackendParameters

        return nncf.quantize(
            self.base.clone(),
            nncf.Dataset(
                list(range(len(self.calibration))), lambda k: self.job.make_input(np.asarray(self.calibration[k]))
            ),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(self.calibration),
            model_type=nncf.ModelType.TRANSFORMER if self.job.has_attention else None,
            ignored_scope=nncf.IgnoredScope(names=list(float_layers), validate=False) if float_layers else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                backend_params={BackendParameters.COMPRESS_WEIGHTS: False}
            ),
        )

    def score_model(self, model: Any, limit: int | None = None) -> Score:
        """Score a model on the trials, or on the first ``limit`` of them."""
        compiled = openvino_runtime.compile_model(
            add_outputs(model, [self.job.logits_name]), "f32", Path(self.job.model)
        )
        counts = Confusion(self.job.classes, self.job.ignore)
        logits: list[npt.NDArray[np.float32]] = []
        for position in range(len(self.trials))[:limit]:
            outputs = compiled(self.job.make_input(np.asarray(self.trials[position])))
            ids = outputs[0][0] if self.job.is_hard else outputs[0][0][self.job.channel_offset :].argmax(0)
            if len(logits) < PROBE_IMAGES:
                # Copied, since OpenVINO reuses the buffer for the next image.
                logits.append(outputs[1][0].copy())
            counts.update(ids.astype(np.uint8), np.asarray(self.masks[position]))
        return Score(counts.dice, np.asarray(counts.dice_by_class), logits)

    def search_model(self) -> tuple[Any, dict[str, Any]]:
        """Return an 8-bit model within the limit, and its entries for the certificate."""
        reference = self.score_model(self.base)
        images = len(self.calibration)
        report_progress(f"quantizing with {format_count(images, 'training image')}")
        quantized = self.quantize_model([])
        score = self.score_model(quantized)
        loss = reference.compute_dice_loss(score)
        first = {"dice_fp32": reference.dice, "dice_all_int8": score.dice, "lost_all_int8": loss}
        if loss <= self.job.max_dice_loss:
            return quantized, self._build_outcome(quantized, first, [], [])
        report_progress(f"8 bits lose {loss:.4f} of Dice: measuring each part of the network")
        parts = list(self._measure_parts(quantized, reference))
        parts.sort(key=lambda part: -part["error"])
        count = self._find_fewest_float_parts(quantized, parts, reference)
        while True:
            ignored = [name for part in parts[:count] for name in part["names"]]
            report_progress(f"quantizing with {format_count(len(ignored), 'layer')} in floating point")
            final = self.quantize_model(ignored)
            if count == len(parts) or reference.compute_dice_loss(self.score_model(final)) <= self.job.max_dice_loss:
                return final, self._build_outcome(final, first, parts, ignored)
            # Bias correction makes a newly quantized model differ from one with restored layers, so the search may
            # have found too few layers.
            count = min(len(parts), count + 1 + count // 2)

    def _measure_parts(self, quantized: Any, reference: Score) -> Iterator[dict[str, Any]]:
        """Yield the parts of the network, each with its cost if it alone computes in 8 bits."""
        names = list_int8_layers(quantized)
        baseline = self.score_model(self.base, PROBE_IMAGES)

        def measure_cost(layers: Sequence[str]) -> tuple[float, float]:
            others = sorted(set(names) - set(layers))
            score = self.score_model(restore_float_layers(quantized, others), PROBE_IMAGES)
            return reference.compute_logit_error(score), score.dice - baseline.dice

        for path, layers, (error, change) in rank_costly_parts(names, measure_cost):
            yield {"part": path, "layers": len(layers), "error": error, "dice_change": change, "names": layers}

    def _find_fewest_float_parts(self, quantized: Any, parts: Sequence[Mapping[str, Any]], reference: Score) -> int:
        """Return how many of the costliest parts must compute in floating point, by bisection."""
        # Assumes that more parts in float never lose more Dice. The caller checks the result and adds parts if not.
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            names = [name for part in parts[:middle] for name in part["names"]]
            if (
                reference.compute_dice_loss(self.score_model(restore_float_layers(quantized, names)))
                <= self.job.max_dice_loss
            ):
                high = middle
            else:
                low = middle
        return high

    def _build_outcome(
        self, model: Any, first: Mapping[str, float], parts: Sequence[Mapping[str, Any]], float_layers: Sequence[str]
    ) -> dict[str, Any]:
        floats = set(float_layers)
        return {
            **first,
            "calibration_images": len(self.calibration),
            "layers": len(list_int8_layers(model)),
            "layers_in_float": len(floats),
            "parts": [
                {
                    **{key: part[key] for key in ("part", "layers", "error", "dice_change")},
                    "computes_in": "float" if set(part["names"]) <= floats else "int8",
                }
                for part in parts
            ],
        }


def report_progress(text: str) -> None:
    """Send a progress message to the parent process."""
    print(f"{PROGRESS_MARK}{text}", flush=True)


def exit_with_parent() -> None:
    """Start a thread that ends this process when its parent ends, which closes the standard input."""
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()


def _exit_at_end_of_input() -> None:
    # Not sys.stdin: a thread that reads it would hold its lock when the interpreter exits.
    while os.read(0, 1):
        pass
    os._exit(1)


def disable_snippets() -> None:
    """Make OpenVINO compile every model of this process without snippets."""
    # NNCF compiles models itself, with inner nodes as outputs, and such models crash with snippets.
    kind = openvino_runtime.import_openvino().Core
    compile_model = kind.compile_model

    def compile_without_snippets(
        self: Any, model: Any, device_name: Any = None, config: Any = None, **others: Any
    ) -> Any:
        return compile_model(
            self, model, device_name or "CPU", {**(config or {}), **openvino_runtime.SNIPPETS_DISABLE_CONFIG}, **others
        )

    kind.compile_model = compile_without_snippets


def run_job(file: Path) -> None:
    """Run the job in ``file``."""
    exit_with_parent()
    disable_snippets()
    from openvino._offline_transformations import compress_quantize_weights_transformation

    job = QuantizationJob.from_json(json.loads(file.read_text(encoding="utf-8")))
    with openvino_runtime.silence_libraries():
        model, outcome = Quantizer(job).search_model()
        compress_quantize_weights_transformation(model)
        openvino_runtime.import_openvino().save_model(model, job.out, compress_to_fp16=False)
    file.with_name("outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    run_job(Path(sys.argv[1]))
