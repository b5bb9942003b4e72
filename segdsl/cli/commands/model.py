"""Commands on programs, runs and exported models: train, report, export, rebuild, predict, bench."""

from __future__ import annotations

from pathlib import Path

import click

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.commands.compile import compile
from segdsl.cli.result import Answer, device_option, json_option, set_option
from segdsl.cli.tables import facts_table


@click.command()
@click.argument("file")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set, in place of data.root.")
@click.option("--weights", metavar="SOURCE|none", help="Weights for the whole model; none starts from random ones.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder; else a new one in runs/.")
@click.option("--resume", is_flag=True, help="Go on with the run in DIR, or begin it where there is none.")
@device_option
@set_option
@json_option
def train(
    file: str,
    root: str | None,
    weights: str | None,
    out: Path | None,
    resume: bool,
    device: str,
    overrides: tuple[str, ...],
) -> Answer:
    """Train a program.

    The run folder holds its weights, log and curves. A run that was interrupted goes on with --resume; FILE may then
    be its folder.
    """
    result = verbs.train(file, overrides, data=root, weights=weights, out=out, device=device, resume=resume)
    data = {
        "run": str(result.run),
        "epochs": result.epochs,
        "best": result.best,
        "seconds": round(result.seconds, 3),
        "resumed": result.resumed,
    }
    return Answer(data)


@click.command()
@click.argument("run")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set, in place of the run's own.")
@json_option
def report(run: str, root: str | None) -> Answer:
    """Write the report of a run again.

    One page, RUN/report.html, of what was trained, how it went, and what it sees. Training writes it at its end; a run
    that was interrupted gets it from here.
    """
    out, missing = verbs.report(run, root)
    lacks = f"\nnote: it lacks what needs data and weights: {missing}" if missing else ""
    return Answer({"report": str(out), "missing": missing}, f"written to {out}{lacks}")


@click.command()
@click.argument("run")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="In place of what the program says.")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set, in place of the run's own.")
@set_option
@json_option
def export(run: str, precision: str | None, root: str | None, overrides: tuple[str, ...]) -> Answer:
    """Write a run's best weights as an OpenVINO model.

    With the certificate of what it costs. The model carries its program and its class names, so that eval and predict
    need nothing else.
    """
    from segdsl.cli.certificate_view import certificate_text, unscored
    from segdsl.run.signals import Signals

    with Signals():  # whatever ends it, nothing half made is left, and nobody goes on quantizing
        result = verbs.export(run, precision, overrides, root, streams.note)
    files = [str(path) for path in (result.model, result.onnx) if path is not None]
    data = {"model": files[0], "onnx": files[1] if len(files) > 1 else None, "certificate": result.certificate}
    written = "\n".join(f"written to {file}" for file in files)
    text = f"{certificate_text(result.certificate)}\n\n{written}"
    return Answer(data, text, findings=unscored(result.certificate))


@click.command()
@click.argument("model", metavar="MODEL.xml|MODEL.onnx")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The program; else NAME.seg beside it.")
@json_option
def rebuild(model: str, out: Path | None) -> Answer:
    """Write the program of an exported model back.

    It is the program as it was trained, whole and without imports; paths of data and weights start from where it is
    written. No file is overwritten.
    """
    written = verbs.rebuild(model, out)
    return Answer({"program": str(written)}, f"written to {written}")


@click.command()
@click.argument("model", metavar="RUN|MODEL.xml")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where the pictures go.")
@device_option
@json_option
def predict(model: str, inputs: tuple[str, ...], out: Path, device: str) -> Answer:
    """Segment images, or folders of them.

    Writes an index mask and an overlay for each.
    """
    data = verbs.predict(model, inputs, out, device)
    return Answer(data, facts_table(data))


@click.command()
@click.argument("model", metavar="FILE|RUN|MODEL.xml")
@device_option
@json_option
def bench(model: str, device: str) -> Answer:
    """Measure how fast a program, run or exported model is."""
    from segdsl.inference.bench import bench as measure

    data = measure(model, device)
    return Answer(data, facts_table(data))


COMMANDS = {
    "compile": compile,
    "train": train,
    "report": report,
    "export": export,
    "rebuild": rebuild,
    "predict": predict,
    "bench": bench,
}
