"""Evaluation of literals, names, lists and conditions, all of it at compile time."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Fix, Label, Span, called, nearest, suggest
from segdsl.diagnostics.foreign import difference
from segdsl.ir.shape import Dim
from segdsl.ir.values import UNITS, Quantity, Range, Size, number
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate.context import Frame, bounded, evaluate, handles
from segdsl.lang.elaborate.files import FileScope, undefined
from segdsl.lang.elaborate.values import POISON, BlockDef, Module, Poison, Stop, Tensor, describe, element_path, stop
from segdsl.syntax import tree


@handles(tree.Constant)
def constant(expr: tree.Constant, frame: Frame, path: str | None) -> Any:
    return bounded(expr.value, expr.span)


@handles(tree.SizeLiteral)
def size(expr: tree.SizeLiteral, frame: Frame, path: str | None) -> Size:
    return Size(bounded(expr.height, expr.span), bounded(expr.width, expr.span))


@handles(tree.QuantityLiteral)
def quantity(expr: tree.QuantityLiteral, frame: Frame, path: str | None) -> Quantity:
    unit = expr.unit
    if unit.name not in UNITS:
        near = nearest(unit.name, UNITS)
        raise stop(
            "unknown-unit",
            unit.span,
            f"unknown unit `{unit.name}`",
            f"did you mean `{near}`?" if near else "use one of " + ", ".join(f"`{u}`" for u in UNITS),
        )
    return Quantity(bounded(expr.value, expr.span), unit.name)


@handles(tree.RangeExpr)
def range_(expr: tree.RangeExpr, frame: Frame, path: str | None) -> Range:
    low: Any = evaluate(expr.low, frame, path)
    high: Any = evaluate(expr.high, frame, path)
    unit = None
    if isinstance(low, Quantity) and isinstance(high, Quantity):
        if low.unit != high.unit:
            message = f"the ends of this range have different units: `{low.unit}` and `{high.unit}`"
            raise stop("range-mixed", expr.span, message, "use one unit for both ends")
        unit = low.unit
        low, high = low.value, high.value
    ends: tuple[Any, Any] = (low, high)
    for end, part in zip(ends, (expr.low, expr.high), strict=True):
        if isinstance(end, bool) or not isinstance(end, (int, float)):
            raise stop(
                "range-mixed",
                part.span,
                f"a range needs two numbers, both with a unit or both without; this end is {describe(end)}",
                "write a range such as `0.2..1.0` or `-10 deg..10 deg`",
            )
    if ends[0] > ends[1]:
        message = f"the lower end {number(ends[0])} of this range exceeds the upper end {number(ends[1])}"
        raise stop("range-reversed", expr.span, message, f"write `{Range(ends[1], ends[0], unit)}`")
    return Range(float(ends[0]), float(ends[1]), unit)


@handles(tree.Name)
def name(expr: tree.Name, frame: Frame, path: str | None) -> Any:
    try:
        return frame.find(expr.name)
    except KeyError:
        pass
    if expr.name in frame.file.lets:
        return file_let(expr.name, frame, expr.span)
    # Outside of blocks, a name may also be a section. Inside, `path-in-block` explains why it may not.
    if frame.block is None and frame.context.is_path(expr.name):
        return frame.context.resolve((expr.name,), expr.span)
    if frame.file.component(expr.name) or expr.name in REGISTRY:
        raise stop(
            "component-not-built",
            expr.span,
            f"`{expr.name}` is missing its parentheses",
            f"write `{expr.name}(…)`",
        )
    # The name may be bound in the part of the file that did not parse.
    if frame.file.torn:
        raise Stop
    known = [*frame.local_names(), *frame.file.lets]
    later = bound_later(expr.name, frame)
    if later is not None:
        raise stop(
            "unknown-name",
            expr.span,
            f"`{expr.name}` is used before it is defined",
            "move its definition above this line",
            labels=[Label(later.span, "defined here")],
        )
    help = suggest(expr.name, known, "names") if known else f"define it first: `let {expr.name} = …`"
    if frame.block is None and not (known and help.startswith("did")):
        help += f'; if it is a string, quote it: `"{expr.name}"`'
    raise stop("unknown-name", expr.span, f"unknown name `{expr.name}`", help)


def bound_later(name: str, frame: Frame) -> tree.Ident | None:
    """Return the binding of ``name`` anywhere in the block of ``frame``, or None."""
    for statement in frame.block.tree.body if frame.block else ():
        for ident in bound_names(statement):
            if ident.name == name:
                return ident
    return None


def bound_names(statement: tree.Statement) -> list[tree.Ident]:
    """Return the names that a statement of a block binds: its own, and those of its named steps."""
    own: list[tree.Ident] = []
    value = getattr(statement, "value", None)
    if isinstance(value, tree.Flow):
        own += [s.name for s in value.steps if s.name is not None]
    if isinstance(statement, (tree.In, tree.Let, tree.Param, tree.Out)):
        own.append(statement.name)
    elif isinstance(statement, tree.Assign):
        own.append(statement.path[0])
    return own


def file_let(name: str, frame: Frame, asked: Span) -> Any:
    """Return the value of a `let` of the file, which is computed once. Raises :class:`EvalStop` for a cycle."""
    file = frame.file
    if name not in file.values:
        let = file.lets[name]
        # Lets may be in any order, so a cycle shows only when evaluation comes back here. Ellipsis marks a value that
        # is being computed; the language has no such value.
        file.values[name] = Ellipsis
        try:
            file.values[name] = evaluate(let.value, Frame(frame.context, file), "")
        except Stop as signal:
            file.values[name] = POISON
            if signal.diagnostic:
                frame.context.report(signal.diagnostic)
    value = file.values[name]
    if value is Ellipsis:
        file.values[name] = POISON
        ident = file.lets[name].name
        help = "break the cycle with a constant value"
        labels = [Label(asked, "used again here")]
        raise stop("value-cycle", ident.span, f"`{name}` is defined in terms of itself", help, labels=labels)
    if isinstance(value, Poison):
        raise Stop
    return value


def dotted(expr: tree.Expr) -> tuple[str, ...] | None:
    """Return the parts of `a.b.c`, or None for any other expression."""
    if isinstance(expr, tree.Name):
        return (expr.name,)
    if isinstance(expr, tree.Attribute):
        head = dotted(expr.value)
        return None if head is None else (*head, expr.name.name)
    return None


@handles(tree.Attribute)
def attribute(expr: tree.Attribute, frame: Frame, path: str | None) -> Any:
    parts = dotted(expr)
    local = parts is None or parts[0] in frame.local_names() or parts[0] in frame.file.lets
    if parts is not None and not local and frame.context.is_path(parts[0]):
        if frame.block is not None:
            raise stop(
                "path-in-block",
                expr.span,
                f"a block cannot read `{'.'.join(parts)}`, because its value differs between programs",
                "add a parameter to the block and pass the value where the block is used",
            )
        return frame.context.resolve(parts, expr.span)
    value = evaluate(expr.value, frame, path)
    return _property(value, expr)


def _property(value: Any, expr: tree.Attribute) -> Any:
    wish, span = expr.name.name, expr.name.span
    if isinstance(value, Size) and wish in ("height", "width"):
        return getattr(value, wish)
    if not isinstance(value, Tensor):
        raise stop(
            "no-such-property", span, f"{describe(value)} has no `.{wish}`", "use properties of tensors and sizes only"
        )
    properties: dict[str, Any] = {"shape": value.shape, "channels": value.channels}
    if len(value.shape) == 4:
        properties |= {"height": value.shape[2], "width": value.shape[3]}
    elif len(value.shape) == 3:
        properties["length"] = value.shape[1]
    if wish not in properties:
        raise stop(
            "no-such-property", span, f"{describe(value)} has no `.{wish}`", suggest(wish, properties, "properties")
        )
    return properties[wish]


@handles(tree.Index)
def index(expr: tree.Index, frame: Frame, path: str | None) -> Any:
    values, position = evaluate(expr.value, frame, path), evaluate(expr.index, frame, path)
    if not isinstance(values, tuple):
        raise stop(
            "not-a-list",
            expr.value.span,
            f"only a list can be indexed, but this is {describe(values)}",
            "remove the index",
        )
    if isinstance(position, bool) or not isinstance(position, int):
        message = f"an index must be an integer, got {describe(position)}"
        raise stop("wrong-type", expr.index.span, message, "use 0, 1, 2, …")
    if not 0 <= position < len(values):
        raise _beyond(values, position, expr, frame)
    # Only this element is needed: a list with one failed element still serves the others.
    if values[position] is POISON:
        raise Stop
    return values[position]


def _beyond(values: tuple[Any, ...], position: int, expr: tree.Index, frame: Frame) -> Stop:
    count, parts = len(values), dotted(expr.value)
    name = f"`{'.'.join(parts)}`" if parts else "the list"
    message = f"index {position} is out of range: {name} has {count} element{'s' * (count != 1)}"
    help = "use `0`" if count == 1 else f"use an index from 0 to {count - 1}" if count else "add elements to the list"
    if position < 0 and count:
        help += f", or `last({'.'.join(parts) if parts else 'xs'})` for the last element"
    # The list is often an argument of the block, and the caller passed one of the wrong length.
    origin = frame.origin(expr.value)
    labels = [Label(origin, f"{count} element{'s' * (count != 1)} here")] if origin != expr.value.span else []
    return stop("index-out-of-range", expr.index.span, message, help, labels=labels)


@handles(tree.If)
def if_(expr: tree.If, frame: Frame, path: str | None) -> Any:
    return evaluate(expr.then if truth(expr.test, frame) else expr.other, frame, path)


def truth(expr: tree.Expr, frame: Frame) -> bool:
    """Return the value of a condition. Raises :class:`EvalStop` unless it is `true` or `false`."""
    value = evaluate(expr, frame, None)
    if not isinstance(value, bool):
        help = (
            "compare it with a value: `x > 0`"
            if not isinstance(value, Tensor)
            else "test its shape instead: `x.channels == 48`"
        )
        raise stop("wrong-type", expr.span, f"a condition must be `true` or `false`, got {describe(value)}", help)
    return value


@handles(tree.ListExpr)
def list_(expr: tree.ListExpr, frame: Frame, path: str | None) -> tuple[Any, ...]:
    values = tuple(evaluate(item, frame, element_path(path, i)) for i, item in enumerate(expr.items))
    return frame.context.held(values, expr.span)


@handles(tree.Comprehension)
def comprehension(expr: tree.Comprehension, frame: Frame, path: str | None) -> tuple[Any, ...]:
    source = evaluate(expr.source, frame, path)
    if not isinstance(source, tuple):
        message = f"`for` iterates over a list, but this is {describe(source)}"
        raise stop("not-a-list", expr.source.span, message, "use a list, such as `range(n)`")
    carried = evaluate(expr.start, frame, path) if expr.start is not None else None
    results: list[Any] = []
    for position, item in enumerate(source):
        inner = frame.child()
        _bind_targets(expr, item, inner)
        if expr.carry is not None:
            inner.vars[expr.carry.name] = carried
        # Nested comprehensions multiply; an element costs as much of the budget as an application.
        frame.context.spend(expr.span)
        carried = evaluate(expr.element, inner, element_path(path, position))
        results.append(carried)
    return frame.context.held(tuple(results), expr.span)


def _bind_targets(expr: tree.Comprehension, item: Any, frame: Frame) -> None:
    targets = expr.targets
    items = (item,) if len(targets) == 1 else item
    if not isinstance(items, tuple) or len(items) != len(targets):
        got = f"{len(items)} value{'s' * (len(items) != 1)}" if isinstance(items, tuple) else describe(item)
        raise stop(
            "unpacking",
            targets[0].span.to(targets[-1].span),
            f"cannot unpack {got} into {len(targets)} names",
            "iterate over pairs with `zip(…)` or `enumerate(…)`, and use one name per value",
        )
    for target, value in zip(targets, items, strict=True):
        if target.name in frame.local_names():
            known = bound_later(target.name, frame)
            raise stop(
                "rebinding",
                target.span,
                f"`{target.name}` is already defined",
                "choose another name; a name is defined only once",
                labels=[Label(known.span, "first defined here")] if known else [],
            )
        frame.vars[target.name] = value


def unknown_component(func: tree.Expr, frame: Frame, *, model: bool = False) -> Stop:
    """Return the error for a component that is not defined in scope; ``wants_model`` restricts the help to models."""
    # Parts of the file or its imports could not be read, and the component may be defined there.
    if frame.file.incomplete:
        return Stop()
    parts = dotted(func) or ("?",)
    if len(parts) == 2:
        known = list(frame.file.spaces[parts[0]].blocks) if parts[0] in frame.file.spaces else list(frame.file.spaces)
    else:
        known = frame.file.component_names()
    wrong = parts[-1]
    near = nearest(wrong, known) or called(wrong, frame.file.component_names())
    diagnostic = stop(
        "unknown-component",
        func.span,
        f"unknown component `{'.'.join(parts)}`",
        undefined(wrong, near, model=model),
    )
    # No automatic fix for a foreign name with other arguments, nor for `conv` as `Conv`: lower case is a function.
    if near and not difference(wrong) and diagnostic.diagnostic and len(parts) == 1 and wrong[:1] == near[:1]:
        from dataclasses import replace

        diagnostic.diagnostic = replace(diagnostic.diagnostic, fix=Fix(func.span, near))
    return diagnostic


def lookup_component(func: tree.Expr, frame: Frame) -> BlockDef | type | None:
    """Return the block or word that a call names, or None."""
    return component_in(func, frame.file)


def component_in(func: tree.Expr, file: FileScope) -> BlockDef | type | None:
    """Return the block or word that ``func`` names in a file, or None."""
    parts = dotted(func)
    if parts is None:
        return None
    if len(parts) == 1:
        return file.component(parts[0]) or REGISTRY.get(parts[0])
    if len(parts) == 2 and parts[0] in file.spaces:
        return file.spaces[parts[0]].component(parts[1])
    return None


__all__ = [
    "Dim",
    "Module",
    "bound_later",
    "bound_names",
    "component_in",
    "dotted",
    "lookup_component",
    "truth",
    "unknown_component",
]
