"""Elaboration of a program's model to its graph."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Span, suggest_name
from segdsl.ir.graph import Graph
from segdsl.ir.shape import make_symbol
from segdsl.ir.values import Size
from segdsl.lang.elaborate import expressions
from segdsl.lang.elaborate.blocks import bind_input, build_block_recipe, evaluate_note_extent, run_body
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import POISON, EvalStop, Module, Tensor, copy_modules, eval_error
from segdsl.lang.settings.merge import Settings, match_model_arguments
from segdsl.lang.settings.sections import SectionReader
from segdsl.syntax import tree

RGB_CHANNELS, MAX_CHANNELS = 3, 4096
"""The channels of an image if the model does not declare them, and the maximum that it may declare."""


def build_graph(settings: Settings, scope: FileScope, sections: SectionReader) -> Graph | None:
    """Return the graph of the program's model, or None if there is an error, which is reported."""
    context = sections.context
    setting = settings.values.get(("model",))
    try:
        if setting is None and scope.is_incomplete:
            raise EvalStop
        if setting is None:
            known = ", ".join(f"`{n}(…)`" for n in list_models(scope)[:4])
            end = Span(
                scope.name,
                max(len(sections.sink.sources.get(scope.name, "")) - 1, 0),
                len(sections.sink.sources.get(scope.name, "")),
            )
            help = (
                f"add `model = …`, using one of {known}"
                if known
                else "import a library and add `model = …(classes = len(data.classes))`"
            )
            raise eval_error("model-missing", end, "the program sets no model", help)
        module = _build_root_module(setting, context)
        return _elaborate_model(module, setting.expr, context, sections.read_input_size())
    except EvalStop as signal:
        if signal.diagnostic:
            context.report(signal.diagnostic)
        return None


def list_models(scope: FileScope) -> list[str]:
    """Return the names of the models in scope of a file and of those that it extends."""
    return [n for f in scope.list_lineage() for n, b in {**f.blocks, **f.imports}.items() if b.tree.kind == "model"]


def _build_root_module(setting: Any, context: Context) -> Module:
    frame = Frame(context, setting.file)
    expr = setting.expr
    component = expressions.lookup_component(expr.func, frame) if isinstance(expr, tree.Call) else None
    if not isinstance(expr, tree.Call) or component is None:
        if isinstance(expr, tree.Call):
            raise expressions.unknown_component_error(expr.func, frame, wants_model=True)
        if isinstance(expr, tree.Name) and frame.file.find_component(expr.name):
            raise eval_error(
                "component-not-built",
                expr.span,
                f"`{expr.name}` is missing its parentheses",
                f"write `{expr.name}(classes = len(data.classes))`",
            )
        raise eval_error(
            "wrong-component",
            expr.span,
            "`model` must be a call of a model",
            "write `model = Name(classes = len(data.classes))`",
        )
    if not isinstance(component, BlockDef) or component.tree.kind != "model":
        what = "a block" if isinstance(component, BlockDef) else "a built-in component"
        names = list_models(setting.file)
        raise eval_error(
            "wrong-component",
            expr.func.span,
            f"`{'.'.join(expressions.get_dotted_parts(expr.func) or ())}` is {what}, not a model",
            suggest_name("", names, "models") if names else "import a library, or start the definition with `model`",
        )
    return Module(
        build_block_recipe(component, expr, frame, match_model_arguments(setting, component, context)), "", expr.span
    )


def _elaborate_model(module: Module, expr: tree.Expr, context: Context, size: Size) -> Graph:
    recipe: Any = module.recipe
    block: BlockDef = recipe.block
    inputs = block.list_inputs()
    if len(inputs) != 1:
        if block.file.has_syntax_errors:
            raise EvalStop
        has_several = len(inputs) > 1
        raise eval_error(
            "model-inputs",
            inputs[1].span if has_several else block.tree.name.span,
            f"a model must have exactly one `in`, this one has {len(inputs)}",
            "remove this `in`; the only input of a model is the image batch"
            if has_several
            else "add `in image: [B, 3, H, W]`",
        )
    ident = inputs[0].name
    # The input is not a node, but no node may take its path.
    context.used_paths.add(ident.name)
    frame = Frame(context, block.file, "", dict(recipe.arguments), None, False, block, recipe.argument_spans)
    for key, value in recipe.arguments.items():
        frame.vars[key] = copy_modules(value, key)
    shape = (make_symbol("B"), _read_input_channels(inputs[0], frame), make_symbol("H"), make_symbol("W"))
    image = Tensor(ident.name, shape, ident.span)
    context.block_stack.append((block, expr.span))
    bind_input(inputs[0], image, expr, frame)
    run_body(block, frame)
    context.block_stack.pop()
    outs = {s.name.name: frame.vars.get(s.name.name) for s in block.tree.body if isinstance(s, tree.Out)}
    for key, value in outs.items():
        if value is POISON:
            raise EvalStop
        if isinstance(value, Tensor):
            context.output_spans[key] = value.span
        else:
            raise eval_error(
                "not-a-tensor",
                block.tree.name.span,
                f"the model output `{key}` must be a single tensor",
                "join the list into one tensor, or use it within a block",
            )
    return Graph.model_construct(
        name=block.name,
        inputs={image.path: image.shape},
        nodes=tuple(context.nodes),
        outputs={key: value.path for key, value in outs.items() if isinstance(value, Tensor)},
        size=(size.height, size.width),
        names=dict(context.names),
    )


def _read_input_channels(declaration: tree.In, frame: Frame) -> int:
    """Return the number of image channels from the note of the model's input, or 3 if the note leaves it open."""
    dims = declaration.note.dims if declaration.note is not None else None
    if (
        dims is None
        or len(dims) != 4
        or (isinstance(dims[1], tree.Name) and dims[1].name not in frame.list_local_names())
    ):
        return RGB_CHANNELS
    channels = evaluate_note_extent(dims[1], frame)
    if not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
        message = f"an image must have between 1 and {MAX_CHANNELS} channels, got {channels}"
        raise eval_error("out-of-bounds", frame.find_origin(dims[1]), message, "write `[B, 3, H, W]` for color images")
    return channels
