"""Conversion of expressions to the fields of words: the field's type decides how to read one (LANGUAGE.md §4)."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Union

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Diagnostic, Span, nearest, replacing, suggest
from segdsl.diagnostics.foreign import difference, folded
from segdsl.ir.monitor import ClassScore
from segdsl.ir.program import Schedule
from segdsl.ir.values import OrSingle, PathText, Quantity, Range, Size, Units, number
from segdsl.ir.word import Record, Word, members, word_family
from segdsl.lang.convert.bounds import accepts, bounded
from segdsl.lang.convert.choices import is_choice, member, member_or_score
from segdsl.lang.elaborate.arguments import Bound, call_arguments
from segdsl.lang.elaborate.context import Frame, evaluate
from segdsl.lang.elaborate.expressions import dotted, lookup_component, truth, unknown_component
from segdsl.lang.elaborate.values import Stop, describe, stop
from segdsl.lang.suggest.misplaced import DONE_ALWAYS, NO_WORDS
from segdsl.lang.suggest.remedies import (
    Usual,
    article,
    built,
    chain,
    instead,
    listed,
    literal,
    product_of_sides,
    spelled,
    usual,
    wanted,
)
from segdsl.lang.suggest.usual_form import begun, linked
from segdsl.lang.suggest.verify_fix import tried
from segdsl.ops.init import Full
from segdsl.syntax import tree


def build_word(word: type[Word], arguments: Mapping[str, Bound], span: Span) -> Any:
    """Build a word from its arguments. Reports every argument that does not fit before raising :class:`EvalStop`."""
    fields = word.model_fields
    values: dict[str, Any] = {}
    context, failed = None, False
    for name, (expr, frame) in arguments.items():
        context = frame.context
        try:
            values[name] = convert(expr, fields[name], frame, name)
        except Stop as signal:
            failed = True
            if signal.diagnostic:
                context.report(_labelled(signal.diagnostic, expr, f"`{name}` of `{word.__name__}`", frame))
    for name, info in fields.items():
        if info.is_required() and name not in arguments:
            message = f"`{word.__name__}` is missing its argument `{name}`"
            help = f"pass it: `{word.__name__}({name} = …)`, {wanted(info.annotation, tuple(info.metadata))}"
            raise stop("missing-argument", span, message, help)
    if failed:
        raise Stop
    places = {name: expr.span for name, (expr, _) in arguments.items()}
    return validated(word, values, places, span)


def _labelled(found: Diagnostic, expr: tree.Expr, label: str, frame: Frame) -> Diagnostic:
    # An argument passed by position does not show its name, which the message may rely on.
    if found.span != expr.span or found.label:
        return found
    before = frame.text(Span(expr.span.file, 0, expr.span.start)).rstrip()
    return found if before.endswith("=") else replace(found, label=label)


def validated(record: type[Record], values: dict[str, Any], places: Mapping[str, Span], span: Span) -> Any:
    """Return the record. Raises :class:`EvalStop` with the bound that a value breaks."""
    try:
        return bounded(record, values)
    except ValueError as error:
        name, reason, rejected = error.args
        help = f"use a value that is {reason.removeprefix('must be ')}" if "must be " in reason else "change the value"
        if not values and issubclass(record, Word) and begun(record.__name__) != f"{record.__name__}()":
            help = f"write `{begun(record.__name__)}`"
        if name and values[name] == 0 and type(None) in typing.get_args(record.model_fields[name].annotation):
            help += f", or disable it with `{name} = none`"
        limit = re.fullmatch(r"must be (?:at most|less than) ([\d.]+)", reason)
        # `BatchNorm(64)`: PyTorch takes the number of channels where segdsl takes `eps`.
        if limit and name == "eps" and rejected >= 1:
            first = next(iter(record.model_fields))
            example = f"{record.__name__}({'' if first == name else f'{first} = …'})"
            help = f"the channel count is inferred; write `{example}`"
        elif limit and rejected / 100 <= float(limit[1]) <= 1 < rejected <= 100:
            help += f"; {number(rejected)} % is written `{number(rejected / 100)}`"
        message = f"`{name}` {reason}, got {shown(rejected)}" if name else reason
        raise stop("out-of-bounds", places.get(name, span), message, help) from None


def shown(value: Any) -> str:
    return f"{number(value)}" if isinstance(value, (int, float)) and not isinstance(value, bool) else describe(value)


def convert(expr: tree.Expr, info: FieldInfo, frame: Frame, name: str = "") -> Any:
    """Return the value of ``expr`` for the field ``name``.

    Raises :class:`EvalStop` if it does not fit; the error carries a fix only if the field accepts that.
    """
    kind, optional = info.annotation, type(None) in typing.get_args(info.annotation)
    meta = (*info.metadata, Usual(info.default, optional, name))

    def read(text: tree.Expr, place: Frame) -> Any:
        value = _convert(text, kind, meta, place)
        if not accepts(info, value):
            raise Stop
        return value

    try:
        return _convert(expr, kind, meta, frame)
    except Stop as signal:
        family = word_family(kind)
        known = [f"`{begun(word)}`" for word in members(family)] if family else [wanted(kind, meta)]
        help = f"write {'one of ' if len(known) > 1 else ''}{', '.join(known)}"
        raise tried(signal, expr, frame, help, read) from None


def _convert(expr: tree.Expr, kind: Any, meta: tuple[Any, ...], frame: Frame) -> Any:
    origin = typing.get_origin(kind)
    if isinstance(expr, tree.If):
        return _convert(expr.then if truth(expr.test, frame) else expr.other, kind, meta, frame)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return _convert(expr, inner, (*more, *meta), frame)
    if origin in (Union, types.UnionType):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        if isinstance(expr, tree.Constant) and expr.value is None and len(kinds) < len(typing.get_args(kind)):
            return None
        # A union of choices with another type, such as `auto | int`: the form of the expression tells which is meant.
        known = next((typing.get_args(k) for k in kinds if typing.get_origin(k) is Literal), ())
        marks = [m for k in kinds for m in getattr(k, "__metadata__", ())]
        scores = next((m for m in marks if isinstance(m, ClassScore)), None)
        if scores is not None:
            return member_or_score(expr, known, scores, frame)
        if known and len(kinds) > 1 and is_choice(expr, known, frame):
            return member(expr, known, frame)
        return _convert(expr, float if set(kinds) == {int, float} else kinds[0], meta, frame)
    if origin is Literal:
        return member(expr, typing.get_args(kind), frame)
    if any(isinstance(m, PathText) for m in meta):
        return _path_text(expr)
    if origin is tuple:
        return _sequence(expr, typing.get_args(kind), frame)
    if isinstance(kind, type) and issubclass(kind, Word):
        return word_value(expr, kind, frame, optional=usual(meta).optional)
    return coerce(_value(expr, kind, meta, frame), kind, meta, expr)


def _value(expr: tree.Expr, kind: Any, meta: tuple[Any, ...], frame: Frame) -> Any:
    # `128 * 128` evaluates to a number without complaint, so it has to be caught before.
    product = product_of_sides(expr) if kind is Size else ""
    if product:
        message = f"expected {wanted(kind, meta)}, got a product"
        raise stop("wrong-type", expr.span, message, f"write `{product}`", fix=product)
    try:
        return evaluate(expr, frame, None)
    except Stop as signal:
        error, text = signal.diagnostic, frame.text(expr.span)
        # Only an unresolved name without a likely spelling can be a string without quotes or a foreign literal.
        if error is None or error.slug not in NAMES_NOTHING or error.help.startswith("did you mean"):
            raise
        suggestion = literal(text, kind)
        if suggestion:
            message = f"expected {wanted(kind, meta)}, got `{text}`"
            raise stop("wrong-type", expr.span, message, f"write {ticked(suggestion)}", fix=suggestion) from None
        if isinstance(expr, tree.Binary) and expr.op == "//" and error.span == expr.right.span:
            raise Stop(replace(error, help="use `#` for a comment; `//` is integer division")) from None
        if error.span == expr.span and kind is not str:
            raise Stop(replace(error, help=f"write {wanted(kind, meta)}")) from None
        raise


NAMES_NOTHING = frozenset({"unknown-name", "unknown-path", "component-not-built"})
"""The errors of a name or path without a value."""


def _path_text(expr: tree.Expr) -> str:
    parts = dotted(expr)
    if parts is not None:
        return ".".join(parts)
    if isinstance(expr, tree.Constant) and isinstance(expr.value, str):
        return expr.value
    help = 'write a path such as `backbone.stem`; quote it if a part is a number: "backbone.stage0.1"'
    raise stop("wrong-type", expr.span, "expected a path in the model", help)


def _sequence(expr: tree.Expr, kinds: tuple[Any, ...], frame: Frame) -> tuple[Any, ...]:
    item = kinds[0]
    if isinstance(item, type) and issubclass(item, Schedule) and isinstance(expr, (tree.Flow, tree.Call)):
        return _chain(expr, item, frame)
    if any(isinstance(m, PathText) for m in getattr(item, "__metadata__", ())) and dotted(expr):
        path = ".".join(dotted(expr) or ())
        message = "expected a list of paths, got a single path"
        raise stop("wrong-type", expr.span, message, f"wrap it in brackets: `[{path}]`")
    any_length = len(kinds) == 2 and kinds[1] is Ellipsis
    if isinstance(item, type) and issubclass(item, Word) and not isinstance(expr, tree.ListExpr):
        _require_several(expr, item, frame)
    if isinstance(expr, tree.ListExpr):
        if not any_length and len(expr.items) != len(kinds):
            message = f"expected a list of {len(kinds)} values, got {len(expr.items)}"
            raise stop("wrong-type", expr.span, message, f"write {len(kinds)} values")
        return tuple(_convert(e, item if any_length else kinds[i], (), frame) for i, e in enumerate(expr.items))
    value = evaluate(expr, frame, None)
    if not isinstance(value, tuple):
        suggestion = listed(value, item)
        message = f"expected {wanted(tuple[kinds], ())}, got {describe(value)}"
        raise stop("wrong-type", expr.span, message, f"write a list: `{suggestion or '[…]'}`", fix=suggestion)
    if not any_length and len(value) != len(kinds):
        message = f"expected a list of {len(kinds)} values, got {len(value)}"
        raise stop("wrong-type", expr.span, message, f"write {len(kinds)} values")
    return tuple(coerce(v, item if any_length else kinds[i], (), expr) for i, v in enumerate(value))


def _require_several(expr: tree.Expr, item: type[Word], frame: Frame) -> None:
    """Raise an error if the expression is a single word, or a mistaken form of one, instead of a list or chain."""
    text = frame.text(expr.span)
    linked_text = chain(expr, text) if issubclass(item, Schedule) else ""
    if linked_text:
        message = "schedules are chained with `->`"
        raise stop("wrong-type", expr.span, message, f"write `{linked_text}`", fix=linked_text)
    if isinstance(expr, tree.Constant) or (isinstance(expr, tree.Name) and not is_bound(expr.name, frame)):
        word_value(expr, item, frame)
    if isinstance(expr, tree.Call) and component_is(expr, item, frame):
        message = f"expected a list, got a single {item.kind}"
        raise stop("wrong-type", expr.span, message, f"wrap it in brackets: `[{text}]`", fix=f"[{text}]")


def _chain(expr: tree.Expr, kind: type[Word], frame: Frame) -> tuple[Any, ...]:
    if not isinstance(expr, tree.Flow):
        return (word_value(expr, kind, frame),)
    for step in expr.steps:
        if step.each or step.repeat is not None or step.name is not None:
            message = f"{article(kind.kind)} in a chain cannot be mapped, repeated or named"
            raise stop("wrong-type", step.span, message, "remove `each`, `*` and `as`")
    parts = (expr.source, *(s.component for s in expr.steps))
    return tuple(word_value(part, kind, frame, chained=True) for part in parts)


def word_value(
    expr: tree.Expr, kind: type[Word], frame: Frame, *, optional: bool = False, chained: bool = False
) -> Any:
    """Return the word of a family that an expression builds. A bare number is a `Full` initializer.

    ``optional`` allows `none` in suggestions; ``in_chain`` means that other words follow in a chain.
    """
    family, text = members(kind), frame.text(expr.span)
    if isinstance(expr, tree.Call):
        if component_is(expr, kind, frame):
            word: Any = lookup_component(expr.func, frame)
            return build_word(word, call_arguments(expr, list(word.model_fields), word.__name__, frame), expr.span)
        raise _wrong_call(expr, kind, frame, text, linked if chained else begun)
    if "Full" in family and kind.kind == "initializer":
        value = evaluate(expr, frame, None)
        if isinstance(value, kind):
            return value
        return Full.trusted({"value": coerce(value, float, (), expr)})
    suggestion = built(expr, kind, text, optional=optional, chained=chained)
    if isinstance(expr, tree.Flow):
        help = "keep one of them" + (f", or combine them: `{suggestion}`" if suggestion else "")
        raise stop("wrong-type", expr.span, f"{article(kind.kind)} cannot be a chain", help, fix=suggestion)
    if isinstance(expr, tree.Name) and expr.name in family:
        message = f"`{expr.name}` is missing its parentheses"
        raise stop("component-not-built", expr.span, message, f"write `{suggestion}`", fix=suggestion)
    if isinstance(expr, tree.Name) and not is_bound(expr.name, frame):
        got, help = f"`{expr.name}`", f"did you mean `{suggestion}`?" if suggestion else _different(expr.name, family)
    elif suggestion and not isinstance(expr, (tree.Constant, tree.Name)):
        got, help = "a list" if isinstance(expr, tree.ListExpr) else "a sum", f"write `{suggestion}`"
    else:
        value = evaluate(expr, frame, None)
        if isinstance(value, kind):
            return value
        suggestion = suggestion if isinstance(expr, tree.Constant) else ""
        name = str(expr.value) if isinstance(expr, tree.Constant) else ""
        got, help = describe(value), f"write `{suggestion}`" if suggestion else _different(name, family)
    known = ", ".join(f"`{n}(…)`" for n in family)
    message = f"expected {article(kind.kind)}, got {got}"
    raise stop("wrong-type", expr.span, message, help or f"write one of {known}", fix=suggestion)


def _different(name: str, family: Mapping[str, type[Word]]) -> str:
    """Return the help for a foreign name whose word here takes other arguments, or "" for any other name."""
    return suggest(name, family, "words") if difference(name) and nearest(name, family) else ""


def component_is(call: tree.Call, kind: type[Word], frame: Frame) -> bool:
    """Return whether a call builds a word of a family."""
    word = lookup_component(call.func, frame)
    return isinstance(word, type) and issubclass(word, kind)


def is_bound(name: str, frame: Frame) -> bool:
    """Return whether a name is bound in the block or by a `let` of the file."""
    return name in frame.local_names() or name in frame.file.lets


def _wrong_call(call: tree.Call, kind: type[Word], frame: Frame, text: str, form: Callable[[str], str]) -> Stop:
    """Return the error for a call of something outside a family; ``form`` writes a word that belongs to it."""
    family, component, parts = members(kind), lookup_component(call.func, frame), dotted(call.func) or ("?",)
    known, callee_span = ", ".join(f"`{n}`" for n in family), call.func.span
    if component is None:
        message, suggestion = f"unknown {kind.kind} `{'.'.join(parts)}`", built(call, kind, text)
        if suggestion:
            return stop("unknown-component", call.span, message, f"write `{suggestion}`", fix=suggestion)
        # The whole call is replaced only if it has no arguments that would be lost.
        near = replacing(parts[-1], family)
        if near and not call.args and form(near) != f"{near}()":
            return stop("unknown-component", call.span, message, f"did you mean `{form(near)}`?", fix=form(near))
        near = nearest(parts[-1], family)
        help = suggest(parts[-1], family, "words") if near else f"choose one of {known}"
        help = DONE_ALWAYS if folded(parts[-1]) in NO_WORDS and not near else help
        return stop("unknown-component", callee_span, message, help, fix=replacing(parts[-1], family))
    what = component.kind if isinstance(component, type) else "block"
    message = f"expected {article(kind.kind)}, but `{parts[-1]}` is {article(what)}"
    return stop("wrong-component", callee_span, message, f"choose one of {known}")


def coerce(value: Any, kind: Any, meta: tuple[Any, ...], expr: tree.Expr) -> Any:
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
        raise stop(
            "wrong-unit",
            expr.span,
            f"expected a quantity in {spelled(units)}, got `{value.unit}`",
            f"write `{number(value.value)} {units[0]}`",
        )
    if kind is Range and isinstance(value, Range) and (value.unit in units if units else value.unit is None):
        return value
    if kind is Range and isinstance(value, (int, float)) and plain and any(isinstance(m, OrSingle) for m in meta):
        return Range(value, value)
    if kind is Quantity and units and isinstance(value, (int, float)) and plain:
        offers = " or ".join(f"`{number(value)} {unit}`" for unit in units)
        raise stop("unit-missing", expr.span, f"`{number(value)}` needs a unit", f"write {offers}")
    if typing.get_origin(kind) is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return coerce(value, inner, tuple(more), expr)
    suggestion = instead(value, kind, meta)
    message = f"expected {wanted(kind, meta)}, got {describe(value)}"
    raise stop("wrong-type", expr.span, message, _remedy(value, kind, meta, suggestion), fix=suggestion)


def _remedy(value: Any, kind: Any, meta: tuple[Any, ...], suggestion: str) -> str:
    if suggestion:
        return f"write {ticked(suggestion)}"
    if kind is Size and usual(meta).name == "kernel":
        # `Conv2d(3, 64, 3)` of PyTorch passes the input channels first.
        return "write the kernel as height x width, such as `3x3`; the number of input channels is inferred"
    if kind is int and isinstance(value, float):
        return "use `//` for integer division"
    return f"write {wanted(kind, meta)}"


def ticked(text: str) -> str:
    """Return source text in backticks for a message; a string keeps its own quotes instead."""
    return text if text.startswith('"') else f"`{text}`"


__all__ = [
    "article",
    "build_word",
    "coerce",
    "convert",
    "unknown_component",
    "validated",
    "wanted",
]
