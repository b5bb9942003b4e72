"""Public Python API: one function per CLI command.

An override is the text of a `--set`, ``"data.input_size=256x256"``, or a pair of a path and a value,
``("data.root", "photos")``. All functions raise :class:`segdsl.SegError` when the input is at fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from segdsl.export.export import ExportResult
    from segdsl.inference.models.model import Model
    from segdsl.ir.program import Program
    from segdsl.lang.settings.overrides import Override
    from segdsl.lower.compiled import CompileResult
    from segdsl.run.report.write import ReportFile
    from segdsl.run.request import RunOptions
    from segdsl.run.train import RunResult
    from segdsl.weights.fetch import Watcher

PathLike = str | Path

PREDICT_SETTINGS = ("eval",)
"""Settings that can still be changed when a finished model segments images."""
EVAL_SETTINGS = ("data.root", "data.format", "data.val", "data.train.subset", "eval")
"""Settings that can still be changed when a finished model is evaluated."""
EXPORT_SETTINGS = ("data.root", "data.format", "export")
"""Settings that can still be changed when a run is exported."""


def check(path: PathLike, overrides: Iterable[Override] = ()) -> Program:
    """Return the checked program of a file; its warnings are in ``.warnings``. Imports no torch and opens no data."""
    # Every function imports what it needs by itself, so that `import segdsl` and `check` stay free of torch.
    from segdsl.lang.program import load

    return load(path, overrides)


def compile(
    path: PathLike,
    overrides: Iterable[Override] = (),
    classes: int | Sequence[str] | None = None,
    weights: str | None = None,
    outputs: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> CompileResult:
    """Return the program with its model, a ``torch.fx.GraphModule``.

    The model maps normalized images (N, 3, H, W) to logits (N, classes, H, W).

    Args:
        path: the `.seg` file.
        overrides: settings to change.
        classes: stands in for `data.classes`: how many, or their names.
        weights: a source for the whole model, or `"program"` for the sources that the program's own `weights` section
            names. Without it the weights are random.
        outputs: paths of nodes; with them the model returns a dictionary of these nodes by path.
        watcher: called with the progress of downloads.
    """
    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program

    source = {None: "none", "program": None}.get(weights, weights)
    return compile_program(load(path, overrides, classes), source, outputs, watcher)


def train(path: PathLike, overrides: Iterable[Override] = (), **options: Unpack[RunOptions]) -> RunResult:
    """Train a program and fill a run folder. Classes that the program does not name are read from the dataset.

    Args:
        path: the `.seg` file; with ``resume`` it may be the run folder itself.
        overrides: settings to change.
        options: any of the following.
        data: replaces `data.root`, relative to the working directory.
        weights: a source of weights for the whole model; ``"none"`` starts from random ones.
        out: the run folder, by default the next free one in `runs`.
        quiet: print nothing.
        device: `cpu`, `cuda`, `cuda:1`, `xpu`, `mps` or `auto`, the accelerator if there is one.
        resume: continue the run in ``out`` from its newest intact checkpoint, or start it if there is none.
    """
    from segdsl.run.train import train_file

    if options.get("weights") == "program":
        del options["weights"]
    return train_file(path, overrides, **options)


def evaluate(
    path: PathLike,
    data: PathLike | None = None,
    subset: str = "val",
    overrides: Iterable[Override] = (),
    out: PathLike | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Score a run or an exported model (`.xml`, `.onnx`): dice, miou, accuracy, per_class, images … at image size.

    Args:
        path: the run folder or the exported model.
        data: replaces the folder of the data.
        subset: the subset to score.
        overrides: settings to change, of those not fixed at training time: the data source and the section `eval`.
        out: a folder for the tables of scores per image and per class.
        device: where a run computes.
    """
    from segdsl.inference.evaluate import evaluate_model
    from segdsl.inference.models.opener import open_model
    from segdsl.inference.score_files import check_score_folder

    folder = None if out is None else Path(out)
    if folder is not None:
        # Before the model is opened: a folder that cannot be used is reported at once, not after the evaluation.
        check_score_folder(folder)
    model = open_model(path, device=device)
    model.program = _apply_overrides(model.program, overrides, EVAL_SETTINGS)
    return evaluate_model(model, None if data is None else str(data), subset, out=folder)


def report(run: PathLike, data: PathLike | None = None) -> ReportFile:
    """Write `report.html` into a run folder; `.path` is the file, and `.missing` explains what it lacks.

    Works on interrupted runs too. ``data`` replaces the folder of the run's data. Scores the best weights once on the
    validation subset.
    """
    from segdsl.run.report.write import write_report

    return write_report(run, data)


def export(
    run: PathLike,
    precision: str | None = None,
    overrides: Iterable[Override] = (),
    data: PathLike | None = None,
    told: Callable[[str], None] | None = None,
) -> ExportResult:
    """Write the OpenVINO model of a run, and further formats that it sets, into its folder `export`.

    Args:
        run: the run folder.
        precision: "fp32", "fp16" or "int8".
        overrides: settings to change, of the section `export`.
        data: replaces the folder of the run's data, on which the model is compared with torch.
        told: called with a short description of each step of the work.
    """
    from segdsl.export.export import check_precision, export_run

    if precision is not None:
        check_precision(precision)
    overrides = tuple(overrides)
    program = None
    if overrides:
        from segdsl.lang.program import load
        from segdsl.run.folder.checkpoint import find_run_folder

        program = _apply_overrides(load(find_run_folder(run).program), overrides, EXPORT_SETTINGS)
    data_folder = None if data is None else str(data)
    return export_run(Path(run), precision, program, data_folder, *([] if told is None else [told]))


def origin(model: PathLike) -> dict[str, Any]:
    """Return the provenance of an exported model: `program`, `lock`, `metrics`, `certificate` …"""
    from segdsl.export.provenance import describe_provenance
    from segdsl.inference.models.opener import read_model_info

    return describe_provenance(read_model_info(model))


def rebuild(model: PathLike, out: PathLike | None = None) -> Path:
    """Write the program of an exported model back to a file: `NAME.seg` beside the model, or ``out``.

    Relative paths of data and weights are adjusted to that file. Return its path.
    """
    from segdsl.export.provenance import rebuild_program as write_back

    return write_back(model, out)


def predict(
    path: PathLike,
    inputs: PathLike | Iterable[PathLike],
    out: PathLike,
    device: str = "auto",
    overrides: Iterable[Override] = (),
) -> dict[str, Any]:
    """Segment images and folders of images with a run or an exported model; write index masks and overlays to ``out``.

    Args:
        path: the run folder or the exported model.
        inputs: an image or a folder of images, or several.
        out: the folder to write into: new, empty, or written by an earlier prediction.
        device: where a run computes.
        overrides: settings to change, of the section `eval`: windows (`eval.tile`), flips and scales.
    """
    from segdsl.inference.models.opener import open_model
    from segdsl.inference.predict import predict_files

    def open() -> Model:
        model = open_model(path, device=device)
        model.program = _apply_overrides(model.program, overrides, PREDICT_SETTINGS)
        return model

    names = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    return predict_files(open, [str(name) for name in names], Path(out))


def format(text: str) -> str:
    """Return `.seg` source laid out by the formatter's rules."""
    from segdsl.syntax.printer.format import format_text

    return format_text(text)


def _apply_overrides(program: Program, overrides: Iterable[Override], allowed: Sequence[str]) -> Program:
    """Return the program of a finished run with ``overrides`` applied, all of them below the paths ``allowed``."""
    from segdsl.lang.program import load_text

    overrides = tuple(overrides)
    for override in overrides:
        _check_override_allowed(override, allowed)
    if not overrides:
        return program
    # Overrides work on source, so the resolved program is loaded again with them.
    return load_text(program.resolved, next(iter(program.sources)), overrides)


def _check_override_allowed(override: Override, allowed: Sequence[str]) -> None:
    """Reject an override of a setting that was fixed at training time (`setting-without-effect`)."""
    from segdsl.lang.settings.overrides import check_override

    def make_refusal(path: str) -> tuple[str, str]:
        settings = ", ".join(f"`{prefix}`" for prefix in allowed)
        message = f"`{path}` cannot be changed here: it was fixed at training time"
        return message, f"train again with it, or remove it; {settings} can be set here" if settings else "train again"

    check_override(
        override, lambda path: any(path == prefix or path.startswith(f"{prefix}.") for prefix in allowed), make_refusal
    )
