"""Operators: compute numbers and lists at compile time, emit graph nodes for tensors, repeat modules."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from segdsl.diagnostics import Label, Span
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import Dim, ceil_div, floor_div, format_shape
from segdsl.ir.values import Quantity
from segdsl.lang.elaborate.context import (
    CHARS_PER_WORK,
    EXTENT_WORK,
    LIST_BUDGET,
    NODE_BUDGET,
    Frame,
    check_magnitude,
    emit_node,
    evaluate_expr,
    register_evaluator,
)
from segdsl.lang.elaborate.expressions import evaluate_condition
from segdsl.lang.elaborate.values import ChainRecipe, Module, Tensor, describe_value, eval_error
from segdsl.ops.scalar import Add, Divide, Multiply, Subtract
from segdsl.syntax import tree

TENSOR_OPS: dict[str, type[Op]] = {"+": Add, "-": Subtract, "*": Multiply, "/": Divide}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
NUMBER_OPS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "**": operator.pow,
}  # fmt: skip


@register_evaluator(tree.Unary)
def evaluate_unary(expr: tree.Unary, frame: Frame, path: str | None) -> Any:
    if expr.op == "not":
        return not evaluate_condition(expr.operand, frame)
    value = evaluate_expr(expr.operand, frame, path)
    sign = -1 if expr.op == "-" else 1
    if isinstance(value, Tensor):
        return value if sign > 0 else emit_tensor_op("*", (-1, value), expr.span, expr.span, frame, path)
    if isinstance(value, Quantity):
        return Quantity(sign * value.value, value.unit)
    if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
        message = f"unary `{expr.op}` needs a number or tensor, got {describe_value(value)}"
        raise eval_error("wrong-type", expr.span, message, "remove the sign")
    return sign * value


@register_evaluator(tree.Binary)
def evaluate_binary(expr: tree.Binary, frame: Frame, path: str | None) -> Any:
    if expr.op in ("and", "or"):
        # Short-circuit, so that `n > 0 and xs[n - 1] == 2` never evaluates the index that the test rules out.
        left = evaluate_condition(expr.left, frame)
        return left if left is (expr.op == "or") else evaluate_condition(expr.right, frame)
    left, right = evaluate_expr(expr.left, frame, path), evaluate_expr(expr.right, frame, path)
    if expr.op in COMPARISONS:
        return _compare_values(expr, left, right, frame)
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return emit_tensor_op(expr.op, (left, right), expr.op_span, expr.span, frame, path)
    if isinstance(left, Module) and expr.op == "*":
        return repeat_module(left, right, expr, frame, path)
    if isinstance(left, tuple) and isinstance(right, tuple) and expr.op == "+":
        return frame.context.charge_list(left + right, expr.span)
    if isinstance(left, str) and isinstance(right, str) and expr.op == "+":
        return _join_texts(expr, left, right, frame)
    return _compute_number(expr, left, right, frame)


def _join_texts(expr: tree.Binary, left: str, right: str, frame: Frame) -> str:
    # Repeated doubling (`s + s`) would otherwise fill the memory within a few dozen lets.
    length = len(left) + len(right)
    if length > LIST_BUDGET:
        message = f"the string exceeds {LIST_BUDGET:,} characters"
        raise eval_error("list-budget", expr.span, message, "use a shorter string")
    frame.context.charge_work(length // CHARS_PER_WORK, expr.span)
    return left + right


def _compare_values(expr: tree.Binary, left: Any, right: Any, frame: Frame) -> bool:
    if isinstance(left, (Tensor, Module)) or isinstance(right, (Tensor, Module)):
        culprit = left if isinstance(left, (Tensor, Module)) else right
        raise eval_error(
            "wrong-type",
            expr.span,
            f"`{expr.op}` compares only compile-time values, got {describe_value(culprit)}",
            "compare shapes instead, such as `x.channels == 48`",
        )
    # Symbolic extents such as `H/4` are compared at the program's input size: `data.input_size` decides the branch.
    left = frame.context.resolve_extent(left) if isinstance(left, Dim) else left
    right = frame.context.resolve_extent(right) if isinstance(right, Dim) else right
    if isinstance(left, tuple) and isinstance(right, tuple):
        frame.context.charge_work(frame.context.count_elements(left), expr.span)
    try:
        # Python orders bool as int; the language does not.
        if expr.op not in ("==", "!=") and (isinstance(left, bool) or isinstance(right, bool)):
            raise TypeError
        return COMPARISONS[expr.op](left, right)
    except TypeError:
        message = f"`{expr.op}` cannot compare {describe_value(left)} with {describe_value(right)}"
        raise eval_error("wrong-type", expr.span, message, "compare two numbers") from None


def _compute_number(expr: tree.Binary, left: Any, right: Any, frame: Frame) -> Any:
    for value, part in ((left, expr.left), (right, expr.right)):
        if isinstance(value, bool) or not isinstance(value, (int, float, Dim)):
            raise eval_error(
                "wrong-type",
                part.span,
                f"`{expr.op}` cannot combine {describe_value(left)} with {describe_value(right)}",
                "use two numbers, two tensors, a tensor and a number, or two lists joined with `+`",
            )
    if expr.op in ("/", "//") and right == 0:
        raise eval_error("division-by-zero", expr.right.span, "division by zero", "use a nonzero divisor")
    if isinstance(left, Dim) or isinstance(right, Dim):
        frame.context.charge_work(EXTENT_WORK, expr.span)
        return check_magnitude(_compute_extent(expr, left, right), expr.span)
    if expr.op == "**" and right < 0 and left == 0:
        raise eval_error("division-by-zero", expr.span, "0 has no negative power", "use a nonzero base")
    # Python would compute `9 ** 9 ** 9` for minutes before the magnitude check below could refuse the result.
    if expr.op == "**" and abs(right) > 64:
        message = f"the exponent must be between -64 and 64, got {describe_value(right)}"
        raise eval_error("integer-bound", expr.span, message, "use a smaller exponent")
    try:
        value = NUMBER_OPS[expr.op](left, right)
    except OverflowError:
        value = math.inf
    if isinstance(value, complex):
        message = "a negative number has no real power with a fractional exponent"
        raise eval_error("wrong-type", expr.span, message, "use a positive base")
    return check_magnitude(value, expr.span)


def _compute_extent(expr: tree.Binary, left: Any, right: Any) -> Any:
    integers = all(isinstance(v, (int, Dim)) for v in (left, right))
    if integers and expr.op in ("+", "-", "*"):
        return NUMBER_OPS[expr.op](left, right)
    if integers and isinstance(right, int) and right > 0 and expr.op in ("/", "//"):
        # `/` rounds up on extents, as a convolution with stride and "same" padding does; `//` rounds down.
        return ceil_div(left, right) if expr.op == "/" else floor_div(left, right)
    raise eval_error(
        "wrong-type",
        expr.span,
        f"`{expr.op}` cannot combine {describe_value(left)} with {describe_value(right)}",
        "add, subtract or multiply extents, or divide one by a positive integer",
    )


def emit_tensor_op(
    op: str, sides: tuple[Any, Any], op_span: Span, span: Span, frame: Frame, path: str | None
) -> Tensor:
    """Emit the node of an operator between two tensors, or a tensor and a number."""
    if op not in TENSOR_OPS:
        raise eval_error("wrong-type", op_span, f"`{op}` is not defined for tensors", "use one of `+ - * /`")
    operands = [v for v in sides if isinstance(v, Tensor)]
    scalars: dict[str, float] = {}
    for side, value in zip(("left", "right"), sides, strict=True):
        if isinstance(value, Tensor):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise eval_error(
                "wrong-type",
                op_span,
                f"`{op}` takes tensors and numbers, got {describe_value(value)} on the {side} side",
                "apply the module first: `x -> A(…)`" if isinstance(value, Module) else "use a tensor or a number",
            )
        scalars[side] = float(value)
    node = TENSOR_OPS[op].build_unchecked(scalars)
    frame.context.charge_application(span)
    try:
        shape = node.infer_shape([o.shape for o in operands], frame.context.env)
    except ShapeError as error:
        labels = [Label(o.span, f"{format_shape(o.shape)} comes from here") for o in operands]
        raise eval_error(
            error.slug, op_span, error.message.replace("Operands", f"`{op}`"), error.help, labels=labels
        ) from None
    return emit_node(node, operands, shape, path, frame, span)


def repeat_module(module: Module, count: Any, expr: tree.Binary, frame: Frame, path: str | None) -> Module:
    """Build the chain of n fresh copies for `A(…) * n`, each with its position as path."""
    check_repeat_count(count, expr.right)
    frame.context.charge_copies(module, expr.span, count)
    parts = tuple(module.copy_to(None if path is None else f"{path}.{i}".lstrip(".")) for i in range(count))
    return Module(ChainRecipe(parts), path, expr.span)


def check_repeat_count(count: Any, expr: tree.Expr) -> None:
    """Check that a repeat count is an integer from 0 to the node budget."""
    if isinstance(count, bool) or not isinstance(count, int):
        message = f"a repeat count must be an integer, got {describe_value(count)}"
        raise eval_error("wrong-type", expr.span, message, "use an integer, such as `* 3`")
    if count < 0:
        message = f"a repeat count must not be negative, got {count}"
        raise eval_error("repeat-count", expr.span, message, "use 0 for no copies")
    # Refused here, before the copies are made: building a million modules takes minutes and gigabytes.
    if count > NODE_BUDGET:
        raise eval_error(
            "node-budget",
            expr.span,
            f"{count:,} copies exceed the limit of {NODE_BUDGET:,} applications",
            "use a smaller repeat count",
        )
