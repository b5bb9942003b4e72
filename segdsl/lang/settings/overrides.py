"""Changes of a program from outside of its files: the texts of `--set`, and of options that stand for one."""

from __future__ import annotations

import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Diagnostic, Fix, SegError, Sink, Span, replacing
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import Quantity, Units, quoted
from segdsl.ir.word import members, word_family
from segdsl.lang.convert.bounds import accepts
from segdsl.lang.convert.fields import convert
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.files import FileScope
from segdsl.lang.elaborate.values import Stop
from segdsl.lang.settings.merge import Settings
from segdsl.lang.suggest.remedies import Usual, instead, is_number, listed, wanted
from segdsl.lang.suggest.usual_form import begun, of_number
from segdsl.lang.suggest.verify_fix import BEFORE, bare_frame, faults
from segdsl.syntax.parser import parse_override
from segdsl.syntax.tree import Assign, Drop, Expr

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
    """The override that sets a path to a value as somebody gives it who does not think of its type.

    An ellipsis stands for the value where none is given, and where it is none that is accepted there.
    """
    annotation, metadata = _field(path)
    kind, family = _plain_kind(annotation), word_family(annotation)
    right = value
    if family is not None:
        right = _word(value, members(family))
    elif value and kind is str:
        right = quoted(value)
    elif is_number(value) and typing.get_origin(kind) is tuple and _plain_kind(typing.get_args(kind)[0]) is str:
        right = ""
    elif value and typing.get_origin(kind) is tuple:
        right = listed(value, typing.get_args(kind)[0]) or (value if value.startswith("[") else f"[{value}]")
    elif value and kind is Quantity and is_number(value):
        units = next((m.names for m in metadata if isinstance(m, Units)), ())
        right = f"{value} {'epochs' if 'epochs' in units else units[0]}" if units else value
    elif value and not (kind is float and is_number(value)):
        right = instead(value, kind, (*metadata, Usual(None, False))) or value
    if right and annotation is not None:
        right = _accepted(right, path[-1], annotation, metadata)
    return f"{'.'.join(path)}={right or '…'}"


def taken_at(path: Sequence[str]) -> str:
    """What a path of the program takes, in words: `an integer`, `one of …`."""
    annotation, metadata = _field(path)
    family = word_family(annotation)
    if family is not None:
        return "one of " + ", ".join(f"`{begun(word)}`" for word in members(family))
    return wanted(annotation, metadata)


def _accepted(text: str, name: str, annotation: Any, metadata: tuple[Any, ...]) -> str:
    """A text as a field accepts it, mended where that is known; "" where it is none for it."""
    info = FieldInfo.from_annotation(annotation)
    info.metadata = list(metadata)

    def read(expr: Expr, frame: Frame) -> None:
        if not accepts(info, convert(expr, info, frame, name)):
            raise Stop

    for _ in range(2):
        found = faults(text, bare_frame(), read)
        if not found:
            return text
        fix = found[0].fix if found[0] is not None else None
        if fix is None:
            break
        source = BEFORE + text
        text = (source[: fix.span.start] + fix.text + source[fix.span.end :]).removeprefix(BEFORE)
    return ""


def _word(value: str, known: dict[str, Any]) -> str:
    """The word of a family that a text or a number stands for; without any, the only one; "" where none is."""
    only = next(iter(known)) if len(known) == 1 else ""
    if is_number(value):
        return of_number(only, float(value)) if only else ""
    near = replacing(value, known) if value.isidentifier() else None
    if near or (only and value in ("", "true")):
        return begun(near or only)
    return value if "(" in value else ""


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
