"""The sheet of a preview: samples of an epoch, each with its stages side by side and their masks below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.pictures.grid import PAPER
from segdsl.data.pictures.output import is_page, write_grid, write_sheet
from segdsl.data.pictures.palette import choose_colors, format_color
from segdsl.data.pictures.preview import LAST_STAGE, Preview, PreviewSample, Stage
from segdsl.data.pictures.thumbnails import draw_thumbnails, make_picture
from segdsl.pages.page import Picture, Section, render_page

TEMPLATES = Path(__file__).parent / "templates"
BOX = (240, 240)
"""Maximum height and width of an image on the sheet, in pixels."""
FADE = 0.62
"""Share of the background color that covers a stage without changes in a grid."""


class StageView(NamedTuple):
    """A stage of a sample: ``about`` tells what makes it, ``size`` is empty if the step changed nothing."""

    name: str
    about: str
    size: str
    image: Picture
    mask: Picture


class SampleView(NamedTuple):
    """A sample of the page."""

    name: str
    size: str
    is_repeated: bool
    stages: list[StageView]


class StepView(NamedTuple):
    """A step of the augmentation, and the number of samples that it changed."""

    name: str
    word: str
    changed: int


def write_preview_sheet(found: Preview, out: Path) -> None:
    """Write the sheet of a preview to a file: a page or a grid of images, by the ending of its name.

    Raises :class:`SegError` if the file cannot be written (`sheet-not-written`).
    """
    if is_page(out):
        write_sheet(out, render_preview_sheet(found).encode())
    else:
        write_grid(out, [row for sample in found.samples for row in _draw_rows(found, sample)], BOX)


def _draw_rows(found: Preview, sample: PreviewSample) -> Sequence[Sequence[np.ndarray]]:
    """Return the images of the stages, and below them their masks, pale where a step changed nothing."""
    stages = [(stage.is_idle, *_draw_stage(found, stage)) for stage in sample.stages]
    rows = [[(image, idle) for idle, image, _ in stages], [(mask, idle) for idle, _, mask in stages]]
    return [[_fade_pixels(pixels) if idle else pixels for pixels, idle in row] for row in rows]


def _draw_stage(found: Preview, stage: Stage) -> list[np.ndarray]:
    index = found.index
    return draw_thumbnails(stage.image, [stage.mask], choose_colors(index.labels), index.ignore, BOX)


def _fade_pixels(pixels: np.ndarray) -> np.ndarray:
    return (pixels * (1 - FADE) + PAPER * FADE).round().astype(np.uint8)


def render_preview_sheet(found: Preview) -> str:
    """Render the page of a preview."""
    subset = found.program.data.train.subset
    steps = {"steps": list(_collect_steps(found)), "count": len(found.samples)}
    images = {"legend": _collect_legend(found), "samples": [_collect_sample_view(found, s) for s in found.samples]}
    sections = [
        Section("pictures", "Images", "samples.html.j2", images),
        Section("steps", "Steps", "steps.html.j2", steps),
    ]
    values = {"name": found.program.name, "subset": subset, "images": len(found.index.get_subset(subset))}
    return render_page(TEMPLATES, "preview_sheet", sections, preview=found, **values)


def _collect_steps(found: Preview) -> Iterator[StepView]:
    # The first stage is the image as read and the last the network input: neither is a step of the augmentation.
    for stages in zip(*(sample.stages[1:-1] for sample in found.samples), strict=True):
        yield StepView(stages[0].name, stages[0].word or "", sum(stage.has_changed for stage in stages))


def _collect_sample_view(found: Preview, sample: PreviewSample) -> SampleView:
    folder = found.index.get_subset(found.program.data.train.subset).image_folder
    name = sample.image_path.relative_to(folder).as_posix()
    stages = [_collect_stage_view(found, name, stage) for stage in sample.stages]
    return SampleView(name, "{}x{}".format(*sample.stages[0].size), sample.key.draw > 0, stages)


def _collect_stage_view(found: Preview, sample: str, stage: Stage) -> StageView:
    about = stage.word or ("network input" if stage.name == LAST_STAGE else "as decoded")
    size = "" if stage.is_idle else "{}x{}".format(*stage.size)
    texts = f"{sample}: {stage.name}", f"{sample}: mask of {stage.name}"
    image, mask = (make_picture(*pair) for pair in zip(_draw_stage(found, stage), texts, strict=True))
    return StageView(stage.name, about, size, image, mask)


def _collect_legend(found: Preview) -> list[tuple[str, str | None, str]]:
    """Return each class with its color, and ignored pixels if there are any in the masks."""
    index, masks = found.index, (stage.mask for sample in found.samples for stage in sample.stages)
    entries: list[tuple[str, str | None, str]] = [
        (name, format_color(color), "") for name, color in zip(index.classes, choose_colors(index.labels), strict=True)
    ]
    return [*entries, *([("ignored", None, "")] if any((mask == index.ignore).any() for mask in masks) else [])]
