"""The verbs of the Python API and of the command line, which says the same in words. Each imports what it needs.

An override is the text of a `--set`: ``"data.input_size=256x256"``. All verbs raise :class:`segdsl.SegError` when the
input is at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segdsl.export.openvino import ExportResult
    from segdsl.ir.program import Program
    from segdsl.lower.compiled import Compiled
    from segdsl.run.report.write import Written
    from segdsl.run.train import RunResult
    from segdsl.weights.fetch import Watcher

PathLike = str | Path

EVAL_SETTINGS = ("data.root", "data.format", "data.val", "data.train.subset", "eval")
"""What may still be set when a finished model is scored."""
EXPORT_SETTINGS = ("data.root", "data.format", "export")
"""What may still be set when a run is exported."""


def check(path: PathLike, overrides: Iterable[str] = ()) -> Program:
    """The checked program of a file; its lints are in ``.warnings``. Imports no torch and opens no data."""
    from segdsl.lang.program import load

    return load(path, overrides)


def compile(
    path: PathLike,
    overrides: Iterable[str] = (),
    classes: int | Sequence[str] | None = None,
    weights: str | None = None,
    outputs: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Compiled:
    """The program and its model, a ``torch.fx.GraphModule``: normalised (N, 3, H, W) to logits (N, classes, H, W).

    ``classes`` stands in for `data.classes`; ``weights`` is a source for the whole model, or `"program"` for what the
    program's own `weights` section names. Without it they are random. With ``outputs`` the model returns a dictionary
    of these nodes by path; ``watcher`` is told of files that are fetched.
    """
    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program

    named = {None: "none", "program": None}.get(weights, weights)
    return compile_program(load(path, overrides, classes), named, outputs, watcher)


def train(
    path: PathLike,
    overrides: Iterable[str] = (),
    *,
    data: PathLike | None = None,
    weights: str | None = None,
    out: PathLike | None = None,
    quiet: bool = False,
    device: str = "auto",
    resume: bool = False,
) -> RunResult:
    """Trains a program and fills a run folder. Classes that the program does not name are read from the data set.

    ``data`` replaces `data.root`, relative to the working directory; ``weights="none"`` starts from random ones;
    ``out`` is the run folder, by default the next free one in `runs`; ``device`` is `cpu`, `cuda`, `cuda:1`, `xpu`,
    `mps` or `auto`, the accelerator if there is one. With ``resume`` the run in ``out`` goes on from its newest whole
    checkpoint, or begins where there is none; ``path`` may then be the run folder itself.
    """
    from segdsl.run.train import train_file

    weights = None if weights == "program" else weights
    return train_file(path, overrides, data, weights, out, quiet, device, resume)


def evaluate(
    path: PathLike,
    data: PathLike | None = None,
    subset: str = "val",
    overrides: Iterable[str] = (),
    out: PathLike | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Scores a run or an exported model (`.xml`, `.onnx`): dice, miou, accuracy, per_class, images … at image size.

    ``overrides`` reach what is not settled by training: the source of the data and the section `eval`. Tables of the
    scores by image and by class go into the folder ``out``; ``device`` is where a run computes.
    """
    from segdsl.inference.evaluate import evaluate_model
    from segdsl.inference.models.model import open_model
    from segdsl.inference.score_files import check_out

    folder = None if out is None else Path(out)
    if folder is not None:
        check_out(folder)
    model = open_model(path, device=device)
    model.program = _changed(model.program, overrides, EVAL_SETTINGS)
    return evaluate_model(model, None if data is None else str(data), subset, out=folder)


def report(run: PathLike, data: PathLike | None = None) -> Written:
    """Writes `report.html` into a run folder, also into that of a run which was interrupted: `.path`, and in `.missing`
    why it lacks what it does.

    ``data`` replaces the folder of the run's data. Scores the best weights once on the validation subset.
    """
    from segdsl.run.report.write import write_report

    return write_report(run, data)


def export(
    run: PathLike,
    precision: str | None = None,
    overrides: Iterable[str] = (),
    data: PathLike | None = None,
    told: Callable[[str], None] | None = None,
) -> ExportResult:
    """Writes the OpenVINO model of a run into its folder `export`. ``precision`` is "fp32", "fp16" or "int8".

    ``overrides`` reach the section `export`; ``data`` replaces the folder of the run's data, on which the model is
    compared with torch; ``told`` is called with a few words for what is being done.
    """
    from segdsl.export.openvino import check_precision, export_run

    if precision is not None:
        check_precision(precision)
    overrides = tuple(overrides)
    program = None
    if overrides:
        from segdsl.lang.program import load
        from segdsl.run.folder.checkpoint import run_folder

        program = _changed(load(run_folder(run).program), overrides, EXPORT_SETTINGS)
    where = None if data is None else str(data)
    return export_run(Path(run), precision, program, where, *([] if told is None else [told]))


def origin(model: PathLike) -> dict[str, Any]:
    """What an exported model knows of where it came from: `program`, `lock`, `metrics`, `certificate` …"""
    from segdsl.export.provenance import facts_of_origin, read_origin

    return facts_of_origin(read_origin(model))


def rebuild(model: PathLike, out: PathLike | None = None) -> Path:
    """Writes the program of an exported model back: `NAME.seg` beside it, or ``out``.

    Relative paths of data and weights start from where it is written.
    """
    from segdsl.export.provenance import rebuild as write_back

    return write_back(model, out)


def predict(path: PathLike, inputs: Iterable[PathLike], out: PathLike, device: str = "auto") -> dict[str, Any]:
    """Segments images and folders of images with a run or an exported model; index masks and overlays go to ``out``.

    ``device`` is where a run computes.
    """
    from segdsl.inference.predict import predict as predict_images

    return predict_images(str(path), [str(i) for i in inputs], Path(out), device)


def format(text: str) -> str:
    """A `.seg` text laid out by the formatter's rules."""
    from segdsl.syntax.printer.format import format_text

    return format_text(text)


def _changed(program: Program, overrides: Iterable[str], allowed: Sequence[str]) -> Program:
    """The program of a finished run with some settings changed; only those below the paths ``allowed`` still can be."""
    from tempfile import TemporaryDirectory

    from segdsl.lang.program import load

    overrides = tuple(overrides)
    for text in overrides:
        _require_open(text, allowed)
    if not overrides:
        return program
    with TemporaryDirectory() as folder:
        file = Path(folder, f"{program.name}.seg")
        file.write_text(program.resolved, encoding="utf-8")
        return load(file, overrides)


def _require_open(text: str, allowed: Sequence[str]) -> None:
    """Refuses an override of what was settled when the run was trained (`setting-without-effect`)."""
    from segdsl.lang.settings.overrides import read_override

    def refusal(path: str) -> tuple[str, str]:
        known = ", ".join(f"`{open}`" for open in allowed)
        message = f"`{path}` has no effect here: it was settled when the model was trained"
        return message, f"train again with it, or leave it out; {known} can be set here" if known else "train again"

    read_override(text, lambda path: any(path == open or path.startswith(f"{open}.") for open in allowed), refusal)
