"""Overrides: changes to a program from the command line, by `--set` and by options that stand for a setting."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Diagnostic, Fix, SegError, Sink, Span, find_safe_replacement
from segdsl.ir.field_type import FieldType, read_field_type
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import Quantity, Size, format_literal, quote_string
from segdsl.ir.word import find_word_family, list_words
from segdsl.lang.convert.bounds import accepts_value
from segdsl.lang.convert.fields import convert_field
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.scopes import FileScope
from segdsl.lang.elaborate.values import EvalStop
from segdsl.lang.settings.merge import Settings
from segdsl.lang.suggest.remedies import describe_field_type, is_number_literal, suggest_list, suggest_value
from segdsl.lang.suggest.verify_fix import TRIAL_PREFIX, find_faults, make_empty_frame
from segdsl.syntax.parser import parse_override
from segdsl.syntax.tree import Assign, Constant, Drop, Expr, Ident, ListExpr, SizeLiteral

SET_OPTION = "--set"
VALUE_OPENERS = ('"', "'", "[", "(")
"""The first characters of values that are not strings with missing quotes."""


class OptionOverride(str):
    """An override that comes from another option than `--set`; errors name that option."""

    __slots__ = ("option",)

    option: str

    def __new__(cls, text: str, option: str) -> OptionOverride:
        made = super().__new__(cls, text)
        made.option = option
        return made


Value = bool | int | float | str | Size | tuple["Value", ...] | None
Override = str | tuple[str, Value]
"""A change to a program: the text of a `--set`, or the path of a setting and its value."""


def list_overrides(overrides: Iterable[Override]) -> list[Override]:
    """Return the overrides as a list; a single text is one override, not a sequence of characters."""
    return [overrides] if isinstance(overrides, str) else list(overrides)


def apply_overrides(settings: Settings, scope: FileScope, overrides: Sequence[Override], sink: Sink) -> None:
    """Merge the overrides into the settings of the files, in order; the last one wins."""
    # With several `--set`, errors name the one at fault by its number.
    unnamed = [text for text in overrides if isinstance(text, str) and not isinstance(text, OptionOverride)]
    number = 0
    for text in overrides:
        if isinstance(text, tuple):
            assignment, name, source = build_assignment(*text)
            sink.sources[name] = source
            settings.merge_statements(scope, [assignment])
            continue
        if isinstance(text, OptionOverride):
            name = text.option
        else:
            number += 1
            name = SET_OPTION if len(unnamed) == 1 else f"{SET_OPTION}[{number}]"
        sink.sources[name] = str(text)
        statement, found = parse_override(text, name)
        for diagnostic in found:
            sink.add(suggest_quotes(diagnostic, text))
        if statement is not None and not found:
            settings.merge_statements(scope, [statement])


def build_assignment(path: str, value: Value) -> tuple[Assign, str, str]:
    """Return the assignment of a value to a path, and the name and text that errors about it show."""
    name, head = f"<{path}>", f"{path} = "
    idents, start = [], 0
    for part in path.split("."):
        idents.append(Ident(part, Span(name, start, start + len(part))))
        start += len(part) + 1
    expr, text = _build_literal(value, name, len(head))
    return Assign(tuple(idents), expr, Span(name, 0, len(head + text))), name, head + text


def _build_literal(value: Value, name: str, start: int) -> tuple[Expr, str]:
    """Return the expression and the text of a value that is written at ``start``."""
    if isinstance(value, tuple):
        items, text = [], "["
        for each in value:
            text += ", " if items else ""
            item, written = _build_literal(each, name, start + len(text))
            items.append(item)
            text += written
        return ListExpr(tuple(items), Span(name, start, start + len(text) + 1)), f"{text}]"
    text = format_literal(value)
    span = Span(name, start, start + len(text))
    return (SizeLiteral(value.height, value.width, span) if isinstance(value, Size) else Constant(value, span)), text


def suggest_quotes(diagnostic: Diagnostic, text: str) -> Diagnostic:
    """Return the error about an option that does not parse, with quotes as the fix if its key takes a string."""
    path, equals, value = text.partition("=")
    value = value.strip()
    if (
        diagnostic.span is None
        or not equals
        or not value
        or value.startswith(VALUE_OPENERS)
        or not is_text_path(path.strip())
    ):
        return diagnostic
    # The shell has removed the quotes that the author wrote: `--set data.root="my data"`.
    fix = Fix(Span(diagnostic.span.file, len(path) + 1, len(text)), quote_string(value))
    message, help = f"`{path.strip()}` takes a string, which needs double quotes", f"write {fix.text}"
    return Diagnostic("missing-quotes", message, help, span=fix.span, fix=fix)


def is_text_path(path: str) -> bool:
    """Return whether a path of the program takes a string."""
    head, *rest = path.split(".")
    if head == "weights":
        return bool(rest) and rest != ["adapt"]
    info = _lookup_field((head, *rest))
    return info is not None and read_field_type(info.annotation, info.metadata).base is str


def format_override(path: Sequence[str], value: str) -> str:
    """Return the override that sets a path to a value that was written without regard to its type.

    The value is an ellipsis if it is empty or cannot be made valid.
    """
    info = _lookup_field(path)
    suggestion = value if info is None else _suggest_text(value, read_field_type(info.annotation, info.metadata))
    if suggestion and info is not None:
        suggestion = _correct_value(suggestion, path[-1], info)
    return f"{'.'.join(path)}={suggestion or '…'}"


def _suggest_text(value: str, expected: FieldType) -> str:
    """Return the source of a value for a field, as far as its text and the type of the field tell."""
    family = expected.family or next((item.family for item in expected.items), None)
    if family is not None:
        return _suggest_word_value(value, list_words(family))
    if not value:
        return ""
    if expected.base is tuple:
        return _suggest_list_value(value, expected.items[0])
    if expected.base is str:
        return quote_string(value)
    if is_number_literal(value) and expected.base is Quantity:
        # A bare amount of memory stays as it is: a wrong unit would be worse than none.
        unit = "epochs" if "epochs" in expected.units else expected.units[0] if len(expected.units) == 1 else ""
        return f"{value} {unit}".rstrip()
    if is_number_literal(value) and expected.base is float:
        return value
    return suggest_value(value, replace(expected, is_optional=False)) or value


def _suggest_list_value(value: str, item: FieldType) -> str:
    if is_number_literal(value) and item.base is str:
        return ""
    return suggest_list(value, item) or (value if value.startswith("[") else f"[{value}]")


def describe_path_type(path: Sequence[str]) -> str:
    """Describe the values that a path of the program takes: `an integer`, `one of …`."""
    info = _lookup_field(path)
    if info is None:
        return "another value"
    family = find_word_family(info.annotation)
    if family is not None:
        return "one of " + ", ".join(f"`{word.write_usual_form()}`" for word in list_words(family).values())
    return describe_field_type(read_field_type(info.annotation, info.metadata))


def _correct_value(text: str, name: str, info: FieldInfo) -> str:
    """Return a value's text in a form that its field accepts, or "" if there is none."""

    def convert_text(expr: Expr, frame: Frame) -> None:
        if not accepts_value(info, convert_field(expr, info, frame, name)):
            raise EvalStop

    # Two rounds: the first fix may reveal a second fault, such as a missing unit, but a loop must not go on forever.
    for _ in range(2):
        found = find_faults(text, make_empty_frame(), convert_text)
        if not found:
            return text
        fix = found[0].fix if found[0] is not None else None
        if fix is None:
            break
        source = TRIAL_PREFIX + text
        text = (source[: fix.span.start] + fix.text + source[fix.span.end :]).removeprefix(TRIAL_PREFIX)
    return ""


def _suggest_word_value(value: str, family: dict[str, Any]) -> str:
    """Return the word of a family that a string or number stands for, or "".

    An empty value stands for the word of a family that has only one.
    """
    only = next(iter(family)) if len(family) == 1 else ""
    if is_number_literal(value):
        return family[only].write_number_form(float(value)) if only else ""
    near = find_safe_replacement(value, family) if value.isidentifier() else None
    if near or (only and value in ("", "true")):
        return family[near or only].write_usual_form()
    return value if "(" in value else ""


def _lookup_field(path: Sequence[str]) -> FieldInfo | None:
    """Return the field of a key, or of an argument below one; None if there is none."""
    kind: Any = SECTIONS.get(path[0])
    info: FieldInfo | None = None
    for name in path[1:]:
        is_section = isinstance(kind, type) and issubclass(kind, Section)
        family = None if is_section or kind is None else find_word_family(kind)
        records: list[Any] = [kind] if is_section else list(list_words(family).values()) if family else []
        info = next((record.model_fields[name] for record in records if name in record.model_fields), None)
        if info is None:
            return None
        kind = info.annotation
    return info


def check_override(
    override: Override, is_allowed: Callable[[str], bool], explain_refusal: Callable[[str], tuple[str, str]]
) -> None:
    """Check an override that is not applied to a program file.

    Raises SegError if it does not parse, or if ``is_allowed`` refuses its path (`setting-without-effect`);
    ``explain_refusal`` returns the message and the help for the path.
    """
    if isinstance(override, tuple):
        statement, name, text = build_assignment(*override)
    else:
        name, text = override.option if isinstance(override, OptionOverride) else SET_OPTION, str(override)
        statement, found = parse_override(text, name)
        if found or not isinstance(statement, Assign | Drop):
            sources = {name: text}
            raise SegError([add_shell_option(suggest_quotes(each, text), sources) for each in found], sources)
    path = ".".join(ident.name for ident in statement.path)
    if not is_allowed(path):
        message, help = explain_refusal(path)
        span = statement.path[0].span.extend_to(statement.path[-1].span)
        raise SegError([Diagnostic("setting-without-effect", message, help, span=span)], {name: text})


def add_shell_option(diagnostic: Diagnostic, sources: Mapping[str, str]) -> Diagnostic:
    """Add the corrected option to the help of an error in an option, quoted for the shell."""
    fix = diagnostic.fix
    if fix is None or not fix.span.file.startswith(SET_OPTION):
        return diagnostic
    text = sources.get(fix.span.file, "")
    whole_option = text[: fix.span.start] + fix.text + text[fix.span.end :]
    separator = " The" if diagnostic.help.endswith("?") else "; the"
    return replace(
        diagnostic, help=f"{diagnostic.help}{separator} whole option: {SET_OPTION} {shlex.quote(whole_option)}"
    )
