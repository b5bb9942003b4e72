"""Compile-time functions: `len sum min max zip range enumerate reverse first last rest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segdsl.diagnostics import find_closest_name, suggest_name
from segdsl.ir.shape import Dim
from segdsl.lang.elaborate.arithmetic import emit_tensor_op
from segdsl.lang.elaborate.context import LIST_BUDGET, Frame, check_magnitude, evaluate_expr
from segdsl.lang.elaborate.values import Tensor, describe_value, eval_error
from segdsl.syntax import tree

Arguments = list[tuple[Any, tree.Expr]]


def call_function(call: tree.Call, name: str, frame: Frame, path: str | None) -> Any:
    """Return the value of a call of a lower-case name."""
    if name not in FUNCTIONS:
        # Often a component in lower case: `conv(8)`.
        near = find_closest_name(name, frame.file.list_component_names())
        known = [*FUNCTIONS, near] if near else FUNCTIONS
        help = suggest_name(name, known, "functions")
        raise eval_error("unknown-function", call.func.span, f"unknown function `{name}`", help)
    low, high, function = FUNCTIONS[name]
    for argument in call.args:
        if argument.name is not None:
            message = f"`{name}` takes no named arguments"
            raise eval_error("unknown-argument", argument.name.span, message, "pass the value without a name")
    if not low <= len(call.args) <= high:
        takes = "1 argument" if high == 1 else f"{low} or more arguments" if high > 99 else f"{low} to {high} arguments"
        message = f"`{name}` takes {takes}, got {len(call.args)}"
        raise eval_error("argument-count", call.span, message, f"write {USAGE.get(name, f'`{name}(xs)`')}")
    values = [(evaluate_expr(a.value, frame, path), a.value) for a in call.args]
    value = function(values, call, frame, path)
    return frame.context.charge_list(value, call.span) if isinstance(value, tuple) and name in LIST_FUNCTIONS else value


def _require_list(argument: tuple[Any, tree.Expr], name: str) -> tuple[Any, ...]:
    value, expr = argument
    if not isinstance(value, tuple):
        raise eval_error(
            "not-a-list", expr.span, f"`{name}` takes a list, got {describe_value(value)}", "wrap it in brackets: `[…]`"
        )
    return value


def _require_integer(argument: tuple[Any, tree.Expr], name: str) -> int:
    value, expr = argument
    if isinstance(value, bool) or not isinstance(value, int):
        raise eval_error(
            "wrong-type", expr.span, f"`{name}` takes integers, got {describe_value(value)}", "use an integer"
        )
    return value


def _call_len(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> int:
    return len(_require_list(args[0], "len"))


def _call_sum(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
    values = _require_list(args[0], "sum")
    frame.context.charge_work(len(values), call.span)
    if not values:
        return 0
    # Start with the first value and not with 0: `0 + tensor` would be a node of the graph.
    total = values[0]
    for value in values[1:]:
        if isinstance(total, Tensor) or isinstance(value, Tensor):
            total = emit_tensor_op("+", (total, value), call.span, call.span, frame, path)
            continue
        for part in (total, value):
            if isinstance(part, bool) or not isinstance(part, (int, float, Dim)):
                raise eval_error(
                    "wrong-type",
                    call.span,
                    f"`sum` adds numbers or tensors, got {describe_value(part)}",
                    "correct the list",
                )
        total = check_magnitude(total + value, call.span)
    return total


def _make_extreme(pick: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call_extreme(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
        values = _require_list(args[0], name) if len(args) == 1 else tuple(v for v, _ in args)
        frame.context.charge_work(len(values), call.span)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
                raise eval_error(
                    "wrong-type",
                    call.span,
                    f"`{name}` compares numbers, got {describe_value(value)}",
                    "correct the list",
                )
        if not values:
            raise eval_error(
                "empty-list", call.span, f"`{name}` of an empty list is undefined", "pass a non-empty list"
            )
        # Symbolic extents are compared at the input size.
        return pick(values, key=lambda v: frame.context.resolve_extent(v) if isinstance(v, Dim) else v)

    return call_extreme


def _call_zip(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    lists = [_require_list(a, "zip") for a in args]
    lengths = {len(values) for values in lists}
    if len(lengths) > 1:
        got = " and ".join(str(len(values)) for values in lists)
        message = f"`zip` needs lists of the same length, got {got} elements"
        raise eval_error("zip-lengths", call.span, message, "shorten the longer list, for example with `rest(…)`")
    return tuple(zip(*lists, strict=True))


def _call_range(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[int, ...]:
    numbers = [_require_integer(a, "range") for a in args]
    if len(numbers) == 3 and numbers[2] == 0:
        message = "the step of a `range` must not be 0"
        raise eval_error("argument-count", call.span, message, "use a positive or negative step")
    # Python's range is lazy: measure it before making the tuple.
    values = range(*numbers)
    if len(values) > LIST_BUDGET:
        message = f"this `range` has {len(values):,} elements, but the limit is {LIST_BUDGET:,}"
        raise eval_error("list-budget", call.span, message, "use a smaller range")
    return tuple(values)


def _call_enumerate(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return tuple(enumerate(_require_list(args[0], "enumerate")))


def _call_reverse(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return tuple(reversed(_require_list(args[0], "reverse")))


def _make_end_getter(name: str, position: int) -> Callable[..., Any]:
    def call_end_getter(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> Any:
        values = _require_list(args[0], name)
        if not values:
            raise eval_error(
                "empty-list", call.span, f"`{name}` of an empty list is undefined", "pass a non-empty list"
            )
        return values[position]

    return call_end_getter


def _call_rest(args: Arguments, call: tree.Call, frame: Frame, path: str | None) -> tuple[Any, ...]:
    return _require_list(args[0], "rest")[1:]


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "len": (1, 1, _call_len),
    "sum": (1, 1, _call_sum),
    "min": (1, 100, _make_extreme(min, "min")),
    "max": (1, 100, _make_extreme(max, "max")),
    "zip": (1, 100, _call_zip),
    "range": (1, 3, _call_range),
    "enumerate": (1, 1, _call_enumerate),
    "reverse": (1, 1, _call_reverse),
    "first": (1, 1, _make_end_getter("first", 0)),
    "last": (1, 1, _make_end_getter("last", -1)),
    "rest": (1, 1, _call_rest),
}
"""Function name -> minimum and maximum number of arguments, and the implementation."""
LIST_FUNCTIONS = ("zip", "range", "enumerate", "reverse", "rest")
"""The functions that return a new list, which counts against the list budgets."""
USAGE = {
    "min": "`min(a, b)` or `min(xs)`",
    "max": "`max(a, b)` or `max(xs)`",
    "zip": "`zip(xs, ys)`",
    "range": "`range(stop)`, `range(start, stop)` or `range(start, stop, step)`",
}
"""The calls of the functions that take more than one list."""
