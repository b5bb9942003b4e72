"""Errors of single pairs: sizes that differ, mask values without a class, files that change during a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from segdsl.data.formats.labels import META_FILE
from segdsl.diagnostics import SegError, fail


def make_size_mismatch_error(path: Path, mask_size: tuple[int, ...], image_size: tuple[int, ...]) -> SegError:
    """Return the error of a mask whose (height, width) differs from that of its image."""
    mask_text, image_text = (f"{width} x {height}" for height, width in (mask_size, image_size))
    message = f"the mask is {mask_text} pixels (width x height), but its image is {image_text}"
    return fail("mask-size-differs", message, "export the mask again at the size of the image", path=str(path))


def make_size_change_error(path: Path, first_size: tuple[int, ...], new_size: tuple[int, ...]) -> SegError:
    """Return the error of an image whose (height, width) changed since it was first read."""
    sizes = f"from {first_size[1]} x {first_size[0]} to {new_size[1]} x {new_size[0]} pixels (width x height)"
    message = f"the image changed {sizes} while the run was using it"
    help = "leave the dataset unchanged during a run; run `segdsl data check`, then start again"
    return fail("data-file-changed", message, help, path=str(path))


def make_file_change_error(path: Path, write_time: int) -> SegError:
    """Return the error of a file that was written (at ``write_time``, in ns) after the dataset had been checked."""
    clock = time.strftime("%H:%M:%S", time.localtime(write_time / 1e9))
    message = f"the file changed at {clock} while the run was using it"
    help = "leave the dataset unchanged during a run; restore the file, or start again with the new one"
    return fail("data-file-changed", message, help, path=str(path))


def describe_unknown_value(value: int, classes: Sequence[str], ignore: int) -> tuple[str, str]:
    """Return message and help for a mask value that is neither a class id nor ignored."""
    message = f"mask value {value} is neither a class id (0 to {len(classes) - 1}) nor the ignore value ({ignore})"
    # Exactly one above the last id: most likely the masks count classes from 1.
    if value == len(classes):
        ids = ", ".join(map(str, range(1, min(value, 3) + 1))) + (", …" if value > 3 else "")
        help = f"if ids start at 1, write `data.values = [{ids}]`, and `data.ignore = 0` if 0 means ignored; "
        return message, f"{help}otherwise correct the mask, or declare the class"
    where = f"where the others are declared (such as `{META_FILE}`, `data.classes`)"
    return message, f"correct the mask, declare the class {where}, or set `data.ignore = {value}` if it means ignored"
