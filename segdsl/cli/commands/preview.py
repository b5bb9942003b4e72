"""The command `data preview`: what the network will see of the training subset, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.result import Answer, json_option, set_option

if TYPE_CHECKING:
    from segdsl.data.pictures.preview import Preview, Shown, Stage

SAMPLES, MOST_SAMPLES = 6, 64
LAST_EPOCH = 1_000_000


@click.command("preview")
@click.argument("file", metavar="FILE.seg")
@click.option("--data", "root", metavar="ROOT", help="The folder of the data, in place of data.root.")
@set_option
@click.option(
    "--samples", type=click.IntRange(1, MOST_SAMPLES), default=SAMPLES, show_default=True, metavar="N", help="Images."
)
@click.option(
    "--epoch", type=click.IntRange(1, LAST_EPOCH), default=1, show_default=True, metavar="E", help="Of which epoch."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("preview.png"),
    show_default=True,
    metavar="FILE.png",
    help="Draw it here.",
)
@json_option
def data_preview(
    file: str, root: str | None, overrides: tuple[str, ...], samples: int, epoch: int, out: Path
) -> Answer:
    """Draw what the network will see.

    The first images of an epoch of the training subset, just as a run of the program will draw them, after each step of
    data.train.augment. Epochs are counted from 1.
    """
    from segdsl.data.pictures.canvas import require_target, write_picture
    from segdsl.data.pictures.preview import preview
    from segdsl.data.pictures.preview_sheet import preview_sheet
    from segdsl.run.program_data import checked_data, data_root, open_data, resolve_classes

    program = resolve_classes(file, overrides, root)
    require_target(out, data_root(program, root))
    if program.data.train.sampler is None:
        index, shown = open_data(program, root), None
    else:
        index, report = checked_data(program, root)
        shown = report.shown[program.data.train.subset]
    found = preview(program, index, samples, epoch - 1, shown)
    write_picture(preview_sheet(found), out)
    return Answer(facts_of(found, out), described(found, out))


def facts_of(found: Preview, out: Path) -> dict[str, Any]:
    """What was drawn, as the JSON object has it. Sizes are in pixels; files are named from the folder of the images."""
    size = found.program.data.input_size
    return {
        "sheet": str(out),
        "root": str(found.index.root),
        "subset": found.program.data.train.subset,
        "epoch": found.epoch + 1,
        "seed": found.program.train.seed,
        "input_size": {"height": size.height, "width": size.width},
        "classes": list(found.index.classes),
        "samples": [_sample_facts(found, shown) for shown in found.samples],
    }


def _sample_facts(found: Preview, shown: Shown) -> dict[str, Any]:
    folder = found.index.subset(found.program.data.train.subset).image_folder
    return {
        "image": shown.file.relative_to(folder).as_posix(),
        "draw": shown.key.draw,
        "stages": [_stage_facts(stage) for stage in shown.stages],
    }


def _stage_facts(stage: Stage) -> dict[str, Any]:
    height, width = stage.size
    return {
        "name": stage.name, "word": stage.word, "height": height, "width": width, "changed": stage.changed
    }  # fmt: skip


def described(found: Preview, out: Path) -> str:
    """How many images each step changed, and where the sheet is."""
    many = len(found.samples)
    data = found.program.data
    images = f"{many} image{'s' if many != 1 else ''} of `{data.train.subset}`"
    head = f"{images}, as epoch {found.epoch + 1} gives them to the network at {data.input_size}"
    steps = list(zip(*(shown.stages[1:-1] for shown in found.samples), strict=True))
    name = max((len(stages[0].name) for stages in steps), default=0)
    word = max((len(stages[0].word or "") for stages in steps), default=0)
    lines = [
        f"  {s[0].name:{name}}  {s[0].word or '':{word}}  changed {sum(stage.changed for stage in s)} of {many}"
        for s in steps
    ]
    return "\n".join([head, *(lines or ["  data.train.augment has no step"]), f"drawn to {out}"])
