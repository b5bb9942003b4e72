"""The process that quantizes: NNCF's quantization after training, and the search for the layers that 8 bits cost most.

`python -m segdsl.export.int8.worker JOB.json` writes the model that the job names, and `outcome.json` beside the job.
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
"""So many images tell what a part of the network costs."""


@dataclass(frozen=True, slots=True)
class Score:
    """The Dice over images, macro and by class (nan where a class is on no side), and their logits."""

    dice: float
    by_class: npt.NDArray[np.float64]
    logits: list[npt.NDArray[np.float32]]

    def lost(self, other: Score) -> float:
        """How much of the Dice ``other`` has lost, on average over the classes.

        What one class gains makes up for no other's loss: macro Dice may stay while a sixth of the pixels move. A class
        that is on no side counts as seen rightly.
        """
        known = ~(np.isnan(self.by_class) & np.isnan(other.by_class))
        ours, theirs = (np.nan_to_num(scores[known], nan=1.0) for scores in (self.by_class, other.by_class))
        return float(np.maximum(ours - theirs, 0.0).mean()) if known.any() else 0.0

    def error_of(self, other: Score) -> float:
        """The root mean square difference of the logits of ``other``, over the standard deviation of these."""
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
        """The model with all layers but ``ignored`` in 8 bits, as far as they can be; weights still in floating point,
        behind what rounds them."""
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
        """The score over the trials, or over ``most`` of them."""
        compiled = openvino_runtime.compile_model(with_outputs(model, [self.job.logits]), "f32", Path(self.job.model))
        counts = Confusion(self.job.classes, self.job.void)
        logits: list[npt.NDArray[np.float32]] = []
        for position in range(len(self.trials))[:most]:
            said = compiled(self.job.fed(np.asarray(self.trials[position])))
            ids = said[0][0] if self.job.hard else said[0][0][self.job.shift :].argmax(0)
            if len(logits) < PROBES:
                logits.append(said[1][0].copy())
            counts.update(ids.astype(np.uint8), np.asarray(self.masks[position]))
        return Score(counts.dice, np.asarray(counts.dice_by_class), logits)

    def outcome(self) -> tuple[Any, dict[str, Any]]:
        """The model of 8 bits that keeps within the limit, and how it came about."""
        wanted = self.score(self.base)
        say(f"quantizing with {len(self.calibration)} training images")
        quantized = self.quantized([])
        got = self.score(quantized)
        lost = wanted.lost(got)
        first = {"dice_fp32": wanted.dice, "dice_all_int8": got.dice, "lost_all_int8": lost}
        if lost <= self.job.most_loss:
            return quantized, self._facts(quantized, first, [], [])
        say(f"8 bits cost {lost:.4f} of the Dice: measuring each part of the network")
        parts = list(self._measured(quantized, wanted))
        parts.sort(key=lambda part: -part["error"])
        kept = self._fewest(quantized, parts, wanted)
        while True:
            ignored = [name for part in parts[:kept] for name in part["names"]]
            say(f"quantizing with {len(ignored)} layers in floating point")
            final = self.quantized(ignored)
            if kept == len(parts) or wanted.lost(self.score(final)) <= self.job.most_loss:
                return final, self._facts(final, first, parts, ignored)
            # Bias correction makes the model quantized anew another one than that with its layers taken back.
            kept = min(len(parts), kept + 1 + kept // 2)

    def _measured(self, quantized: Any, wanted: Score) -> Iterator[dict[str, Any]]:
        """The parts of the network, each with what it costs alone in 8 bits."""
        names = layers_of(quantized)
        probe = self.score(self.base, PROBES)

        def cost(inside: Sequence[str]) -> tuple[float, float]:
            others = sorted(set(names) - set(inside))
            alone = self.score(with_float(quantized, others), PROBES)
            return wanted.error_of(alone), alone.dice - probe.dice

        for path, inside, (error, change) in costly_parts(names, cost):
            yield {"part": path, "layers": len(inside), "error": error, "dice_change": change, "names": inside}

    def _fewest(self, quantized: Any, parts: Sequence[Mapping[str, Any]], wanted: Score) -> int:
        """How many of the costliest parts must compute in floating point, halving the range in which that lies."""
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
    """Tells the process that waits for this one what is being done."""
    print(f"{TOLD}{text}", flush=True)


def watch_the_other() -> None:
    """Lets a thread end this process when the one that waits for it has ended, which ends the input."""
    threading.Thread(target=_end_with_the_input, daemon=True).start()


def _end_with_the_input() -> None:
    # Not by sys.stdin, whose lock a thread that reads would hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


def without_snippets() -> None:
    """Makes OpenVINO compile every model of this process without what crashes while NNCF looks inside of it."""
    kind = openvino_runtime.openvino().Core
    compile_model = kind.compile_model

    def patched(self: Any, model: Any, device_name: Any = None, config: Any = None, **others: Any) -> Any:
        return compile_model(
            self, model, device_name or "CPU", {**(config or {}), **openvino_runtime.WITHOUT_SNIPPETS}, **others
        )

    kind.compile_model = patched


def main(file: Path) -> None:
    """Does the job that ``file`` describes."""
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
