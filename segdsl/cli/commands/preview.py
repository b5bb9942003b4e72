"""The command `data preview`: training images after each augmentation step, as the network will see them."""

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
@click.option("--data", "root", metavar="ROOT", help="Dataset folder, instead of data.root.")
@set_option
@click.option(
    "--samples",
    type=click.IntRange(1, MOST_SAMPLES),
    default=SAMPLES,
    show_default=True,
    metavar="N",
    help="Number of images.",
)
@click.option(
    "--epoch",
    type=click.IntRange(1, LAST_EPOCH),
    default=1,
    show_default=True,
    metavar="E",
    help="Epoch to draw, from 1.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("preview.png"),
    show_default=True,
    metavar="FILE.png",
    help="Output file.",
)
@json_option
def data_preview(
    file: str, root: str | None, overrides: tuple[str, ...], samples: int, epoch: int, out: Path
) -> Answer:
    """Draw the augmented training images.

    Shows the first training images of an epoch after each step of data.train.augment, exactly as a run will use them.
    Epochs are counted from 1.
    """
    from segdsl.data.pictures.canvas import require_target, write_picture
    from segdsl.data.pictures.preview import preview
    from segdsl.data.pictures.preview_sheet import preview_sheet
    from segdsl.run.program_data import checked_data, data_root, open_data, resolve_classes

    program = resolve_classes(file, overrides, root)
    require_target(out, data_root(program, root))
    # A sampler weights images by their classes, which only a full check of the masks tells; without one, skip it.
    if program.data.train.sampler is None:
        index, class_images = open_data(program, root), None
    else:
        index, report = checked_data(program, root)
        class_images = report.shown[program.data.train.subset]
    sheet = preview(program, index, samples, epoch - 1, class_images)
    write_picture(preview_sheet(sheet), out)
    return Answer(facts_of(sheet, out), described(sheet, out))


def facts_of(found: Preview, out: Path) -> dict[str, Any]:
    """Return the JSON object of a preview. Sizes are in pixels, file names relative to the image folder."""
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
    """Format how many images each step changed, and the path of the sheet."""
    total = len(found.samples)
    data = found.program.data
    images = f"{total} image{'s' if total != 1 else ''} of `{data.train.subset}`"
    head = f"{images} as used in epoch {found.epoch + 1}, at {data.input_size}"
    # The first stage is the image as read and the last the network input: neither is a step of the augmentation.
    steps = list(zip(*(shown.stages[1:-1] for shown in found.samples), strict=True))
    name = max((len(stages[0].name) for stages in steps), default=0)
    word = max((len(stages[0].word or "") for stages in steps), default=0)
    lines = [
        f"  {s[0].name:{name}}  {s[0].word or '':{word}}  changed {sum(stage.changed for stage in s)} of {total}"
        for s in steps
    ]
    return "\n".join([head, *(lines or ["  data.train.augment has no steps"]), f"written to {out}"])
