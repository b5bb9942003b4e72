"""The command `eval`: score a model; its options are the keys of the section `eval`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl import verbs
from segdsl.cli.result import Answer, device_option, json_option, set_option

if TYPE_CHECKING:
    from segdsl.diagnostics import Diagnostic

INPUT = "input"
COLUMNS, LONGEST_NAME = 80, 40


@click.command("eval")
@click.argument("model", metavar="RUN|MODEL.xml")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder, instead of the run's own.")
@click.option("--subset", default="val", show_default=True, metavar="S", help="Subset to score on.")
@click.option("--scale", type=click.Choice(["image", "input"]), help="Size at which masks are compared: eval.scale.")
@click.option("--tile", metavar="HxW|input", help="Predict in windows of this size: eval.tile.")
@click.option("--overlap", type=float, metavar="SHARE", help="Share of overlap between windows: eval.overlap.")
@click.option("--flip/--no-flip", default=None, help="Average with mirrored images: eval.flip.")
@click.option("--scales", metavar="S,S,…", help="Average over image scales, in windows: eval.scales.")
@click.option("--boundary", type=float, metavar="T", help="Boundary F1 with this tolerance: eval.boundary.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write tables by image and by class here.")
@device_option
@set_option
@json_option
def evaluate(
    model: str,
    root: str | None,
    subset: str,
    out: Path | None,
    device: str,
    overrides: tuple[str, ...],
    **settings: Any,
) -> Answer:
    """Score a run or an exported model.

    Pixel counts are summed over the whole subset, by default at the original size of the images.
    """
    data = verbs.evaluate(model, root, subset, (*_overrides(settings), *overrides), out, device)
    # Only known after the evaluation: the program itself may ask for windows.
    unused = settings["overlap"] is not None and not _in_windows(data)
    return Answer(data, described(data), findings=(_unused_overlap(),) if unused else ())


def _unused_overlap() -> Diagnostic:
    from segdsl.lang.lint.program_lints import unused_overlap

    return unused_overlap("--overlap", "`--tile input` or `--tile 512x512`", None)


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """Return the options as overrides of the section `eval`, named after the options in error messages."""
    from segdsl.lang.settings.overrides import NamedOverride

    found = {key: value for key, value in settings.items() if value is not None}
    if found.get("tile") == INPUT:
        found["tile"] = "data.input_size"
    if "scales" in found:
        found["scales"] = f"[{found['scales']}]"
    texts = {key: str(value).lower() if key == "flip" else value for key, value in found.items()}
    return [NamedOverride(f"eval.{key}={text}", f"--{key}") for key, text in texts.items()]


def described(data: Mapping[str, Any]) -> str:
    """Format the scores by class, their means, the confusion matrix, and how the images were predicted."""
    from segdsl.diagnostics.render import clean
    from segdsl.scores.table import class_table, confusion_table, shortened

    background = shortened(clean(data["background"]), LONGEST_NAME)
    whole = {"dice": data["dice"], "iou": data["miou"]}
    if "boundary_f1" in data:
        whole["boundary_f1"] = data["boundary_f1"]
    front = {"dice": data["foreground"]["dice"], "iou": data["foreground"]["miou"]}
    lines = class_table(data["per_class"], {"mean": whole, "without the background": front})
    lines += ["", *_matrix(confusion_table(list(data["per_class"]), data["confusion"]))]
    lines += [
        f"background       `{background}`, class {list(data['per_class']).index(data['background'])}",
        f"micro Dice       {_score(data['foreground']['dice_micro'])} without background (with it: the accuracy)",
        f"pixel accuracy   {_score(data['accuracy'])} on {data['images']} images, compared at {data['scale']} size",
        *textwrap.wrap(f"predicted from   {_looked_at(data)}", COLUMNS, subsequent_indent=" " * 17),
    ]
    if data["boundary"] is not None:
        lines.append(f"boundaries       F1 within {_tolerance(data['boundary'])}")
    if data["out"] is not None:
        lines.append(f"tables           {data['out']}")
    return "\n".join(lines)


def _matrix(lines: Sequence[str]) -> list[str]:
    return [*lines, ""] if lines else []


def _in_windows(data: Mapping[str, Any]) -> bool:
    """Return whether images were predicted in windows: because of a tile size, or of several scales."""
    return data["tile"] is not None or data["scales"] != [1.0]


def _looked_at(data: Mapping[str, Any]) -> str:
    """Describe how images were passed to the network."""
    windows = _in_windows(data)
    parts = [f"windows of {data['tile'] or 'the input size'}" if windows else "whole images"]
    if windows:
        parts[0] += f" with at least {data['overlap']:.0%} overlap"
    if data["flip"]:
        parts.append("plus mirrored images")
    if data["scales"] != [1.0]:
        parts.append("at scales " + ", ".join(f"{scale:g}" for scale in data["scales"]))
    return ", ".join(parts)


def _tolerance(boundary: float) -> str:
    # As in `eval.boundary`: values below 1 are relative to the image diagonal.
    return f"{boundary:g} pixels" if boundary >= 1 else f"{boundary:.3g} of the image diagonal"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


COMMANDS = {"eval": evaluate}
