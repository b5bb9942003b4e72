"""INT8 export by post-training quantization, in a separate process: a crash of its libraries must not end this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.augment.sample import resized_mask
from segdsl.diagnostics import SegError, fail
from segdsl.export.certify.trial_images import Trials, calibration_images, without_data
from segdsl.export.int8.job import TOLD, Job
from segdsl.inference.bench import in_turns
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import form_of, needs_empty_channel
from segdsl.inference.preprocess import Image, stretch
from segdsl.ir.program import Program
from segdsl.ops.attention import Attention
from segdsl.words.exports import OpenVINO

CHILD = "segdsl.export.int8.worker"
TRIALS = 100
"""Maximum number of validation images for the choice of 8-bit layers; the certificate uses all images."""
# Below 1, since the search uses fewer images than the certificate, at input size instead of image size.
MARGIN = 0.8
"""Share of the tolerance that the search may use."""
ROUNDS = 15
"""Repetitions of the speed comparison."""
KEPT = 200
"""Number of output lines of the process that are kept for an error message."""
SHORTAGE = ("alloc", "emory")
"""Parts of words by which libraries report that memory is exhausted (`bad_alloc`, `Memory`, `memory`)."""
Told = Callable[[str], None]
"""Called with a short text before each step."""


def keep_silent(text: str) -> None:
    """Ignore progress messages."""


def quantize(
    program: Program, base: Path, draft: Path, trials: Trials, logits: str, told: Told = keep_silent
) -> dict[str, Any]:
    """Write `int8.xml` next to `fp32.xml` in the folder ``draft``; return its entries for the certificate.

    A relative `data.root` starts from ``base_folder``; ``logits_name`` is the name of the logits tensor. Raises
    SegError (`int8-without-data`, `quantization-failed`, and the errors of reading images).
    """
    folder = draft / "int8"
    folder.mkdir()
    told("reading images")
    job = _prepare(program, base, folder, trials, logits)
    outcome = _run(job, folder, told)
    return {"int8": {**outcome, "calibration_asked": _asked(program), **_compare(job)}}


def _asked(program: Program) -> int:
    """Return the number of training images that the program sets for calibration."""
    form = form_of(program)
    return (form if isinstance(form, OpenVINO) else OpenVINO()).calibration


def _prepare(program: Program, base: Path, folder: Path, trials: Trials, logits: str) -> Job:
    if trials.source == "noise":
        raise without_data(f"the accuracy of 8-bit models is measured on validation images: {trials.why}")
    form, data = form_of(program), program.data
    _store(folder / "calibration.npy", calibration_images(trials.program, base, _asked(program)))
    size = data.input_size
    samples = [(stretch(t.image, size), t.mask) for t in trials.fewer(TRIALS)]
    masks = [resized_mask(mask, (size.height, size.width)) for _, mask in samples if mask is not None]
    if all((mask == program.void).all() for mask in masks):
        reason = "every pixel of them is ignored"
        raise without_data(f"the accuracy of 8-bit models is measured on validation masks, but {reason}")
    _store(folder / "trials.npy", (image for image, _ in samples))
    _store(folder / "masks.npy", masks)
    return Job(
        model=str(folder.parent / "fp32.xml"),
        out=str(folder.parent / "int8.xml"),
        calibration=str(folder / "calibration.npy"),
        trials=str(folder / "trials.npy"),
        masks=str(folder / "masks.npy"),
        classes=program.classes,
        void=program.void,
        normalize=None if form.normalize else data.normalize,
        hard=form.prediction == "hard",
        shift=int(needs_empty_channel(program)),
        logits=logits,
        most_loss=MARGIN * program.export.tolerance.dice,
        attention=any(isinstance(node.op, Attention) for node in program.graph.nodes),
    )


def _store(path: Path, images: Iterable[Image]) -> None:
    np.save(path, np.stack(list(images)))


def _run(job: Job, folder: Path, told: Told = keep_silent) -> dict[str, Any]:
    """Run the job in a separate process and read its outcome."""
    file = folder / "job.json"
    file.write_text(json.dumps(job.as_json()), encoding="utf-8")
    code, lines = _watched([sys.executable, "-m", CHILD, str(file)], told)
    outcome = folder / "outcome.json"
    # A library may end the process with status 0 before the outcome is written.
    if code or not outcome.is_file():
        raise _failed(code, lines)
    return json.loads(outcome.read_text(encoding="utf-8"))


def _watched(command: Sequence[str], told: Told) -> tuple[int, list[str]]:
    """Run a command; return its exit status and its last lines of output. Progress messages go to ``progress``."""
    # The process has our standard input as a pipe and ends when it closes, so that it does not outlive this process.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    lines: deque[str] = deque(maxlen=KEPT)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment) as child:
        try:
            for raw in child.stdout or ():
                line = raw.decode("utf-8", "replace").strip()
                _, mark, text = line.rpartition(TOLD)
                if mark:
                    told(text)
                elif line:
                    lines.append(line)
            return child.wait(), list(lines)
        finally:
            # No effect unless this process was interrupted, for example by Ctrl-C.
            child.kill()


def _failed(code: int, said: Sequence[str]) -> SegError:
    if code < 0:
        reason = f"it was killed by {_name_of(-code)}"
    elif code == 0:
        reason = "it ended without a result"
    else:
        # The last line of a Python traceback is the error itself.
        reason = said[-1] if said else f"exit status {code}"
    help = "export fp32 or fp16"
    # The kernel kills a process by a signal when memory runs out.
    if code < 0 or any(word in reason for word in SHORTAGE):
        help += "; if memory ran out, reduce `calibration` of `OpenVINO`"
    return fail("quantization-failed", f"the quantization process failed: {reason}", help)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals have no names.
        return f"signal {number}"


def _compare(job: Job) -> dict[str, Any]:
    """Return sizes (MB) and latencies (ms) of both models in the precision that the device prefers."""
    files = {"fp32": Path(job.model), "int8": Path(job.out)}
    compiled = {
        name: openvino_runtime.compile_model(openvino_runtime.read_model(xml), "device", xml)
        for name, xml in files.items()
    }
    image = job.fed(np.load(job.trials, mmap_mode="r")[0])
    times = in_turns({name: lambda run=run: run(image) for name, run in compiled.items()}, ROUNDS)
    return {
        "size_mb": {name: round(xml.with_suffix(".bin").stat().st_size / 1e6, 3) for name, xml in files.items()},
        "latency_ms": {name: round(time, 3) for name, time in times.items()},
        "speed_up": round(times["fp32"] / times["int8"], 3),
    }
