"""The layouts of datasets on disk: one record each, from which everything about the name of a format follows.

`segdsl/words/formats.py` fills the registry; `segdsl/data/formats/readers` has a reader for each record, by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from segdsl.diagnostics import find_closest_name
from segdsl.diagnostics.aliases import register_aliases
from segdsl.ir.word import Choices, format_choice

FormatSetting = Literal["values", "background", "images", "masks"]
"""A setting of `data` that only some formats take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFormat:
    """One format: its name in `data.format`, its documentation, and what it takes.

    ``layout`` describes the files, ``masks`` the meaning of the pixels, ``evidence`` the data it was tested on.
    ``aliases`` are names in other tools. ``landmark`` is a glob pattern of a file or folder in the root that suggests
    the format, also if the dataset is incomplete. ``split_help`` tells how to make a second subset.
    """

    name: str
    layout: str
    masks: str
    evidence: str
    aliases: str = ""
    settings: frozenset[FormatSetting] = frozenset({"values"})
    landmark: str = ""
    split_help: str = "move about a fifth of the images with their masks into a second subset, `val`"

    @property
    def is_rasterized(self) -> bool:
        """Whether masks are rasterized from annotations, so that pixels without any may be left over."""
        return "background" in self.settings

    @property
    def setting_text(self) -> str:
        """The setting that selects the format: `data.format = folders`."""
        return f"data.format = {format_choice(self.name)}"


DATA_FORMATS: dict[str, DataFormat] = {}
"""All formats by name, in the order of preference for messages: the default format is the first."""
AUTO_FORMAT = "auto"
"""The value of `data.format` that detects the format."""
DEFAULT_FORMAT = "common_semantic_segmentation"


def register_format(record: DataFormat) -> DataFormat:
    """Add a format to the registry. Raise ValueError if its name is taken."""
    if record.name in DATA_FORMATS or record.name == AUTO_FORMAT:
        raise ValueError(f"duplicate data format {record.name}")
    DATA_FORMATS[record.name] = record
    register_aliases(record.name, record.aliases)
    return record


def list_variants(name: str) -> tuple[str, ...]:
    """Return the names with the prefix of ``name``: all of `datumaro:…` for `datumaro:other`."""
    prefix, separator, _ = name.partition(":")
    return tuple(known for known in DATA_FORMATS if separator and known.startswith(prefix + separator))


def suggest_format(name: str) -> str | None:
    """Return the format that a misspelled or foreign name probably means, or None."""
    return find_closest_name(name, [*DATA_FORMATS, AUTO_FORMAT])


def _validate_format_name(value: str) -> str:
    """Validate that a name is registered."""
    if value not in DATA_FORMATS:
        raise ValueError("must be the name of a data format")
    return value


DataFormatName = Annotated[str, Choices(DATA_FORMATS), AfterValidator(_validate_format_name)] | Literal["auto"]
"""The name of a registered format, or `auto`."""
