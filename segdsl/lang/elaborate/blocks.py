"""Elaboration of blocks: their parameters, their inputs, and the statements of their bodies in order."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Diagnostic, Label, Span, suggest_name
from segdsl.ir.graph import Initializer, ShapeError
from segdsl.ir.shape import Dim, Extent, ceil_div, format_shape
from segdsl.ir.values import Quantity, Range, Size
from segdsl.lang.convert.fields import convert_word
from segdsl.lang.elaborate.arguments import ArgumentExpr, match_arguments
from segdsl.lang.elaborate.context import (
    ANONYMOUS,
    NESTING_BUDGET,
    Frame,
    check_magnitude,
    emit_node,
    evaluate_expr,
    is_in_library,
)
from segdsl.lang.elaborate.expressions import collect_bindings
from segdsl.lang.elaborate.files import rebinding_error
from segdsl.lang.elaborate.memo import record_application, replay_application
from segdsl.lang.elaborate.scopes import BlockDef
from segdsl.lang.elaborate.values import (
    POISON,
    BlockRecipe,
    EvalStop,
    Module,
    Poison,
    Tensor,
    copy_modules,
    describe_value,
    eval_error,
    join_path,
)
from segdsl.ops.parameter import Parameter
from segdsl.syntax import tree
from segdsl.syntax.recursion import call_deeply

PARAMETER_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "`true` or `false`"),
    "string": ((str,), "a string in quotes"),
    "size": ((Size,), "a size such as `3x3`"),
    "range": ((Range,), "a range such as `0.2..1.0`"),
    "quantity": ((Quantity,), "a quantity such as `100 iters`"),
    "list": ((tuple,), "a list"),
    "module": ((Module,), "a module such as `ReLU()`"),
}
"""The types of block parameters: their Python types, and their names in messages."""
NOTE_HELP = "correct the note or the value"


def build_block_recipe(
    block: BlockDef, call: tree.Call, frame: Frame, argument_exprs: dict[str, ArgumentExpr] | None = None
) -> BlockRecipe:
    """Evaluate the arguments of a block in the caller's frame and check them against the declared types."""
    parameters = block.tree.parameters
    further = [i.name.name for i in block.list_inputs()[1:]]
    names = [p.name.name for p in parameters]
    bound = match_arguments(call, [*names, *further], block.name, frame) if argument_exprs is None else argument_exprs
    arguments: dict[str, Any] = {}
    spans: dict[str, Any] = {}
    for parameter in parameters:
        name = parameter.name.name
        if name in bound:
            expr, scope = bound[name]
        elif parameter.default is not None:
            # A default may use the parameters before it, and nothing of the caller.
            expr, scope = parameter.default, Frame(frame.context, block.file, "", dict(arguments), None, False, block)
        else:
            raise eval_error(
                "missing-argument",
                call.span,
                f"`{block.name}` is missing its argument `{name}`",
                f"pass it: `{block.name}({name} = …)`, {_lookup_parameter_type(parameter)[1]}",
                labels=[Label(parameter.span, "declared here without a default")],
            )
        arguments[name] = _check_parameter_type(evaluate_expr(expr, scope, ""), parameter, expr)
        spans[name] = scope.find_origin(expr)
    extra = {name: evaluate_expr(bound[name][0], bound[name][1], None) for name in further if name in bound}
    return BlockRecipe(block, arguments, spans, extra)


def _lookup_parameter_type(parameter: tree.Parameter) -> tuple[tuple[type, ...], str]:
    if parameter.type.name not in PARAMETER_TYPES:
        message = f"unknown type `{parameter.type.name}`"
        raise eval_error(
            "unknown-type", parameter.type.span, message, suggest_name(parameter.type.name, PARAMETER_TYPES, "types")
        )
    return PARAMETER_TYPES[parameter.type.name]


def _check_parameter_type(value: Any, parameter: tree.Parameter, expr: tree.Expr) -> Any:
    kinds, description = _lookup_parameter_type(parameter)
    # Python's bool is an int; a parameter of type `int` must still refuse `true`.
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if isinstance(value, kinds) and not wrong_bool:
        return float(value) if parameter.type.name == "float" else value
    means_square = Size in kinds and isinstance(value, int) and not wrong_bool
    help = f"write `{value}x{value}`" if means_square else f"pass {description}"
    message = f"`{parameter.name.name}` must be {description}, got {describe_value(value)}"
    raise eval_error("wrong-type", expr.span, message, help, labels=[Label(parameter.span, "declared here")])


def apply_block(module: Module, value: Any, expr: tree.Expr, caller: Frame, reuse: bool) -> Any:
    """Run the body of a block on ``value`` and return its output; bindings get paths below the module's path.

    ``reuse`` means that the module was applied before, so that its weights are shared instead of built.
    """
    recipe = module.recipe
    assert isinstance(recipe, BlockRecipe)
    block, context = recipe.block, caller.context
    if len(context.block_stack) >= NESTING_BUDGET:
        message = f"blocks are nested more than {NESTING_BUDGET} levels deep"
        raise eval_error("nesting-budget", expr.span, message, "flatten the blocks")
    context.charge_block(expr.span)
    path = join_path(caller.path, f"{ANONYMOUS}{block.name}") if module.path is None else module.path
    # A shared module adds no weights and an anonymous one has no path to copy to: neither can be replayed.
    copied = None if reuse or not path or ANONYMOUS in path else replay_application(context, recipe, path, value)
    if copied is not None:
        return _relocate_result(copied, expr.span)
    mark = (len(context.nodes), len(context.names), len(context.state))
    # A module may be made in one place and applied in another. Its faults belong where the author wrote it, unless
    # that is inside the library.
    context.block_stack.append((block, expr.span if is_in_library(module.span) else module.span))
    try:
        frame = Frame(context, block.file, path, {}, None, reuse, block, recipe.argument_spans)
        _bind_parameters(recipe, frame)
        _bind_inputs(recipe, value, expr, frame)
        result = call_deeply(lambda: run_body(block, frame))
    finally:
        context.block_stack.pop()
    if not reuse and path and ANONYMOUS not in path:
        record_application(context, mark, path, recipe, value, result)
    return _relocate_result(result, expr.span)


def _relocate_result(value: Any, span: Span) -> Any:
    # To its caller, the output of a block comes from the place where the block is applied, not from inside its body.
    if isinstance(value, Tensor):
        return Tensor(value.path, value.shape, span)
    return tuple(_relocate_result(item, span) for item in value) if isinstance(value, tuple) else value


def _bind_parameters(recipe: BlockRecipe, frame: Frame) -> None:
    for name, value in recipe.arguments.items():
        frame.context.charge_copies(value, recipe.block.tree.name.span)
        frame.vars[name] = copy_modules(value, frame.qualify_name(name))


def _bind_inputs(recipe: BlockRecipe, value: Any, expr: tree.Expr, frame: Frame) -> None:
    inputs = recipe.block.list_inputs()
    # The `in` may be in the part of the file that did not parse.
    if not inputs and recipe.block.file.has_syntax_errors:
        raise EvalStop
    if not inputs:
        raise eval_error(
            "block-without-input",
            expr.span,
            f"`{recipe.block.name}` declares no `in`, so it cannot take an input",
            "add `in x` to the block",
            labels=[Label(recipe.block.tree.name.span, "defined here")],
        )
    for position, declared in enumerate(inputs):
        name = declared.name.name
        if position and name not in recipe.extra_inputs:
            raise eval_error(
                "missing-argument",
                expr.span,
                f"`{recipe.block.name}` is missing its second input `{name}`"
                if position == 1
                else f"`{recipe.block.name}` is missing its input `{name}`",
                f"pass it by name: `{recipe.block.name}({name} = …)`",
                labels=[Label(declared.span, "declared here")],
            )
        input_value = recipe.extra_inputs[name] if position else value
        if isinstance(input_value, Poison):
            raise EvalStop
        bind_input(declared, input_value, expr, frame)


def bind_input(declaration: tree.In, value: Any, expr: tree.Expr, frame: Frame) -> None:
    """Bind an input of a block, and the free names of its shape note to the extents of ``value``."""
    wants_list = declaration.note is not None and declaration.note.dims is None
    if wants_list and not isinstance(value, tuple):
        message = f"`{declaration.name.name}` must be a list, got {describe_value(value)}"
        labels = [Label(declaration.span, "declared here")]
        raise eval_error("not-a-list", expr.span, message, "wrap it in brackets: `[x] -> …`", labels=labels)
    if not wants_list and declaration.note is not None and not isinstance(value, Tensor):
        message = f"`{declaration.name.name}` must be a tensor, got {describe_value(value)}"
        labels = [Label(declaration.span, "declared here")]
        raise eval_error(
            "not-a-tensor", expr.span, message, "apply the block to each element: `-> each A(…)`", labels=labels
        )
    frame.vars[declaration.name.name] = value
    if declaration.note is not None and declaration.note.dims is not None and isinstance(value, Tensor):
        match_shape_note(declaration.note, value, frame, f"`{declaration.name.name}`", expr)


def match_shape_note(
    note: tree.ShapeNote, tensor: Tensor, frame: Frame, subject: str, culprit: tree.Expr | None
) -> None:
    """Check a shape against a note.

    In the note of an input (``culprit`` is the expression that flows in), names without a value are bound. Everything
    else is an assertion.
    """
    assert note.dims is not None
    span = culprit.span if culprit is not None else note.span
    context_labels = (
        [Label(note.span, "declared here")]
        if culprit is not None
        else [Label(tensor.span, f"{format_shape(tensor.shape)} comes from here")]
    )
    if len(note.dims) != len(tensor.shape):
        message = f"{subject} has shape {format_shape(tensor.shape)}, but its note declares {len(note.dims)} dimensions"
        raise eval_error("shape-note-false", span, message, NOTE_HELP, labels=context_labels)
    for position, (dim, extent) in enumerate(zip(note.dims, tensor.shape, strict=True)):
        if culprit is not None and isinstance(dim, tree.Name) and dim.name not in frame.list_local_names():
            frame.vars[dim.name] = extent
            continue
        stated = evaluate_note_extent(dim, frame)
        # Extents are compared at the input size, since `H/4` and `H - 48` can be the same number. The batch has no
        # size of its own there, so it is compared as a symbol.
        same = (
            stated == extent
            if position == 0
            else frame.context.resolve_extent(stated) == frame.context.resolve_extent(extent)
        )
        if not same:
            message = (
                f"{subject} has shape {format_shape(tensor.shape)}, but its note declares {stated} instead of {extent}"
            )
            exact = span if culprit is not None else dim.span
            labels = [Label(dim.span, "declared here")] if culprit is not None else context_labels
            raise eval_error("shape-note-false", exact, message, NOTE_HELP, labels=labels)


def evaluate_note_extent(expr: tree.Expr, frame: Frame) -> Extent:
    """Evaluate an extent of a shape note; `/` rounds up, for plain numbers too."""
    if isinstance(expr, tree.Binary) and expr.op in ("/", "+", "-", "*"):
        left, right = evaluate_note_extent(expr.left, frame), evaluate_note_extent(expr.right, frame)
        if expr.op == "/":
            if not isinstance(right, int) or right < 1:
                message = "an extent can only be divided by a positive integer"
                raise eval_error("wrong-type", expr.right.span, message, "write a divisor such as in `H/4`")
            return ceil_div(left, right)
        extent = left + right if expr.op == "+" else left - right if expr.op == "-" else left * right
        return check_magnitude(extent, expr.span)
    value = evaluate_expr(expr, frame, None)
    if isinstance(value, bool) or not isinstance(value, (int, Dim)):
        message = f"an extent must be an integer, got {describe_value(value)}"
        raise eval_error("wrong-type", expr.span, message, "write an extent such as `48`, `C` or `H/4`")
    return value


def check_shape_note(note: tree.ShapeNote, value: Any, frame: Frame, name: tree.Ident) -> None:
    """Check the shape note of a binding or step."""
    if note.dims is None:
        if not isinstance(value, tuple):
            message = f"`{name.name}` is {describe_value(value)}, but its note declares a list"
            raise eval_error("shape-note-false", note.span, message, NOTE_HELP)
        return
    if not isinstance(value, Tensor):
        message = f"`{name.name}` is {describe_value(value)}, but its note declares a tensor"
        raise eval_error("shape-note-false", note.span, message, NOTE_HELP)
    match_shape_note(note, value, frame, f"`{name.name}`", None)


def run_body(block: BlockDef, frame: Frame) -> Any:
    """Run the statements of a block in order and return the value of its `out`."""
    result: Any = POISON
    outs = 0
    for statement in block.tree.body:
        if isinstance(statement, tree.Out):
            outs += 1
        try:
            value = _run_statement(statement, frame)
        except EvalStop as signal:
            # Report and go on, so that one run shows every independent error. Poisoned names keep the error from
            # causing others in the statements that use them.
            if signal.diagnostic:
                frame.context.report(signal.diagnostic)
            for ident in collect_bindings(statement):
                frame.vars.setdefault(ident.name, POISON)
            value = POISON
        if isinstance(statement, tree.Out) and outs == 1:
            result = value
    if block.file.has_syntax_errors and not outs:
        raise EvalStop
    if not outs:
        raise eval_error(
            "block-without-output",
            block.tree.name.span,
            f"`{block.name}` has no `out`",
            "declare its output: `out y = …`",
        )
    _check_unused_modules(frame)
    if isinstance(result, Poison) or any(isinstance(s, tree.ErrorStatement) for s in block.tree.body):
        raise EvalStop
    return result


def _run_statement(statement: tree.Statement, frame: Frame) -> Any:
    if isinstance(statement, (tree.Let, tree.Assign, tree.Out, tree.Param)):
        ident = collect_bindings(statement)[-1]
        if ident.name in frame.list_local_names():
            raise EvalStop(rebinding_error(ident, _find_first_binding(ident, frame)))
    if isinstance(statement, tree.Let):
        return bind_name(statement.name, evaluate_expr(statement.value, frame, frame.path), frame, record_path=False)
    if isinstance(statement, tree.Param):
        return _emit_parameter(statement, frame)
    if isinstance(statement, tree.Assign):
        name = statement.path[0]
        return bind_name(name, evaluate_expr(statement.value, frame, frame.qualify_name(name.name)), frame)
    if isinstance(statement, tree.Out):
        value = evaluate_expr(statement.value, frame, frame.path)
        if statement.note is not None:
            check_shape_note(statement.note, value, frame, statement.name)
        return bind_name(statement.name, value, frame)
    if isinstance(statement, tree.Run):
        return evaluate_expr(statement.value, frame, None)
    return None


def _emit_parameter(statement: tree.Param, frame: Frame) -> Tensor:
    dims = statement.note.dims
    if dims is None:
        raise eval_error(
            "shape-note-false", statement.note.span, "a `param` must be a tensor, not a list", "write a shape: `[C]`"
        )
    shape = tuple(evaluate_note_extent(d, frame) for d in dims)
    init = convert_word(statement.init, Initializer, frame)
    op, path = Parameter.build_unchecked({"shape": shape, "init": init}), frame.qualify_name(statement.name.name)
    try:
        op.infer_shape([], frame.context.env)
    except ShapeError as error:
        raise eval_error(error.slug, statement.note.span, error.message, error.help) from None
    tensor = emit_node(op, [], shape, path, frame, statement.span)
    return bind_name(statement.name, tensor, frame)


def bind_name(ident: tree.Ident, value: Any, frame: Frame, *, record_path: bool = True) -> Any:
    """Bind a name to a value, once. Unless it is a `let`, record the name for the tensors in the value."""
    if ident.name in frame.list_local_names():
        raise EvalStop(rebinding_error(ident, _find_first_binding(ident, frame)))
    frame.vars[ident.name] = value
    if record_path:
        record_binding(value, frame.qualify_name(ident.name), frame)
    return value


def _find_first_binding(ident: tree.Ident, frame: Frame) -> Span:
    block = frame.block
    if block is None:
        return ident.span
    idents = [p.name for p in block.tree.parameters] + [i for s in block.tree.body for i in collect_bindings(s)]
    notes = [s.note.span for s in block.tree.body if isinstance(s, tree.In) and s.note is not None]
    return next((i.span for i in idents if i.name == ident.name), notes[0] if notes else ident.span)


def record_binding(value: Any, path: str, frame: Frame) -> None:
    """Record which node a binding names, for lists element by element."""
    if isinstance(value, Tensor):
        frame.context.names.setdefault(path, value.path)
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            record_binding(item, f"{path}.{position}", frame)


def _check_unused_modules(frame: Frame) -> None:
    assert frame.block is not None
    # The use may be in a statement that failed or did not parse.
    if frame.file.has_syntax_errors or any(value is POISON for value in frame.vars.values()):
        return
    parameter_names = {p.name.name for p in frame.block.tree.parameters}
    for name, value in frame.vars.items():
        if name in parameter_names:
            continue
        for module in _collect_modules(value):
            if module.application_count == 0 and not module.is_copied and module.name != "Identity":
                frame.context.report(
                    Diagnostic(
                        "module-never-applied",
                        f"`{name}` holds {module.name}, which is never applied and so has no weights",
                        f"apply it (`x -> {name}`) or remove it",
                        span=module.span,
                        severity="warning",
                    )
                )


def _collect_modules(value: Any) -> list[Module]:
    if isinstance(value, Module):
        return [value]
    return [m for item in value for m in _collect_modules(item)] if isinstance(value, tuple) else []
