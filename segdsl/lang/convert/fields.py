"""Conversion of expressions to the fields of words: the field's type decides how to read one (LANGUAGE.md §4).

The `fit_*` functions decide: they return a value or a :class:`Misfit`. The others raise the error that
`lang/suggest/explain_misfit.py` makes of a misfit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Diagnostic, Span
from segdsl.ir.field_type import FieldType, read_field_type
from segdsl.ir.program import Schedule
from segdsl.ir.values import Size
from segdsl.ir.word import Record, Word, list_words
from segdsl.lang.convert.bounds import accepts_value, build_record
from segdsl.lang.convert.choices import fit_choice, fit_choice_or_score, is_choice
from segdsl.lang.convert.misfit import BoundViolation, Misfit
from segdsl.lang.convert.plain import fit_value
from segdsl.lang.elaborate.arguments import ArgumentExpr, match_arguments
from segdsl.lang.elaborate.context import Frame, evaluate_expr
from segdsl.lang.elaborate.expressions import (
    evaluate_condition,
    get_dotted_parts,
    is_word_call,
    lookup_component,
)
from segdsl.lang.elaborate.values import EvalStop
from segdsl.lang.suggest.explain_misfit import (
    describe_alternatives,
    explain_bound_violation,
    explain_misfit,
    explain_missing_argument,
)
from segdsl.lang.suggest.remedies import suggest_chain, suggest_combination, suggest_size_for_product
from segdsl.lang.suggest.verify_fix import drop_invalid_fix
from segdsl.ops.parameter import Full
from segdsl.syntax import tree

T = TypeVar("T")


def build_word(word: type[Word], arguments: Mapping[str, ArgumentExpr], span: Span) -> Any:
    """Build a word from its arguments. Reports every argument that does not fit before raising :class:`EvalStop`."""
    fields = word.model_fields
    values: dict[str, Any] = {}
    failed = False
    for name, (expr, frame) in arguments.items():
        try:
            values[name] = convert_field(expr, fields[name], frame, name)
        except EvalStop as signal:
            failed = True
            if signal.diagnostic:
                label = f"`{name}` of `{word.__name__}`"
                frame.context.report(_add_argument_label(signal.diagnostic, expr, label, frame))
    for name, info in fields.items():
        if info.is_required() and name not in arguments:
            raise EvalStop(explain_missing_argument(word, name, span))
    if failed:
        raise EvalStop
    places = {name: expr.span for name, (expr, _) in arguments.items()}
    return validate_record(word, values, places, span)


def _add_argument_label(diagnostic: Diagnostic, expr: tree.Expr, label: str, frame: Frame) -> Diagnostic:
    # An argument passed by position does not show its name, which the message may rely on.
    if diagnostic.span != expr.span or diagnostic.label:
        return diagnostic
    before = frame.get_source(Span(expr.span.file, 0, expr.span.start)).rstrip()
    return diagnostic if before.endswith("=") else replace(diagnostic, label=label)


def validate_record(record: type[Record], values: dict[str, Any], places: Mapping[str, Span], span: Span) -> Any:
    """Return the record. Raises :class:`EvalStop` with the bound that a value breaks."""
    built = build_record(record, values)
    if isinstance(built, BoundViolation):
        raise EvalStop(explain_bound_violation(record, values, built, places.get(built.field, span)))
    return built


def convert_field(expr: tree.Expr, info: FieldInfo, frame: Frame, name: str = "") -> Any:
    """Return the value of ``expr`` for the field ``name``.

    Raises :class:`EvalStop` if it does not fit; the error carries a fix only if the field accepts that.
    """
    expected = replace(read_field_type(info.annotation, info.metadata), name=name, default=info.default)

    def convert_replacement(text: tree.Expr, place: Frame) -> Any:
        value = _convert_expr(text, expected, place)
        if not accepts_value(info, value):
            raise EvalStop
        return value

    try:
        return _convert_expr(expr, expected, frame)
    except EvalStop as signal:
        help = describe_alternatives(expected)
        raise drop_invalid_fix(signal, expr, frame, help, convert_replacement) from None


def convert_word(expr: tree.Expr, family: type[Word], frame: Frame) -> Any:
    """Return the word of a family that an expression builds. Raises :class:`EvalStop` if it builds none."""
    return _convert_expr(expr, FieldType(family), frame)


def _convert_expr(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    value = fit_expr(expr, expected, frame)
    if isinstance(value, Misfit):
        raise EvalStop(explain_misfit(value, frame))
    return value


def fit_expr(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    """Return the value of an expression as the type of a field, or the :class:`Misfit`.

    Raises :class:`EvalStop` if the expression has no value at all.
    """
    if isinstance(expr, tree.If):
        return fit_expr(expr.then if evaluate_condition(expr.test, frame) else expr.other, expected, frame)
    if expected.is_optional and isinstance(expr, tree.Constant) and expr.value is None:
        return None
    if expected.scores is not None:
        return fit_choice_or_score(expr, expected, frame)
    # Where choices stand beside another type, such as `auto | int`, the form of the expression tells which is meant.
    if expected.base is Literal or (expected.choices and is_choice(expr, expected.choices, frame)):
        return fit_choice(expr, expected, frame)
    if expected.is_path:
        return _fit_path(expr, expected)
    if expected.base is tuple:
        return _fit_list(expr, expected, frame)
    return (_fit_plain if expected.family is None else _fit_word)(expr, expected, frame)


def _fit_plain(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    # `128 * 128` evaluates to a number without complaint, so it has to be caught before.
    if expected.base is Size and suggest_size_for_product(expr):
        return Misfit("product", expected, expr)
    try:
        return fit_value(evaluate_expr(expr, frame, None), expected, expr)
    except EvalStop as signal:
        # A name without a value may be a string without quotes, or a literal of another language.
        if signal.diagnostic is None or signal.diagnostic.slug not in NAME_LOOKUP_SLUGS:
            raise
        return Misfit("unresolved", expected, expr, signal.diagnostic)


NAME_LOOKUP_SLUGS = frozenset({"unknown-name", "unknown-path", "component-not-built"})
"""The errors of a name or path without a value."""


def _fit_path(expr: tree.Expr, expected: FieldType) -> str | Misfit:
    parts = get_dotted_parts(expr)
    if parts is not None:
        return ".".join(parts)
    if isinstance(expr, tree.Constant) and isinstance(expr.value, str):
        return expr.value
    return Misfit("path", expected, expr)


def _fit_list(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    item = expected.items[0]
    if item.family and issubclass(item.family, Schedule) and isinstance(expr, (tree.Flow, tree.Call)):
        return _fit_chain(expr, item, frame)
    if item.is_path and get_dotted_parts(expr):
        return Misfit("single-path", expected, expr)
    if isinstance(expr, tree.ListExpr):
        return _fit_elements(expr.items, expected, expr, lambda part, kind: fit_expr(part, kind, frame))
    if item.family and _is_single_word(expr, item.family, frame):
        return Misfit("single-word", expected, expr)
    if item.family and _is_word_text(expr, frame):
        return _fit_word(expr, item, frame)
    value = evaluate_expr(expr, frame, None)
    if not isinstance(value, tuple):
        return Misfit("not-a-list", expected, expr, value)
    return _fit_elements(value, expected, expr, lambda part, kind: fit_value(part, kind, expr))


def _fit_elements(
    parts: Sequence[T], expected: FieldType, expr: tree.Expr, fit_part: Callable[[T, FieldType], Any]
) -> tuple[Any, ...] | Misfit:
    """Return the elements of a list, each as the type of its position, or the first misfit."""
    kinds = expected.items * len(parts) if expected.has_any_length else expected.items
    if len(parts) != len(kinds):
        return Misfit("length", expected, expr, len(parts))
    values: list[Any] = []
    for part, kind in zip(parts, kinds, strict=True):
        value = fit_part(part, kind)
        if isinstance(value, Misfit):
            return value
        values.append(value)
    return tuple(values)


def _is_single_word(expr: tree.Expr, family: type[Word], frame: Frame) -> bool:
    """Return whether an expression builds one word, or joins words by an operator, where a list belongs."""
    if isinstance(expr, tree.Call):
        return is_word_call(expr, family, frame)
    return issubclass(family, Schedule) and bool(suggest_chain(expr, frame.get_source(expr.span)))


def _is_word_text(expr: tree.Expr, frame: Frame) -> bool:
    """Return whether an expression is a constant or a free name, which can only mean a word."""
    return isinstance(expr, tree.Constant) or (isinstance(expr, tree.Name) and not frame.is_bound(expr.name))


def _fit_chain(expr: tree.Flow | tree.Call, item: FieldType, frame: Frame) -> Any:
    steps = expr.steps if isinstance(expr, tree.Flow) else ()
    for step in steps:
        if step.each or step.repeat is not None or step.name is not None:
            return Misfit("chain-step", item, expr, place=step.span)
    source = expr.source if isinstance(expr, tree.Flow) else expr
    words: list[Any] = []
    for part in (source, *(step.component for step in steps)):
        word = _fit_word(part, item, frame, in_chain=isinstance(expr, tree.Flow))
        if isinstance(word, Misfit):
            return word
        words.append(word)
    return tuple(words)


def _fit_word(expr: tree.Expr, expected: FieldType, frame: Frame, *, in_chain: bool = False) -> Any:
    """Return the word that an expression builds, or the misfit. A bare number is a `Full` initializer."""
    family = expected.family
    assert family is not None
    if isinstance(expr, tree.Call):
        if not is_word_call(expr, family, frame):
            return Misfit("call", expected, expr, in_chain=in_chain)
        word: Any = lookup_component(expr.func, frame)
        return build_word(word, match_arguments(expr, list(word.model_fields), word.__name__, frame), expr.span)
    takes_number = issubclass(Full, family)
    if not takes_number and _is_foreign_form(expr, family, frame):
        return Misfit("word", expected, expr, in_chain=in_chain)
    value = evaluate_expr(expr, frame, None)
    if isinstance(value, family):
        return value
    if not takes_number:
        return Misfit("word", expected, expr, value, in_chain=in_chain)
    number = fit_value(value, FieldType(float), expr)
    return number if isinstance(number, Misfit) else Full.build_unchecked({"value": number})


def _is_foreign_form(expr: tree.Expr, family: type[Word], frame: Frame) -> bool:
    """Return whether an expression cannot build a word: a chain, a free name, or a list or sum of words."""
    if isinstance(expr, tree.Name):
        return not frame.is_bound(expr.name) or expr.name in list_words(family)
    return isinstance(expr, tree.Flow) or bool(suggest_combination(expr, family, frame.get_source(expr.span)))
