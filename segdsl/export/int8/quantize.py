"""INT8: quantization after training, in a process of its own, since a library that crashes there must not end ours."""

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
"""At most so many validation images say which layers may be of 8 bits; the certificate looks at all."""
MARGIN = 0.8
"""The search keeps within this share of the tolerance, since it sees fewer images, and those at the input's size."""
ROUNDS = 15
"""Repetitions of the comparison of speed."""
KEPT = 200
"""So many lines are kept of what the process says."""
SHORTAGE = ("alloc", "emory")
"""Parts of words by which libraries say that memory has run out."""
Told = Callable[[str], None]
"""Is told what is being done, in a few words."""


def keep_silent(text: str) -> None:
    """Tells nobody."""


def quantize(
    program: Program, base: Path, draft: Path, trials: Trials, logits: str, told: Told = keep_silent
) -> dict[str, Any]:
    """Writes `int8.xml` beside `fp32.xml` in the folder ``draft``; gives what the certificate tells of it.

    ``base`` is the folder that a relative `data.root` starts from, ``logits`` their name. Raises SegError
    (`int8-without-data`, `quantization-failed`, and what reading images raises).
    """
    folder = draft / "int8"
    folder.mkdir()
    told("reading images")
    job = _prepare(program, base, folder, trials, logits)
    outcome = _run(job, folder, told)
    return {"int8": {**outcome, "calibration_asked": _asked(program), **_compare(job)}}


def _asked(program: Program) -> int:
    """How many training images the program wants the ranges to be taken from."""
    form = form_of(program)
    return (form if isinstance(form, OpenVINO) else OpenVINO()).calibration


def _prepare(program: Program, base: Path, folder: Path, trials: Trials, logits: str) -> Job:
    if trials.source == "noise":
        raise without_data(f"what 8 bits cost is measured on validation images: {trials.why}")
    form, data = form_of(program), program.data
    _store(folder / "calibration.npy", calibration_images(trials.program, base, _asked(program)))
    size = data.input_size
    seen = [(stretch(t.image, size), t.mask) for t in trials.fewer(TRIALS)]
    masks = [resized_mask(mask, (size.height, size.width)) for _, mask in seen if mask is not None]
    if all((mask == program.void).all() for mask in masks):
        raise without_data("what 8 bits cost is measured on validation masks, and all of them are void")
    _store(folder / "trials.npy", (image for image, _ in seen))
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
    """Does the job in a process of its own, and reads what it found."""
    file = folder / "job.json"
    file.write_text(json.dumps(job.as_json()), encoding="utf-8")
    code, said = _watched([sys.executable, "-m", CHILD, str(file)], told)
    found = folder / "outcome.json"
    if code or not found.is_file():
        raise _failed(code, said)
    return json.loads(found.read_text(encoding="utf-8"))


def _watched(command: Sequence[str], told: Told) -> tuple[int, list[str]]:
    """Runs a command that ends when its input does, as it does when this process ends; its status, and its last lines.

    What stands behind the mark of what is to be told is passed on.
    """
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
            child.kill()  # of use where we were interrupted


def _failed(code: int, said: Sequence[str]) -> SegError:
    if code < 0:
        how = f"it was ended by {_name_of(-code)}"
    elif code == 0:
        how = "it ended without a result"
    else:
        how = said[-1] if said else f"status {code}"
    help = "export fp32 or fp16"
    if code < 0 or any(word in how for word in SHORTAGE):
        help += "; memory may have run out, which a smaller `calibration` of `OpenVINO` needs less of"
    return fail("quantization-failed", f"the process that quantizes the model did not finish: {how}", help)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a realtime signal has no name of its own
        return f"the signal {number}"


def _compare(job: Job) -> dict[str, Any]:
    """Sizes in MB and times in ms of both models as the device prefers to compute them."""
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
