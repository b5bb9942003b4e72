"""The command `data preview`: training images after each augmentation step, as the network will see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.result import CommandResult, json_option, set_option
from segdsl.text.plural import format_count

if TYPE_CHECKING:
    from segdsl.data.pictures.preview import Preview, PreviewSample, Stage

DEFAULT_SAMPLES, MAX_SAMPLES = 6, 64
MAX_EPOCH = 1_000_000


@click.command("preview")
@click.argument("file", metavar="FILE.seg")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder, instead of data.root.")
@set_option
@click.option(
    "--samples",
    type=click.IntRange(1, MAX_SAMPLES),
    default=DEFAULT_SAMPLES,
    show_default=True,
    metavar="N",
    help="Number of images.",
)
@click.option(
    "--epoch",
    type=click.IntRange(1, MAX_EPOCH),
    default=1,
    show_default=True,
    metavar="E",
    help="Epoch to draw, from 1.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("preview.html"),
    show_default=True,
    metavar="FILE.html",
    help="Output file: a page; with .png, a plain grid of the images.",
)
@json_option
def data_preview_command(
    file: str, root: str | None, overrides: tuple[str, ...], samples: int, epoch: int, out: Path
) -> CommandResult:
    """Draw the augmented training images.

    Shows the first training images of an epoch after each step of data.train.augment, exactly as a run will use them.
    Epochs are counted from 1.
    """
    from segdsl.data.pictures.output import require_sheet_target
    from segdsl.data.pictures.preview import make_preview
    from segdsl.data.pictures.preview_sheet import write_preview_sheet
    from segdsl.run.program_data import get_data_root, open_checked_data, open_data, resolve_classes

    program = resolve_classes(file, overrides, root)
    require_sheet_target(out, get_data_root(program, root))
    # A sampler weights images by their classes, which only a full check of the masks tells; without one, skip it.
    if program.data.train.sampler is None:
        index, class_images = open_data(program, root), None
    else:
        index, report = open_checked_data(program, root)
        class_images = report.class_presence[program.data.train.subset]
    sheet = make_preview(program, index, samples, epoch - 1, class_images)
    write_preview_sheet(sheet, out)
    return CommandResult(collect_preview_facts(sheet, out), format_preview(sheet, out))


def collect_preview_facts(preview: Preview, out: Path) -> dict[str, Any]:
    """Return the JSON object of a preview. Sizes are in pixels, file names relative to the image folder."""
    size = preview.program.data.input_size
    return {
        "sheet": str(out),
        "root": str(preview.index.root),
        "subset": preview.program.data.train.subset,
        "epoch": preview.epoch + 1,
        "seed": preview.program.train.seed,
        "input_size": {"height": size.height, "width": size.width},
        "classes": list(preview.index.classes),
        "samples": [_collect_sample_facts(preview, shown) for shown in preview.samples],
    }


def _collect_sample_facts(preview: Preview, sample: PreviewSample) -> dict[str, Any]:
    folder = preview.index.get_subset(preview.program.data.train.subset).image_folder
    return {
        "image": sample.image_path.relative_to(folder).as_posix(),
        "draw": sample.key.draw,
        "stages": [_collect_stage_facts(stage) for stage in sample.stages],
    }


def _collect_stage_facts(stage: Stage) -> dict[str, Any]:
    height, width = stage.size
    return {
        "name": stage.name, "word": stage.word, "height": height, "width": width, "changed": stage.has_changed
    }  # fmt: skip


def format_preview(preview: Preview, out: Path) -> str:
    """Format how many images each step changed, and the path of the sheet."""
    total = len(preview.samples)
    data = preview.program.data
    images = f"{format_count(total, 'image')} of `{data.train.subset}`"
    head = f"{images} as used in epoch {preview.epoch + 1}, at {data.input_size}"
    # The first stage is the image as read and the last the network input: neither is a step of the augmentation.
    steps = list(zip(*(shown.stages[1:-1] for shown in preview.samples), strict=True))
    name = max((len(stages[0].name) for stages in steps), default=0)
    word = max((len(stages[0].word or "") for stages in steps), default=0)
    lines = [
        f"  {s[0].name:{name}}  {s[0].word or '':{word}}  changed {sum(stage.has_changed for stage in s)} of {total}"
        for s in steps
    ]
    return "\n".join([head, *(lines or ["  data.train.augment has no steps"]), f"written to {out}"])
