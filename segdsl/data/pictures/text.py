"""Fonts and colors of drawn sheets."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

PAPER, PANEL, INK, GREY = (255, 255, 255), (238, 239, 242), (28, 30, 36), (112, 117, 128)
"""Colors of the background, of the space beside an image, of text, and of secondary text."""

MISSING_GLYPH = "\ue000"
"""A character that no font has."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=16)
def load_font(size: int) -> Font:
    """Return Pillow's own font, which is available everywhere."""
    return ImageFont.load_default(size)


def make_readable(text: str, fallback: str) -> str:
    """Return the text in letters that the font has: without accents, and `?` for missing ones.

    Returns ``fallback`` if no letter is left.
    """
    text = " ".join(text.split())
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    known = "".join(c if _has_glyph(c) else "?" for c in plain)
    return known if known.strip("? ") else fallback


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    return char == " " or _render_glyph(char) != _render_glyph(MISSING_GLYPH)


def _render_glyph(char: str) -> bytes:
    return bytes(load_font(16).getmask(char))  # pyright: ignore


def shorten_text(text: str, face: Font, width: float, *, at_end: bool = False) -> str:
    """Shorten the text to ``width`` pixels, in the middle by default, because names differ at their ends."""
    if face.getlength(text) <= width:
        return text
    low, high = 0, len(text) - 1
    while low < high:  # the most characters that fit
        kept = (low + high + 1) // 2
        low, high = (kept, high) if face.getlength(_cut_characters(text, kept, at_end)) <= width else (low, kept - 1)
    return _cut_characters(text, low, at_end)


def _cut_characters(text: str, count: int, at_end: bool) -> str:
    head = count if at_end else count // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (count - head) :]}"
