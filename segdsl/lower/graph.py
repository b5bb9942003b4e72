"""The graph as a `torch.fx.GraphModule`: module hierarchy by path, and the `.seg` line on every node."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Self

from torch import fx, nn

from segdsl.diagnostics import Span, fail, suggest
from segdsl.ir.graph import Graph, Node
from segdsl.ir.parts import is_below
from segdsl.ir.shape import shape_at
from segdsl.lower.hierarchy import assemble
from segdsl.lower.modules import Call, Realisation, realise
from segdsl.lower.traces import nearest_spans, stack_trace
from segdsl.ops.names import another, is_taken


class SegModule(fx.GraphModule):
    """A built model, some parts of which may be frozen (:func:`segdsl.lower.freeze.freeze`).

    A failure inside keeps its traceback, for :func:`segdsl.lower.failure.explain_failure`.
    """

    @property
    def frozen(self) -> tuple[str, ...]:
        """The paths of the parts that stay in evaluation mode; a copy of the model has them too."""
        return self.meta.get("frozen", ())

    def is_frozen(self, name: str) -> bool:
        """Whether the module or parameter of that name lies below a frozen path."""
        return is_below(name, self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the frozen parts."""
        super().train(mode)
        for name, module in self.named_modules():
            if self.is_frozen(name):
                module.training = False
        return self

    def recompile(self) -> Any:
        code = super().recompile()

        def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return nn.Module.__call__(self, *args, **kwargs)

        # fx wraps the call to print generated code to stderr and to drop the traceback; neither is wanted here.
        type(self).__call__ = call
        return code


def build(graph: Graph, sources: Mapping[str, str], outputs: Sequence[str] = ()) -> fx.GraphModule:
    """The model that ``graph`` describes, freshly initialised from torch's current generator, in training mode.

    Takes the graph's inputs in order ((N, 3, H, W), normalised) and returns its output ((N, classes, H, W) logits; a
    dict by name if it has several), or with ``outputs`` a dict from each of these paths to its tensor. ``sources`` are
    the texts that the spans point into. Raises SegError (`unknown-output`, `name-taken`).
    """
    return _Builder(graph, sources).build(outputs)


class _Builder:
    def __init__(self, graph: Graph, sources: Mapping[str, str]) -> None:
        self.graph, self.sources = graph, sources
        self.spans = nearest_spans(graph)
        self.sizes = {path: shape_at(shape, graph.env) for path, shape in graph.shapes().items()}
        self.keys = module_keys(graph)
        self.fx = fx.Graph()
        self.values: dict[str, fx.Node] = {}

    def build(self, outputs: Sequence[str]) -> fx.GraphModule:
        wanted = {path: self._computes(path) for path in outputs}
        first = next(iter(self.spans.values()), None)
        for path in self.graph.inputs:
            self.values[path] = self._mark(self.fx.placeholder(_identifier(path)), path, first)
        realised = self._realise()
        for node in self.graph.nodes:
            self.values[node.path] = self._emit(node, realised[self.keys[node.path]])
        self._emit_output(wanted)
        self.fx.lint()
        modules = {key: value for key, value in realised.items() if not isinstance(value, Call)}
        root = nn.Module()
        assemble(root, modules)
        return SegModule(root, self.fx, class_name=_identifier(self.graph.name))

    def _realise(self) -> dict[str, Realisation]:
        """The torch side of every node by its key; built in the graph's order."""
        found: dict[str, Realisation] = {}
        for node in self.graph.nodes:
            key = self.keys[node.path]
            if key in found:
                continue
            # A parameter has no operand; its own shape says how large it is.
            found[key] = realise(node.op, [self.sizes[path] for path in node.operands or (node.path,)])
            if not isinstance(found[key], Call):
                _check_name(key, node.span)
        return found

    def _emit(self, node: Node, realised: Realisation) -> fx.Node:
        span, name = self.spans[node.path], _identifier(node.path)
        operands = [self.values[path] for path in node.operands]
        if isinstance(realised, nn.Module):
            made = self.fx.create_node("call_module", self.keys[node.path], tuple(operands), {}, name)
        elif isinstance(realised, nn.Parameter):
            made = self.fx.create_node("get_attr", self.keys[node.path], (), {}, name)
        else:
            for index, shape in realised.views.items():
                view = self.fx.create_node("call_method", "view", (operands[index], *shape), {}, f"{name}_view")
                operands[index] = self._mark(view, node.path, span)
            middle = (operands,) if realised.listed else operands
            arguments = (*realised.before, *middle, *realised.after)
            made = self.fx.create_node("call_function", realised.function, arguments, dict(realised.options), name)
        return self._mark(made, node.path, span)

    def _emit_output(self, wanted: Mapping[str, str]) -> None:
        named = dict(wanted or self.graph.outputs)
        tensors = {name: self.values[path] for name, path in named.items()}
        result: Any = tensors if wanted or len(tensors) != 1 else next(iter(tensors.values()))
        last = next(reversed(named.values()), "")
        self._mark(self.fx.output(result), last, self.spans.get(last))

    def _computes(self, path: str) -> str:
        """The node (or input) behind a path that the user asked for."""
        paths = [*self.graph.inputs, *(node.path for node in self.graph.nodes)]
        known = {**{p: p for p in paths}, **self.graph.outputs, **self.graph.names}
        if path not in known:
            remedy = suggest(path, known, "outputs")
            raise fail("unknown-output", f"the model has no tensor called `{path}`", remedy)
        return known[path]

    def _mark(self, made: fx.Node, path: str, span: Span | None) -> fx.Node:
        made.stack_trace = stack_trace(path, span, self.sources)
        made.meta["path"], made.meta["span"] = path, span
        return made


def module_keys(graph: Graph) -> dict[str, str]:
    """Where in the module hierarchy each node lies, by path: at its module, or without state at its path.

    Where a module has that name (`conv = a + b -> Conv(8)`: the sum is bound to `conv`, and so are the weights), or
    none can have it (`lambda = x -> Dropout(0.1)`), what has no state lies beside it: no checkpoint knows its name.
    """
    owned = {node.module for node in graph.nodes if node.module is not None}
    keys: dict[str, str] = {}
    beside: set[str] = set()
    for node in graph.nodes:
        key, parts = node.module or node.path, node.path.split(".")
        if node.module is None and (node.path in owned or any(map(is_taken, parts))):
            stem = ".".join(another(part) if is_taken(part) else part for part in parts)
            keyed = (f"{stem}:{type(node.op).__name__.lower()}{number}" for number in count(1))
            key = next(key for key in keyed if key not in beside)
            beside.add(key)
        keys[node.path] = key
    return keys


def _check_name(path: str, span: Span | None) -> None:
    taken = next(filter(is_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in the path `{path}` already means something in a built module"
        raise fail("name-taken", message, f"give it another name, for example `{another(taken)}`", span=span)


def _identifier(path: str) -> str:
    name = re.sub(r"\W", "_", path) or "model"
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name
