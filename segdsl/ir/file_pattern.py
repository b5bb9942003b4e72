"""Where a dataset of plain folders keeps its files: the values of `data.images` and `data.masks`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SUBSET, NAME = "{subset}", "{name}"
"""Placeholders of a pattern: the name of the subset, and the name that an image and its mask share."""


class FilePattern(NamedTuple):
    """A folder, and what the names of its files have in common: `masks/{subset}/{name}_mask.png`.

    ``folder`` is relative to the folder of a subset; if it has `{subset}`, it is relative to the root of the dataset.
    """

    folder: str
    prefix: str = ""
    ending: str = ""

    @property
    def has_subset(self) -> bool:
        return SUBSET in self.folder

    @property
    def is_whole_name(self) -> bool:
        """Whether files are called as they like."""
        return not self.prefix and not self.ending

    @property
    def file_name(self) -> str:
        """The last part of the pattern: `{name}_mask.png`."""
        return f"{self.prefix}{NAME}{self.ending}"

    def locate(self, root: Path, subset: str) -> Path:
        """Return the folder of a subset; ``root`` is the dataset, or the folder of the subset without `{subset}`."""
        return root / self.folder.replace(SUBSET, subset)

    def find_stem(self, name: bytes, stem: bytes) -> bytes | None:
        """Return what stands for `{name}` in a file name, or None. ``stem`` is the name without its suffix."""
        prefix, ending = self.prefix.encode(), self.ending.encode()
        # An ending such as `_mask` leaves the suffix open, one such as `_mask.png` does not.
        whole = name if b"." in ending else stem
        fits = len(whole) > len(prefix) + len(ending) and whole.startswith(prefix) and whole.endswith(ending)
        return whole[len(prefix) : len(whole) - len(ending)] if fits else None


def parse_file_pattern(text: str, default_folder: str) -> FilePattern:
    """Parse the name of a folder, or a pattern with placeholders.

    ``default_folder`` is the folder of a pattern without one, such as `{name}_mask.png`. Raises ValueError.
    """
    folder, slash, last = text.rpartition("/")
    if NAME not in last:
        folder, last = text, NAME
    elif not slash:
        folder = default_folder
    # Forward slashes only, on every system: programs are shared between Windows and Linux.
    if not folder.strip() or folder.startswith("/") or ".." in folder.split("/") or "\\" in text:
        raise ValueError("must be the name of a folder inside the dataset")
    others = set(re.findall(r"\{[^{}]*\}?|\}", text)) - {SUBSET, NAME}
    if others or text.count(SUBSET) > 1 or text.count(NAME) > 1 or NAME in folder or SUBSET in last:
        raise ValueError("must be a folder, or a pattern such as `masks/{subset}/{name}_mask.png`")
    prefix, _, ending = last.partition(NAME)
    return FilePattern(folder, prefix, ending)
