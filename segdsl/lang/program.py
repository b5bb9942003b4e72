"""Loading of programs: read the files, merge their settings, elaborate the model, and check the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segdsl.ops
import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.diagnostics import Diagnostic, SegError, Sink, fail
from segdsl.ir.program import SECTIONS, ModelSource, Program, Source
from segdsl.lang.elaborate import (
    expressions,
    flows,  # noqa: F401 - importing registers the evaluations
)
from segdsl.lang.elaborate.block_checks import check_blocks
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.files import STD, FileLoader, find_project_root
from segdsl.lang.elaborate.scopes import FileScope
from segdsl.lang.elaborate.values import EvalStop
from segdsl.lang.lint.program_lints import lint_program
from segdsl.lang.lint.schedule_lints import lint_learning_rates
from segdsl.lang.model import build_graph, list_models
from segdsl.lang.settings.merge import Settings
from segdsl.lang.settings.overrides import Override, add_shell_option, apply_overrides, list_overrides
from segdsl.lang.settings.sections import SectionReader
from segdsl.syntax import tree


@dataclass(frozen=True, slots=True)
class ParsedProgram:
    """A program whose files are read and parsed; it can be elaborated any number of times, with other settings.

    ``scope`` is that of the program's file, ``files`` also has those that it imports; ``diagnostics`` and ``sources``
    come from parsing them.
    """

    name: str
    scope: FileScope
    files: tuple[FileScope, ...]
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]

    def start_sink(self) -> Sink:
        """Return a new sink with what parsing found."""
        return Sink(list(self.diagnostics), dict(self.sources))


def load(path: str | Path, overrides: Iterable[Override] = (), classes: int | Sequence[str] | None = None) -> Program:
    """Load and check the program in a `.seg` file.

    ``overrides`` are values of `--set`, or pairs of a path and a value. ``classes`` replaces `data.classes`; a number
    creates placeholder names. Raises :class:`SegError` with every independent error. Warnings are in
    ``program.warnings``.
    """
    return elaborate_program(parse_program(path), overrides, classes)


def load_text(
    text: str, path: str | Path, overrides: Iterable[Override] = (), classes: int | Sequence[str] | None = None
) -> Program:
    """Load and check a program that is in memory, like :func:`load`.

    ``path`` is where the text belongs: it names the program, and relative paths in it start there.
    """
    return elaborate_program(parse_program(path, text), overrides, classes)


def parse_program(path: str | Path, text: str | None = None) -> ParsedProgram:
    """Read and parse the file of a program, or ``text`` instead of it, and the files that it imports.

    Raises :class:`SegError` if there is nothing to elaborate; other errors are raised by the elaboration.
    """
    sink, loader_path = Sink(), Path(path)
    with _collect_errors(sink, str(path)):
        loader = FileLoader(sink)
        scope = _read_scope(loader, loader_path, str(path), text)
        return ParsedProgram(
            loader_path.stem, scope, tuple(loader.files.values()), tuple(sink.items), dict(sink.sources)
        )


def elaborate_program(
    parsed: ParsedProgram,
    overrides: Iterable[Override] = (),
    classes: int | Sequence[str] | None = None,
    *,
    resolve: bool = True,
) -> Program:
    """Return the checked program with its settings; see :func:`load`. Without ``resolve`` its text is not rendered."""
    sink = parsed.start_sink()
    with _collect_errors(sink, parsed.scope.name):
        program = _elaborate(parsed, list_overrides(overrides), classes, sink)
        if not resolve:
            return program
        from segdsl.lang.resolve import render_program

        return program.model_copy(update={"resolved": render_program(program)})


def check_file(
    path: str | Path, overrides: Iterable[Override] = (), text: str | None = None
) -> tuple[Program | None, tuple[Diagnostic, ...], dict[str, str]]:
    """Check a program or a library. Return the program (None for a library), the warnings, and the sources.

    ``text`` stands in for the contents of the file. Raises :class:`SegError` like :func:`load`.
    """
    parsed = parse_program(path, text)
    sink = parsed.start_sink()
    with _collect_errors(sink, str(path)):
        # An override can only apply to a program, so it also makes a missing model an error.
        if not overrides and (not is_program(parsed.scope) or is_recipe(parsed.scope)):
            _check_definitions(parsed.scope, sink)
            return None, tuple(sink.items), dict(sink.sources)
        program = _elaborate(parsed, list_overrides(overrides), None, sink, keep_source=False)
        return program, program.warnings, dict(sink.sources)


@contextmanager
def _collect_errors(sink: Sink, name: str) -> Iterator[None]:
    """Add what ``sink`` has collected to an error that ends the loading of the file ``name``."""
    try:
        yield
    except SegError as error:
        raise _complete_error(sink, error) from None
    except RecursionError:
        raise _nesting_error(sink, name) from None


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
    return "model" not in paths and not list_models(scope)


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


def _read_scope(loader: FileLoader, path: Path, name: str, text: str | None) -> FileScope:
    sink = loader.sink
    try:
        # `std/…` works on the command line as it does in `import`, unless the author has such a folder.
        if text is None and not path.is_file() and name.startswith("std/") and (STD / name[4:]).is_file():
            path = STD / name[4:]
        root = STD if path.resolve().is_relative_to(STD) else find_project_root(path)
    except (OSError, ValueError, RuntimeError):
        raise fail("file-unreadable", f"{name!r} is not a valid path", "check the path", path=name) from None
    try:
        scope = loader.load_file(path, name, root) if text is None else loader.load_text(text, path, name, root)
        # With a built-in word redefined, every use of it would be an error of its own.
        if any(d.slug == "word-redefined" for d in sink.items):
            sink.raise_if_errors()
        return scope
    except EvalStop as signal:
        raise SegError([signal.diagnostic] if signal.diagnostic else [], sink.sources) from None


def _elaborate(
    parsed: ParsedProgram,
    overrides: Sequence[Override],
    classes: int | Sequence[str] | None,
    sink: Sink,
    keep_source: bool = True,
) -> Program:
    """Return the program without its resolved text; with ``keep_source`` it keeps what that text is rendered from."""
    scope, settings = parsed.scope, Settings(sink)
    # A `let` may use `data.classes`, so its value belongs to one elaboration.
    for file in parsed.files:
        file.values.clear()
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
    graph = None if circular else build_graph(settings, scope, sections)
    sink.raise_if_errors()
    assert graph is not None
    program = Program.model_construct(
        name=parsed.name,
        graph=graph,
        weights=weights,
        adapt_weights=adapt,
        model_source=ModelSource.build_unchecked({}),
        sources={name: _make_source(text) for name, text in sink.sources.items()},
        spans=settings.collect_spans(),
        assumed_classes=sections.assumes_classes,
        **records,
    )
    # Lints come last, because they assume a program without errors.
    lint_program(program, sink, settings, sections.context.output_spans, sections.has_class_names)
    lint_learning_rates(program, sink, settings)
    sink.raise_if_errors()
    warnings: dict[str, Any] = {"warnings": tuple(sink.items)}
    if not keep_source:
        return program.model_copy(update=warnings)
    from segdsl.lang.resolve import inline_model

    return program.model_copy(update={**warnings, "model_source": inline_model(program, settings, sections, scope)})


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


__all__ = ["check_file", "is_program", "load"]


__all__ = ["ParsedProgram", "check_file", "elaborate_program", "is_program", "load", "load_text", "parse_program"]
