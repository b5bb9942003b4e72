"""INT8 export by post-training quantization, in a separate process: a crash of its libraries must not end this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.data.augment.sample import resize_mask
from segdsl.diagnostics import SegError, fail
from segdsl.export.certify.trial_images import missing_data_error, read_calibration_images
from segdsl.export.int8.job import PROGRESS_MARK, QuantizationJob
from segdsl.export.job import ExportJob, ProgressCallback, ignore_progress
from segdsl.inference.bench import measure_interleaved_medians
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import needs_empty_channel
from segdsl.inference.preprocess import Image, stretch_image
from segdsl.ir.program import OpenVINOExporter
from segdsl.ops.attention import Attention

WORKER_MODULE = "segdsl.export.int8.worker"
MAX_TRIALS = 100
"""Maximum number of validation images for the choice of 8-bit layers; the certificate uses all images."""
# Below 1, since the search uses fewer images than the certificate, at input size instead of image size.
TOLERANCE_SHARE = 0.8
"""Share of the tolerance that the search may use."""
TIMING_ROUNDS = 15
"""Repetitions of the speed comparison."""
MAX_LOG_LINES = 200
"""Number of output lines of the process that are kept for an error message."""
OUT_OF_MEMORY_MARKS = ("alloc", "emory")
"""Parts of words by which libraries report that memory is exhausted (`bad_alloc`, `Memory`, `memory`)."""


def quantize_to_int8(export: ExportJob, draft: Path, logits_name: str) -> dict[str, Any]:
    """Write `int8.xml` next to `fp32.xml` in the folder ``draft``; return its entries for the certificate.

    ``logits_name`` is the name of the logits tensor. Raises SegError (`int8-without-data`, `quantization-failed`, and
    the errors of reading images).
    """
    exporter = export.exporter
    assert isinstance(exporter, OpenVINOExporter)
    folder = draft / "int8"
    folder.mkdir()
    export.progress("reading images")
    job = _prepare_job(export, folder, exporter.calibration, logits_name)
    outcome = _run_worker(job, folder, export.progress)
    return {"int8": {**outcome, "calibration_asked": exporter.calibration, **_compare_models(job)}}


def _prepare_job(export: ExportJob, folder: Path, calibration: int, logits_name: str) -> QuantizationJob:
    program, trials, exporter = export.program, export.trials, export.exporter
    if trials.source == "noise":
        raise missing_data_error(
            f"the accuracy of 8-bit models is measured on validation images: {trials.missing_reason}"
        )
    images = read_calibration_images(trials.program, export.base_folder, calibration)
    _store_images(folder / "calibration.npy", images)
    size = program.data.input_size
    samples = [(stretch_image(t.image, size), t.mask) for t in trials.take_evenly(MAX_TRIALS)]
    masks = [resize_mask(mask, (size.height, size.width)) for _, mask in samples if mask is not None]
    if all((mask == program.void).all() for mask in masks):
        reason = "every pixel of them is ignored"
        raise missing_data_error(f"the accuracy of 8-bit models is measured on validation masks, but {reason}")
    _store_images(folder / "trials.npy", (image for image, _ in samples))
    _store_images(folder / "masks.npy", masks)
    return QuantizationJob(
        model=str(folder.parent / "fp32.xml"),
        out=str(folder.parent / "int8.xml"),
        calibration=str(folder / "calibration.npy"),
        trials=str(folder / "trials.npy"),
        masks=str(folder / "masks.npy"),
        classes=program.classes,
        ignore=program.void,
        normalize=None if exporter.normalize else program.data.normalize,
        is_hard=exporter.prediction == "hard",
        channel_offset=int(needs_empty_channel(program, exporter)),
        logits_name=logits_name,
        max_dice_loss=TOLERANCE_SHARE * program.export.tolerance.dice,
        has_attention=any(isinstance(node.op, Attention) for node in program.graph.nodes),
    )


def _store_images(path: Path, images: Iterable[Image]) -> None:
    np.save(path, np.stack(list(images)))


def _run_worker(job: QuantizationJob, folder: Path, progress: ProgressCallback = ignore_progress) -> dict[str, Any]:
    """Run the job in a separate process and read its outcome."""
    file = folder / "job.json"
    file.write_text(json.dumps(job.to_json()), encoding="utf-8")
    code, lines = _run_command([sys.executable, "-m", WORKER_MODULE, str(file)], progress)
    outcome = folder / "outcome.json"
    # A library may end the process with status 0 before the outcome is written.
    if code or not outcome.is_file():
        raise _quantization_failed_error(code, lines)
    return json.loads(outcome.read_text(encoding="utf-8"))


def _run_command(command: Sequence[str], progress: ProgressCallback) -> tuple[int, list[str]]:
    """Run a command; return its exit status and its last lines of output. Progress messages go to ``progress``."""
    # The process has our standard input as a pipe and ends when it closes, so that it does not outlive this process.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    lines: deque[str] = deque(maxlen=MAX_LOG_LINES)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment) as child:
        try:
            for raw in child.stdout or ():
                line = raw.decode("utf-8", "replace").strip()
                _, mark, text = line.rpartition(PROGRESS_MARK)
                if mark:
                    progress(text)
                elif line:
                    lines.append(line)
            return child.wait(), list(lines)
        finally:
            # No effect unless this process was interrupted, for example by Ctrl-C.
            child.kill()


def _quantization_failed_error(code: int, lines: Sequence[str]) -> SegError:
    if code < 0:
        reason = f"it was killed by {_format_signal(-code)}"
    elif code == 0:
        reason = "it ended without a result"
    else:
        # The last line of a Python traceback is the error itself.
        reason = lines[-1] if lines else f"exit status {code}"
    help = "export fp32 or fp16"
    # The kernel kills a process by a signal when memory runs out.
    if code < 0 or any(word in reason for word in OUT_OF_MEMORY_MARKS):
        help += "; if memory ran out, reduce `calibration` of `OpenVINO`"
    return fail("quantization-failed", f"the quantization process failed: {reason}", help)


def _format_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals have no names.
        return f"signal {number}"


def _compare_models(job: QuantizationJob) -> dict[str, Any]:
    """Return sizes (MB) and latencies (ms) of both models in the precision that the device prefers."""
    files = {"fp32": Path(job.model), "int8": Path(job.out)}
    compiled = {
        name: openvino_runtime.compile_model(openvino_runtime.read_model(xml), "device", xml)
        for name, xml in files.items()
    }
    image = job.make_input(np.load(job.trials, mmap_mode="r")[0])
    times = measure_interleaved_medians(
        {name: lambda run=run: run(image) for name, run in compiled.items()}, TIMING_ROUNDS
    )
    return {
        "size_mb": {name: round(xml.with_suffix(".bin").stat().st_size / 1e6, 3) for name, xml in files.items()},
        "latency_ms": {name: round(time, 3) for name, time in times.items()},
        "speed_up": round(times["fp32"] / times["int8"], 3),
    }
