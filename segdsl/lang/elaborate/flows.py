"""Evaluation of components and flows: `A(…)` builds a module, `x -> A(…)` applies one, `A(…) -> B(…)` chains two."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Diagnostic, Label
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import format_shape
from segdsl.ir.word import Word
from segdsl.lang.convert.fields import build_word
from segdsl.lang.elaborate.arguments import match_arguments
from segdsl.lang.elaborate.arithmetic import check_repeat_count
from segdsl.lang.elaborate.blocks import apply_block, bind_name, build_block_recipe, check_shape_note
from segdsl.lang.elaborate.context import (
    ARGUMENT_WORK,
    MODULE_WORK,
    Frame,
    emit_node,
    evaluate_expr,
    is_in_library,
    register_evaluator,
)
from segdsl.lang.elaborate.expressions import get_dotted_parts, lookup_component, unknown_component_error
from segdsl.lang.elaborate.functions import call_function
from segdsl.lang.elaborate.scopes import BlockDef
from segdsl.lang.elaborate.values import (  # fmt: skip
    ChainRecipe,
    EvalStop,
    Module,
    OpRecipe,
    Poison,
    Tensor,
    describe_value,
    element_path,
    eval_error,
    join_path,
)
from segdsl.ops.join import Item, Split
from segdsl.syntax import tree


@register_evaluator(tree.Call)
def evaluate_call(expr: tree.Call, frame: Frame, path: str | None) -> Any:
    # Case tells functions from components: `len(xs)` is a value, `Conv(8)` a module.
    if isinstance(expr.func, tree.Name) and expr.func.name[:1].islower():
        return call_function(expr, expr.func.name, frame, path)
    component = lookup_component(expr.func, frame)
    if component is None:
        raise unknown_component_error(expr.func, frame)
    frame.context.charge_work(MODULE_WORK + ARGUMENT_WORK * len(expr.args), expr.span)
    if isinstance(component, BlockDef):
        return Module(build_block_recipe(component, expr, frame), path, expr.span)
    if issubclass(component, Op):
        return Module(_build_op_recipe(component, expr, frame), path, expr.span)
    assert issubclass(component, Word)
    return build_word(
        component, match_arguments(expr, list(component.model_fields), component.__name__, frame), expr.span
    )


def _build_op_recipe(op: type[Op], expr: tree.Call, frame: Frame) -> OpRecipe:
    required = [o.name for o in op.takes if not o.optional]
    optional = [o.name for o in op.takes if o.optional]
    # By position come required tensors, then the op's own fields; an optional tensor should be named.
    names = [*required, *op.model_fields, *optional]
    bound = match_arguments(expr, names, op.__name__, frame)
    operands: list[Tensor] = []
    for operand in op.takes:
        if operand.name not in bound:
            if not operand.optional:
                raise eval_error(
                    "missing-argument",
                    expr.span,
                    f"`{op.__name__}` is missing its argument `{operand.name}`",
                    f"pass it: {operand.doc[0].lower()}{operand.doc[1:]}",
                )
            continue
        value_expr, inner = bound.pop(operand.name)
        value = evaluate_expr(value_expr, inner, None)
        if not isinstance(value, Tensor):
            message = f"`{operand.name}` of `{op.__name__}` must be a tensor, got {describe_value(value)}"
            raise eval_error("wrong-type", value_expr.span, message, "pass a named tensor of this block")
        operands.append(value)
    return OpRecipe(build_word(op, bound, expr.span), tuple(operands))


@register_evaluator(tree.Flow)
def evaluate_flow(expr: tree.Flow, frame: Frame, path: str | None) -> Any:
    """Return the value after the last step, or a module if the source is a module."""
    source = evaluate_expr(expr.source, frame, path)
    if isinstance(source, Module):
        return _build_chain(expr, source, frame, path)
    counts = [_evaluate_repeat_count(step, frame) for step in expr.steps]
    # Paths of the unnamed steps: `y = x -> A()` is `y` itself, two or repeated steps are `y.0`, `y.1`, ... These paths
    # name the weights in a checkpoint (LANGUAGE.md §4), so the rule must never change.
    unnamed = [(s, n) for s, n in zip(expr.steps, counts, strict=True) if s.name is None]
    numbered = any(s.repeat is not None for s, _ in unnamed) or len(unnamed) > 1
    position, value = 0, source
    for step, count in zip(expr.steps, counts, strict=True):
        if step.name is not None:
            base, start, positions = frame.qualify_name(step.name.name), 0, step.repeat is not None
        else:
            base, start, positions = path, position, numbered
            position += count
        for copy in range(count):
            value = _apply_step(step, value, frame, element_path(base, start + copy) if positions else base)
        if step.name is not None:
            _bind_step(step, value, frame)
    return value


def _evaluate_repeat_count(step: tree.Step, frame: Frame) -> int:
    if step.repeat is None:
        return 1
    count = evaluate_expr(step.repeat, frame, None)
    check_repeat_count(count, step.repeat)
    # Legal, but a repeated stride is almost always a mistake: usually only the first copy should stride.
    if count > 1 and isinstance(step.component, tree.Call):
        for argument in step.component.args:
            if (
                argument.name is not None
                and argument.name.name == "stride"
                and evaluate_expr(argument.value, frame, None) != 1
            ):
                frame.context.report(
                    Diagnostic(
                        "repeated-stride",
                        f"each of the {count} copies has a stride, so the map shrinks {count} times",
                        "write the first copy separately: `-> A(…, stride = 2) -> A(…) * (n - 1)`",
                        span=step.span,
                        severity="warning",
                    )
                )
    return count


def _apply_step(step: tree.Step, value: Any, frame: Frame, path: str | None) -> Any:
    if not step.each:
        return apply_module(_evaluate_module(step.component, frame, path), value, step.component, frame)
    if not isinstance(value, tuple):
        message = f"`each` maps a list, but its input is {describe_value(value)}"
        raise eval_error("not-a-list", step.span, message, "remove `each`")
    return tuple(
        apply_module(_evaluate_module(step.component, frame, element_path(path, i)), v, step.component, frame)
        for i, v in enumerate(value)
    )


def _bind_step(step: tree.Step, value: Any, frame: Frame) -> None:
    assert step.name is not None
    if step.note is not None:
        check_shape_note(step.note, value, frame, step.name)
    bind_name(step.name, value, frame)


def _evaluate_module(expr: tree.Expr, frame: Frame, path: str | None) -> Module:
    """Evaluate the component after an arrow: a call builds a fresh copy at ``path``, a name is the shared module."""
    value = evaluate_expr(expr, frame, path)
    if isinstance(value, Module):
        return value
    parts = get_dotted_parts(expr)
    if isinstance(value, Tensor):
        raise eval_error(
            "not-a-module",
            expr.span,
            f"expected a component after the arrow, but `{'.'.join(parts) if parts else 'this'}` is "
            f"{describe_value(value)}",
            "combine tensors with `+` or `[a, b] -> Concat()`",
        )
    raise eval_error(
        "not-a-module",
        expr.span,
        f"expected a component after the arrow, got {describe_value(value)}",
        "call one: `A(…)`",
    )


def _build_chain(expr: tree.Flow, source: Module, frame: Frame, path: str | None) -> Module:
    # A source that was built here becomes element 0 of the chain; one that a name refers to keeps its own path.
    made_here = source.path == path
    repeats = isinstance(source.recipe, ChainRecipe) and isinstance(expr.source, tree.Binary)
    counts = [_evaluate_repeat_count(step, frame) for step in expr.steps]
    parts: list[Module] = list(source.recipe.parts) if repeats and isinstance(source.recipe, ChainRecipe) else []
    if not repeats:
        frame.context.charge_copies(source, expr.span)
        parts = [source.copy_to(element_path(path, 0)) if made_here else source]
    for step, count in zip(expr.steps, counts, strict=True):
        if step.name is not None or step.each:
            raise eval_error(
                "named-in-module",
                step.span,
                "a chain without an input is a module, so it has no tensors to name or map",
                "start the chain with a tensor, or remove `as` and `each`",
            )
        for _ in range(count):
            parts.append(_evaluate_module(step.component, frame, element_path(path, len(parts))))
    return Module(ChainRecipe(tuple(parts)), path, expr.span)


def apply_module(module: Module, value: Any, expr: tree.Expr, frame: Frame) -> Any:
    """Apply a module to ``value`` and return the result.

    The first application builds the state of the module, later ones share it.
    """
    if isinstance(value, Poison):
        raise EvalStop
    module.application_count += 1
    reuse = frame.reuse or module.application_count > 1
    if isinstance(module.recipe, ChainRecipe):
        for part in module.recipe.parts:
            inner = Frame(frame.context, frame.file, frame.path, frame.vars, frame.parent, reuse, frame.block)
            value = apply_module(part, value, expr, inner)
        return value
    frame.context.charge_application(expr.span)
    if isinstance(module.recipe, OpRecipe):
        return _apply_op(module, module.recipe, value, expr, frame, reuse)
    return apply_block(module, value, expr, frame, reuse)


def _apply_op(module: Module, recipe: OpRecipe, value: Any, expr: tree.Expr, frame: Frame, reuse: bool) -> Any:
    op, name = recipe.op, type(recipe.op).__name__
    if op.flows == "list":
        if not isinstance(value, tuple) or not all(isinstance(v, Tensor) for v in value):
            # An element that failed is already reported.
            if isinstance(value, tuple) and any(isinstance(v, Poison) for v in value):
                raise EvalStop
            raise eval_error(
                "not-a-list",
                expr.span,
                f"`{name}` takes a list of tensors, got {describe_value(value)}",
                f"write `[a, b] -> {name}()`",
            )
        flowing = list(value)
    else:
        if not isinstance(value, Tensor):
            help = "apply it to each element: `-> each A(…)`" if isinstance(value, tuple) else "apply it to a tensor"
            raise eval_error("not-a-tensor", expr.span, f"`{name}` takes one tensor, got {describe_value(value)}", help)
        flowing = [value]
    operands = [*flowing, *recipe.operands]
    try:
        shape = op.infer_shape([o.shape for o in operands], frame.context.env)
    except ShapeError as error:
        raise _shape_error(error, operands, expr, frame) from None
    inner_frame = Frame(frame.context, frame.file, frame.path, {}, None, reuse, frame.block)
    result = emit_node(op, operands, shape, module.path, inner_frame, expr.span)
    if not isinstance(op, Split):
        return result
    # The graph has one output per node, so each part of a split gets a node that selects it.
    items = []
    for position, channels in enumerate(op.sizes):
        item = Item.build_unchecked({"index": position, "channels": channels})
        inner = item.infer_shape([shape], frame.context.env)
        path = join_path(result.path, str(position))
        items.append(emit_node(item, [result], inner, path, inner_frame, expr.span))
    return tuple(items)


ARGUMENT_FAULTS = (
    "even-kernel-needs-padding", "kernel-too-small", "nearest-has-no-corners", "operand-count", "target-size-unclear",
)  # fmt: skip
"""Shape errors that an op's arguments cause regardless of its input, so that labels on the input would mislead."""


def _shape_error(error: ShapeError, operands: list[Tensor], expr: tree.Expr, frame: Frame) -> EvalStop:
    # The shapes were computed with a default size, because the author's could not be read: do not blame that size.
    if error.divisor and frame.context.has_invalid_size:
        return EvalStop()
    labels = [
        Label(o.span, f"{format_shape(o.shape)} comes from here") for o in operands[error.operand : error.operand + 1]
    ]
    labels = [] if error.slug in ARGUMENT_FAULTS else labels
    # If another input size would fit, the place to change is `data.input_size`, not the op that needs it.
    size = frame.context.size_span
    if error.divisor and size is not None and not is_in_library(size):
        return eval_error(
            error.slug, size, error.message, error.help, labels=[Label(expr.span, "needed by this"), *labels]
        )
    return eval_error(error.slug, expr.span, error.message, error.help, labels=labels)
