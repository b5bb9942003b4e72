"""Static checks of blocks, without building them: names, arguments, and recursion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segdsl.diagnostics import Diagnostic, Fix, Label, Sink, nearest, replacing, suggest
from segdsl.ir.graph import Op
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate.blocks import TYPES
from segdsl.lang.elaborate.expressions import bound_names, component_in, dotted
from segdsl.lang.elaborate.files import STD, FileScope, rebinding, undefined
from segdsl.lang.elaborate.values import BlockDef
from segdsl.syntax import tree


def check_blocks(scope: FileScope, sink: Sink) -> None:
    """Check every block of a file and of the files that it extends.

    This finds errors in blocks that the model does not use, which are never elaborated.
    """
    for file in scope.lineage():
        # The library has tests of its own, and authors could not correct it.
        if file is not scope and file.path.is_relative_to(STD):
            continue
        _NameCheck(file, sink).lets()
        for block in file.blocks.values():
            _NameCheck(file, sink).block(block.tree)
    circular: set[int] = set()
    for block in _in_sight(scope):
        if id(block) not in circular and _check_recursion(block, circular, sink):
            circular.add(id(block))


def _in_sight(scope: FileScope) -> list[BlockDef]:
    """Return the blocks that a program could use, except for the library's, which cannot be recursive."""
    files = [f for file in scope.lineage() for f in (file, *file.spaces.values())]
    blocks = {id(b): b for file in files for b in (*file.blocks.values(), *file.imported.values())}
    return [b for b in blocks.values() if not b.file.path.is_relative_to(STD)]


def calls(node: Any) -> Iterator[tree.Call]:
    """Yield every call below a node of the tree, outermost first."""
    if isinstance(node, tree.Call):
        yield node
    if isinstance(node, tuple):
        for item in node:
            yield from calls(item)
    elif isinstance(node, tree.Tree):
        for part in node.__dict__.values():
            yield from calls(part)


def target(call: tree.Call, file: FileScope) -> BlockDef | type | None:
    """Return the block or word that a call in a file refers to, or None."""
    return component_in(call.func, file)


def _check_recursion(block: BlockDef, known: set[int], sink: Sink) -> bool:
    """Return whether a block contains itself, and report it.

    Returns False without a report if the block only leads to one in ``circular``, whose cycle is already reported.
    """
    # Each entry remembers the call in this block that led to it, since that is the line to change.
    stack: list[tuple[BlockDef, tree.Call | None]] = [(block, None)]
    seen: set[int] = set()
    while stack:
        current, first = stack.pop()
        for call in calls((current.tree.parameters, current.tree.body)):
            used = target(call, current.file)
            if id(used) in known:
                return False
            if used is block:
                entry = first or call
                sink.add(
                    Diagnostic(
                        "recursion",
                        f"`{block.name}` contains itself" + ("" if first is None else f" through `{current.name}`"),
                        "use `* n` or a comprehension for repetition",
                        span=entry.span,
                        labels=(Label(block.tree.name.span, "defined here"),),
                    )
                )
                return True
            if isinstance(used, BlockDef) and id(used) not in seen:
                seen.add(id(used))
                stack.append((used, first or call))
    return False


class _NameCheck:
    """Finds undefined names, components and arguments in one block or in the lets of a file."""

    def __init__(self, file: FileScope, sink: Sink) -> None:
        self.file, self.sink = file, sink
        self.body: tuple[tree.Statement, ...] = ()
        self.names: dict[str, tree.Ident] = {}

    def lets(self) -> None:
        for let in self.file.lets.values():
            self._visit(let.value)

    def block(self, block: tree.Block) -> None:
        self.body = block.body
        for parameter in block.parameters:
            self._type(parameter.type)
            self._visit(parameter.default)
            self._bind(parameter.name)
        for statement in block.body:
            if isinstance(statement, tree.In):
                self._note_names(statement)
            for field in ("value", "init"):
                self._visit(getattr(statement, field, None))
            for ident in bound_names(statement):
                self._bind(ident)

    def _type(self, ident: tree.Ident) -> None:
        if ident.name not in TYPES:
            near = nearest(ident.name, TYPES)
            message, fix = f"unknown type `{ident.name}`", Fix(ident.span, near) if near else None
            help = suggest(ident.name, TYPES, "types")
            self.sink.add(Diagnostic("unknown-type", message, help, span=ident.span, fix=fix))

    def _note_names(self, statement: tree.In) -> None:
        dims = statement.note.dims if statement.note else None
        # A name may recur in notes, where it asserts equal extents.
        for dim in dims or ():
            if isinstance(dim, tree.Name):
                self.names.setdefault(dim.name, tree.Ident(dim.name, dim.span))

    def _bind(self, ident: tree.Ident) -> None:
        known = self.names.get(ident.name)
        if known is not None and known.span != ident.span:
            self.sink.add(rebinding(ident, known.span))
        self.names[ident.name] = ident

    def _visit(self, node: Any) -> None:
        if isinstance(node, tuple):
            for item in node:
                self._visit(item)
        elif isinstance(node, tree.Call):
            self._call(node)
        elif isinstance(node, tree.Name):
            self._name(node)
        elif isinstance(node, tree.Flow):
            self._flow(node)
        elif isinstance(node, tree.Comprehension):
            self._comprehension(node)
        elif isinstance(node, tree.Attribute):
            # `data.classes` is a path, not a name; whether a block may read it is decided when it is built.
            parts = dotted(node)
            if parts is None or parts[0] in self.names or parts[0] in self.file.lets:
                self._visit(node.value)
        elif isinstance(node, tree.Tree) and not isinstance(node, (tree.Ident, tree.ShapeNote)):
            for part in node.__dict__.values():
                self._visit(part)

    def _flow(self, flow: tree.Flow) -> None:
        self._visit(flow.source)
        for step in flow.steps:
            self._visit(step.component)
            self._visit(step.repeat)
            if step.name is not None and step.name.name not in self.names:
                self.names[step.name.name] = step.name

    def _comprehension(self, node: tree.Comprehension) -> None:
        self._visit(node.source)
        self._visit(node.start)
        inner = [*node.targets, *([node.carry] if node.carry else [])]
        outer = dict(self.names)
        for ident in inner:
            self._bind(ident)
        self._visit(node.element)
        self.names = outer

    def _name(self, name: tree.Name) -> None:
        if name.name in self.names or name.name in self.file.lets or self._is_component(name.name):
            return
        # A name that is bound further down gets a better error, with both places, when the block is built.
        later = any(i.name == name.name for s in self.body for i in bound_names(s))
        if later or self.file.torn:
            return
        self.sink.add(
            Diagnostic(
                "unknown-name",
                f"unknown name `{name.name}`",
                suggest(name.name, [*self.names, *self.file.lets], "names"),
                span=name.span,
            )
        )

    def _is_component(self, name: str) -> bool:
        return self.file.component(name) is not None or name in REGISTRY

    def _call(self, call: tree.Call) -> None:
        function = isinstance(call.func, tree.Name) and call.func.name[:1].islower()
        if function:
            self._visit(call.args)
            return
        used = target(call, self.file)
        for argument in call.args:
            value = argument.value
            paths = isinstance(value, tree.ListExpr) and isinstance(used, type) and not issubclass(used, Op)
            parts = value.items if isinstance(value, tree.ListExpr) and paths else (value,)
            # Arguments of words may be bare names that are no values: a choice, or in a list a path of the graph.
            self._visit(tuple(p for p in parts if not (isinstance(p, tree.Name) and isinstance(used, type))))
        parts = dotted(call.func) or ("?",)
        if used is None and self.file.incomplete:
            return
        if used is None:
            known = self.file.component_names()
            near, same = nearest(parts[-1], known), replacing(parts[-1], known)
            self.sink.add(
                Diagnostic(
                    "unknown-component",
                    f"unknown component `{'.'.join(parts)}`",
                    undefined(parts[-1], near),
                    span=call.func.span,
                    fix=Fix(call.func.span, same) if same and len(parts) == 1 else None,
                )
            )
            return
        names = argument_names(used)
        for argument in call.args:
            if argument.name is not None and argument.name.name not in names:
                wrong = argument.name.name
                near = replacing(wrong, names)
                what = used.name if isinstance(used, BlockDef) else used.__name__
                self.sink.add(
                    Diagnostic(
                        "unknown-argument",
                        f"`{what}` has no argument `{wrong}`",
                        suggest(wrong, names, "arguments"),
                        span=argument.name.span,
                        fix=Fix(argument.name.span, near) if near else None,
                    )
                )


def argument_names(component: Any) -> list[str]:
    """Return the names of the arguments of a block or word."""
    if isinstance(component, BlockDef):
        return [p.name.name for p in component.tree.parameters] + [i.name.name for i in component.inputs()[1:]]
    takes = [o.name for o in component.takes] if issubclass(component, Op) else []
    return [*takes, *component.model_fields]


__all__ = ["argument_names", "calls", "check_blocks", "target"]
