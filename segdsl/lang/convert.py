"""From expressions to the fields of words: the type of a field decides how its expression is read (LANGUAGE.md §4)."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from pydantic.fields import FieldInfo

from segdsl.diagnostics import Fix, Span, nearest, suggest
from segdsl.ir.program import Schedule
from segdsl.ir.values import OrSingle, PathText, Quantity, Range, Size, Units, number
from segdsl.ir.word import Record, Word, members
from segdsl.lang.bounds import bounded
from segdsl.lang.choices import is_choice, member, with_fix
from segdsl.lang.context import Frame, evaluate
from segdsl.lang.expressions import dotted, lookup_component, truth, unknown_component
from segdsl.lang.values import Stop, describe, stop
from segdsl.ops.init import Full
from segdsl.syntax import tree

EXAMPLES: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "an integer",
    float: "a number",
    str: 'a string in quotes, such as "text"',
    Size: "a size, height x width, such as `512x512`",
    Range: "a range such as `0.2..1.0`",
    Quantity: "a number with a unit",
}
Bound = tuple[tree.Expr, Frame]
"""An argument: its expression, and the frame in which it is read."""


def build_word(word: type[Word], arguments: Mapping[str, Bound], span: Span) -> Any:
    """The word with these arguments. Reports every argument that does not fit before it stops."""
    fields = word.model_fields
    values: dict[str, Any] = {}
    context, failed = None, False
    for name, (expr, frame) in arguments.items():
        context = frame.context
        try:
            values[name] = convert(expr, fields[name], frame)
        except Stop as signal:
            failed = True
            if signal.diagnostic:
                context.report(signal.diagnostic)
    for name, info in fields.items():
        if info.is_required() and name not in arguments:
            raise stop(
                "missing-argument",
                span,
                f"`{word.__name__}` needs `{name}`",
                f"add it: `{word.__name__}({name} = …)`, {wanted(info.annotation, tuple(info.metadata))}",
            )
    if failed:
        raise Stop
    places = {name: expr.span for name, (expr, _) in arguments.items()}
    return validated(word, values, places, span)


def validated(record: type[Record], values: dict[str, Any], places: Mapping[str, Span], span: Span) -> Any:
    """The record, or the stop that says which bound a value breaks."""
    try:
        return bounded(record, values)
    except ValueError as error:
        name, wrong, culprit = error.args
        raise stop(
            "out-of-bounds",
            places.get(name, span),
            f"`{name}` {wrong}, got {shown(culprit)}" if name else wrong,
            f"write one that is {wrong.removeprefix('must be ')}" if "must be " in wrong else "change the value",
        ) from None


def shown(value: Any) -> str:
    return f"{number(value)}" if isinstance(value, (int, float)) and not isinstance(value, bool) else describe(value)


def convert(expr: tree.Expr, info: FieldInfo, frame: Frame) -> Any:
    """The value of ``expr`` for a field. Raises :class:`Stop` with the reason when it does not fit."""
    return _convert(expr, info.annotation, tuple(info.metadata), frame)


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
        known = next((typing.get_args(k) for k in kinds if typing.get_origin(k) is Literal), ())
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
        return word_value(expr, kind, frame)
    return coerce(evaluate(expr, frame, None), kind, meta, expr)


def _path_text(expr: tree.Expr) -> str:
    parts = dotted(expr)
    if parts is not None:
        return ".".join(parts)
    if isinstance(expr, tree.Constant) and isinstance(expr.value, str):
        return expr.value
    raise stop(
        "wrong-type",
        expr.span,
        "expected a path of the graph",
        'write `backbone.stem`, or "backbone.stage0.1" where a part is a number',
    )


def _sequence(expr: tree.Expr, kinds: tuple[Any, ...], frame: Frame) -> tuple[Any, ...]:
    item = kinds[0]
    if isinstance(item, type) and issubclass(item, Schedule) and isinstance(expr, (tree.Flow, tree.Call)):
        return _chain(expr, item, frame)
    if any(isinstance(m, PathText) for m in getattr(item, "__metadata__", ())) and dotted(expr):
        path = ".".join(dotted(expr) or ())
        raise stop("wrong-type", expr.span, "expected a list of paths, got one", f"put it in brackets: `[{path}]`")
    many = len(kinds) == 2 and kinds[1] is Ellipsis
    if isinstance(expr, tree.ListExpr):
        if not many and len(expr.items) != len(kinds):
            raise stop(
                "wrong-type",
                expr.span,
                f"expected a list of {len(kinds)}, got {len(expr.items)}",
                f"give {len(kinds)} values",
            )
        return tuple(_convert(e, item if many else kinds[i], (), frame) for i, e in enumerate(expr.items))
    value = evaluate(expr, frame, None)
    if not isinstance(value, tuple):
        raise stop(
            "wrong-type",
            expr.span,
            f"expected {wanted(tuple[kinds], ())}, got {describe(value)}",
            "write it in brackets: `[…]`",
        )
    if not many and len(value) != len(kinds):
        message = f"expected a list of {len(kinds)}, got {len(value)}"
        raise stop("wrong-type", expr.span, message, f"give {len(kinds)} values")
    return tuple(coerce(v, item if many else kinds[i], (), expr) for i, v in enumerate(value))


def _chain(expr: tree.Expr, kind: type[Word], frame: Frame) -> tuple[Any, ...]:
    if not isinstance(expr, tree.Flow):
        return (word_value(expr, kind, frame),)
    for step in expr.steps:
        if step.each or step.repeat is not None or step.name is not None:
            raise stop("wrong-type", step.span, f"a {kind.kind} in a chain stands alone", "remove `each`, `*` and `as`")
    return tuple(word_value(e, kind, frame) for e in (expr.source, *(s.component for s in expr.steps)))


def word_value(expr: tree.Expr, kind: type[Word], frame: Frame) -> Any:
    """A word of a family, written as a call; a bare number is a `Full` where an initializer is expected."""
    family = members(kind)
    if isinstance(expr, tree.Call):
        word = lookup_component(expr.func, frame)
        if isinstance(word, type) and issubclass(word, kind):
            return build_word(word, call_arguments(expr, list(word.model_fields), word.__name__, frame), expr.span)
        parts = dotted(expr.func) or ("?",)
        near = nearest(parts[-1], family)
        known = ", ".join(f"`{n}`" for n in family)
        if word is None:
            message = f"there is no {kind.kind} called `{'.'.join(parts)}`"
            error = stop(
                "unknown-component", expr.func.span, message, f"did you mean `{near}`?" if near else f"known: {known}"
            )
            return with_fix(error, expr.func.span, near)
        what = word.kind if isinstance(word, type) else "block"
        raise stop(
            "wrong-component",
            expr.func.span,
            f"`{parts[-1]}` is {article(what)}, and this is the place of {article(kind.kind)}",
            f"choose one of {known}",
        )
    if "Full" in family and kind.kind == "initializer":
        value = evaluate(expr, frame, None)
        if isinstance(value, kind):
            return value
        return Full.trusted({"value": coerce(value, float, (), expr)})
    if isinstance(expr, tree.Flow):
        raise stop("wrong-type", expr.span, f"{article(kind.kind)} is not chained", "choose one of them")
    if isinstance(expr, tree.Name) and expr.name in family:
        raise stop("component-not-built", expr.span, f"`{expr.name}` is not built", f"write `{expr.name}()`")
    known = ", ".join(f"`{n}(…)`" for n in family)
    if isinstance(expr, tree.Name) and expr.name not in frame.local_names() and expr.name not in frame.file.lets:
        near = nearest(expr.name, family)
        message = f"expected {article(kind.kind)}, got `{expr.name}`"
        raise stop("wrong-type", expr.span, message, f"did you mean `{near}()`?" if near else f"write one of {known}")
    value = evaluate(expr, frame, None)
    if isinstance(value, kind):
        return value
    message = f"expected {article(kind.kind)}, got {describe(value)}"
    raise stop("wrong-type", expr.span, message, f"write one of {known}")


def article(noun: str) -> str:
    """`a loss`, `an optimizer`."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def call_arguments(call: tree.Call, names: list[str], what: str, frame: Frame) -> dict[str, Bound]:
    """The arguments of a call by name. Unknown, repeated and surplus ones are reported together."""
    bound: dict[str, Bound] = {}
    failed = False
    for position, argument in enumerate(call.args):
        if argument.name is None:
            if position >= len(names):
                problem = (
                    "too-many-arguments",
                    f"`{what}` takes {len(names)} arguments, this is number {position + 1}",
                    "remove it",
                )
            else:
                bound[names[position]] = (argument.value, frame)
                continue
        elif argument.name.name not in names:
            problem = (
                "unknown-argument",
                f"`{what}` has no argument `{argument.name.name}`",
                suggest(argument.name.name, names, "arguments"),
            )
        elif argument.name.name in bound:
            problem = ("rebinding", f"`{argument.name.name}` is given twice", "keep one of them")
        else:
            bound[argument.name.name] = (argument.value, frame)
            continue
        failed = True
        span = argument.name.span if argument.name else argument.span
        frame.context.report(_diagnostic(problem, span, argument, names))
    if failed:
        raise Stop
    return bound


def _diagnostic(problem: tuple[str, str, str], span: Span, argument: tree.Argument, names: list[str]) -> Any:
    from segdsl.diagnostics import Diagnostic

    near = nearest(argument.name.name, names) if argument.name and problem[0] == "unknown-argument" else None
    return Diagnostic(problem[0], problem[1], problem[2], span=span, fix=Fix(span, near) if near else None)


def coerce(value: Any, kind: Any, meta: tuple[Any, ...], expr: tree.Expr) -> Any:
    """A computed value as the type of a field, or the stop that says what was expected."""
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
            f"the unit here is {spelled(units)}, got `{value.unit}`",
            f"write `{number(value.value)} {units[0]}`",
        )
    if kind is Range and isinstance(value, Range) and (value.unit in units if units else value.unit is None):
        return value
    if kind is Range and isinstance(value, (int, float)) and plain and any(isinstance(m, OrSingle) for m in meta):
        return Range(value, value)
    if units and isinstance(value, (int, float)) and plain:
        offers = " or ".join(f"`{number(value)} {unit}`" for unit in units)
        raise stop("unit-missing", expr.span, f"{number(value)} of what? a unit is needed here", f"write {offers}")
    if typing.get_origin(kind) is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return coerce(value, inner, tuple(more), expr)
    raise stop(
        "wrong-type", expr.span, f"expected {wanted(kind, meta)}, got {describe(value)}", _remedy(value, kind, meta)
    )


def _remedy(value: Any, kind: Any, meta: tuple[Any, ...]) -> str:
    if kind is Size and isinstance(value, int):
        return f"write `{value}x{value}`"
    if kind is int and isinstance(value, float):
        return f"write `{int(value)}`" if value.is_integer() else "use `//` for a division that stays an integer"
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'write "{value}"'
    return f"write {wanted(kind, meta)}"


def spelled(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{n}`" for n in names)


def wanted(kind: Any, meta: tuple[Any, ...]) -> str:
    """What a field accepts, in words: `an integer`, `one of …`, `a list of strings`."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(kind)
        return wanted(inner, (*more, *meta))
    if origin in (Union, types.UnionType):
        return wanted(next(k for k in typing.get_args(kind) if k is not type(None)), meta)
    if origin is Literal:
        return "one of " + ", ".join(f"`{k}`" for k in typing.get_args(kind))
    units = next((m.names for m in meta if isinstance(m, Units)), None)
    if any(isinstance(m, OrSingle) for m in meta):
        return "a number or a range such as `0..127`"
    if units:
        example = f"-10 {units[0]}..10 {units[0]}" if kind is Range else f"100 {units[0]}"
        return f"a {'range' if kind is Range else 'number'} in {spelled(units)}, such as `{example}`"
    if origin is tuple:
        return f"a list, each of it {wanted(typing.get_args(kind)[0], ())}"
    if isinstance(kind, type) and issubclass(kind, Word):
        return article(kind.kind)
    return EXAMPLES.get(kind, "another value")


__all__ = [
    "Bound",
    "article",
    "build_word",
    "call_arguments",
    "coerce",
    "convert",
    "unknown_component",
    "validated",
    "wanted",
]
