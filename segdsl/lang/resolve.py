"""The whole program as one `.seg` text: every value spelled out, every block that the model uses inlined.

What a run writes into its folder, so that it can be repeated after the library has changed.
"""

from __future__ import annotations

from typing import Any

from segdsl.ir.program import SECTIONS, Program, Section
from segdsl.ir.values import Quantity, Range, Size, number
from segdsl.ir.word import Record, Word
from segdsl.lang.context import Frame
from segdsl.lang.expressions import lookup_component
from segdsl.lang.scope import FileScope
from segdsl.lang.sections import Sections
from segdsl.lang.settings import Setting, Settings
from segdsl.lang.static import calls, target
from segdsl.lang.values import BlockDef
from segdsl.syntax import tree
from segdsl.syntax.format import format_text


def resolved_text(program: Program, settings: Settings, sections: Sections, scope: FileScope) -> str:
    """The text; :func:`segdsl.lang.program.load` makes the same graph and sections of it."""
    setting = settings.values[("model",)]
    root = (
        lookup_component(setting.expr.func, Frame(sections.context, setting.file))
        if isinstance(setting.expr, tree.Call)
        else None
    )
    assert isinstance(root, BlockDef)
    inliner = _Inliner({name: source.text for name, source in program.sources.items()})
    inliner.take(root)
    doc = "".join(f"## {line}\n" for line in scope.tree.doc.splitlines())
    parts = ["seg 1\n" + ("\n" + doc if doc else ""), *inliner.texts()]
    for name in SECTIONS:
        parts.append(_section_text((name,), getattr(program, name), sections))
    parts.append(f"model = {_model_call(setting, root, sections, inliner)}\n")
    if program.weights:
        lines = "".join(f"  {path} = {_string(source)}\n" for path, source in program.weights.items())
        parts.append("weights {\n" + lines + "}\n")
    return format_text("\n".join(part for part in parts if part), f"{program.name} (resolved)")


def _section_text(path: tuple[str, ...], section: Section, sections: Sections, indent: str = "") -> str:
    lines: list[str] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            lines.append("\n" + _section_text((*path, name), value, sections, indent + "  "))
        elif isinstance(value, dict):
            if value:
                steps = "".join(f"{indent}    {key} = {spell(word)}\n" for key, word in value.items())
                lines.append(f"\n{indent}  {name} {{\n{steps}{indent}  }}\n")
        elif value is not None and value != ():
            lines.append(f"{indent}  {name} = {_field(type(section), name, value)}\n")
    return f"{indent}{path[-1]} {{\n{''.join(lines)}{indent}}}\n" if lines else ""


def spell(value: Any, *, chain: bool = False) -> str:
    """A value as the language writes it."""
    if isinstance(value, Word):
        given = {n: getattr(value, n) for n in type(value).model_fields}
        listed = ", ".join(f"{n} = {_field(type(value), n, v)}" for n, v in given.items() if v is not None)
        return f"{type(value).__name__}({listed})"
    if isinstance(value, tuple):
        items = [spell(v) for v in value]
        return " -> ".join(items) if chain and all(isinstance(v, Word) for v in value) else f"[{', '.join(items)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value, floating=True)
    if isinstance(value, str):
        return _string(value)
    return "none" if value is None else str(value)


def _field(record: type[Record], name: str, value: Any) -> str:
    if isinstance(value, str):
        return value if _is_choice(record, name) else _string(value)
    return spell(value, chain=name == "schedule")


def _is_choice(record: type[Record], name: str) -> bool:
    return "Literal" in str(record.model_fields[name].annotation)


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _model_call(setting: Setting, root: BlockDef, sections: Sections, inliner: _Inliner) -> str:
    from segdsl.lang.blocks import block_recipe
    from segdsl.lang.program import _changed

    assert isinstance(setting.expr, tree.Call)
    call = _changed(setting.expr, setting, root)
    recipe = block_recipe(root, call, Frame(sections.context, setting.file))
    given = []
    for name, value in recipe.arguments.items():
        plain = _spell_plain(value)
        if plain is None:
            source = next((a.value for a in call.args if a.name and a.name.name == name), None)
            if source is None:
                continue
            plain = inliner.slice(source, setting.file)
        given.append(f"{name} = {plain}")
    return f"{inliner.names[id(root)]}({', '.join(given)})"


def _spell_plain(value: Any) -> str | None:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, tuple):
        items = [_spell_plain(v) for v in value]
        return None if None in items else "[" + ", ".join(i for i in items if i) + "]"
    return spell(value) if value is None or isinstance(value, (bool, int, float, Size, Range, Quantity)) else None


class _Inliner:
    """Collects the blocks and lets that a model needs, each once, under names that do not meet."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.names: dict[int, str] = {}
        self.items: list[tuple[str, Any, FileScope]] = []
        self.used: set[str] = set()

    def take(self, block: BlockDef) -> None:
        """Adds a block after everything that it uses."""
        if id(block) in self.names:
            return
        self.names[id(block)] = self._fresh(block.name)
        for call in calls((block.tree.parameters, block.tree.body)):
            used = target(call, block.file)
            if isinstance(used, BlockDef):
                self.take(used)
        self._lets(block.tree, block.file, {p.name.name for p in block.tree.parameters})
        self.items.append((self.names[id(block)], block.tree, block.file))

    def _lets(self, node: Any, file: FileScope, local: set[str]) -> None:
        for name in _names(node):
            let = file.lets.get(name)
            if let is None or name in local or id(let) in self.names:
                continue
            self.names[id(let)] = self._fresh(name)
            for call in calls(let.value):
                used = target(call, file)
                if isinstance(used, BlockDef):
                    self.take(used)
            self._lets(let.value, file, set())
            self.items.append((self.names[id(let)], let, file))

    def _fresh(self, name: str) -> str:
        candidate, count = name, 2
        while candidate in self.used:
            candidate, count = f"{name}{count}", count + 1
        self.used.add(candidate)
        return candidate

    def texts(self) -> list[str]:
        """The definitions in the order in which they can be read."""
        return [self._text(name, node, file) for name, node, file in self.items]

    def _text(self, name: str, node: tree.Block | tree.Let, file: FileScope) -> str:
        doc = "".join(f"## {line}\n" for line in node.doc.splitlines()) if isinstance(node, tree.Block) else ""
        return doc + self.slice(node, file, [(node.name.span.start, node.name.span.end, name)]) + "\n"

    def slice(self, node: Any, file: FileScope, edits: list[tuple[int, int, str]] | None = None) -> str:
        """The source of a node, with the names of what it uses replaced by theirs in the new text."""
        edits = list(edits or [])
        for call in calls(node):
            used = target(call, file)
            if isinstance(used, BlockDef):
                self.take(used)
                edits.append((call.func.span.start, call.func.span.end, self.names[id(used)]))
        for found in _name_nodes(node):
            let = file.lets.get(found.name)
            if let is not None and id(let) in self.names:
                edits.append((found.span.start, found.span.end, self.names[id(let)]))
        text, start = self.sources[node.span.file], node.span.start
        piece = text[start : node.span.end]
        for begin, end, new in sorted(set(edits), reverse=True):
            piece = piece[: begin - start] + new + piece[end - start :]
        return piece


def _name_nodes(node: Any) -> list[tree.Name]:
    if isinstance(node, tree.Name):
        return [node]
    if isinstance(node, tuple):
        return [n for item in node for n in _name_nodes(item)]
    if isinstance(node, tree.Tree) and not isinstance(node, tree.Ident):
        return [n for part in node.__dict__.values() for n in _name_nodes(part)]
    return []


def _names(node: Any) -> set[str]:
    return {n.name for n in _name_nodes(node)}


__all__ = ["resolved_text", "spell"]
