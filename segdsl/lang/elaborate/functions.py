"""Compile-time functions: `len sum min max zip range enumerate reverse first last rest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segdsl.diagnostics import nearest, suggest
from segdsl.ir.shape import Dim
from segdsl.lang.elaborate.arithmetic import tensor_op
from segdsl.lang.elaborate.context import LIST_BUDGET, Frame, bounded, evaluate
from segdsl.lang.elaborate.values import Tensor, describe, stop
from segdsl.syntax import tree

Arguments = list[tuple[Any, tree.Expr]]


def call_function(call: tree.Call, name: str, frame: Frame, path: str | None) -> Any:
    """Return the value of a call of a lower-case name."""
    if name not in FUNCTIONS:
        # Often a component in lower case: `conv(8)`.
        near = nearest(name, frame.file.component_names())
        known = [*FUNCTIONS, near] if near else FUNCTIONS
        help = suggest(name, known, "functions")
        raise stop("unknown-function", call.func.span, f"unknown function `{name}`", help)
    low, high, function = FUNCTIONS[name]
    for argument in call.args:
        if argument.name is not None:
            message = f"`{name}` takes no named arguments"
            raise stop("unknown-argument", argument.name.span, message, "pass the value without a name")
    if not low <= len(call.args) <= high:
        takes = "1 argument" if high == 1 else f"{low} or more arguments" if high > 99 else f"{low} to {high} arguments"
        message = f"`{name}` takes {takes}, got {len(call.args)}"
        raise stop("argument-count", call.span, message, f"write {USAGE.get(name, f'`{name}(xs)`')}")
    values = [(evaluate(a.value, frame, path), a.value) for a in call.args]
    value = function(values, call, frame, path)
    return frame.context.held(value, call.span) if isinstance(value, tuple) and name in LISTS else value


def _list(argument: tuple[Any, tree.Expr], name: str) -> tuple[Any, ...]:
    value, expr = argument
    if not isinstance(value, tuple):
        raise stop(
            "not-a-list", expr.span, f"`{name}` takes a list, got {describe(value)}", "wrap it in brackets: `[…]`"
        )
    return value


def _integer(argument: tuple[Any, tree.Expr], name: str) -> int:
    value, expr = argument
    if isinstance(value, bool) or not isinstance(value, int):
        raise stop("wrong-type", expr.span, f"`{name}` takes integers, got {describe(value)}", "use an integer")
    return value


def _len(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> int:
    return len(_list(args[0], "len"))


def _sum(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
    values = _list(args[0], "sum")
    if not values:
        return 0
    # Start with the first value and not with 0: `0 + tensor` would be a node of the graph.
    total = values[0]
    for value in values[1:]:
        if isinstance(total, Tensor) or isinstance(value, Tensor):
            total = tensor_op("+", total, value, call.span, call.span, frame, path)
            continue
        for part in (total, value):
            if isinstance(part, bool) or not isinstance(part, (int, float, Dim)):
                raise stop(
                    "wrong-type", call.span, f"`sum` adds numbers or tensors, got {describe(part)}", "correct the list"
                )
        total = bounded(total + value, call.span)
    return total


def _extreme(pick: Callable[..., Any], name: str) -> Callable[..., Any]:
    def function(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
        values = _list(args[0], name) if len(args) == 1 else tuple(v for v, _ in args)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
                raise stop(
                    "wrong-type", call.span, f"`{name}` compares numbers, got {describe(value)}", "correct the list"
                )
        if not values:
            raise stop("empty-list", call.span, f"`{name}` of an empty list is undefined", "pass a non-empty list")
        # Symbolic extents are compared at the input size.
        return pick(values, key=frame.context.value)

    return function


def _zip(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    lists = [_list(a, "zip") for a in args]
    lengths = {len(values) for values in lists}
    if len(lengths) > 1:
        got = " and ".join(str(len(values)) for values in lists)
        message = f"`zip` needs lists of the same length, got {got} elements"
        raise stop("zip-lengths", call.span, message, "shorten the longer list, for example with `rest(…)`")
    return tuple(zip(*lists, strict=True))


def _range(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[int, ...]:
    numbers = [_integer(a, "range") for a in args]
    if len(numbers) == 3 and numbers[2] == 0:
        message = "the step of a `range` must not be 0"
        raise stop("argument-count", call.span, message, "use a positive or negative step")
    # Python's range is lazy: measure it before making the tuple.
    values = range(*numbers)
    if len(values) > LIST_BUDGET:
        message = f"this `range` has {len(values):,} elements, but the limit is {LIST_BUDGET:,}"
        raise stop("list-budget", call.span, message, "use a smaller range")
    return tuple(values)


def _enumerate(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return tuple(enumerate(_list(args[0], "enumerate")))


def _reverse(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return tuple(reversed(_list(args[0], "reverse")))


def _end(name: str, position: int) -> Callable[..., Any]:
    def function(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
        values = _list(args[0], name)
        if not values:
            raise stop("empty-list", call.span, f"`{name}` of an empty list is undefined", "pass a non-empty list")
        return values[position]

    return function


def _rest(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return _list(args[0], "rest")[1:]


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "len": (1, 1, _len),
    "sum": (1, 1, _sum),
    "min": (1, 100, _extreme(min, "min")),
    "max": (1, 100, _extreme(max, "max")),
    "zip": (1, 100, _zip),
    "range": (1, 3, _range),
    "enumerate": (1, 1, _enumerate),
    "reverse": (1, 1, _reverse),
    "first": (1, 1, _end("first", 0)),
    "last": (1, 1, _end("last", -1)),
    "rest": (1, 1, _rest),
}
"""Function name -> minimum and maximum number of arguments, and the implementation."""
LISTS = ("zip", "range", "enumerate", "reverse", "rest")
"""The functions that return a new list, which counts against the list budgets."""
USAGE = {
    "min": "`min(a, b)` or `min(xs)`",
    "max": "`max(a, b)` or `max(xs)`",
    "zip": "`zip(xs, ys)`",
    "range": "`range(stop)`, `range(start, stop)` or `range(start, stop, step)`",
}
"""The calls of the functions that take more than one list."""
