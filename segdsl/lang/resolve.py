"""Rendering of a program as one self-contained `.seg` file: every value explicit, every block in use inlined.

A run writes this file into its folder, so that it can be repeated after the library has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segdsl.diagnostics import Span
from segdsl.ir.program import SECTIONS, ModelSource, Program, Section, Source
from segdsl.ir.values import Quantity, Range, Size, format_literal, quote_string
from segdsl.ir.word import Record, Word, format_choice, list_choices
from segdsl.lang.elaborate.block_checks import find_calls, resolve_callee
from segdsl.lang.elaborate.blocks import build_block_recipe
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.expressions import collect_bindings, lookup_component
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.settings.merge import Setting, Settings, match_model_arguments
from segdsl.lang.settings.sections import SectionReader
from segdsl.syntax import tree
from segdsl.syntax.printer.format import format_text


def inline_model(program: Program, settings: Settings, sections: SectionReader, scope: FileScope) -> ModelSource:
    """Return the source of a program's model without imports: the blocks in use, and the call of the model."""
    setting = settings.values[("model",)]
    root = (
        lookup_component(setting.expr.func, Frame(sections.context, setting.file))
        if isinstance(setting.expr, tree.Call)
        else None
    )
    assert isinstance(root, BlockDef)
    inliner = _Inliner({name: source.text for name, source in program.sources.items()})
    inliner.add_block(root)
    call = _render_model_call(setting, root, sections, inliner)
    doc = "".join(f"## {line}\n" for line in scope.tree.doc.splitlines())
    return ModelSource.build_unchecked({"doc": doc, "blocks": tuple(inliner.render_definitions()), "call": call})


def render_program(program: Program) -> str:
    """Return the source of the program as it is now. Loading it gives the same graph and sections."""
    source = program.model_source
    parts = ["seg 1\n" + ("\n" + source.doc if source.doc else ""), *source.blocks]
    parts += [_render_section((name,), getattr(program, name)) for name in SECTIONS]
    parts.append(f"model = {source.call}\n")
    if program.weights:
        lines = "".join(f"  {path} = {quote_string(text)}\n" for path, text in program.weights.items())
        lines += "  adapt = true\n" if program.adapt_weights else ""
        parts.append("weights {\n" + lines + "}\n")
    return format_text("\n".join(part for part in parts if part), f"{program.name} (resolved)")


def move_program(program: Program, file: Path, data: Mapping[str, Any], weights: Mapping[str, str]) -> Program:
    """Return the program as it reads in ``file``, with these settings of `data` and these sources of weights.

    Nothing is checked: the settings are locations, relative to the new file. Its text is rendered.
    """
    moved = program.model_copy(
        update={
            "name": file.stem,
            "data": program.data.model_copy(update=dict(data)),
            "weights": dict(weights),
            "adapt_weights": program.adapt_weights and bool(weights),
            # Sources are relative to the file of their setting, which is now another one.
            "spans": {**program.spans, **{f"weights.{part}": Span(str(file), 0, 0) for part in weights}},
            "warnings": (),
        }
    )
    text = render_program(moved)
    source = Source.build_unchecked({"text": text, "digest": hashlib.sha256(text.encode()).hexdigest()})
    # The first source is the program's own file; the others stay, because spans in the graph lead to them.
    sources = {str(file): source, **{name: one for name, one in program.sources.items() if name != str(file)}}
    return moved.model_copy(update={"resolved": text, "sources": sources})


def _render_section(path: tuple[str, ...], section: Section, indent: str = "") -> str:
    lines: list[str] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            lines.append("\n" + _render_section((*path, name), value, indent + "  "))
        elif isinstance(value, dict):
            if value:
                steps = "".join(f"{indent}    {key} = {render_value(word)}\n" for key, word in value.items())
                lines.append(f"\n{indent}  {name} {{\n{steps}{indent}  }}\n")
        # None and empty lists are the defaults of every key that allows them.
        elif value is not None and value != ():
            lines.append(f"{indent}  {name} = {render_field(type(section), name, value)}\n")
    return f"{indent}{path[-1]} {{\n{''.join(lines)}{indent}}}\n" if lines else ""


def render_value(value: Any, *, chain: bool = False) -> str:
    """Render a value as source; ``chain`` joins a list of words with `->`."""
    if isinstance(value, Word):
        # Defaults are written too: a later version of segdsl may have others, and the run must stay repeatable.
        fields = {n: getattr(value, n) for n in type(value).model_fields}
        arguments = ", ".join(f"{n} = {render_field(type(value), n, v)}" for n, v in fields.items() if v is not None)
        return f"{type(value).__name__}({arguments})"
    if isinstance(value, tuple):
        items = [render_value(v) for v in value]
        return " -> ".join(items) if chain and all(isinstance(v, Word) for v in value) else f"[{', '.join(items)}]"
    return format_literal(value)


def render_field(record: type[Record], name: str, value: Any) -> str:
    """Render the value of a field as source: a choice without quotes, a schedule as a chain."""
    if isinstance(value, str):
        is_choice = value in list_choices(record.model_fields[name].annotation)
        return format_choice(value) if is_choice else quote_string(value)
    return render_value(value, chain=name == "schedule")


def _render_model_call(setting: Setting, root: BlockDef, sections: SectionReader, inliner: _Inliner) -> str:
    assert isinstance(setting.expr, tree.Call)
    bound = match_model_arguments(setting, root, sections.context)
    recipe = build_block_recipe(root, setting.expr, Frame(sections.context, setting.file), bound)
    arguments = []
    for name, value in recipe.arguments.items():
        plain = _render_plain_value(value)
        # Modules have no literal: the source of the argument is inlined, and a default is left to the block.
        if plain is None and name not in bound:
            continue
        if plain is None:
            expr, frame = bound[name]
            inliner.add_dependencies(expr, frame.file)
            plain = inliner.render_source(expr, frame.file)
        arguments.append(f"{name} = {plain}")
    return f"{inliner.names[id(root)]}({', '.join(arguments)})"


def _render_plain_value(value: Any) -> str | None:
    if isinstance(value, str):
        return quote_string(value)
    if isinstance(value, tuple):
        items = [_render_plain_value(v) for v in value]
        return None if None in items else "[" + ", ".join(i for i in items if i) + "]"
    return (
        render_value(value) if value is None or isinstance(value, (bool, int, float, Size, Range, Quantity)) else None
    )


class _Inliner:
    """Collects the blocks and lets that a model uses, each once, under unique names.

    Files may use the same name for different blocks, so a block can get a new name. Source is copied and edited in
    place instead of printed from the tree, which keeps the author's formatting and comments.
    """

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.names: dict[int, str] = {}
        self.items: list[tuple[str, Any, FileScope]] = []
        self.unavailable_names: set[str] = set()
        self.source_words = {word for text in sources.values() for word in re.findall(r"\w+", text)}

    def add_block(self, block: BlockDef) -> None:
        """Add a block after everything that it uses."""
        if id(block) in self.names:
            return
        # Named before its dependencies: the root keeps its own name if a block below it has the same.
        self.names[id(block)] = self._pick_free_name(block.name)
        self.add_dependencies(block.tree, block.file)
        self.items.append((self.names[id(block)], block.tree, block.file))

    def add_dependencies(self, node: Any, file: FileScope) -> None:
        """Add the blocks and lets of ``file`` that a node of its tree uses."""
        for call in find_calls(node):
            used = resolve_callee(call, file)
            if isinstance(used, BlockDef):
                self.add_block(used)
        for name in dict.fromkeys(found.name for found in find_free_names(node)):
            let = file.lets.get(name)
            if let is not None and id(let) not in self.names:
                self.names[id(let)] = self._pick_free_name(name)
                self.add_dependencies(let.value, file)
                self.items.append((self.names[id(let)], let, file))

    def _pick_free_name(self, name: str) -> str:
        # A new name must not equal any word in the sources, where it might be a local name that shadows the block.
        candidate, count = name, 2
        while candidate in self.unavailable_names or (count > 2 and candidate in self.source_words):
            candidate, count = f"{name}{count}", count + 1
        self.unavailable_names.add(candidate)
        return candidate

    def render_definitions(self) -> list[str]:
        """Render the definitions, each after those that it uses."""
        return [self._render_definition(name, node, file) for name, node, file in self.items]

    def _render_definition(self, name: str, node: tree.Block | tree.Let, file: FileScope) -> str:
        doc = "".join(f"## {line}\n" for line in node.doc.splitlines()) if isinstance(node, tree.Block) else ""
        return doc + self.render_source(node, file, [(node.name.span.start, node.name.span.end, name)]) + "\n"

    def render_source(self, node: Any, file: FileScope, edits: list[tuple[int, int, str]] | None = None) -> str:
        """Return the source of a node with the blocks and lets that it uses renamed."""
        edits = list(edits or [])
        for call in find_calls(node):
            used = resolve_callee(call, file)
            if isinstance(used, BlockDef):
                edits.append((call.func.span.start, call.func.span.end, self.names[id(used)]))
        for found in find_free_names(node):
            let = file.lets.get(found.name)
            if let is not None and id(let) in self.names:
                edits.append((found.span.start, found.span.end, self.names[id(let)]))
        text, start = self.sources[node.span.file], node.span.start
        piece = text[start : node.span.end]
        # From the end, so that earlier positions stay valid.
        for begin, end, new in sorted(set(edits), reverse=True):
            piece = piece[: begin - start] + new + piece[end - start :]
        return piece


def find_free_names(node: Any, local: frozenset[str] = frozenset()) -> Iterator[tree.Name]:
    """Yield the names in a tree that are not bound by a parameter, binding or comprehension in it."""
    if isinstance(node, tree.Name):
        if node.name not in local:
            yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from find_free_names(item, local)
    elif isinstance(node, tree.Block):
        own = local | {i.name for i in _iterate_bindings(node)}
        yield from find_free_names((node.parameters, node.body), own)
    elif isinstance(node, tree.Comprehension):
        yield from find_free_names((node.source, node.start), local)
        carried = (node.carry,) if node.carry else ()
        yield from find_free_names(node.element, local | {i.name for i in (*node.targets, *carried)})
    elif isinstance(node, tree.Tree) and not isinstance(node, tree.Ident):
        for part in node.__dict__.values():
            yield from find_free_names(part, local)


def _iterate_bindings(block: tree.Block) -> Iterator[tree.Ident]:
    """Yield what a block binds: parameters, statements, steps, and the extents in the notes of its inputs."""
    yield from (p.name for p in block.parameters)
    for statement in block.body:
        yield from collect_bindings(statement)
        note = statement.note if isinstance(statement, tree.In) else None
        for dim in (note.dims if note else None) or ():
            if isinstance(dim, tree.Name):
                yield tree.Ident(dim.name, dim.span)
    yield from (s.name for s in _iterate_steps(block.body) if s.name is not None)


def _iterate_steps(node: Any) -> Iterator[tree.Step]:
    if isinstance(node, tree.Step):
        yield node
    parts = node if isinstance(node, tuple) else node.__dict__.values() if isinstance(node, tree.Tree) else ()
    for part in parts:
        yield from _iterate_steps(part)


__all__ = ["inline_model", "move_program", "render_field", "render_program", "render_value"]
