"""Components and flows: `A(…)` makes a module, `x -> A(…)` applies it, `A(…) -> B(…)` is a module again."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Diagnostic, Label
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import show
from segdsl.ir.word import Word
from segdsl.lang.convert.fields import build_word
from segdsl.lang.elaborate.arguments import call_arguments
from segdsl.lang.elaborate.arithmetic import check_repeat
from segdsl.lang.elaborate.blocks import apply_block, bind, block_recipe, check_note
from segdsl.lang.elaborate.context import Frame, evaluate, handles, in_library
from segdsl.lang.elaborate.expressions import dotted, lookup_component, unknown_component
from segdsl.lang.elaborate.functions import call_function
from segdsl.lang.elaborate.values import (
    BlockDef,
    ChainRecipe,
    Module,
    OpRecipe,
    Poison,
    Stop,
    Tensor,
    describe,
    element_path,
    join,
    stop,
)  # fmt: skip
from segdsl.ops.join import Item, Split
from segdsl.syntax import tree


@handles(tree.Call)
def call(expr: tree.Call, frame: Frame, path: str | None) -> Any:
    """A function's value, or a module that waits to be applied."""
    if isinstance(expr.func, tree.Name) and expr.func.name[:1].islower():
        return call_function(expr, expr.func.name, frame, path)
    component = lookup_component(expr.func, frame)
    if component is None:
        raise unknown_component(expr.func, frame)
    if isinstance(component, BlockDef):
        return Module(block_recipe(component, expr, frame), path, expr.span)
    if issubclass(component, Op):
        return Module(_op_recipe(component, expr, frame), path, expr.span)
    assert issubclass(component, Word)
    return build_word(
        component, call_arguments(expr, list(component.model_fields), component.__name__, frame), expr.span
    )


def _op_recipe(op: type[Op], expr: tree.Call, frame: Frame) -> OpRecipe:
    required = [o.name for o in op.takes if not o.optional]
    optional = [o.name for o in op.takes if o.optional]
    names = [*required, *op.model_fields, *optional]
    bound = call_arguments(expr, names, op.__name__, frame)
    operands: list[Tensor] = []
    for operand in op.takes:
        if operand.name not in bound:
            if not operand.optional:
                raise stop(
                    "missing-argument",
                    expr.span,
                    f"`{op.__name__}` needs `{operand.name}`",
                    f"add it: {operand.doc[0].lower()}{operand.doc[1:]}",
                )
            continue
        value_expr, inner = bound.pop(operand.name)
        value = evaluate(value_expr, inner, None)
        if not isinstance(value, Tensor):
            message = f"`{operand.name}` of `{op.__name__}` is a tensor, got {describe(value)}"
            raise stop("wrong-type", value_expr.span, message, "give it a named tensor of this block")
        operands.append(value)
    return OpRecipe(build_word(op, bound, expr.span), tuple(operands))


@handles(tree.Flow)
def flow(expr: tree.Flow, frame: Frame, path: str | None) -> Any:
    """The value after the last step; a module where nothing flows in."""
    source = evaluate(expr.source, frame, path)
    if isinstance(source, Module):
        return _chain(expr, source, frame, path)
    counts = [_count(step, frame) for step in expr.steps]
    unnamed = [(s, n) for s, n in zip(expr.steps, counts, strict=True) if s.name is None]
    numbered = any(s.repeat is not None for s, _ in unnamed) or len(unnamed) > 1
    position, value = 0, source
    for step, count in zip(expr.steps, counts, strict=True):
        if step.name is not None:
            base, start, positions = frame.under(step.name.name), 0, step.repeat is not None
        else:
            base, start, positions = path, position, numbered
            position += count
        for copy in range(count):
            value = _step(step, value, frame, element_path(base, start + copy) if positions else base)
        if step.name is not None:
            _bind_step(step, value, frame)
    return value


def _count(step: tree.Step, frame: Frame) -> int:
    if step.repeat is None:
        return 1
    count = evaluate(step.repeat, frame, None)
    check_repeat(count, step.repeat)
    if count > 1 and isinstance(step.component, tree.Call):
        for argument in step.component.args:
            if (
                argument.name is not None
                and argument.name.name == "stride"
                and evaluate(argument.value, frame, None) != 1
            ):
                frame.context.report(
                    Diagnostic(
                        "repeated-stride",
                        f"each of the {count} copies strides, so the map shrinks {count} times",
                        "write the first copy apart: `-> A(…, stride = 2) -> A(…) * (n - 1)`",
                        span=step.span,
                        severity="warning",
                    )
                )
    return count


def _step(step: tree.Step, value: Any, frame: Frame, path: str | None) -> Any:
    if not step.each:
        return apply(_module(step.component, frame, path), value, step.component, frame)
    if not isinstance(value, tuple):
        message = f"`each` maps a list, and what flows in is {describe(value)}"
        raise stop("not-a-list", step.span, message, "remove `each`")
    return tuple(
        apply(_module(step.component, frame, element_path(path, i)), v, step.component, frame)
        for i, v in enumerate(value)
    )


def _bind_step(step: tree.Step, value: Any, frame: Frame) -> None:
    assert step.name is not None
    if step.note is not None:
        check_note(step.note, value, frame, step.name)
    bind(step.name, value, frame)


def _module(expr: tree.Expr, frame: Frame, path: str | None) -> Module:
    """What stands after an arrow: a call is a fresh copy at ``path``, a name the shared module itself."""
    value = evaluate(expr, frame, path)
    if isinstance(value, Module):
        return value
    parts = dotted(expr)
    if isinstance(value, Tensor):
        raise stop(
            "not-a-module",
            expr.span,
            f"a tensor flows into components, and `{'.'.join(parts) if parts else 'this'}` is {describe(value)}",
            "combine tensors with `+`, or `[a, b] -> Concat()`",
        )
    raise stop(
        "not-a-module", expr.span, f"expected a component after the arrow, got {describe(value)}", "write `A(…)`"
    )


def _chain(expr: tree.Flow, source: Module, frame: Frame, path: str | None) -> Module:
    made_here = source.path == path
    repeats = isinstance(source.recipe, ChainRecipe) and isinstance(expr.source, tree.Binary)
    counts = [_count(step, frame) for step in expr.steps]
    parts: list[Module] = list(source.recipe.parts) if repeats and isinstance(source.recipe, ChainRecipe) else []
    if not repeats:
        parts = [source.copy(element_path(path, 0)) if made_here else source]
    for step, count in zip(expr.steps, counts, strict=True):
        if step.name is not None or step.each:
            raise stop(
                "named-in-module",
                step.span,
                "a chain without a source is a module: it has no tensors to name or map",
                "let something flow in, or remove `as` and `each`",
            )
        for _ in range(count):
            parts.append(_module(step.component, frame, element_path(path, len(parts))))
    return Module(ChainRecipe(tuple(parts)), path, expr.span)


def apply(module: Module, value: Any, expr: tree.Expr, frame: Frame) -> Any:
    """What a module makes of ``value``. Its state is built by the first application and shared by later ones."""
    if isinstance(value, Poison):
        raise Stop
    module.uses += 1
    reuse = frame.reuse or module.uses > 1
    if isinstance(module.recipe, ChainRecipe):
        for part in module.recipe.parts:
            again = Frame(frame.context, frame.file, frame.path, frame.vars, frame.parent, reuse, frame.block)
            value = apply(part, value, expr, again)
        return value
    frame.context.spend(expr.span)
    if isinstance(module.recipe, OpRecipe):
        return _apply_op(module, module.recipe, value, expr, frame, reuse)
    return apply_block(module, value, expr, frame, reuse)


def _apply_op(module: Module, recipe: OpRecipe, value: Any, expr: tree.Expr, frame: Frame, reuse: bool) -> Any:
    op, name = recipe.op, type(recipe.op).__name__
    if op.flows == "list":
        if not isinstance(value, tuple) or not all(isinstance(v, Tensor) for v in value):
            if isinstance(value, tuple) and any(isinstance(v, Poison) for v in value):
                raise Stop
            raise stop(
                "not-a-list",
                expr.span,
                f"`{name}` takes a list of tensors, got {describe(value)}",
                f"write `[a, b] -> {name}()`",
            )
        flowing = list(value)
    else:
        if not isinstance(value, Tensor):
            help = "map the list: `-> each A(…)`" if isinstance(value, tuple) else "let a tensor flow in"
            raise stop("not-a-tensor", expr.span, f"`{name}` takes one tensor, got {describe(value)}", help)
        flowing = [value]
    operands = [*flowing, *recipe.operands]
    try:
        shape = op.infer([o.shape for o in operands], frame.context.env)
    except ShapeError as error:
        raise _misfit(error, operands, expr, frame) from None
    here = Frame(frame.context, frame.file, frame.path, {}, None, reuse, frame.block)
    result = frame.context.emit(op, operands, shape, module.path, here, expr.span)
    if not isinstance(op, Split):
        return result
    items = []
    for position, channels in enumerate(op.sizes):
        item = Item.trusted({"index": position, "channels": channels})
        inner = item.infer([shape], frame.context.env)
        items.append(frame.context.emit(item, [result], inner, join(result.path, str(position)), here, expr.span))
    return tuple(items)


OWN_FAULT = (
    "even-kernel-needs-padding", "kernel-too-small", "nearest-has-no-corners", "operand-count", "target-size-unclear",
)  # fmt: skip
"""What an op's arguments alone decide, whatever flows in."""


def _misfit(error: ShapeError, operands: list[Tensor], expr: tree.Expr, frame: Frame) -> Stop:
    if error.divisor and frame.context.size_failed:
        return Stop()
    labels = [Label(o.span, f"{show(o.shape)} comes from here") for o in operands[error.operand : error.operand + 1]]
    labels = [] if error.slug in OWN_FAULT else labels
    size = frame.context.size_span
    if error.divisor and size is not None and not in_library(size):
        return stop(error.slug, size, error.message, error.help, labels=[Label(expr.span, "needed by this"), *labels])
    return stop(error.slug, expr.span, error.message, error.help, labels=labels)
