"""The command `eval`: score a model; its options are the keys of the section `eval`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl import verbs
from segdsl.cli.result import CommandResult, device_option, json_option, set_option

if TYPE_CHECKING:
    from segdsl.diagnostics import Diagnostic

INPUT_TILE = "input"
COLUMNS, MAX_NAME_WIDTH = 80, 40


@click.command("eval")
@click.argument("model", metavar="RUN|MODEL.xml")
@click.option("--data", metavar="ROOT", help="Dataset folder, instead of the run's own.")
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
def eval_command(model: str, overrides: tuple[str, ...], **options: Any) -> CommandResult:
    """Score a run or an exported model.

    Pixel counts are summed over the whole subset, by default at the original size of the images.
    """
    chosen = EvalOptions(**options)
    settings = (*chosen.build_overrides(), *overrides)
    data = verbs.evaluate(model, chosen.data, chosen.subset, settings, chosen.out, chosen.device)
    # Only known after the evaluation: the program itself may ask for windows.
    unused = chosen.overlap is not None and not _has_windows(data)
    return CommandResult(data, format_scores(data), findings=(_warn_unused_overlap(),) if unused else ())


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """The options of `eval`; those from ``scale`` on are keys of the section `eval`, None if they are not given."""

    data: str | None
    subset: str
    out: Path | None
    device: str
    scale: str | None
    tile: str | None
    overlap: float | None
    flip: bool | None
    scales: str | None
    boundary: float | None

    def build_overrides(self) -> list[str]:
        """Return the options as overrides of the section `eval`, named after the options in error messages."""
        from segdsl.lang.settings.overrides import OptionOverride

        texts = {
            "scale": self.scale,
            "tile": "data.input_size" if self.tile == INPUT_TILE else self.tile,
            "overlap": self.overlap,
            "flip": None if self.flip is None else str(self.flip).lower(),
            "scales": None if self.scales is None else f"[{self.scales}]",
            "boundary": self.boundary,
        }
        return [OptionOverride(f"eval.{key}={text}", f"--{key}") for key, text in texts.items() if text is not None]


def _warn_unused_overlap() -> Diagnostic:
    from segdsl.lang.lint.program_lints import make_overlap_warning

    return make_overlap_warning("--overlap", "`--tile input` or `--tile 512x512`", None)


def format_scores(data: Mapping[str, Any]) -> str:
    """Format the scores by class, their means, the confusion matrix, and how the images were predicted."""
    from segdsl.scores.table import render_class_table, render_confusion_table
    from segdsl.text.columns import sanitize_text, truncate_end

    background = truncate_end(sanitize_text(data["background"]), MAX_NAME_WIDTH)
    whole = {"dice": data["dice"], "iou": data["miou"]}
    if "boundary_f1" in data:
        whole["boundary_f1"] = data["boundary_f1"]
    front = {"dice": data["foreground"]["dice"], "iou": data["foreground"]["miou"]}
    lines = render_class_table(data["per_class"], {"mean": whole, "without the background": front})
    lines += ["", *_append_blank_line(render_confusion_table(list(data["per_class"]), data["confusion"]))]
    lines += [
        f"background       `{background}`, class {list(data['per_class']).index(data['background'])}",
        f"micro Dice       {_format_score(data['foreground']['dice_micro'])} without background "
        "(with it: the accuracy)",
        f"pixel accuracy   {_format_score(data['accuracy'])} on {data['images']} images, "
        f"compared at {data['scale']} size",
        *textwrap.wrap(f"predicted from   {_describe_inference(data)}", COLUMNS, subsequent_indent=" " * 17),
    ]
    if data["boundary"] is not None:
        lines.append(f"boundaries       F1 within {_format_tolerance(data['boundary'])}")
    if data["out"] is not None:
        lines.append(f"tables           {data['out']}")
    return "\n".join(lines)


def _append_blank_line(lines: Sequence[str]) -> list[str]:
    return [*lines, ""] if lines else []


def _has_windows(data: Mapping[str, Any]) -> bool:
    """Return whether images were predicted in windows: because of a tile size, or of several scales."""
    return data["tile"] is not None or data["scales"] != [1.0]


def _describe_inference(data: Mapping[str, Any]) -> str:
    """Describe how images were passed to the network."""
    windows = _has_windows(data)
    parts = [f"windows of {data['tile'] or 'the input size'}" if windows else "whole images"]
    if windows:
        parts[0] += f" with at least {data['overlap']:.0%} overlap"
    if data["flip"]:
        parts.append("plus mirrored images")
    if data["scales"] != [1.0]:
        parts.append("at scales " + ", ".join(f"{scale:g}" for scale in data["scales"]))
    return ", ".join(parts)


def _format_tolerance(boundary: float) -> str:
    # As in `eval.boundary`: values below 1 are relative to the image diagonal.
    return f"{boundary:g} pixels" if boundary >= 1 else f"{boundary:.3g} of the image diagonal"


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


COMMANDS = {"eval": eval_command}
