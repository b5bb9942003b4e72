"""Lowering of a graph to a `torch.fx.GraphModule`: modules by path, and the `.seg` line on every node."""

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
    """A built model, parts of which may be frozen (:func:`segdsl.lower.freeze.freeze_parts`).

    Exceptions keep their traceback into the generated code, for :func:`segdsl.lower.failure.explain_failure`.
    """

    @property
    def frozen(self) -> tuple[str, ...]:
        """Paths of the parts that stay in evaluation mode."""
        # In `meta`, which fx copies along with the module, unlike other attributes.
        return self.meta.get("frozen", ())

    def is_frozen(self, name: str) -> bool:
        """Return whether the module or parameter ``name`` is below a frozen path."""
        return is_below(name, self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all modules except frozen ones."""
        super().train(mode)
        for name, module in self.named_modules():
            if self.is_frozen(name):
                module.training = False
        return self

    def recompile(self) -> Any:
        code = super().recompile()

        def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return nn.Module.__call__(self, *args, **kwargs)

        # fx wraps `__call__` to print generated code to stderr and drop the traceback, which explain_failure needs.
        type(self).__call__ = call
        return code


def build(graph: Graph, sources: Mapping[str, str], outputs: Sequence[str] = ()) -> fx.GraphModule:
    """Build the model of ``graph`` in training mode, initialized from torch's current random generator.

    The model takes the graph's inputs in order (normalized images (N, C, H, W)) and returns its output (logits
    (N, classes, H, W)), or a dict by name if it has several. With ``outputs`` it returns a dict from these paths to
    their tensors. ``sources`` maps file names to the texts that spans refer to.

    Raises SegError: `unknown-output`, `name-taken`.
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
        output_paths = {path: self._computes(path) for path in outputs}
        first = next(iter(self.spans.values()), None)
        for path in self.graph.inputs:
            self.values[path] = self._mark(self.fx.placeholder(_identifier(path)), path, first)
        realised = self._realise()
        for node in self.graph.nodes:
            self.values[node.path] = self._emit(node, realised[self.keys[node.path]])
        self._emit_output(output_paths)
        self.fx.lint()
        modules = {key: value for key, value in realised.items() if not isinstance(value, Call)}
        root = nn.Module()
        assemble(root, modules)
        return SegModule(root, self.fx, class_name=_identifier(self.graph.name))

    def _realise(self) -> dict[str, Realisation]:
        """Lower every node, returning torch ops by module key."""
        # In graph order, because initialization draws from one random generator. Nodes that share a key share weights.
        found: dict[str, Realisation] = {}
        for node in self.graph.nodes:
            key = self.keys[node.path]
            if key in found:
                continue
            # A free parameter has no operands; its size is its own shape.
            found[key] = realise(node.op, [self.sizes[path] for path in node.operands or (node.path,)])
            if not isinstance(found[key], Call):
                _check_name(key, node.span)
        return found

    def _emit(self, node: Node, realised: Realisation) -> fx.Node:
        span, name = self.spans[node.path], _identifier(node.path)
        operands = [self.values[path] for path in node.operands]
        if isinstance(realised, nn.Module):
            fx_node = self.fx.create_node("call_module", self.keys[node.path], tuple(operands), {}, name)
        elif isinstance(realised, nn.Parameter):
            fx_node = self.fx.create_node("get_attr", self.keys[node.path], (), {}, name)
        else:
            for index, shape in realised.views.items():
                view = self.fx.create_node("call_method", "view", (operands[index], *shape), {}, f"{name}_view")
                operands[index] = self._mark(view, node.path, span)
            middle = (operands,) if realised.listed else operands
            arguments = (*realised.before, *middle, *realised.after)
            fx_node = self.fx.create_node("call_function", realised.function, arguments, dict(realised.options), name)
        return self._mark(fx_node, node.path, span)

    def _emit_output(self, wanted: Mapping[str, str]) -> None:
        outputs = dict(wanted or self.graph.outputs)
        tensors = {name: self.values[path] for name, path in outputs.items()}
        result: Any = tensors if wanted or len(tensors) != 1 else next(iter(tensors.values()))
        last = next(reversed(outputs.values()), "")
        self._mark(self.fx.output(result), last, self.spans.get(last))

    def _computes(self, path: str) -> str:
        """Return the node or input behind an output path that the caller asked for."""
        paths = [*self.graph.inputs, *(node.path for node in self.graph.nodes)]
        node_paths = {**{p: p for p in paths}, **self.graph.outputs, **self.graph.names}
        if path not in node_paths:
            remedy = suggest(path, node_paths, "outputs")
            raise fail("unknown-output", f"the model has no tensor named `{path}`", remedy)
        return node_paths[path]

    def _mark(self, made: fx.Node, path: str, span: Span | None) -> fx.Node:
        made.stack_trace = stack_trace(path, span, self.sources)
        made.meta["path"], made.meta["span"] = path, span
        return made


def module_keys(graph: Graph) -> dict[str, str]:
    """Return the key in the module hierarchy of each node by path: its module, or its path if it has no state.

    A node without state gets a key such as `conv:add1` if a module has that name already (in `conv = a + b -> Conv(8)`
    both the sum and the weights are named `conv`) or the name is not valid (`lambda = x -> Dropout(0.1)`). Checkpoints
    are not affected, since they contain no such nodes.
    """
    module_names = {node.module for node in graph.nodes if node.module is not None}
    keys: dict[str, str] = {}
    alternatives: set[str] = set()
    for node in graph.nodes:
        key, parts = node.module or node.path, node.path.split(".")
        if node.module is None and (node.path in module_names or any(map(is_taken, parts))):
            stem = ".".join(another(part) if is_taken(part) else part for part in parts)
            # The colon cannot occur in a name of the language, so these keys collide with no other.
            candidates = (f"{stem}:{type(node.op).__name__.lower()}{number}" for number in count(1))
            key = next(key for key in candidates if key not in alternatives)
            alternatives.add(key)
        keys[node.path] = key
    return keys


def _check_name(path: str, span: Span | None) -> None:
    taken = next(filter(is_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in path `{path}` is a reserved name of torch modules"
        raise fail("name-taken", message, f"rename it, for example to `{another(taken)}`", span=span)


def _identifier(path: str) -> str:
    name = re.sub(r"\W", "_", path) or "model"
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name
