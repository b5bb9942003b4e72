"""Operators: numbers and lists are computed at once, tensors become nodes of the graph, modules are repeated."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from segdsl.diagnostics import Label
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import Dim, ceil_div, floor_div, show
from segdsl.ir.values import Quantity
from segdsl.lang.elaborate.context import LIST_BUDGET, NODE_BUDGET, Frame, bounded, evaluate, handles
from segdsl.lang.elaborate.expressions import truth
from segdsl.lang.elaborate.values import ChainRecipe, Module, Tensor, describe, stop
from segdsl.ops.scalar import Add, Divide, Multiply, Subtract
from segdsl.syntax import tree

TENSOR_OPS: dict[str, type[Op]] = {"+": Add, "-": Subtract, "*": Multiply, "/": Divide}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "**": operator.pow,
}  # fmt: skip


@handles(tree.Unary)
def unary(expr: tree.Unary, frame: Frame, path: str | None) -> Any:
    if expr.op == "not":
        return not truth(expr.operand, frame)
    value = evaluate(expr.operand, frame, path)
    sign = -1 if expr.op == "-" else 1
    if isinstance(value, Tensor):
        return value if sign > 0 else tensor_op("*", -1, value, expr.span, expr.span, frame, path)
    if isinstance(value, Quantity):
        return Quantity(sign * value.value, value.unit)
    if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
        raise stop("wrong-type", expr.span, f"`{expr.op}` needs a number, got {describe(value)}", "remove the sign")
    return sign * value


@handles(tree.Binary)
def binary(expr: tree.Binary, frame: Frame, path: str | None) -> Any:
    if expr.op in ("and", "or"):
        left = truth(expr.left, frame)
        return left if left is (expr.op == "or") else truth(expr.right, frame)
    left, right = evaluate(expr.left, frame, path), evaluate(expr.right, frame, path)
    if expr.op in COMPARE:
        return _compare(expr, left, right, frame)
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return tensor_op(expr.op, left, right, expr.op_span, expr.span, frame, path)
    if isinstance(left, Module) and expr.op == "*":
        return repeated(left, right, expr, frame, path)
    if isinstance(left, tuple) and isinstance(right, tuple) and expr.op == "+":
        return frame.context.held(left + right, expr.span)
    if isinstance(left, str) and isinstance(right, str) and expr.op == "+":
        if len(left) + len(right) > LIST_BUDGET:
            raise stop("list-budget", expr.span, f"the text grows beyond {LIST_BUDGET:,} characters", "shorten it")
        return left + right
    return _compute(expr, left, right)


def _compare(expr: tree.Binary, left: Any, right: Any, frame: Frame) -> bool:
    if isinstance(left, (Tensor, Module)) or isinstance(right, (Tensor, Module)):
        culprit = left if isinstance(left, (Tensor, Module)) else right
        raise stop(
            "wrong-type",
            expr.span,
            f"`{expr.op}` compares values known at compile time, got {describe(culprit)}",
            "compare shapes: `x.channels == 48`",
        )
    left = frame.context.value(left) if isinstance(left, Dim) else left
    right = frame.context.value(right) if isinstance(right, Dim) else right
    try:
        if expr.op not in ("==", "!=") and (isinstance(left, bool) or isinstance(right, bool)):
            raise TypeError
        return COMPARE[expr.op](left, right)
    except TypeError:
        message = f"`{expr.op}` cannot order {describe(left)} and {describe(right)}"
        raise stop("wrong-type", expr.span, message, "compare two numbers") from None


def _compute(expr: tree.Binary, left: Any, right: Any) -> Any:
    for value, part in ((left, expr.left), (right, expr.right)):
        if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
            raise stop(
                "wrong-type",
                part.span,
                f"`{expr.op}` needs numbers, tensors or lists on both sides, got {describe(value)}",
                f"the other side is {describe(right if value is left else left)}",
            )
    if expr.op in ("/", "//") and right == 0:
        raise stop("division-by-zero", expr.right.span, "this divides by zero", "use another divisor")
    if isinstance(left, Dim) or isinstance(right, Dim):
        return bounded(_extent(expr, left, right), expr.span)
    if expr.op == "**" and right < 0 and left == 0:
        raise stop("division-by-zero", expr.span, "a negative power of 0 divides by zero", "use another base")
    if expr.op == "**" and abs(right) > 64:
        message = f"this power is out of bounds: its exponent is {describe(right)}"
        raise stop("integer-bound", expr.span, message, "exponents run from -64 to 64")
    try:
        value = COMPUTE[expr.op](left, right)
    except OverflowError:
        value = math.inf
    if isinstance(value, complex):
        raise stop("wrong-type", expr.span, "this root of a negative number is no number", "use a positive base")
    return bounded(value, expr.span)


def _extent(expr: tree.Binary, left: Any, right: Any) -> Any:
    integers = all(isinstance(v, (int, Dim)) for v in (left, right))
    if integers and expr.op in ("+", "-", "*"):
        return COMPUTE[expr.op](left, right)
    if integers and isinstance(right, int) and right > 0 and expr.op in ("/", "//"):
        return ceil_div(left, right) if expr.op == "/" else floor_div(left, right)
    raise stop(
        "wrong-type",
        expr.span,
        f"`{expr.op}` cannot be worked out between {describe(left)} and {describe(right)}",
        "extents can be added, multiplied, and divided by a positive integer",
    )


def tensor_op(op: str, left: Any, right: Any, op_span: Any, span: Any, frame: Frame, path: str | None) -> Tensor:
    """The node of an operator between two tensors, or a tensor and a number."""
    if op not in TENSOR_OPS:
        raise stop("wrong-type", op_span, f"`{op}` is not for tensors", "tensors take `+ - * /`")
    operands = [v for v in (left, right) if isinstance(v, Tensor)]
    scalars: dict[str, float] = {}
    for side, value in (("left", left), ("right", right)):
        if isinstance(value, Tensor):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise stop(
                "wrong-type",
                op_span,
                f"`{op}` takes tensors and numbers, got {describe(value)} on the {side}",
                "apply the module first: `x -> A(…)`" if isinstance(value, Module) else "use a tensor or a number",
            )
        scalars[side] = float(value)
    node = TENSOR_OPS[op].trusted(scalars)
    frame.context.spend(span)
    try:
        shape = node.infer([o.shape for o in operands], frame.context.env)
    except ShapeError as error:
        labels = [Label(o.span, f"{show(o.shape)} comes from here") for o in operands]
        raise stop(
            error.slug, op_span, error.message.replace("Operands", f"`{op}`"), error.help, labels=labels
        ) from None
    return frame.context.emit(node, operands, shape, path, frame, span)


def repeated(module: Module, count: Any, expr: tree.Binary, frame: Frame, path: str | None) -> Module:
    """`A(…) * n`: a chain of n fresh copies, each with its position as path."""
    check_repeat(count, expr.right)
    parts = tuple(module.copy(None if path is None else f"{path}.{i}".lstrip(".")) for i in range(count))
    return Module(ChainRecipe(parts), path, expr.span)


def check_repeat(count: Any, expr: tree.Expr) -> None:
    """A repeat count is an integer from 0 to the node budget."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise stop("wrong-type", expr.span, f"a repeat count is an integer, got {describe(count)}", "write `* 3`")
    if count < 0:
        raise stop("repeat-count", expr.span, f"a repeat count is not negative, got {count}", "use 0 for none")
    if count > NODE_BUDGET:
        raise stop(
            "node-budget",
            expr.span,
            f"{count:,} copies are beyond the budget of {NODE_BUDGET:,} applications",
            "use a smaller repeat count",
        )
