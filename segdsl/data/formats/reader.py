"""The readers of dataset formats, by the name of the format's record in `segdsl/words/formats.py`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from segdsl.data.findings import Findings
from segdsl.data.formats.layout import Layout, Request
from segdsl.ir.data_format import DataFormat


class FormatReader(NamedTuple):
    """How to read a format, and how to detect it.

    ``read`` appends errors and warnings to the findings, and raises :class:`SegError` if the folder is not a dataset of
    this format. ``detect`` returns the signs of the format in a folder, or an empty string; ``is_conclusive`` means
    that other data hardly ever has these signs.
    """

    read: Callable[[Path, Request, Findings], Layout]
    detect: Callable[[Path], str]
    is_conclusive: bool = True


READERS: dict[str, FormatReader] = {}
"""All readers by the name of their format; filled by :func:`load_readers`."""


def register_reader(record: DataFormat, reader: FormatReader) -> None:
    """Make a reader known under the name of its format. Raise ValueError if the format has one already."""
    if record.name in READERS:
        raise ValueError(f"two readers of the data format {record.name}")
    READERS[record.name] = reader


def load_readers() -> None:
    """Import all modules of the package `readers`; each registers its own."""
    from segdsl.data.formats import readers

    # The folder is the list: a table of modules would be one more place to edit for every format.
    for module in pkgutil.iter_modules(readers.__path__):
        importlib.import_module(f"{readers.__name__}.{module.name}")
