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
from segdsl.diagnostics import Diagnostic, SegError, Sink, Span, fail, suggest
from segdsl.ir.graph import Graph
from segdsl.ir.program import SECTIONS, Program, Source
from segdsl.ir.shape import symbol
from segdsl.ir.values import Size
from segdsl.lang.elaborate import (
    expressions,
    flows,  # noqa: F401 - importing registers the evaluations
)
from segdsl.lang.elaborate.block_checks import check_blocks
from segdsl.lang.elaborate.blocks import bind_input, block_recipe, note_extent, run_body
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.files import STD, FileScope, Loader, project_root
from segdsl.lang.elaborate.values import POISON, BlockDef, Module, Stop, Tensor, fresh, stop
from segdsl.lang.lint.program_lints import lint
from segdsl.lang.lint.schedule_lints import lint_rates
from segdsl.lang.settings.merge import Settings, model_arguments
from segdsl.lang.settings.overrides import apply_overrides, for_shell
from segdsl.lang.settings.sections import Sections
from segdsl.syntax import tree

# The parser allows 100 levels of nesting per expression and blocks nest 60 deep, each level taking several Python
# frames. Python's default of 1,000 frames would be reached first.
RECURSION = 20_000
RGB, MAX_CHANNELS = 3, 4096
"""The channels of an image if the model does not declare them, and the maximum that it may declare."""


def load(path: str | Path, overrides: Iterable[str] = (), classes: int | Sequence[str] | None = None) -> Program:
    """Load and check the program in a `.seg` file.

    ``overrides`` are values of `--set`. ``classes`` replaces `data.classes`; a number creates placeholder names.
    Raises :class:`SegError` with every independent error. Warnings are in ``program.warnings``.
    """
    sink = Sink()
    try:
        with _deep_recursion():
            scope = _read(Path(path), str(path), sink)
            return _load(scope, Path(path).stem, _listed(overrides), classes, sink, resolve=True)
    except SegError as error:
        raise _refused(sink, error) from None
    except RecursionError:
        raise _too_deep(sink, str(path)) from None


def check_file(
    path: str | Path, overrides: Iterable[str] = ()
) -> tuple[Program | None, tuple[Diagnostic, ...], dict[str, str]]:
    """Check a program or a library. Return the program (None for a library), the warnings, and the sources.

    Raises :class:`SegError` like :func:`load`.
    """
    sink = Sink()
    try:
        with _deep_recursion():
            scope = _read(Path(path), str(path), sink)
            # An override can only apply to a program, so it also makes a missing model an error.
            if not overrides and (not is_program(scope) or is_recipe(scope)):
                _check_parts(scope, sink)
                return None, tuple(sink.items), dict(sink.sources)
            program = _load(scope, Path(path).stem, _listed(overrides), None, sink, resolve=False)
            return program, program.warnings, dict(sink.sources)
    except SegError as error:
        raise _refused(sink, error) from None
    except RecursionError:
        raise _too_deep(sink, str(path)) from None


def _listed(overrides: Iterable[str]) -> list[str]:
    # A single string is one override, not a sequence of characters.
    return [overrides] if isinstance(overrides, str) else list(overrides)


def _too_deep(sink: Sink, name: str) -> SegError:
    message, help = "the program is nested too deeply", "split nested expressions into `let`s and blocks"
    return SegError([*sink.items, Diagnostic("nesting-budget", message, help, path=name)], sink.sources)


def is_program(scope: FileScope) -> bool:
    """Return whether a file or its parent sets anything; a library only contains definitions."""
    kinds = (tree.Section, tree.Assign, tree.Drop)
    return any(isinstance(s, kinds) for file in scope.lineage() for s in file.tree.body)


def is_recipe(scope: FileScope) -> bool:
    """Return whether a file only sets sections for others to extend: it sets no model, and none is in scope."""
    paths = [s.path[0].name for f in scope.lineage() for s in f.tree.body if isinstance(s, (tree.Assign, tree.Section))]
    return "model" not in paths and not _models(scope)


def _check_parts(scope: FileScope, sink: Sink) -> None:
    """Check a file that is not a complete program: its definitions, and the sections that it sets."""
    settings = Settings(sink)
    for file in scope.lineage():
        settings.apply(file, file.tree.body)
    check_blocks(scope, sink)
    sections = Sections(settings, sink, None)
    for section in SECTIONS:
        sections.record(section)
    sections.weights()
    sections.adapt_weights()
    _check_lets(scope, sections.context)
    sink.check()


def _refused(sink: Sink, error: SegError) -> SegError:
    # An error that ends the loading joins the others that were found before, some of which it may repeat.
    seen: dict[tuple[Any, ...], Diagnostic] = {}
    for diagnostic in (*sink.items, *error.diagnostics):
        seen.setdefault((diagnostic.slug, diagnostic.span, diagnostic.path, diagnostic.message), diagnostic)
    sources = {**sink.sources, **error.sources}
    return SegError([for_shell(diagnostic, sources) for diagnostic in seen.values()], sources)


@contextmanager
def _deep_recursion() -> Any:
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(max(old, RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(old)


def _read(path: Path, name: str, sink: Sink) -> FileScope:
    try:
        # `std/…` works on the command line as it does in `import`, unless the author has such a folder.
        if not path.is_file() and name.startswith("std/") and (STD / name[4:]).is_file():
            path = STD / name[4:]
        root = STD if path.resolve().is_relative_to(STD) else project_root(path)
    except (OSError, ValueError, RuntimeError):
        raise fail("file-unreadable", f"{name!r} is not a valid path", "check the path", path=name) from None
    try:
        scope = Loader(sink).load(path, name, root)
        # With a built-in word redefined, every use of it would be an error of its own.
        if any(d.slug == "word-redefined" for d in sink.items):
            sink.check()
        return scope
    except Stop as signal:
        raise SegError([signal.diagnostic] if signal.diagnostic else [], sink.sources) from None


def _load(
    scope: FileScope,
    name: str,
    overrides: list[str],
    classes: int | Sequence[str] | None,
    sink: Sink,
    *,
    resolve: bool,
) -> Program:
    settings = Settings(sink)
    for file in scope.lineage():
        settings.apply(file, file.tree.body)
    apply_overrides(settings, scope, overrides, sink)
    check_blocks(scope, sink)
    sections = Sections(settings, sink, classes)
    records = {section: sections.record(section) for section in SECTIONS}
    weights, adapt = sections.weights(), sections.adapt_weights()
    _check_lets(scope, sections.context)
    # Elaborating a block that contains itself would only end at the nesting budget, with a second error.
    circular = any(d.slug == "recursion" for d in sink.items)
    graph = None if circular else _model(settings, scope, sections)
    sink.check()
    assert graph is not None
    program = Program.model_construct(
        name=name,
        graph=graph,
        weights=weights,
        adapt_weights=adapt,
        sources={name: _source(text) for name, text in sink.sources.items()},
        spans=settings.spans(),
        assumed_classes=sections.assumed,
        **records,
    )
    # Lints come last, because they assume a program without errors.
    lint(program, sink, settings, sections.context.outs, sections.named)
    lint_rates(program, sink, settings)
    sink.check()
    text = ""
    if resolve:
        from segdsl.lang.resolve import resolved_text

        text = resolved_text(program, settings, sections, scope)
    return program.model_copy(update={"warnings": tuple(sink.items), "resolved": text})


def _check_lets(scope: FileScope, context: Context) -> None:
    # Lets are evaluated on demand; evaluate the unused ones too, so that their errors are found.
    for file in scope.lineage():
        for name, let in file.lets.items():
            try:
                expressions.file_let(name, Frame(context, file), let.name.span)
            except Stop as signal:
                if signal.diagnostic:
                    context.report(signal.diagnostic)


def _source(text: str) -> Source:
    return Source.trusted({"text": text, "digest": hashlib.sha256(text.encode()).hexdigest()})


def _model(settings: Settings, scope: FileScope, sections: Sections) -> Graph | None:
    context = sections.context
    setting = settings.values.get(("model",))
    try:
        if setting is None and scope.incomplete:
            raise Stop
        if setting is None:
            known = ", ".join(f"`{n}(…)`" for n in _models(scope)[:4])
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
            raise stop("model-missing", end, "the program sets no model", help)
        module = _root(setting, context)
        return _elaborate(module, setting.expr, context, sections.size())
    except Stop as signal:
        if signal.diagnostic:
            context.report(signal.diagnostic)
        return None


def _models(scope: FileScope) -> list[str]:
    return [n for f in scope.lineage() for n, b in {**f.blocks, **f.imported}.items() if b.tree.kind == "model"]


def _root(setting: Any, context: Context) -> Module:
    frame = Frame(context, setting.file)
    expr = setting.expr
    component = expressions.lookup_component(expr.func, frame) if isinstance(expr, tree.Call) else None
    if not isinstance(expr, tree.Call) or component is None:
        if isinstance(expr, tree.Call):
            raise expressions.unknown_component(expr.func, frame, model=True)
        if isinstance(expr, tree.Name) and frame.file.component(expr.name):
            raise stop(
                "component-not-built",
                expr.span,
                f"`{expr.name}` is missing its parentheses",
                f"write `{expr.name}(classes = len(data.classes))`",
            )
        raise stop(
            "wrong-component",
            expr.span,
            "`model` must be a call of a model",
            "write `model = Name(classes = len(data.classes))`",
        )
    if not isinstance(component, BlockDef) or component.tree.kind != "model":
        what = "a block" if isinstance(component, BlockDef) else "a built-in component"
        names = _models(setting.file)
        raise stop(
            "wrong-component",
            expr.func.span,
            f"`{'.'.join(expressions.dotted(expr.func) or ())}` is {what}, not a model",
            suggest("", names, "models") if names else "import a library, or start the definition with `model`",
        )
    return Module(block_recipe(component, expr, frame, model_arguments(setting, component, context)), "", expr.span)


def _elaborate(module: Module, expr: tree.Expr, context: Context, size: Size) -> Graph:
    recipe: Any = module.recipe
    block: BlockDef = recipe.block
    inputs = block.inputs()
    if len(inputs) != 1:
        if block.file.torn:
            raise Stop
        has_several = len(inputs) > 1
        raise stop(
            "model-inputs",
            inputs[1].span if has_several else block.tree.name.span,
            f"a model must have exactly one `in`, this one has {len(inputs)}",
            "remove this `in`; the only input of a model is the image batch"
            if has_several
            else "add `in image: [B, 3, H, W]`",
        )
    ident = inputs[0].name
    # The input is not a node, but no node may take its path.
    context.taken.add(ident.name)
    frame = Frame(context, block.file, "", dict(recipe.arguments), None, False, block, recipe.spans)
    for key, value in recipe.arguments.items():
        frame.vars[key] = fresh(value, key)
    shape = (symbol("B"), _channels(inputs[0], frame), symbol("H"), symbol("W"))
    image = Tensor(ident.name, shape, ident.span)
    context.uses.append((block, expr.span))
    bind_input(inputs[0], image, expr, frame)
    run_body(block, frame)
    context.uses.pop()
    outs = {s.name.name: frame.vars.get(s.name.name) for s in block.tree.body if isinstance(s, tree.Out)}
    for key, value in outs.items():
        if value is POISON:
            raise Stop
        if isinstance(value, Tensor):
            context.outs[key] = value.span
        else:
            raise stop(
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


def _channels(declared: tree.In, frame: Frame) -> int:
    """Return the number of image channels from the note of the model's input, or 3 if the note leaves it open."""
    dims = declared.note.dims if declared.note is not None else None
    if dims is None or len(dims) != 4 or (isinstance(dims[1], tree.Name) and dims[1].name not in frame.local_names()):
        return RGB
    channels = note_extent(dims[1], frame)
    if not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
        message = f"an image must have between 1 and {MAX_CHANNELS} channels, got {channels}"
        raise stop("out-of-bounds", frame.origin(dims[1]), message, "write `[B, 3, H, W]` for color images")
    return channels


__all__ = ["check_file", "is_program", "load"]
