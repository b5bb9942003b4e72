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

from segdsl.export.int8.job import TOLD, Job
from segdsl.export.int8.layer_cost import costly_parts, layers_of, with_float
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.tensor_names import with_outputs
from segdsl.scores.confusion import Confusion

PROBES = 8
"""Number of images on which the cost of a part of the network is measured."""


@dataclass(frozen=True, slots=True)
class Score:
    """Macro Dice and Dice by class (nan if a class is neither in masks nor predicted), and logits of some images."""

    dice: float
    by_class: npt.NDArray[np.float64]
    logits: list[npt.NDArray[np.float32]]

    def lost(self, other: Score) -> float:
        """Return the Dice that ``other`` has lost, averaged over the classes."""
        # Gains of one class do not offset losses of another: macro Dice may stay equal while a sixth of the pixels
        # change. A class that is missing on one side only counts as Dice 1 there.
        known = ~(np.isnan(self.by_class) & np.isnan(other.by_class))
        ours, theirs = (np.nan_to_num(scores[known], nan=1.0) for scores in (self.by_class, other.by_class))
        return float(np.maximum(ours - theirs, 0.0).mean()) if known.any() else 0.0

    def error_of(self, other: Score) -> float:
        """Return the root mean square error of the logits of ``other``, over the standard deviation of these."""
        squares = [np.mean(np.square(a - b, dtype=np.float64)) for a, b in zip(self.logits, other.logits, strict=True)]
        spread = [np.var(a, dtype=np.float64) for a in self.logits]
        return float(np.sqrt(np.mean(squares) / np.mean(spread)))


class Quantizer:
    """Quantizes the model of a job and scores it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.base = openvino_runtime.read_model(Path(job.model))
        self.calibration = np.load(job.calibration, mmap_mode="r")
        self.trials = np.load(job.trials, mmap_mode="r")
        self.masks = np.load(job.masks, mmap_mode="r")

    def quantized(self, ignored: Sequence[str]) -> Any:
        """Quantize all supported layers except ``float_layers``; weights stay in float before their quantizers."""
        # Float weights keep the quantizers removable, so that the search can restore single layers.
        import nncf
        from nncf.openvino.quantization.backend_parameters import BackendParameters

        return nncf.quantize(
            self.base.clone(),
            nncf.Dataset(list(range(len(self.calibration))), lambda k: self.job.fed(np.asarray(self.calibration[k]))),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(self.calibration),
            model_type=nncf.ModelType.TRANSFORMER if self.job.attention else None,
            ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False) if ignored else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                backend_params={BackendParameters.COMPRESS_WEIGHTS: False}
            ),
        )

    def score(self, model: Any, most: int | None = None) -> Score:
        """Score a model on the trials, or on the first ``limit`` of them."""
        compiled = openvino_runtime.compile_model(with_outputs(model, [self.job.logits]), "f32", Path(self.job.model))
        counts = Confusion(self.job.classes, self.job.void)
        logits: list[npt.NDArray[np.float32]] = []
        for position in range(len(self.trials))[:most]:
            outputs = compiled(self.job.fed(np.asarray(self.trials[position])))
            ids = outputs[0][0] if self.job.hard else outputs[0][0][self.job.shift :].argmax(0)
            if len(logits) < PROBES:
                # Copied, since OpenVINO reuses the buffer for the next image.
                logits.append(outputs[1][0].copy())
            counts.update(ids.astype(np.uint8), np.asarray(self.masks[position]))
        return Score(counts.dice, np.asarray(counts.dice_by_class), logits)

    def outcome(self) -> tuple[Any, dict[str, Any]]:
        """Return an 8-bit model within the limit, and its entries for the certificate."""
        reference = self.score(self.base)
        images = len(self.calibration)
        say(f"quantizing with {images} training image{'s' if images != 1 else ''}")
        quantized = self.quantized([])
        score = self.score(quantized)
        loss = reference.lost(score)
        first = {"dice_fp32": reference.dice, "dice_all_int8": score.dice, "lost_all_int8": loss}
        if loss <= self.job.most_loss:
            return quantized, self._facts(quantized, first, [], [])
        say(f"8 bits lose {loss:.4f} of Dice: measuring each part of the network")
        parts = list(self._measured(quantized, reference))
        parts.sort(key=lambda part: -part["error"])
        count = self._fewest(quantized, parts, reference)
        while True:
            ignored = [name for part in parts[:count] for name in part["names"]]
            say(f"quantizing with {len(ignored)} layer{'s' if len(ignored) != 1 else ''} in floating point")
            final = self.quantized(ignored)
            if count == len(parts) or reference.lost(self.score(final)) <= self.job.most_loss:
                return final, self._facts(final, first, parts, ignored)
            # Bias correction makes a newly quantized model differ from one with restored layers, so the search may
            # have found too few layers.
            count = min(len(parts), count + 1 + count // 2)

    def _measured(self, quantized: Any, wanted: Score) -> Iterator[dict[str, Any]]:
        """Yield the parts of the network, each with its cost if it alone computes in 8 bits."""
        names = layers_of(quantized)
        baseline = self.score(self.base, PROBES)

        def cost(layers: Sequence[str]) -> tuple[float, float]:
            others = sorted(set(names) - set(layers))
            score = self.score(with_float(quantized, others), PROBES)
            return wanted.error_of(score), score.dice - baseline.dice

        for path, layers, (error, change) in costly_parts(names, cost):
            yield {"part": path, "layers": len(layers), "error": error, "dice_change": change, "names": layers}

    def _fewest(self, quantized: Any, parts: Sequence[Mapping[str, Any]], wanted: Score) -> int:
        """Return how many of the costliest parts must compute in floating point, by bisection."""
        # Assumes that more parts in float never lose more Dice. The caller checks the result and adds parts if not.
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            names = [name for part in parts[:middle] for name in part["names"]]
            if wanted.lost(self.score(with_float(quantized, names))) <= self.job.most_loss:
                high = middle
            else:
                low = middle
        return high

    def _facts(
        self, model: Any, first: Mapping[str, float], parts: Sequence[Mapping[str, Any]], ignored: Sequence[str]
    ) -> dict[str, Any]:
        floats = set(ignored)
        return {
            **first,
            "calibration_images": len(self.calibration),
            "layers": len(layers_of(model)),
            "layers_in_float": len(floats),
            "parts": [
                {
                    **{key: part[key] for key in ("part", "layers", "error", "dice_change")},
                    "computes_in": "float" if set(part["names"]) <= floats else "int8",
                }
                for part in parts
            ],
        }


def say(text: str) -> None:
    """Send a progress message to the parent process."""
    print(f"{TOLD}{text}", flush=True)


def watch_the_other() -> None:
    """Start a thread that ends this process when its parent ends, which closes the standard input."""
    threading.Thread(target=_end_with_the_input, daemon=True).start()


def _end_with_the_input() -> None:
    # Not sys.stdin: a thread that reads it would hold its lock when the interpreter exits.
    while os.read(0, 1):
        pass
    os._exit(1)


def without_snippets() -> None:
    """Make OpenVINO compile every model of this process without snippets."""
    # NNCF compiles models itself, with inner nodes as outputs, and such models crash with snippets.
    kind = openvino_runtime.openvino().Core
    compile_model = kind.compile_model

    def patched(self: Any, model: Any, device_name: Any = None, config: Any = None, **others: Any) -> Any:
        return compile_model(
            self, model, device_name or "CPU", {**(config or {}), **openvino_runtime.WITHOUT_SNIPPETS}, **others
        )

    kind.compile_model = patched


def main(file: Path) -> None:
    """Run the job in ``file``."""
    watch_the_other()
    without_snippets()
    from openvino._offline_transformations import compress_quantize_weights_transformation

    job = Job.from_json(json.loads(file.read_text(encoding="utf-8")))
    with openvino_runtime.quiet():
        model, outcome = Quantizer(job).outcome()
        compress_quantize_weights_transformation(model)
        openvino_runtime.openvino().save_model(model, job.out, compress_to_fp16=False)
    file.with_name("outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
