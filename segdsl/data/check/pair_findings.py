"""What is said where an image and its mask, or a mask and the classes, do not go together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from segdsl.data.formats.labels import META_FILE
from segdsl.diagnostics import SegError, fail


def size_differs(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> SegError:
    """The error of a mask whose (height, width) is not its image's."""
    message = f"the mask is {mask[1]} x {mask[0]} pixels (width x height), its image {image[1]} x {image[0]}"
    return fail("mask-size-differs", message, "draw the mask again at the size of the image", path=str(path))


def size_changed(path: Path, first: tuple[int, ...], now: tuple[int, ...]) -> SegError:
    """The error of an image whose (height, width) is another than when it was read first."""
    message = f"the image is {now[1]} x {now[0]} pixels (width x height) now, and was {first[1]} x {first[0]} before"
    help = "a data set must stay as it is while it is read; begin again, `segdsl data check` first"
    return fail("data-file-changed", message, help, path=str(path))


def file_written(path: Path, when: int) -> SegError:
    """The error of a file that was written (at ``when``, in ns) after the data set had been checked."""
    message = (
        f"the file was written anew at {time.strftime('%H:%M:%S', time.localtime(when / 1e9))}, while it is in use"
    )
    help = "a data set must stay as it is while it is read; put the file back, or begin again with the new one"
    return fail("data-file-changed", message, help, path=str(path))


def value_message(value: int, classes: Sequence[str], ignore: int) -> tuple[str, str]:
    """Message and help for a mask value that is neither a class id nor void."""
    message = f"the mask holds the value {value}; class ids go from 0 to {len(classes) - 1}, void is {ignore}"
    if value == len(classes):
        ids = ", ".join(map(str, range(1, min(value, 3) + 1))) + (", …" if value > 3 else "")
        help = f"are ids counted from 1? Then write `data.values = [{ids}]`, and `data.ignore = 0` if 0 is void; "
        return message, f"{help}else correct the mask, or declare the class"
    where = f"where the others are (`{META_FILE}` and its like, `data.classes`)"
    return message, f"correct the mask, declare the class {where}, or set `data.ignore = {value}` if it is void"
