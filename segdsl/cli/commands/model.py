"""Commands on programs, runs and exported models: train, report, export, rebuild, predict and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.commands.compile import compile_command
from segdsl.cli.result import CommandResult, device_option, json_option, set_option
from segdsl.cli.tables import format_facts


@click.command("train")
@click.argument("file")
@click.option("--data", metavar="ROOT", help="Dataset folder, instead of data.root.")
@click.option("--weights", metavar="SOURCE|none", help="Weights for the whole model; none starts from random weights.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder; a new one in runs/ if omitted."
)
@click.option("--resume", is_flag=True, help="Resume the run in DIR, or start one if DIR has none.")
@device_option
@set_option
@json_option
def train_command(file: str, overrides: tuple[str, ...], **options: Any) -> CommandResult:
    """Train a program.

    Weights, log and training curves are written to the run folder. Use --resume to resume an interrupted run; FILE may
    then be its run folder.
    """
    result = verbs.train(file, overrides, **options)
    data = {
        "run": str(result.run),
        "epochs": result.epochs,
        "best": result.best,
        "seconds": round(result.seconds, 3),
        "resumed": result.resume_step,
    }
    return CommandResult(data)


@click.command("report")
@click.argument("run")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder, instead of the run's own.")
@json_option
def report_command(run: str, root: str | None) -> CommandResult:
    """Write the HTML report of a run.

    RUN/report.html shows the model, the training curves and example predictions. Training writes it at the end; use
    this command for an interrupted run or to rewrite the page.
    """
    out, missing = verbs.report(run, root)
    lacks = f"\nnote: sections that need data and weights are missing: {missing}" if missing else ""
    return CommandResult({"report": str(out), "missing": missing}, f"written to {out}{lacks}")


@click.command("export")
@click.argument("run")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Precision, instead of the program's.")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder, instead of the run's own.")
@set_option
@json_option
def export_command(run: str, precision: str | None, root: str | None, overrides: tuple[str, ...]) -> CommandResult:
    """Export a run's best weights as an OpenVINO model.

    A certificate reports the change in accuracy. The exported model contains its program and class names, so eval and
    predict need no other file.
    """
    from segdsl.cli.certificate_view import format_certificate, warn_if_unscored
    from segdsl.run.signals import Signals
    from segdsl.words.exports import get_format_name, list_formats

    # A signal must still remove half-written files and end the process that quantizes.
    with Signals():
        result = verbs.export(run, precision, overrides, root, streams.print_note)
    files = {name: str(file) for name, file in result.files.items()}
    model, *others = files
    # A format that the program does not export is null.
    missing = {name: None for name in map(get_format_name, list_formats()) if name != model}
    data: dict[str, Any] = {"model": files[model], **missing, **{name: files[name] for name in others}}
    data["certificate"] = result.certificate
    written = "\n".join(f"written to {file}" for file in files.values())
    text = f"{format_certificate(result.certificate)}\n\n{written}"
    return CommandResult(data, text, findings=warn_if_unscored(result.certificate))


@click.command("rebuild")
@click.argument("model", metavar="MODEL.xml|MODEL.onnx")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Program file; NAME.seg next to the model if omitted.",
)
@json_option
def rebuild_command(model: str, out: Path | None) -> CommandResult:
    """Recover the program of an exported model.

    Writes the program as it was trained, without imports. Paths of data and weights are relative to the new file.
    Existing files are never overwritten.
    """
    written = verbs.rebuild(model, out)
    return CommandResult({"program": str(written)}, f"written to {written}")


@click.command("predict")
@click.argument("model", metavar="RUN|MODEL.xml")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Output folder.")
@device_option
@set_option
@json_option
def predict_command(
    model: str, inputs: tuple[str, ...], out: Path, device: str, overrides: tuple[str, ...]
) -> CommandResult:
    """Segment images or folders of images.

    Writes an index mask and an overlay for each image. As in eval, images are processed as the section eval of the
    program sets: large ones in windows with --set eval.tile=512x512, or whole with --set eval.tile=none.
    """
    data = verbs.predict(model, inputs, out, device, overrides)
    return CommandResult(data, format_facts(data))


@click.command("bench")
@click.argument("model", metavar="FILE|RUN|MODEL.xml")
@device_option
@json_option
def bench_command(model: str, device: str) -> CommandResult:
    """Measure the speed of a program, run or exported model."""
    from segdsl.inference.bench import measure_speed as measure

    data = measure(model, device)
    return CommandResult(data, format_facts(data))


COMMANDS = {
    "compile": compile_command,
    "train": train_command,
    "report": report_command,
    "export": export_command,
    "rebuild": rebuild_command,
    "predict": predict_command,
    "bench": bench_command,
}
