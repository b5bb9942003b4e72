"""Loading of programs: read the files, merge their settings, elaborate the model, and check the whole."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import segdsl.ops
import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.diagnostics import Diagnostic, SegError, Sink, Span, fail, suggest_name
from segdsl.ir.graph import Graph
from segdsl.ir.program import SECTIONS, Program, Source
from segdsl.ir.shape import make_symbol
from segdsl.ir.values import Size
from segdsl.lang.elaborate import (
    expressions,
    flows,  # noqa: F401 - importing registers the evaluations
)
from segdsl.lang.elaborate.block_checks import check_blocks
from segdsl.lang.elaborate.blocks import bind_input, build_block_recipe, evaluate_note_extent, run_body
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.files import STD, FileLoader, find_project_root
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import POISON, EvalStop, Module, Tensor, copy_modules, eval_error
from segdsl.lang.lint.program_lints import lint_program
from segdsl.lang.lint.schedule_lints import lint_learning_rates
from segdsl.lang.settings.merge import Settings, match_model_arguments
from segdsl.lang.settings.overrides import add_shell_option, apply_overrides
from segdsl.lang.settings.sections import SectionReader
from segdsl.syntax import tree

# The parser allows 100 levels of nesting per expression and blocks nest 60 deep, each level taking several Python
# frames. Python's default of 1,000 frames would be reached first.
RECURSION_LIMIT = 20_000
RGB_CHANNELS, MAX_CHANNELS = 3, 4096
"""The channels of an image if the model does not declare them, and the maximum that it may declare."""


def load(path: str | Path, overrides: Iterable[str] = (), classes: int | Sequence[str] | None = None) -> Program:
    """Load and check the program in a `.seg` file.

    ``overrides`` are values of `--set`. ``classes`` replaces `data.classes`; a number creates placeholder names.
    Raises :class:`SegError` with every independent error. Warnings are in ``program.warnings``.
    """
    sink = Sink()
    try:
        with _allow_deep_recursion():
            scope = _read_scope(Path(path), str(path), sink)
            return _load_scope(scope, Path(path).stem, _list_overrides(overrides), classes, sink, resolve=True)
    except SegError as error:
        raise _complete_error(sink, error) from None
    except RecursionError:
        raise _nesting_error(sink, str(path)) from None


def check_file(
    path: str | Path, overrides: Iterable[str] = ()
) -> tuple[Program | None, tuple[Diagnostic, ...], dict[str, str]]:
    """Check a program or a library. Return the program (None for a library), the warnings, and the sources.

    Raises :class:`SegError` like :func:`load`.
    """
    sink = Sink()
    try:
        with _allow_deep_recursion():
            scope = _read_scope(Path(path), str(path), sink)
            # An override can only apply to a program, so it also makes a missing model an error.
            if not overrides and (not is_program(scope) or is_recipe(scope)):
                _check_definitions(scope, sink)
                return None, tuple(sink.items), dict(sink.sources)
            program = _load_scope(scope, Path(path).stem, _list_overrides(overrides), None, sink, resolve=False)
            return program, program.warnings, dict(sink.sources)
    except SegError as error:
        raise _complete_error(sink, error) from None
    except RecursionError:
        raise _nesting_error(sink, str(path)) from None


def _list_overrides(overrides: Iterable[str]) -> list[str]:
    # A single string is one override, not a sequence of characters.
    return [overrides] if isinstance(overrides, str) else list(overrides)


def _nesting_error(sink: Sink, name: str) -> SegError:
    message, help = "the program is nested too deeply", "split nested expressions into `let`s and blocks"
    return SegError([*sink.items, Diagnostic("nesting-budget", message, help, path=name)], sink.sources)


def is_program(scope: FileScope) -> bool:
    """Return whether a file or its parent sets anything; a library only contains definitions."""
    kinds = (tree.Section, tree.Assign, tree.Drop)
    return any(isinstance(s, kinds) for file in scope.list_lineage() for s in file.tree.body)


def is_recipe(scope: FileScope) -> bool:
    """Return whether a file only sets sections for others to extend: it sets no model, and none is in scope."""
    paths = [
        s.path[0].name for f in scope.list_lineage() for s in f.tree.body if isinstance(s, (tree.Assign, tree.Section))
    ]
    return "model" not in paths and not _list_models(scope)


def _check_definitions(scope: FileScope, sink: Sink) -> None:
    """Check a file that is not a complete program: its definitions, and the sections that it sets."""
    settings = Settings(sink)
    for file in scope.list_lineage():
        settings.merge_statements(file, file.tree.body)
    check_blocks(scope, sink)
    sections = SectionReader(settings, sink, None)
    for section in SECTIONS:
        sections.build_section(section)
    sections.read_weight_sources()
    sections.read_adapt_weights()
    _check_lets(scope, sections.context)
    sink.raise_if_errors()


def _complete_error(sink: Sink, error: SegError) -> SegError:
    # An error that ends the loading joins the others that were found before, some of which it may repeat.
    seen: dict[tuple[Any, ...], Diagnostic] = {}
    for diagnostic in (*sink.items, *error.diagnostics):
        seen.setdefault((diagnostic.slug, diagnostic.span, diagnostic.path, diagnostic.message), diagnostic)
    sources = {**sink.sources, **error.sources}
    return SegError([add_shell_option(diagnostic, sources) for diagnostic in seen.values()], sources)


@contextmanager
def _allow_deep_recursion() -> Any:
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(max(old, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(old)


def _read_scope(path: Path, name: str, sink: Sink) -> FileScope:
    try:
        # `std/…` works on the command line as it does in `import`, unless the author has such a folder.
        if not path.is_file() and name.startswith("std/") and (STD / name[4:]).is_file():
            path = STD / name[4:]
        root = STD if path.resolve().is_relative_to(STD) else find_project_root(path)
    except (OSError, ValueError, RuntimeError):
        raise fail("file-unreadable", f"{name!r} is not a valid path", "check the path", path=name) from None
    try:
        scope = FileLoader(sink).load_file(path, name, root)
        # With a built-in word redefined, every use of it would be an error of its own.
        if any(d.slug == "word-redefined" for d in sink.items):
            sink.raise_if_errors()
        return scope
    except EvalStop as signal:
        raise SegError([signal.diagnostic] if signal.diagnostic else [], sink.sources) from None


def _load_scope(
    scope: FileScope,
    name: str,
    overrides: list[str],
    classes: int | Sequence[str] | None,
    sink: Sink,
    *,
    resolve: bool,
) -> Program:
    settings = Settings(sink)
    for file in scope.list_lineage():
        settings.merge_statements(file, file.tree.body)
    apply_overrides(settings, scope, overrides, sink)
    check_blocks(scope, sink)
    sections = SectionReader(settings, sink, classes)
    records = {section: sections.build_section(section) for section in SECTIONS}
    weights, adapt = sections.read_weight_sources(), sections.read_adapt_weights()
    _check_lets(scope, sections.context)
    # Elaborating a block that contains itself would only end at the nesting budget, with a second error.
    circular = any(d.slug == "recursion" for d in sink.items)
    graph = None if circular else _build_graph(settings, scope, sections)
    sink.raise_if_errors()
    assert graph is not None
    program = Program.model_construct(
        name=name,
        graph=graph,
        weights=weights,
        adapt_weights=adapt,
        sources={name: _make_source(text) for name, text in sink.sources.items()},
        spans=settings.collect_spans(),
        assumed_classes=sections.assumes_classes,
        **records,
    )
    # Lints come last, because they assume a program without errors.
    lint_program(program, sink, settings, sections.context.output_spans, sections.has_class_names)
    lint_learning_rates(program, sink, settings)
    sink.raise_if_errors()
    text = ""
    if resolve:
        from segdsl.lang.resolve import render_program

        text = render_program(program, settings, sections, scope)
    return program.model_copy(update={"warnings": tuple(sink.items), "resolved": text})


def _check_lets(scope: FileScope, context: Context) -> None:
    # Lets are evaluated on demand; evaluate the unused ones too, so that their errors are found.
    for file in scope.list_lineage():
        for name, let in file.lets.items():
            try:
                expressions.evaluate_file_let(name, Frame(context, file), let.name.span)
            except EvalStop as signal:
                if signal.diagnostic:
                    context.report(signal.diagnostic)


def _make_source(text: str) -> Source:
    return Source.build_unchecked({"text": text, "digest": hashlib.sha256(text.encode()).hexdigest()})


def _build_graph(settings: Settings, scope: FileScope, sections: SectionReader) -> Graph | None:
    context = sections.context
    setting = settings.values.get(("model",))
    try:
        if setting is None and scope.is_incomplete:
            raise EvalStop
        if setting is None:
            known = ", ".join(f"`{n}(…)`" for n in _list_models(scope)[:4])
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


def _list_models(scope: FileScope) -> list[str]:
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
        names = _list_models(setting.file)
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


__all__ = ["check_file", "is_program", "load"]
