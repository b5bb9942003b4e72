"""Static checks of blocks, without building them: names, arguments, and recursion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segdsl.diagnostics import Diagnostic, Fix, Label, Sink, find_closest_name, find_safe_replacement, suggest_name
from segdsl.ir.graph import Op
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate.blocks import PARAMETER_TYPES
from segdsl.lang.elaborate.expressions import collect_bindings, get_dotted_parts, lookup_component_in_file
from segdsl.lang.elaborate.files import STD, rebinding_error, suggest_definition
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.syntax import tree


def check_blocks(scope: FileScope, sink: Sink) -> None:
    """Check every block of a file and of the files that it extends.

    This finds errors in blocks that the model does not use, which are never elaborated.
    """
    for file in scope.list_lineage():
        # The library has tests of its own, and authors could not correct it.
        if file is not scope and file.path.is_relative_to(STD):
            continue
        _NameChecker(file, sink).check_lets()
        for block in file.blocks.values():
            _NameChecker(file, sink).check_block(block.tree)
    circular: set[int] = set()
    for block in _collect_visible_blocks(scope):
        if id(block) not in circular and _check_recursion(block, circular, sink):
            circular.add(id(block))


def _collect_visible_blocks(scope: FileScope) -> list[BlockDef]:
    """Return the blocks that a program could use, except for the library's, which cannot be recursive."""
    files = [f for file in scope.list_lineage() for f in (file, *file.namespaces.values())]
    blocks = {id(b): b for file in files for b in (*file.blocks.values(), *file.imports.values())}
    return [b for b in blocks.values() if not b.file.path.is_relative_to(STD)]


def find_calls(node: Any) -> Iterator[tree.Call]:
    """Yield every call below a node of the tree, outermost first."""
    if isinstance(node, tree.Call):
        yield node
    if isinstance(node, tuple):
        for item in node:
            yield from find_calls(item)
    elif isinstance(node, tree.Tree):
        for part in node.__dict__.values():
            yield from find_calls(part)


def resolve_callee(call: tree.Call, file: FileScope) -> BlockDef | type | None:
    """Return the block or word that a call in a file refers to, or None."""
    return lookup_component_in_file(call.func, file)


def _check_recursion(block: BlockDef, circular: set[int], sink: Sink) -> bool:
    """Return whether a block contains itself, and report it.

    Returns False without a report if the block only leads to one in ``circular``, whose cycle is already reported.
    """
    # Each entry remembers the call in this block that led to it, since that is the line to change.
    stack: list[tuple[BlockDef, tree.Call | None]] = [(block, None)]
    seen: set[int] = set()
    while stack:
        current, first = stack.pop()
        for call in find_calls((current.tree.parameters, current.tree.body)):
            used = resolve_callee(call, current.file)
            if id(used) in circular:
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


class _NameChecker:
    """Finds undefined names, components and arguments in one block or in the lets of a file."""

    def __init__(self, file: FileScope, sink: Sink) -> None:
        self.file, self.sink = file, sink
        self.body: tuple[tree.Statement, ...] = ()
        self.names: dict[str, tree.Ident] = {}

    def check_lets(self) -> None:
        for let in self.file.lets.values():
            self._visit_node(let.value)

    def check_block(self, block: tree.Block) -> None:
        self.body = block.body
        for parameter in block.parameters:
            self._check_type(parameter.type)
            self._visit_node(parameter.default)
            self._bind_name(parameter.name)
        for statement in block.body:
            if isinstance(statement, tree.In):
                self._bind_note_names(statement)
            for field in ("value", "init"):
                self._visit_node(getattr(statement, field, None))
            for ident in collect_bindings(statement):
                self._bind_name(ident)

    def _check_type(self, ident: tree.Ident) -> None:
        if ident.name not in PARAMETER_TYPES:
            near = find_closest_name(ident.name, PARAMETER_TYPES)
            message, fix = f"unknown type `{ident.name}`", Fix(ident.span, near) if near else None
            help = suggest_name(ident.name, PARAMETER_TYPES, "types")
            self.sink.add(Diagnostic("unknown-type", message, help, span=ident.span, fix=fix))

    def _bind_note_names(self, statement: tree.In) -> None:
        dims = statement.note.dims if statement.note else None
        # A name may recur in notes, where it asserts equal extents.
        for dim in dims or ():
            if isinstance(dim, tree.Name):
                self.names.setdefault(dim.name, tree.Ident(dim.name, dim.span))

    def _bind_name(self, ident: tree.Ident) -> None:
        known = self.names.get(ident.name)
        if known is not None and known.span != ident.span:
            self.sink.add(rebinding_error(ident, known.span))
        self.names[ident.name] = ident

    def _visit_node(self, node: Any) -> None:
        if isinstance(node, tuple):
            for item in node:
                self._visit_node(item)
        elif isinstance(node, tree.Call):
            self._visit_call(node)
        elif isinstance(node, tree.Name):
            self._visit_name(node)
        elif isinstance(node, tree.Flow):
            self._visit_flow(node)
        elif isinstance(node, tree.Comprehension):
            self._visit_comprehension(node)
        elif isinstance(node, tree.Attribute):
            # `data.classes` is a path, not a name; whether a block may read it is decided when it is built.
            parts = get_dotted_parts(node)
            if parts is None or parts[0] in self.names or parts[0] in self.file.lets:
                self._visit_node(node.value)
        elif isinstance(node, tree.Tree) and not isinstance(node, (tree.Ident, tree.ShapeNote)):
            for part in node.__dict__.values():
                self._visit_node(part)

    def _visit_flow(self, flow: tree.Flow) -> None:
        self._visit_node(flow.source)
        for step in flow.steps:
            self._visit_node(step.component)
            self._visit_node(step.repeat)
            if step.name is not None and step.name.name not in self.names:
                self.names[step.name.name] = step.name

    def _visit_comprehension(self, node: tree.Comprehension) -> None:
        self._visit_node(node.source)
        self._visit_node(node.start)
        inner = [*node.targets, *([node.carry] if node.carry else [])]
        outer = dict(self.names)
        for ident in inner:
            self._bind_name(ident)
        self._visit_node(node.element)
        self.names = outer

    def _visit_name(self, name: tree.Name) -> None:
        if name.name in self.names or name.name in self.file.lets or self._is_component(name.name):
            return
        # A name that is bound further down gets a better error, with both places, when the block is built.
        later = any(i.name == name.name for s in self.body for i in collect_bindings(s))
        if later or self.file.has_syntax_errors:
            return
        self.sink.add(
            Diagnostic(
                "unknown-name",
                f"unknown name `{name.name}`",
                suggest_name(name.name, [*self.names, *self.file.lets], "names"),
                span=name.span,
            )
        )

    def _is_component(self, name: str) -> bool:
        return self.file.find_component(name) is not None or name in REGISTRY

    def _visit_call(self, call: tree.Call) -> None:
        function = isinstance(call.func, tree.Name) and call.func.name[:1].islower()
        if function:
            self._visit_node(call.args)
            return
        used = resolve_callee(call, self.file)
        for argument in call.args:
            value = argument.value
            paths = isinstance(value, tree.ListExpr) and isinstance(used, type) and not issubclass(used, Op)
            parts = value.items if isinstance(value, tree.ListExpr) and paths else (value,)
            # Arguments of words may be bare names that are no values: a choice, or in a list a path of the graph.
            self._visit_node(tuple(p for p in parts if not (isinstance(p, tree.Name) and isinstance(used, type))))
        if used is not None:
            self._check_argument_names(call, used)
        elif not self.file.is_incomplete:
            self._report_unknown_component(call)

    def _report_unknown_component(self, call: tree.Call) -> None:
        parts = get_dotted_parts(call.func) or ("?",)
        known = self.file.list_component_names()
        near, same = find_closest_name(parts[-1], known), find_safe_replacement(parts[-1], known)
        self.sink.add(
            Diagnostic(
                "unknown-component",
                f"unknown component `{'.'.join(parts)}`",
                suggest_definition(parts[-1], near),
                span=call.func.span,
                fix=Fix(call.func.span, same) if same and len(parts) == 1 else None,
            )
        )

    def _check_argument_names(self, call: tree.Call, used: Any) -> None:
        names = list_argument_names(used)
        for argument in call.args:
            if argument.name is not None and argument.name.name not in names:
                wrong = argument.name.name
                near = find_safe_replacement(wrong, names)
                what = used.name if isinstance(used, BlockDef) else used.__name__
                self.sink.add(
                    Diagnostic(
                        "unknown-argument",
                        f"`{what}` has no argument `{wrong}`",
                        suggest_name(wrong, names, "arguments"),
                        span=argument.name.span,
                        fix=Fix(argument.name.span, near) if near else None,
                    )
                )


def list_argument_names(component: Any) -> list[str]:
    """Return the names of the arguments of a block or word."""
    if isinstance(component, BlockDef):
        return [p.name.name for p in component.tree.parameters] + [i.name.name for i in component.list_inputs()[1:]]
    takes = [o.name for o in component.takes] if issubclass(component, Op) else []
    return [*takes, *component.model_fields]


__all__ = ["check_blocks", "find_calls", "list_argument_names", "resolve_callee"]
