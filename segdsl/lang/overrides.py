"""Changes of a program from outside of its files: the texts of `--set`, and of options that stand for one."""

from __future__ import annotations

import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from segdsl.diagnostics import Diagnostic, Fix, SegError, Sink, Span, nearest
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import quoted
from segdsl.ir.word import members, word_family
from segdsl.lang.remedies import Usual, instead, is_number, listed
from segdsl.lang.scope import FileScope
from segdsl.lang.settings import Settings
from segdsl.syntax.parser import parse_override
from segdsl.syntax.tree import Assign, Drop

SET = "--set"
OPENED_BY = ('"', "'", "[", "(")
"""What a value begins with that is no text without quotes."""


class NamedOverride(str):
    """An override that another option than `--set` makes, by whose name errors call it."""

    __slots__ = ("option",)

    option: str

    def __new__(cls, text: str, option: str) -> NamedOverride:
        made = super().__new__(cls, text)
        made.option = option
        return made


def apply_overrides(settings: Settings, scope: FileScope, overrides: Sequence[str], sink: Sink) -> None:
    """Merges the overrides over what the files say, in their order."""
    unnamed = [text for text in overrides if not isinstance(text, NamedOverride)]
    number = 0
    for text in overrides:
        if isinstance(text, NamedOverride):
            name = text.option
        else:
            number += 1
            name = SET if len(unnamed) == 1 else f"{SET}[{number}]"
        sink.sources[name] = str(text)
        statement, found = parse_override(text, name)
        for diagnostic in found:
            sink.add(with_quotes(diagnostic, text))
        if statement is not None and not found:
            settings.apply(scope, [statement])


def with_quotes(found: Diagnostic, text: str) -> Diagnostic:
    """The error about an option that does not parse; where a text is wanted, its value in quotes is what mends it."""
    path, equals, value = text.partition("=")
    value = value.strip()
    if found.span is None or not equals or not value or value.startswith(OPENED_BY) or not takes_text(path.strip()):
        return found
    fix = Fix(Span(found.span.file, len(path) + 1, len(text)), quoted(value))
    message, help = f"`{path.strip()}` is a text, and texts stand in double quotes", f"write {fix.text}"
    return Diagnostic("missing-quotes", message, help, span=fix.span, fix=fix)


def takes_text(path: str) -> bool:
    """Whether a path of the program holds a text."""
    head, *rest = path.split(".")
    if head == "weights":
        return bool(rest) and rest != ["adapt"]
    return _plain_kind(_field((head, *rest))[0]) is str


def as_override(path: Sequence[str], value: str) -> str:
    """The override that sets a path to a value as somebody gives it who does not think of its type; without a value an
    ellipsis stands for it."""
    annotation, metadata = _field(path)
    kind, family = _plain_kind(annotation), word_family(annotation)
    right = ""
    if family is not None:
        known = members(family)
        near = nearest(value, known) if value.isidentifier() else next(iter(known)) if len(known) == 1 else None
        right = f"{near}()" if near else ""
    elif value and kind is str:
        right = quoted(value)
    elif value and typing.get_origin(kind) is tuple:
        right = listed(value, typing.get_args(kind)[0]) or (value if value.startswith("[") else f"[{value}]")
    elif value and not (kind is float and is_number(value)):
        right = instead(value, kind, (*metadata, Usual(None, False)))
    return f"{'.'.join(path)}={right or value or '…'}"


def _field(path: Sequence[str]) -> tuple[Any, tuple[Any, ...]]:
    """The annotation and the metadata of a key, or of an argument below one; None where there is no such thing."""
    kind: Any = SECTIONS.get(path[0])
    metadata: tuple[Any, ...] = ()
    for name in path[1:]:
        is_section = isinstance(kind, type) and issubclass(kind, Section)
        family = None if is_section or kind is None else word_family(kind)
        records: list[Any] = [kind] if is_section else list(members(family).values()) if family else []
        info = next((record.model_fields[name] for record in records if name in record.model_fields), None)
        if info is None:
            return None, ()
        kind, metadata = info.annotation, tuple(info.metadata)
    return kind, metadata


def _plain_kind(annotation: Any) -> Any:
    """The type that an annotation stands for, whether it may be unset or has bounds."""
    kinds = [k for k in typing.get_args(annotation) if k is not type(None)]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated):
        return _plain_kind(kinds[0])
    return annotation


def read_override(text: str, allowed: Callable[[str], bool], refusal: Callable[[str], tuple[str, str]]) -> None:
    """Refuses an override that does not parse, or whose path is not ``allowed``: then ``refusal`` gives the message and
    the help (`setting-without-effect`)."""
    name = text.option if isinstance(text, NamedOverride) else SET
    statement, found = parse_override(text, name)
    if found or not isinstance(statement, Assign | Drop):
        sources = {name: str(text)}
        raise SegError([for_shell(with_quotes(each, text), sources) for each in found], sources)
    path = ".".join(ident.name for ident in statement.path)
    if not allowed(path):
        message, help = refusal(path)
        span = statement.path[0].span.to(statement.path[-1].span)
        raise SegError([Diagnostic("setting-without-effect", message, help, span=span)], {name: str(text)})


def for_shell(found: Diagnostic, sources: Mapping[str, str]) -> Diagnostic:
    """An error in an option with the whole option as it is right, in the quotes that a shell asks for."""
    fix = found.fix
    if fix is None or not fix.span.file.startswith(SET):
        return found
    text = sources.get(fix.span.file, "")
    right = text[: fix.span.start] + fix.text + text[fix.span.end :]
    joint = " The" if found.help.endswith("?") else "; the"
    return replace(found, help=f"{found.help}{joint} whole option: {SET} {shlex.quote(right)}")
