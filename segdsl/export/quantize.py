"""INT8: quantization after training, in a process of its own, since a library that crashes there must not end ours."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.sample import resized_mask
from segdsl.diagnostics import SegError, fail
from segdsl.export import runtime
from segdsl.export.bench import in_turns
from segdsl.export.contract import form_of, needs_empty_channel
from segdsl.export.job import Job
from segdsl.export.material import Trials, calibration_images
from segdsl.export.pixels import Image, stretch
from segdsl.ir.program import Program
from segdsl.ops.attention import Attention
from segdsl.words.exports import OpenVINO

CHILD = "segdsl.export.quantizing"
TRIALS = 100
"""At most so many validation images say which layers may be of 8 bits; the certificate looks at all."""
MARGIN = 0.8
"""The search keeps within this share of the tolerance, since it sees fewer images, and those at the input's size."""
ROUNDS = 15
"""Repetitions of the comparison of speed."""


def quantize(program: Program, base: Path, draft: Path, trials: Trials, logits: str) -> dict[str, Any]:
    """Writes `int8.xml` beside `fp32.xml` in the folder ``draft``; gives what the certificate tells of it.

    ``base`` is the folder that a relative `data.root` starts from, ``logits`` the node that gives them. Raises SegError
    (`int8-not-installed`, `int8-without-data`, `quantization-failed`, and what reading images raises).
    """
    check_installed()
    folder = draft / "int8"
    folder.mkdir()
    job = _prepare(program, base, folder, trials, logits)
    outcome = _run(job, folder)
    return {"int8": {**outcome, **_compare(job)}}


def check_installed() -> None:
    """Raises SegError (`int8-not-installed`) where NNCF is missing."""
    if importlib.util.find_spec("nncf") is None:
        message = "8-bit models need NNCF, which is not installed"
        raise fail("int8-not-installed", message, 'install it: `pip install "segdsl[int8]"`')


def _prepare(program: Program, base: Path, folder: Path, trials: Trials, logits: str) -> Job:
    form, data = form_of(program), program.data
    calibration = form.calibration if isinstance(form, OpenVINO) else OpenVINO().calibration
    _store(folder / "calibration.npy", calibration_images(program, base, calibration))
    chosen = trials.fewer(TRIALS)
    size = data.input_size
    seen = [
        (stretch(t.image, size), None if t.mask is None else resized_mask(t.mask, (size.height, size.width)))
        for t in chosen
    ]
    _store(folder / "trials.npy", (image for image, _ in seen))
    masks = [mask for _, mask in seen if mask is not None]
    if masks:
        np.save(folder / "masks.npy", np.stack(masks))
    return Job(
        model=str(folder.parent / "fp32.xml"),
        out=str(folder.parent / "int8.xml"),
        calibration=str(folder / "calibration.npy"),
        trials=str(folder / "trials.npy"),
        masks=str(folder / "masks.npy") if masks else None,
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


def _run(job: Job, folder: Path) -> dict[str, Any]:
    """Does the job in a process of its own, and reads what it found."""
    file = folder / "job.json"
    file.write_text(json.dumps(job.as_json()), encoding="utf-8")
    command = [sys.executable, "-m", CHILD, str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / "said.txt").open("wb") as said:
        code = subprocess.run(command, stdout=said, stderr=said, env=environment, check=False).returncode
    found = folder / "outcome.json"
    if code or not found.is_file():
        raise _failed(code, (folder / "said.txt").read_text(encoding="utf-8", errors="replace"))
    return json.loads(found.read_text(encoding="utf-8"))


def _failed(code: int, said: str) -> SegError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    how = f"it was ended by {signal.Signals(-code).name}" if code < 0 else (lines[-1] if lines else f"status {code}")
    return fail(
        "quantization-failed",
        f"the process that quantizes the model did not finish: {how}",
        "export fp32 or fp16; memory may have run out, which a smaller `calibration` of `OpenVINO` needs less of",
    )


def _compare(job: Job) -> dict[str, Any]:
    """Sizes in MB and times in ms of both models as the device prefers to compute them."""
    files = {"fp32": Path(job.model), "int8": Path(job.out)}
    compiled = {name: runtime.compile_model(runtime.read_model(xml), "device", xml) for name, xml in files.items()}
    image = job.fed(np.load(job.trials, mmap_mode="r")[0])
    times = in_turns({name: lambda run=run: run(image) for name, run in compiled.items()}, ROUNDS)
    return {
        "size_mb": {name: round(xml.with_suffix(".bin").stat().st_size / 1e6, 3) for name, xml in files.items()},
        "latency_ms": {name: round(time, 3) for name, time in times.items()},
        "speed_up": round(times["fp32"] / times["int8"], 3),
    }
