"""The section on images: the best and worst images of a run, each with its target and its prediction."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.index import Index
from segdsl.data.decode.images import visible
from segdsl.data.pictures.canvas import colors_of
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.preview import frequent
from segdsl.data.pictures.thumbnails import drawn, fitted, shrunk, small_mask
from segdsl.run.report.best_worst import Ranked
from segdsl.run.report.markup import Html, joined, named, tag
from segdsl.run.report.run_data import Material

BOX = (320, 320)
"""Maximum height and width of a rendered image, in pixels."""
# 24 images of this size stay below 1.3 MB in base64.
MOST_BYTES = 40_000
"""Maximum size of an image as a JPEG; larger ones are compressed more."""
QUALITIES = (82, 65, 45, 25)
HATCHED = (120, 120, 120)
"""Color of the swatch for ignored pixels, which are hatched in the images."""
NAMED = 4
"""Number of classes listed in the description of a mask."""


def pictures(material: Material) -> Html:
    """Render the worst images, then the best ones."""
    if material.ranking is None or material.index is None:
        return tag("p", f"No images: {material.missing}.", class_="missing")
    # The worst images come first: they are the ones a reader can act on.
    index, seen = material.index, set[int]()
    rows = {
        title: [_row(material, index, entry, seen) for entry in entries]
        for title, entries in (("Worst", material.ranking.worst), ("Best", material.ranking.best))
    }
    if not seen:
        return tag("p", "No image has a pixel to score.", class_="missing")
    about = "By mean Dice over the classes in the mask or the prediction of an image, at the input size of the network."
    parts = [tag("p", about), _legend(material, index, seen)]
    for title, samples in rows.items():
        if samples:
            parts += [tag("h3", f"{title} image{'s' if len(samples) != 1 else ''}"), *samples]
    return joined(*parts)


def _legend(material: Material, index: Index, seen: set[int]) -> Html:
    """Render the colors of the classes in the images; ignored pixels come last."""
    pairs = enumerate(zip(material.classes, colors_of(index.labels), strict=True))
    entries = [tag("li", swatch(color), named(name)) for k, (name, color) in pairs if k in seen]
    if index.ignore in seen:
        entries.append(tag("li", swatch(HATCHED), "ignored, hatched"))
    return tag("ul", *entries, class_="legend classes")


def swatch(color: Color) -> Html:
    """Render a small square of a color."""
    # Hidden from screen readers: the name is next to it.
    square = tag("rect", width=12, height=12, rx=2, fill="#{:02x}{:02x}{:02x}".format(*color))
    return tag("svg", square, class_="swatch", viewBox="0 0 12 12", aria_hidden="true")


def _row(material: Material, index: Index, entry: Ranked, seen: set[int]) -> Html:
    """Render an image with its target and prediction; add the values of both to ``seen``."""
    subset = index.subset(material.program.data.val.subset)
    sample = read_sample(index, subset, entry.position)
    image = visible(sample.image)
    size = fitted(image.shape[0], image.shape[1], BOX)
    small, colors = shrunk(image, size), colors_of(index.labels)
    name = subset.image(entry.position).relative_to(subset.image_folder).as_posix()
    order = frequent(sample.mask)
    overlays = [drawn(small, small_mask(m, size, order), colors, index.ignore) for m in (sample.mask, entry.prediction)]
    for mask in (sample.mask, entry.prediction):
        seen.update(np.unique(mask).tolist())
    texts = [f"the image {name}", f"its target: {_content(material, sample.mask, index.ignore)}"]
    texts.append(f"its prediction: {_content(material, entry.prediction, index.ignore)}")
    cells = [
        tag("figure", _picture(pixels, text), tag("figcaption", label))
        for pixels, text, label in zip((small, *overlays), texts, ("image", "target", "prediction"), strict=True)
    ]
    head = tag("p", named(name), tag("span", f" dice {entry.dice:.3f}", class_="number"), class_="name")
    return tag("div", head, tag("div", *cells, class_="triple"), class_="sample")


def _content(material: Material, mask: np.ndarray, ignore: int) -> str:
    """Describe a mask by the classes that cover most of it."""
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    labels = dict(enumerate(material.classes)) | {ignore: "ignored"}
    values = [value for value in frequent(mask) if value in labels]
    texts = [f"{labels[value]} {shares[value]:.0%}" for value in values[:NAMED]]
    return ", ".join([*texts, *(["…"] if len(values) > NAMED else [])])


def _picture(pixels: np.ndarray, text: str) -> Html:
    source = f"data:image/jpeg;base64,{b64encode(jpeg(pixels)).decode()}"
    return tag("img", src=source, alt=text, width=pixels.shape[1], height=pixels.shape[0])


def jpeg(pixels: np.ndarray, qualities: Sequence[int] = QUALITIES) -> bytes:
    """Encode an RGB image (H, W, 3), uint8, as JPEG within the maximum size, or else at the lowest quality."""
    content = b""
    for quality in qualities:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content
