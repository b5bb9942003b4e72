"""The section on images: the best and worst images of a run, each with its target and its prediction."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.index import Index
from segdsl.data.decode.images import convert_to_rgb
from segdsl.data.pictures.canvas import choose_colors
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.preview import sort_values_by_frequency
from segdsl.data.pictures.thumbnails import draw_overlay, fit_box, resize_thumbnail, shrink_mask
from segdsl.run.report.best_worst import ImageRank
from segdsl.run.report.markup import Html, isolate_name, join_html, tag
from segdsl.run.report.run_data import RunData
from segdsl.text.plural import pick_noun

MAX_IMAGE_SIZE = (320, 320)
"""Maximum height and width of a rendered image, in pixels."""
# 24 images of this size stay below 1.3 MB in base64.
MAX_BYTES = 40_000
"""Maximum size of an image as a JPEG; larger ones are compressed more."""
QUALITIES = (82, 65, 45, 25)
HATCH_COLOR = (120, 120, 120)
"""Color of the swatch for ignored pixels, which are hatched in the images."""
MAX_CLASSES = 4
"""Number of classes listed in the description of a mask."""


def render_images(run: RunData) -> Html:
    """Render the worst images, then the best ones."""
    if run.ranking is None or run.index is None:
        return tag("p", f"No images: {run.missing}.", class_="missing")
    # The worst images come first: they are the ones a reader can act on.
    index, seen = run.index, set[int]()
    rows = {
        title: [_render_sample(run, index, entry, seen) for entry in entries]
        for title, entries in (("Worst", run.ranking.worst), ("Best", run.ranking.best))
    }
    if not seen:
        return tag("p", "No image has a pixel to score.", class_="missing")
    about = "By mean Dice over the classes in the mask or the prediction of an image, at the input size of the network."
    parts = [tag("p", about), _render_legend(run, index, seen)]
    for title, samples in rows.items():
        if samples:
            parts += [tag("h3", f"{title} {pick_noun(len(samples), 'image')}"), *samples]
    return join_html(*parts)


def _render_legend(run: RunData, index: Index, seen: set[int]) -> Html:
    """Render the colors of the classes in the images; ignored pixels come last."""
    pairs = enumerate(zip(run.classes, choose_colors(index.labels), strict=True))
    entries = [tag("li", render_swatch(color), isolate_name(name)) for k, (name, color) in pairs if k in seen]
    if index.ignore in seen:
        entries.append(tag("li", render_swatch(HATCH_COLOR), "ignored, hatched"))
    return tag("ul", *entries, class_="legend classes")


def render_swatch(color: Color) -> Html:
    """Render a small square of a color."""
    # Hidden from screen readers: the name is next to it.
    square = tag("rect", width=12, height=12, rx=2, fill="#{:02x}{:02x}{:02x}".format(*color))
    return tag("svg", square, class_="swatch", viewBox="0 0 12 12", aria_hidden="true")


def _render_sample(run: RunData, index: Index, entry: ImageRank, seen: set[int]) -> Html:
    """Render an image with its target and prediction; add the values of both to ``seen``."""
    subset = index.get_subset(run.program.data.val.subset)
    sample = read_sample(index, subset, entry.position)
    image = convert_to_rgb(sample.image)
    size = fit_box(image.shape[0], image.shape[1], MAX_IMAGE_SIZE)
    small, colors = resize_thumbnail(image, size), choose_colors(index.labels)
    name = subset.get_image_path(entry.position).relative_to(subset.image_folder).as_posix()
    order = sort_values_by_frequency(sample.mask)
    overlays = [
        draw_overlay(small, shrink_mask(m, size, order), colors, index.ignore) for m in (sample.mask, entry.prediction)
    ]
    for mask in (sample.mask, entry.prediction):
        seen.update(np.unique(mask).tolist())
    texts = [f"the image {name}", f"its target: {_describe_mask(run, sample.mask, index.ignore)}"]
    texts.append(f"its prediction: {_describe_mask(run, entry.prediction, index.ignore)}")
    cells = [
        tag("figure", _render_image(pixels, text), tag("figcaption", label))
        for pixels, text, label in zip((small, *overlays), texts, ("image", "target", "prediction"), strict=True)
    ]
    head = tag("p", isolate_name(name), tag("span", f" dice {entry.dice:.3f}", class_="number"), class_="name")
    return tag("div", head, tag("div", *cells, class_="triple"), class_="sample")


def _describe_mask(run: RunData, mask: np.ndarray, ignore: int) -> str:
    """Describe a mask by the classes that cover most of it."""
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    labels = dict(enumerate(run.classes)) | {ignore: "ignored"}
    values = [value for value in sort_values_by_frequency(mask) if value in labels]
    texts = [f"{labels[value]} {shares[value]:.0%}" for value in values[:MAX_CLASSES]]
    return ", ".join([*texts, *(["…"] if len(values) > MAX_CLASSES else [])])


def _render_image(pixels: np.ndarray, description: str) -> Html:
    source = f"data:image/jpeg;base64,{b64encode(encode_jpeg(pixels)).decode()}"
    return tag("img", src=source, alt=description, width=pixels.shape[1], height=pixels.shape[0])


def encode_jpeg(pixels: np.ndarray, qualities: Sequence[int] = QUALITIES) -> bytes:
    """Encode an RGB image (H, W, 3), uint8, as JPEG within the maximum size, or else at the lowest quality."""
    content = b""
    for quality in qualities:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= MAX_BYTES:
            break
    return content
