"""Conversion of expressions to the fields of words: the field's type decides how to read one (LANGUAGE.md §4)."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Union

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Diagnostic, Span, find_closest_name, find_safe_replacement, suggest_name
from segdsl.diagnostics.aliases import describe_difference, fold_name
from segdsl.ir.monitor import ClassScore
from segdsl.ir.program import Schedule
from segdsl.ir.values import OrSingle, PathText, Quantity, Range, Size, Units, format_number
from segdsl.ir.word import Record, Word, find_word_family, has_only_choices, list_choices, list_words
from segdsl.lang.convert.bounds import accepts_value, build_record
from segdsl.lang.convert.choices import is_choice, read_member, read_member_or_score
from segdsl.lang.elaborate.arguments import ArgumentExpr, match_arguments
from segdsl.lang.elaborate.context import Frame, evaluate_expr
from segdsl.lang.elaborate.expressions import (
    evaluate_condition,
    get_dotted_parts,
    lookup_component,
    unknown_component_error,
)
from segdsl.lang.elaborate.values import EvalStop, describe_value, eval_error
from segdsl.lang.suggest.misplaced import AUTOMATIC_STEP_HELP, PIPELINE_STEPS
from segdsl.lang.suggest.remedies import (
    FieldHint,
    add_article,
    describe_field_type,
    format_alternatives,
    get_field_hint,
    suggest_chain,
    suggest_list,
    suggest_literal,
    suggest_size_for_product,
    suggest_value,
    suggest_word,
)
from segdsl.lang.suggest.verify_fix import drop_invalid_fix
from segdsl.ops.parameter import Full
from segdsl.syntax import tree


def build_word(word: type[Word], arguments: Mapping[str, ArgumentExpr], span: Span) -> Any:
    """Build a word from its arguments. Reports every argument that does not fit before raising :class:`EvalStop`."""
    fields = word.model_fields
    values: dict[str, Any] = {}
    context, failed = None, False
    for name, (expr, frame) in arguments.items():
        context = frame.context
        try:
            values[name] = convert_field(expr, fields[name], frame, name)
        except EvalStop as signal:
            failed = True
            if signal.diagnostic:
                context.report(_add_argument_label(signal.diagnostic, expr, f"`{name}` of `{word.__name__}`", frame))
    for name, info in fields.items():
        if info.is_required() and name not in arguments:
            message = f"`{word.__name__}` is missing its argument `{name}`"
            help = (
                f"pass it: `{word.__name__}({name} = …)`, {describe_field_type(info.annotation, tuple(info.metadata))}"
            )
            raise eval_error("missing-argument", span, message, help)
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
    try:
        return build_record(record, values)
    except ValueError as error:
        name, reason, rejected = error.args
        help = f"use a value that is {reason.removeprefix('must be ')}" if "must be " in reason else "change the value"
        if not values and issubclass(record, Word) and record.usual_form:
            help = f"write `{record.write_usual_form()}`"
        if name and values[name] == 0 and type(None) in typing.get_args(record.model_fields[name].annotation):
            help += f", or disable it with `{name} = none`"
        limit = re.fullmatch(r"must be (?:at most|less than) ([\d.]+)", reason)
        # `BatchNorm(64)`: PyTorch takes the number of channels where segdsl takes `eps`.
        if limit and name == "eps" and rejected >= 1:
            first = next(iter(record.model_fields))
            example = f"{record.__name__}({'' if first == name else f'{first} = …'})"
            help = f"the channel count is inferred; write `{example}`"
        elif limit and rejected / 100 <= float(limit[1]) <= 1 < rejected <= 100:
            help += f"; {format_number(rejected)} % is written `{format_number(rejected / 100)}`"
        message = f"`{name}` {reason}, got {describe_rejected(rejected)}" if name else reason
        raise eval_error("out-of-bounds", places.get(name, span), message, help) from None


def describe_rejected(value: Any) -> str:
    return (
        f"{format_number(value)}"
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else describe_value(value)
    )


def convert_field(expr: tree.Expr, info: FieldInfo, frame: Frame, name: str = "") -> Any:
    """Return the value of ``expr`` for the field ``name``.

    Raises :class:`EvalStop` if it does not fit; the error carries a fix only if the field accepts that.
    """
    kind, optional = info.annotation, type(None) in typing.get_args(info.annotation)
    meta = (*info.metadata, FieldHint(info.default, optional, name))

    def convert_replacement(text: tree.Expr, place: Frame) -> Any:
        value = _convert_expr(text, kind, meta, place)
        if not accepts_value(info, value):
            raise EvalStop
        return value

    try:
        return _convert_expr(expr, kind, meta, frame)
    except EvalStop as signal:
        family = find_word_family(kind)
        known = (
            [f"`{word.write_usual_form()}`" for word in list_words(family).values()]
            if family
            else [describe_field_type(kind, meta)]
        )
        help = f"write {'one of ' if len(known) > 1 else ''}{', '.join(known)}"
        raise drop_invalid_fix(signal, expr, frame, help, convert_replacement) from None


def _convert_expr(expr: tree.Expr, kind: Any, meta: tuple[Any, ...], frame: Frame) -> Any:
    origin = typing.get_origin(kind)
    if isinstance(expr, tree.If):
        return _convert_expr(expr.then if evaluate_condition(expr.test, frame) else expr.other, kind, meta, frame)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return _convert_expr(expr, inner, (*more, *meta), frame)
    if origin in (Union, types.UnionType):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        if isinstance(expr, tree.Constant) and expr.value is None and len(kinds) < len(typing.get_args(kind)):
            return None
        # A union of choices with another type, such as `auto | int`: the form of the expression tells which is meant.
        known = next((typing.get_args(k) for k in kinds if typing.get_origin(k) is Literal), ())
        marks = [m for k in kinds for m in getattr(k, "__metadata__", ())]
        scores = next((m for m in marks if isinstance(m, ClassScore)), None)
        if scores is not None:
            return read_member_or_score(expr, known, scores, frame)
        if has_only_choices(kind):
            return read_member(expr, list_choices(kind), frame)
        if known and len(kinds) > 1 and is_choice(expr, known, frame):
            return read_member(expr, known, frame)
        return _convert_expr(expr, float if set(kinds) == {int, float} else kinds[0], meta, frame)
    if origin is Literal:
        return read_member(expr, typing.get_args(kind), frame)
    if any(isinstance(m, PathText) for m in meta):
        return _read_path_text(expr)
    if origin is tuple:
        return _convert_sequence(expr, typing.get_args(kind), frame)
    if isinstance(kind, type) and issubclass(kind, Word):
        return convert_word(expr, kind, frame, optional=get_field_hint(meta).is_optional)
    return coerce_value(_evaluate_plain_value(expr, kind, meta, frame), kind, meta, expr)


def _evaluate_plain_value(expr: tree.Expr, kind: Any, meta: tuple[Any, ...], frame: Frame) -> Any:
    # `128 * 128` evaluates to a number without complaint, so it has to be caught before.
    product = suggest_size_for_product(expr) if kind is Size else ""
    if product:
        message = f"expected {describe_field_type(kind, meta)}, got a product"
        raise eval_error("wrong-type", expr.span, message, f"write `{product}`", fix=product)
    try:
        return evaluate_expr(expr, frame, None)
    except EvalStop as signal:
        error, text = signal.diagnostic, frame.get_source(expr.span)
        # Only an unresolved name without a likely spelling can be a string without quotes or a foreign literal.
        if error is None or error.slug not in NAME_LOOKUP_SLUGS or error.help.startswith("did you mean"):
            raise
        suggestion = suggest_literal(text, kind)
        if suggestion:
            message = f"expected {describe_field_type(kind, meta)}, got `{text}`"
            raise eval_error(
                "wrong-type", expr.span, message, f"write {quote_code(suggestion)}", fix=suggestion
            ) from None
        if isinstance(expr, tree.Binary) and expr.op == "//" and error.span == expr.right.span:
            raise EvalStop(replace(error, help="use `#` for a comment; `//` is integer division")) from None
        if error.span == expr.span and kind is not str:
            raise EvalStop(replace(error, help=f"write {describe_field_type(kind, meta)}")) from None
        raise


NAME_LOOKUP_SLUGS = frozenset({"unknown-name", "unknown-path", "component-not-built"})
"""The errors of a name or path without a value."""


def _read_path_text(expr: tree.Expr) -> str:
    parts = get_dotted_parts(expr)
    if parts is not None:
        return ".".join(parts)
    if isinstance(expr, tree.Constant) and isinstance(expr.value, str):
        return expr.value
    help = 'write a path such as `backbone.stem`; quote it if a part is a number: "backbone.stage0.1"'
    raise eval_error("wrong-type", expr.span, "expected a path in the model", help)


def _convert_sequence(expr: tree.Expr, kinds: tuple[Any, ...], frame: Frame) -> tuple[Any, ...]:
    item = kinds[0]
    if isinstance(item, type) and issubclass(item, Schedule) and isinstance(expr, (tree.Flow, tree.Call)):
        return _convert_chain(expr, item, frame)
    if any(isinstance(m, PathText) for m in getattr(item, "__metadata__", ())) and get_dotted_parts(expr):
        path = ".".join(get_dotted_parts(expr) or ())
        message = "expected a list of paths, got a single path"
        raise eval_error("wrong-type", expr.span, message, f"wrap it in brackets: `[{path}]`")
    any_length = len(kinds) == 2 and kinds[1] is Ellipsis
    if isinstance(item, type) and issubclass(item, Word) and not isinstance(expr, tree.ListExpr):
        _reject_single_word(expr, item, frame)
    if isinstance(expr, tree.ListExpr):
        if not any_length and len(expr.items) != len(kinds):
            message = f"expected a list of {len(kinds)} values, got {len(expr.items)}"
            raise eval_error("wrong-type", expr.span, message, f"write {len(kinds)} values")
        return tuple(_convert_expr(e, item if any_length else kinds[i], (), frame) for i, e in enumerate(expr.items))
    value = evaluate_expr(expr, frame, None)
    if not isinstance(value, tuple):
        suggestion = suggest_list(value, item)
        message = f"expected {describe_field_type(tuple[kinds], ())}, got {describe_value(value)}"
        raise eval_error("wrong-type", expr.span, message, f"write a list: `{suggestion or '[…]'}`", fix=suggestion)
    if not any_length and len(value) != len(kinds):
        message = f"expected a list of {len(kinds)} values, got {len(value)}"
        raise eval_error("wrong-type", expr.span, message, f"write {len(kinds)} values")
    return tuple(coerce_value(v, item if any_length else kinds[i], (), expr) for i, v in enumerate(value))


def _reject_single_word(expr: tree.Expr, item: type[Word], frame: Frame) -> None:
    """Raise an error if the expression is a single word, or a mistaken form of one, instead of a list or chain."""
    text = frame.get_source(expr.span)
    linked_text = suggest_chain(expr, text) if issubclass(item, Schedule) else ""
    if linked_text:
        message = "schedules are chained with `->`"
        raise eval_error("wrong-type", expr.span, message, f"write `{linked_text}`", fix=linked_text)
    if isinstance(expr, tree.Constant) or (isinstance(expr, tree.Name) and not is_bound(expr.name, frame)):
        convert_word(expr, item, frame)
    if isinstance(expr, tree.Call) and is_word_call(expr, item, frame):
        message = f"expected a list, got a single {item.kind}"
        raise eval_error("wrong-type", expr.span, message, f"wrap it in brackets: `[{text}]`", fix=f"[{text}]")


def _convert_chain(expr: tree.Expr, kind: type[Word], frame: Frame) -> tuple[Any, ...]:
    if not isinstance(expr, tree.Flow):
        return (convert_word(expr, kind, frame),)
    for step in expr.steps:
        if step.each or step.repeat is not None or step.name is not None:
            message = f"{add_article(kind.kind)} in a chain cannot be mapped, repeated or named"
            raise eval_error("wrong-type", step.span, message, "remove `each`, `*` and `as`")
    parts = (expr.source, *(s.component for s in expr.steps))
    return tuple(convert_word(part, kind, frame, in_chain=True) for part in parts)


def convert_word(
    expr: tree.Expr, kind: type[Word], frame: Frame, *, optional: bool = False, in_chain: bool = False
) -> Any:
    """Return the word of a family that an expression builds. A bare number is a `Full` initializer.

    ``optional`` allows `none` in suggestions; ``in_chain`` means that other words follow in a chain.
    """
    family, text = list_words(kind), frame.get_source(expr.span)
    if isinstance(expr, tree.Call):
        if is_word_call(expr, kind, frame):
            word: Any = lookup_component(expr.func, frame)
            return build_word(word, match_arguments(expr, list(word.model_fields), word.__name__, frame), expr.span)
        raise _wrong_call_error(expr, kind, frame, text, in_chain)
    if "Full" in family and kind.kind == "initializer":
        value = evaluate_expr(expr, frame, None)
        if isinstance(value, kind):
            return value
        return Full.build_unchecked({"value": coerce_value(value, float, (), expr)})
    suggestion = suggest_word(expr, kind, text, optional=optional, in_chain=in_chain)
    if isinstance(expr, tree.Flow):
        help = "keep one of them" + (f", or combine them: `{suggestion}`" if suggestion else "")
        raise eval_error("wrong-type", expr.span, f"{add_article(kind.kind)} cannot be a chain", help, fix=suggestion)
    if isinstance(expr, tree.Name) and expr.name in family:
        message = f"`{expr.name}` is missing its parentheses"
        raise eval_error("component-not-built", expr.span, message, f"write `{suggestion}`", fix=suggestion)
    if isinstance(expr, tree.Name) and not is_bound(expr.name, frame):
        got, help = (
            f"`{expr.name}`",
            f"did you mean `{suggestion}`?" if suggestion else _explain_different_name(expr.name, family),
        )
    elif suggestion and not isinstance(expr, (tree.Constant, tree.Name)):
        got, help = "a list" if isinstance(expr, tree.ListExpr) else "a sum", f"write `{suggestion}`"
    else:
        value = evaluate_expr(expr, frame, None)
        if isinstance(value, kind):
            return value
        suggestion = suggestion if isinstance(expr, tree.Constant) else ""
        name = str(expr.value) if isinstance(expr, tree.Constant) else ""
        got, help = (
            describe_value(value),
            f"write `{suggestion}`" if suggestion else _explain_different_name(name, family),
        )
    known = ", ".join(f"`{n}(…)`" for n in family)
    message = f"expected {add_article(kind.kind)}, got {got}"
    raise eval_error("wrong-type", expr.span, message, help or f"write one of {known}", fix=suggestion)


def _explain_different_name(name: str, family: Mapping[str, type[Word]]) -> str:
    """Return the help for a foreign name whose word here takes other arguments, or "" for any other name."""
    return suggest_name(name, family, "words") if describe_difference(name) and find_closest_name(name, family) else ""


def is_word_call(call: tree.Call, kind: type[Word], frame: Frame) -> bool:
    """Return whether a call builds a word of a family."""
    word = lookup_component(call.func, frame)
    return isinstance(word, type) and issubclass(word, kind)


def is_bound(name: str, frame: Frame) -> bool:
    """Return whether a name is bound in the block or by a `let` of the file."""
    return name in frame.list_local_names() or name in frame.file.lets


def _wrong_call_error(call: tree.Call, kind: type[Word], frame: Frame, text: str, in_chain: bool) -> EvalStop:
    """Return the error for a call of something outside a family."""
    family, component, parts = (
        list_words(kind),
        lookup_component(call.func, frame),
        get_dotted_parts(call.func) or ("?",),
    )
    known, callee_span = ", ".join(f"`{n}`" for n in family), call.func.span
    if component is None:
        message, suggestion = f"unknown {kind.kind} `{'.'.join(parts)}`", suggest_word(call, kind, text)
        if suggestion:
            return eval_error("unknown-component", call.span, message, f"write `{suggestion}`", fix=suggestion)
        # The whole call is replaced only if it has no arguments that would be lost.
        near = find_safe_replacement(parts[-1], family)
        if near and not call.args and family[near].usual_form:
            form = family[near].write_chain_form() if in_chain else family[near].write_usual_form()
            return eval_error("unknown-component", call.span, message, f"did you mean `{form}`?", fix=form)
        near = find_closest_name(parts[-1], family)
        help = suggest_name(parts[-1], family, "words") if near else f"choose one of {known}"
        help = AUTOMATIC_STEP_HELP if fold_name(parts[-1]) in PIPELINE_STEPS and not near else help
        return eval_error("unknown-component", callee_span, message, help, fix=find_safe_replacement(parts[-1], family))
    what = component.kind if isinstance(component, type) else "block"
    message = f"expected {add_article(kind.kind)}, but `{parts[-1]}` is {add_article(what)}"
    return eval_error("wrong-component", callee_span, message, f"choose one of {known}")


def coerce_value(value: Any, kind: Any, meta: tuple[Any, ...], expr: tree.Expr) -> Any:
    """Return a computed value as the type of a field. Raises :class:`EvalStop` with the expected type."""
    units = next((m.names for m in meta if isinstance(m, Units)), None)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(kind, type) and issubclass(kind, Word) and isinstance(value, kind):
        return value
    if kind is float and plain:
        return float(value)
    if kind is int and plain and isinstance(value, int):
        return value
    if kind in (bool, str, Size) and isinstance(value, kind):
        return value
    if kind is Quantity and isinstance(value, Quantity) and units:
        if value.unit in units:
            return value
        raise eval_error(
            "wrong-unit",
            expr.span,
            f"expected a quantity in {format_alternatives(units)}, got `{value.unit}`",
            f"write `{format_number(value.value)} {units[0]}`",
        )
    if kind is Range and isinstance(value, Range) and (value.unit in units if units else value.unit is None):
        return value
    if kind is Range and isinstance(value, (int, float)) and plain and any(isinstance(m, OrSingle) for m in meta):
        return Range(value, value)
    if kind is Quantity and units and isinstance(value, (int, float)) and plain:
        offers = " or ".join(f"`{format_number(value)} {unit}`" for unit in units)
        raise eval_error("unit-missing", expr.span, f"`{format_number(value)}` needs a unit", f"write {offers}")
    if typing.get_origin(kind) is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return coerce_value(value, inner, tuple(more), expr)
    suggestion = suggest_value(value, kind, meta)
    message = f"expected {describe_field_type(kind, meta)}, got {describe_value(value)}"
    raise eval_error(
        "wrong-type", expr.span, message, _suggest_correction(value, kind, meta, suggestion), fix=suggestion
    )


def _suggest_correction(value: Any, kind: Any, meta: tuple[Any, ...], suggestion: str) -> str:
    if suggestion:
        return f"write {quote_code(suggestion)}"
    if kind is Size and get_field_hint(meta).name == "kernel":
        # `Conv2d(3, 64, 3)` of PyTorch passes the input channels first.
        return "write the kernel as height x width, such as `3x3`; the number of input channels is inferred"
    if kind is int and isinstance(value, float):
        return "use `//` for integer division"
    return f"write {describe_field_type(kind, meta)}"


def quote_code(text: str) -> str:
    """Return source text in backticks for a message; a string keeps its own quotes instead."""
    return text if text.startswith('"') else f"`{text}`"


__all__ = [
    "add_article",
    "build_word",
    "coerce_value",
    "convert_field",
    "describe_field_type",
    "unknown_component_error",
    "validate_record",
]
