"""Documentation of words and keys for `segdsl explain`, from their docstrings and those of their fields."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

WIDTH, INDENT = 100, "    "


def find_documentation(name: str) -> tuple[str, str] | None:
    """Find the documentation of a word, a section or a key.

    Returns the name as programs spell it and the text, or None for an unknown name.
    """
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.ir.word import REGISTRY

    # Words are matched in any case, since no two differ only in case; keys are lower case anyway.
    word_name = {word.lower(): word for word in REGISTRY}.get(name.lower(), name)
    if word_name in REGISTRY:
        return word_name, "\n".join(_format_word(REGISTRY[word_name]))
    return _format_key(name)


def suggest_topic(name: str, slugs: Iterable[str]) -> str:
    """Return a help text that names the slug, word or key that an unknown name may mean."""
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.diagnostics import find_closest_name
    from segdsl.ir.word import REGISTRY

    several = ", ".join(f"`{path}`" for path in _find_key_paths(name))
    if several:
        return f"this key exists in several sections, use its path: {several}"
    # Slugs are lower case; words are not, so only the second attempt ignores case.
    near = find_closest_name(name, [*slugs, *REGISTRY, *_find_key_paths("")]) or find_closest_name(name.lower(), slugs)
    return f"did you mean `{near}`?" if near else "run `segdsl explain` to list all diagnostics"


def _find_key_paths(name: str) -> list[str]:
    """Return the paths of all keys with this name or path; "" returns every path."""
    from segdsl.lang.suggest.misplaced import list_key_paths

    return [path for path in list_key_paths() if not name or path == name or path.rpartition(".")[2] == name]


def _format_word(word: type[Any]) -> Iterator[str]:
    from segdsl.lang.suggest.misplaced import ANY_NAME, find_keys_for_word
    from segdsl.lang.suggest.remedies import add_article

    yield from textwrap.wrap(" ".join(inspect.cleandoc(word.__doc__ or "").split()), WIDTH)
    places = ", ".join(
        f"`{'.'.join('NAME' if part == ANY_NAME else part for part in path)}`" for path in find_keys_for_word(word)
    )
    yield ""
    yield f"It is {add_article(word.kind)}" + (f": {places}." if places else ".")
    takes = [(operand.name, "tensor", operand.doc) for operand in getattr(word, "takes", ())]
    for name, kind, doc in [*takes, *_list_fields(word)]:
        yield from _format_entry(name, kind, doc)


def _format_key(path: str) -> tuple[str, str] | None:
    """Return the path and documentation of a key or section, given its path or a name that only one section has."""
    from segdsl.lang.suggest.misplaced import find_section

    found = _find_key_paths(path)
    if path not in found and len(found) != 1:
        return None
    path = path if path in found else found[0]
    record = find_section(tuple(path.split(".")))
    if record is not None:
        lines = textwrap.wrap(" ".join(inspect.cleandoc(record.__doc__ or "").split()), WIDTH)
        entries = [line for entry in _list_fields(record) for line in _format_entry(*entry)]
        return path, "\n".join([*lines, *entries])
    holder = find_section(tuple(path.split(".")[:-1]))
    entry = next(entry for entry in _list_fields(holder) if entry[0] == path.rpartition(".")[2])
    return path, "\n".join([f"{entry[1]}", "", *textwrap.wrap(entry[2], WIDTH)])


def _list_fields(record: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, type with default, and documentation of every field."""
    from segdsl.editor.reference import describe_field
    from segdsl.ir.word import read_field_docs

    docs = read_field_docs(record)
    for name, info in record.model_fields.items():
        kind, default = (text.replace("`", "") for text in describe_field(info))
        yield name, kind + (f"; default {default}" if default else "; required"), docs[name]


def _format_entry(name: str, kind: str, doc: str) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(f"{name}: {kind}", WIDTH, subsequent_indent=INDENT)
    yield from textwrap.wrap(" ".join(doc.split()), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
