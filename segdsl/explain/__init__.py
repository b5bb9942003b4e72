"""The long text behind each slug, from the `.md` files beside this one: one `## slug` heading each, its text below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

_HEADING = re.compile(r"^## +(\S+) *\n", re.MULTILINE)


def explanations() -> dict[str, str]:
    """Every slug with its text, in alphabetical order. Raises ValueError when a slug is explained twice."""
    texts: dict[str, str] = {}
    for name, body in _entries():
        if name in texts:
            raise ValueError(f"`{name}` is explained twice")
        texts[name] = body
    return dict(sorted(texts.items()))


def _entries() -> Iterator[tuple[str, str]]:
    for file in files(__package__ or "segdsl.explain").iterdir():
        if file.name.endswith(".md"):
            _, *parts = _HEADING.split(file.read_text(encoding="utf-8"))
            yield from zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True)
