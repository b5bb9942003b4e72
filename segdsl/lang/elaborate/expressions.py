"""Evaluation of literals, names, lists and conditions, all of it at compile time."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Fix, Label, Span, find_closest_name, match_name, suggest_name
from segdsl.diagnostics.aliases import describe_difference
from segdsl.ir.values import UNITS, Quantity, Range, Size, format_number
from segdsl.ir.word import REGISTRY, Word
from segdsl.lang.elaborate.context import Frame, check_magnitude, evaluate_expr, register_evaluator
from segdsl.lang.elaborate.files import suggest_definition
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import (
    POISON,
    EvalStop,
    Poison,
    Tensor,
    describe_value,
    element_path,
    eval_error,
)
from segdsl.syntax import tree
from segdsl.syntax.recursion import call_deeply
from segdsl.text.plural import format_count


@register_evaluator(tree.Constant)
def evaluate_constant(expr: tree.Constant, frame: Frame, path: str | None) -> Any:
    return check_magnitude(expr.value, expr.span)


@register_evaluator(tree.SizeLiteral)
def evaluate_size(expr: tree.SizeLiteral, frame: Frame, path: str | None) -> Size:
    return Size(check_magnitude(expr.height, expr.span), check_magnitude(expr.width, expr.span))


@register_evaluator(tree.QuantityLiteral)
def evaluate_quantity(expr: tree.QuantityLiteral, frame: Frame, path: str | None) -> Quantity:
    unit = expr.unit
    if unit.name not in UNITS:
        near = find_closest_name(unit.name, UNITS)
        raise eval_error(
            "unknown-unit",
            unit.span,
            f"unknown unit `{unit.name}`",
            f"did you mean `{near}`?" if near else "use one of " + ", ".join(f"`{u}`" for u in UNITS),
        )
    return Quantity(check_magnitude(expr.value, expr.span), unit.name)


@register_evaluator(tree.RangeExpr)
def evaluate_range(expr: tree.RangeExpr, frame: Frame, path: str | None) -> Range:
    low: Any = evaluate_expr(expr.low, frame, path)
    high: Any = evaluate_expr(expr.high, frame, path)
    unit = None
    if isinstance(low, Quantity) and isinstance(high, Quantity):
        if low.unit != high.unit:
            message = f"the ends of this range have different units: `{low.unit}` and `{high.unit}`"
            raise eval_error("range-mixed", expr.span, message, "use one unit for both ends")
        unit = low.unit
        low, high = low.value, high.value
    ends: tuple[Any, Any] = (low, high)
    for end, part in zip(ends, (expr.low, expr.high), strict=True):
        if isinstance(end, bool) or not isinstance(end, (int, float)):
            raise eval_error(
                "range-mixed",
                part.span,
                f"a range needs two numbers, both with a unit or both without; this end is {describe_value(end)}",
                "write a range such as `0.2..1.0` or `-10 deg..10 deg`",
            )
    if ends[0] > ends[1]:
        message = f"the lower end {format_number(ends[0])} of this range exceeds the upper end {format_number(ends[1])}"
        raise eval_error("range-reversed", expr.span, message, f"write `{Range(ends[1], ends[0], unit)}`")
    return Range(float(ends[0]), float(ends[1]), unit)


@register_evaluator(tree.Name)
def evaluate_name(expr: tree.Name, frame: Frame, path: str | None) -> Any:
    try:
        return frame.look_up(expr.name)
    except KeyError:
        pass
    if expr.name in frame.file.lets:
        return evaluate_file_let(expr.name, frame, expr.span)
    # Outside of blocks, a name may also be a section. Inside, `path-in-block` explains why it may not.
    if frame.block is None and frame.context.is_path(expr.name):
        return frame.context.resolve((expr.name,), expr.span)
    if frame.file.find_component(expr.name) or expr.name in REGISTRY:
        raise eval_error(
            "component-not-built",
            expr.span,
            f"`{expr.name}` is missing its parentheses",
            f"write `{expr.name}(…)`",
        )
    # The name may be bound in the part of the file that did not parse.
    if frame.file.has_syntax_errors:
        raise EvalStop
    known = [*frame.list_local_names(), *frame.file.lets]
    later = find_later_binding(expr.name, frame)
    if later is not None:
        raise eval_error(
            "unknown-name",
            expr.span,
            f"`{expr.name}` is used before it is defined",
            "move its definition above this line",
            labels=[Label(later.span, "defined here")],
        )
    help = suggest_name(expr.name, known, "names") if known else f"define it first: `let {expr.name} = …`"
    if frame.block is None and not (known and help.startswith("did")):
        help += f'; if it is a string, quote it: `"{expr.name}"`'
    raise eval_error("unknown-name", expr.span, f"unknown name `{expr.name}`", help)


def find_later_binding(name: str, frame: Frame) -> tree.Ident | None:
    """Return the binding of ``name`` anywhere in the block of ``frame``, or None."""
    for statement in frame.block.tree.body if frame.block else ():
        for ident in collect_bindings(statement):
            if ident.name == name:
                return ident
    return None


def collect_bindings(statement: tree.Statement) -> list[tree.Ident]:
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


def evaluate_file_let(name: str, frame: Frame, use_span: Span) -> Any:
    """Return the value of a `let` of the file, which is computed once. Raises :class:`EvalStop` for a cycle."""
    file = frame.file
    if name not in file.values:
        let = file.lets[name]
        # Lets may be in any order, so a cycle shows only when evaluation comes back here. Ellipsis marks a value that
        # is being computed; the language has no such value.
        file.values[name] = Ellipsis
        try:
            file.values[name] = call_deeply(lambda: evaluate_expr(let.value, Frame(frame.context, file), ""))
        except EvalStop as signal:
            file.values[name] = POISON
            if signal.diagnostic:
                frame.context.report(signal.diagnostic)
    value = file.values[name]
    if value is Ellipsis:
        file.values[name] = POISON
        ident = file.lets[name].name
        help = "break the cycle with a constant value"
        labels = [Label(use_span, "used again here")]
        raise eval_error("value-cycle", ident.span, f"`{name}` is defined in terms of itself", help, labels=labels)
    if isinstance(value, Poison):
        raise EvalStop
    return value


def get_dotted_parts(expr: tree.Expr) -> tuple[str, ...] | None:
    """Return the parts of `a.b.c`, or None for any other expression."""
    if isinstance(expr, tree.Name):
        return (expr.name,)
    if isinstance(expr, tree.Attribute):
        head = get_dotted_parts(expr.value)
        return None if head is None else (*head, expr.name.name)
    return None


def get_bare_text(expr: tree.Expr, frame: Frame) -> str | None:
    """Return the text of a free name or of a dotted path, or None for any other expression."""
    if isinstance(expr, tree.Name) and frame.is_bound(expr.name):
        return None
    parts = get_dotted_parts(expr)
    return ".".join(parts) if parts else None


@register_evaluator(tree.Attribute)
def evaluate_attribute(expr: tree.Attribute, frame: Frame, path: str | None) -> Any:
    parts = get_dotted_parts(expr)
    local = parts is None or parts[0] in frame.list_local_names() or parts[0] in frame.file.lets
    if parts is not None and not local and frame.context.is_path(parts[0]):
        if frame.block is not None:
            raise eval_error(
                "path-in-block",
                expr.span,
                f"a block cannot read `{'.'.join(parts)}`, because its value differs between programs",
                "add a parameter to the block and pass the value where the block is used",
            )
        return frame.context.resolve(parts, expr.span)
    value = evaluate_expr(expr.value, frame, path)
    return _read_property(value, expr)


def _read_property(value: Any, expr: tree.Attribute) -> Any:
    wish, span = expr.name.name, expr.name.span
    if isinstance(value, Size) and wish in ("height", "width"):
        return getattr(value, wish)
    if not isinstance(value, Tensor):
        raise eval_error(
            "no-such-property",
            span,
            f"{describe_value(value)} has no `.{wish}`",
            "use properties of tensors and sizes only",
        )
    properties: dict[str, Any] = {"shape": value.shape, "channels": value.channels}
    if len(value.shape) == 4:
        properties |= {"height": value.shape[2], "width": value.shape[3]}
    elif len(value.shape) == 3:
        properties["length"] = value.shape[1]
    if wish not in properties:
        raise eval_error(
            "no-such-property",
            span,
            f"{describe_value(value)} has no `.{wish}`",
            suggest_name(wish, properties, "properties"),
        )
    return properties[wish]


@register_evaluator(tree.Index)
def evaluate_index(expr: tree.Index, frame: Frame, path: str | None) -> Any:
    values, position = evaluate_expr(expr.value, frame, path), evaluate_expr(expr.index, frame, path)
    if not isinstance(values, tuple):
        raise eval_error(
            "not-a-list",
            expr.value.span,
            f"only a list can be indexed, but this is {describe_value(values)}",
            "remove the index",
        )
    if isinstance(position, bool) or not isinstance(position, int):
        message = f"an index must be an integer, got {describe_value(position)}"
        raise eval_error("wrong-type", expr.index.span, message, "use 0, 1, 2, …")
    if not 0 <= position < len(values):
        raise _index_range_error(values, position, expr, frame)
    # Only this element is needed: a list with one failed element still serves the others.
    if values[position] is POISON:
        raise EvalStop
    return values[position]


def _index_range_error(values: tuple[Any, ...], position: int, expr: tree.Index, frame: Frame) -> EvalStop:
    count, parts = len(values), get_dotted_parts(expr.value)
    name = f"`{'.'.join(parts)}`" if parts else "the list"
    message = f"index {position} is out of range: {name} has {format_count(count, 'element')}"
    help = "use `0`" if count == 1 else f"use an index from 0 to {count - 1}" if count else "add elements to the list"
    if position < 0 and count:
        help += f", or `last({'.'.join(parts) if parts else 'xs'})` for the last element"
    # The list is often an argument of the block, and the caller passed one of the wrong length.
    origin = frame.find_origin(expr.value)
    labels = [Label(origin, f"{format_count(count, 'element')} here")] if origin != expr.value.span else []
    return eval_error("index-out-of-range", expr.index.span, message, help, labels=labels)


@register_evaluator(tree.If)
def evaluate_if(expr: tree.If, frame: Frame, path: str | None) -> Any:
    return evaluate_expr(expr.then if evaluate_condition(expr.test, frame) else expr.other, frame, path)


def evaluate_condition(expr: tree.Expr, frame: Frame) -> bool:
    """Return the value of a condition. Raises :class:`EvalStop` unless it is `true` or `false`."""
    value = evaluate_expr(expr, frame, None)
    if not isinstance(value, bool):
        help = (
            "compare it with a value: `x > 0`"
            if not isinstance(value, Tensor)
            else "test its shape instead: `x.channels == 48`"
        )
        raise eval_error(
            "wrong-type", expr.span, f"a condition must be `true` or `false`, got {describe_value(value)}", help
        )
    return value


@register_evaluator(tree.ListExpr)
def evaluate_list(expr: tree.ListExpr, frame: Frame, path: str | None) -> tuple[Any, ...]:
    values = tuple(evaluate_expr(item, frame, element_path(path, i)) for i, item in enumerate(expr.items))
    return frame.context.charge_list(values, expr.span)


@register_evaluator(tree.Comprehension)
def evaluate_comprehension(expr: tree.Comprehension, frame: Frame, path: str | None) -> tuple[Any, ...]:
    source = evaluate_expr(expr.source, frame, path)
    if not isinstance(source, tuple):
        message = f"`for` iterates over a list, but this is {describe_value(source)}"
        raise eval_error("not-a-list", expr.source.span, message, "use a list, such as `range(n)`")
    carried = evaluate_expr(expr.start, frame, path) if expr.start is not None else None
    results: list[Any] = []
    for position, item in enumerate(source):
        inner = frame.make_child()
        _bind_targets(expr, item, inner)
        if expr.carry is not None:
            inner.vars[expr.carry.name] = carried
        # Nested comprehensions multiply; an element costs as much of the budget as an application.
        frame.context.charge_application(expr.span)
        carried = evaluate_expr(expr.element, inner, element_path(path, position))
        results.append(carried)
    return frame.context.charge_list(tuple(results), expr.span)


def _bind_targets(expr: tree.Comprehension, item: Any, frame: Frame) -> None:
    targets = expr.targets
    items = (item,) if len(targets) == 1 else item
    if not isinstance(items, tuple) or len(items) != len(targets):
        got = format_count(len(items), "value") if isinstance(items, tuple) else describe_value(item)
        raise eval_error(
            "unpacking",
            targets[0].span.extend_to(targets[-1].span),
            f"cannot unpack {got} into {len(targets)} names",
            "iterate over pairs with `zip(…)` or `enumerate(…)`, and use one name per value",
        )
    for target, value in zip(targets, items, strict=True):
        if target.name in frame.list_local_names():
            known = find_later_binding(target.name, frame)
            raise eval_error(
                "rebinding",
                target.span,
                f"`{target.name}` is already defined",
                "choose another name; a name is defined only once",
                labels=[Label(known.span, "first defined here")] if known else [],
            )
        frame.vars[target.name] = value


def unknown_component_error(func: tree.Expr, frame: Frame, *, wants_model: bool = False) -> EvalStop:
    """Return the error for a component that is not defined in scope; ``wants_model`` restricts the help to models."""
    # Parts of the file or its imports could not be read, and the component may be defined there.
    if frame.file.is_incomplete:
        return EvalStop()
    parts = get_dotted_parts(func) or ("?",)
    if len(parts) == 2:
        known = (
            list(frame.file.namespaces[parts[0]].blocks)
            if parts[0] in frame.file.namespaces
            else list(frame.file.namespaces)
        )
    else:
        known = frame.file.list_component_names()
    wrong = parts[-1]
    near = find_closest_name(wrong, known) or match_name(wrong, frame.file.list_component_names())
    diagnostic = eval_error(
        "unknown-component",
        func.span,
        f"unknown component `{'.'.join(parts)}`",
        suggest_definition(wrong, near, wants_model=wants_model),
    )
    # No automatic fix for a foreign name with other arguments, nor for `conv` as `Conv`: lower case is a function.
    if near and not describe_difference(wrong) and diagnostic.diagnostic and len(parts) == 1 and wrong[:1] == near[:1]:
        from dataclasses import replace

        diagnostic.diagnostic = replace(diagnostic.diagnostic, fix=Fix(func.span, near))
    return diagnostic


def lookup_component(func: tree.Expr, frame: Frame) -> BlockDef | type | None:
    """Return the block or word that a call names, or None."""
    return lookup_component_in_file(func, frame.file)


def is_word_call(call: tree.Call, family: type[Word], frame: Frame) -> bool:
    """Return whether a call builds a word of a family."""
    word = lookup_component(call.func, frame)
    return isinstance(word, type) and issubclass(word, family)


def lookup_component_in_file(func: tree.Expr, file: FileScope) -> BlockDef | type | None:
    """Return the block or word that ``func`` names in a file, or None."""
    parts = get_dotted_parts(func)
    if parts is None:
        return None
    if len(parts) == 1:
        return file.find_component(parts[0]) or REGISTRY.get(parts[0])
    if len(parts) == 2 and parts[0] in file.namespaces:
        return file.namespaces[parts[0]].find_component(parts[1])
    return None
