"""A sheet of a dataset: images that together show every class, each with its mask, and counts of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.decode.images import convert_to_rgb, read_image
from segdsl.data.formats.color_masks import read_class_ids
from segdsl.data.pictures.dataset_view import collect_dataset_view, collect_subset_views
from segdsl.data.pictures.output import is_page, require_sheet_target, write_grid, write_sheet
from segdsl.data.pictures.palette import choose_colors, format_color
from segdsl.data.pictures.thumbnails import draw_thumbnails, make_picture
from segdsl.data.stats.representative import Pick, pick_images
from segdsl.data.stats.survey import Survey
from segdsl.pages.page import Picture, Section, format_percent, render_page

TEMPLATES = Path(__file__).parent / "templates"
MIN_IMAGES = 12
BOX = (240, 320)
"""Maximum height and width of an image on the sheet, in pixels."""
PAIRS_PER_ROW = 3
"""Number of images per row of a grid, each followed by its mask."""


class ShownPick(NamedTuple):
    """An image that was picked, with the size of its mask, and its ``tiles``: the image and its mask."""

    pick: Pick
    size: tuple[int, int]
    tiles: list[np.ndarray]


class PickView(NamedTuple):
    """An image of the page; ``shows`` has the classes for which it was chosen, with their shares of it."""

    name: str
    subset: str
    size: str
    shows: list[tuple[str, float]]
    image: Picture
    mask: Picture


def write_contact_sheet(found: Survey, out: Path) -> None:
    """Write the sheet of a survey without errors to a file: a page or a grid of images, by the ending of its name.

    Raises :class:`SegError` for an unreadable image, if the file cannot be written (`sheet-not-written`), and as
    :func:`require_sheet_target` does.
    """
    require_sheet_target(out, found.report.root)
    shown = [_draw_pick(found, pick) for pick in pick_images(found, MIN_IMAGES)]
    if is_page(out):
        write_sheet(out, render_contact_sheet(found, shown).encode())
    else:
        rows = [shown[k : k + PAIRS_PER_ROW] for k in range(0, len(shown), PAIRS_PER_ROW)]
        write_grid(out, [[tile for one in row for tile in one.tiles] for row in rows], BOX)


def _draw_pick(found: Survey, pick: Pick) -> ShownPick:
    subset = found.subsets[pick.subset].subset
    image = convert_to_rgb(read_image(subset.get_image_path(pick.position), found.request.read_options))
    mask = read_class_ids(subset.get_mask_path(pick.position), found.labels)
    tiles = draw_thumbnails(image, [mask], choose_colors(found.labels), found.ignore, BOX)
    return ShownPick(pick, (mask.shape[0], mask.shape[1]), tiles)


def render_contact_sheet(found: Survey, shown: Sequence[ShownPick]) -> str:
    """Render the page of a survey."""
    subsets = collect_subset_views(found.subsets, found.labels, found.ignore)
    images = {"legend": _collect_legend(found), "picks": [_collect_pick_view(found, one) for one in shown]}
    data = collect_dataset_view(found.report.root, found.report.format, subsets)
    sections = [
        Section("pictures", "Images", "picks.html.j2", images),
        Section("data", "Data", "dataset.html.j2", data),
    ]
    name = found.report.root.resolve().name
    return render_page(TEMPLATES, "contact_sheet", sections, name=name, survey=found)


def _collect_pick_view(found: Survey, shown: ShownPick) -> PickView:
    (subset, position, shares), (height, width) = shown.pick, shown.size
    name = found.subsets[subset].get_image_name(position)
    image, mask = (make_picture(*pair) for pair in zip(shown.tiles, (name, f"the mask of {name}"), strict=True))
    classes = [(found.classes[k], share) for k, share in shares]
    return PickView(name, subset, f"{height}x{width}", classes, image, mask)


def _collect_legend(found: Survey) -> list[tuple[str, str | None, str]]:
    """Return each class with its color and its share of all pixels, ignored pixels last."""
    colors: list[str | None] = [*map(format_color, choose_colors(found.labels)), None]
    values = dict(enumerate(found.classes)) | {found.ignore: "ignored"}
    pixels = {k: sum(stats.get_class(k).pixels for stats in found.subsets.values()) for k in values}
    whole = sum(stats.pixels for stats in found.subsets.values())
    entries = zip(values.items(), colors, strict=True)
    return [(name, color, format_percent(pixels[k] / whole, 1)) for (k, name), color in entries if color or pixels[k]]
