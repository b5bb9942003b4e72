"""Rendering of pages from templates, with everything they show in one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from segdsl.text.columns import sanitize_text
from segdsl.text.plural import format_count
from segdsl.version import __version__

SHARED_TEMPLATES = Path(__file__).parent / "templates"
"""The templates of this package: the frame of a page, macros, and sections that several pages have."""
UNKNOWN = "-"
"""Placeholder for an unknown number."""


class Section(NamedTuple):
    """A section of a page: its anchor and title, and the template that draws its ``view``."""

    anchor: str
    title: str
    template: str
    view: Mapping[str, object]
    is_open: bool = True


class Picture(NamedTuple):
    """An image on a page: its address, which holds its content, its description, and its size in pixels."""

    source: str
    description: str
    width: int
    height: int


def render_page(folder: Path, name: str, sections: Sequence[Section], /, **values: object) -> str:
    """Render the page `NAME.html.j2` of a folder of templates, which extends `page.html.j2`.

    If the folder has a `style.css` or a `script.js`, it follows the shared one.
    """
    style, script = (_join_assets(folder, asset) for asset in ("style.css", "script.js"))
    # Names and paths on the page are untrusted input. Even if some of it escaped escaping, this policy prevents that it
    # runs or loads anything.
    hashes = f"style-src {_compute_csp_hash(style)}; script-src {_compute_csp_hash(script)}"
    policy = f"default-src 'none'; img-src data:; {hashes}; base-uri 'none'; form-action 'none'"
    page = {"style": style, "script": script, "policy": policy, "version": __version__, "sections": sections}
    return open_templates(folder).get_template(f"{name}.html.j2").render(page | values)


def open_templates(folder: Path) -> Environment:
    """Return the environment of the templates in a folder, which can include and import the shared ones."""
    environment = Environment(
        loader=FileSystemLoader([folder, SHARED_TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_sanitize_value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["unknown"] = UNKNOWN
    environment.filters.update(percent=format_percent, grouped="{:,}".format, counted=format_count)
    return environment


def encode_data_uri(content: bytes, kind: str) -> str:
    """Return the address of a file of a media type that holds its content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def format_percent(share: float, digits: int = 2) -> str:
    """Format a share as percentage; a share above 0 never reads as 0."""
    least = 10.0 ** -(digits + 2)
    return f"{share:.{digits}%}" if share >= least or not share else f"<{least:.{digits}%}"


def _sanitize_value(value: object) -> object:
    # Control characters and marks of writing direction in a name could hide or reorder the text around it.
    is_markup = hasattr(value, "__html__")
    return sanitize_text(value, "\n\t") if isinstance(value, str) and not is_markup else value


def _join_assets(folder: Path, name: str) -> str:
    files = (place / name for place in (SHARED_TEMPLATES, folder))
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def _compute_csp_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
