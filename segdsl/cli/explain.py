"""Documentation of words and keys for `segdsl explain`, from their docstrings and those of their fields."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

WIDTH, INDENT = 100, "    "


def documented(name: str) -> tuple[str, str] | None:
    """Find the documentation of a word, a section or a key.

    Returns the name as programs spell it and the text, or None for an unknown name.
    """
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.ir.word import REGISTRY

    # Words are matched in any case, since no two differ only in case; keys are lower case anyway.
    word_name = {word.lower(): word for word in REGISTRY}.get(name.lower(), name)
    if word_name in REGISTRY:
        return word_name, "\n".join(_word(REGISTRY[word_name]))
    return _key(name)


def meant(name: str, slugs: Iterable[str]) -> str:
    """Return a help text that names the slug, word or key that an unknown name may mean."""
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.diagnostics import nearest
    from segdsl.ir.word import REGISTRY

    several = ", ".join(f"`{path}`" for path in _paths_of(name))
    if several:
        return f"this key exists in several sections, use its path: {several}"
    # Slugs are lower case; words are not, so only the second attempt ignores case.
    near = nearest(name, [*slugs, *REGISTRY, *_paths_of("")]) or nearest(name.lower(), slugs)
    return f"did you mean `{near}`?" if near else "run `segdsl explain` to list all diagnostics"


def _paths_of(name: str) -> list[str]:
    """Return the paths of all keys with this name or path; "" returns every path."""
    from segdsl.lang.suggest.misplaced import key_paths

    return [path for path in key_paths() if not name or path == name or path.rpartition(".")[2] == name]


def _word(word: type[Any]) -> Iterator[str]:
    from segdsl.lang.suggest.misplaced import OPEN, holders
    from segdsl.lang.suggest.remedies import article

    yield from textwrap.wrap(" ".join(inspect.cleandoc(word.__doc__ or "").split()), WIDTH)
    places = ", ".join(f"`{'.'.join('NAME' if part == OPEN else part for part in path)}`" for path in holders(word))
    yield ""
    yield f"It is {article(word.kind)}" + (f": {places}." if places else ".")
    takes = [(operand.name, "tensor", operand.doc) for operand in getattr(word, "takes", ())]
    for name, kind, doc in [*takes, *_fields(word)]:
        yield from _entry(name, kind, doc)


def _key(path: str) -> tuple[str, str] | None:
    """Return the path and documentation of a key or section, given its path or a name that only one section has."""
    from segdsl.lang.suggest.misplaced import record_at

    found = _paths_of(path)
    if path not in found and len(found) != 1:
        return None
    path = path if path in found else found[0]
    record = record_at(tuple(path.split(".")))
    if record is not None:
        lines = textwrap.wrap(" ".join(inspect.cleandoc(record.__doc__ or "").split()), WIDTH)
        entries = [line for entry in _fields(record) for line in _entry(*entry)]
        return path, "\n".join([*lines, *entries])
    holder = record_at(tuple(path.split(".")[:-1]))
    entry = next(entry for entry in _fields(holder) if entry[0] == path.rpartition(".")[2])
    return path, "\n".join([f"{entry[1]}", "", *textwrap.wrap(entry[2], WIDTH)])


def _fields(record: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, type with default, and documentation of every field."""
    from segdsl.editor.reference import kind_and_default
    from segdsl.ir.word import field_docs

    docs = field_docs(record)
    for name, info in record.model_fields.items():
        kind, default = (text.replace("`", "") for text in kind_and_default(info))
        yield name, kind + (f"; default {default}" if default else "; required"), docs[name]


def _entry(name: str, kind: str, doc: str) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(f"{name}: {kind}", WIDTH, subsequent_indent=INDENT)
    yield from textwrap.wrap(" ".join(doc.split()), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
