"""Lowering of a graph to a `torch.fx.GraphModule`: modules by path, and the `.seg` line on every node."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Self

from torch import fx, nn

from segdsl.diagnostics import Span, fail, suggest_name
from segdsl.ir.graph import Graph, Node
from segdsl.ir.parts import is_below
from segdsl.ir.shape import evaluate_shape
from segdsl.lower.hierarchy import assemble
from segdsl.lower.modules import Call, TorchOp, lower_op
from segdsl.lower.traces import find_nearest_spans, format_stack_trace
from segdsl.ops.names import is_name_taken, suggest_free_name


class SegModule(fx.GraphModule):
    """A built model, parts of which may be frozen (:func:`segdsl.lower.freeze.freeze_parts`).

    Exceptions keep their traceback into the generated code, for :func:`segdsl.lower.failure.explain_failure`.
    """

    @property
    def freeze_paths(self) -> tuple[str, ...]:
        """Paths of the parts that stay in evaluation mode."""
        # In `meta`, which fx copies along with the module, unlike other attributes.
        return self.meta.get("frozen", ())

    def is_frozen(self, name: str) -> bool:
        """Return whether the module or parameter ``name`` is below a frozen path."""
        return is_below(name, self.freeze_paths)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all modules except frozen ones."""
        super().train(mode)
        for name, module in self.named_modules():
            if self.is_frozen(name):
                module.training = False
        return self

    def recompile(self) -> Any:
        code = super().recompile()

        def call_module(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return nn.Module.__call__(self, *args, **kwargs)

        # fx wraps `__call__` to print generated code to stderr and drop the traceback, which explain_failure needs.
        type(self).__call__ = call_module
        return code


def build_module(graph: Graph, sources: Mapping[str, str], outputs: Sequence[str] = ()) -> fx.GraphModule:
    """Build the model of ``graph`` in training mode, initialized from torch's current random generator.

    The model takes the graph's inputs in order (normalized images (N, C, H, W)) and returns its output (logits
    (N, classes, H, W)), or a dict by name if it has several. With ``outputs`` it returns a dict from these paths to
    their tensors. ``sources`` maps file names to the texts that spans refer to.

    Raises SegError: `unknown-output`, `name-taken`.
    """
    return _FxBuilder(graph, sources).build_module(outputs)


class _FxBuilder:
    def __init__(self, graph: Graph, sources: Mapping[str, str]) -> None:
        self.graph, self.sources = graph, sources
        self.spans = find_nearest_spans(graph)
        self.sizes = {path: evaluate_shape(shape, graph.env) for path, shape in graph.collect_shapes().items()}
        self.keys = assign_module_keys(graph)
        self.fx_graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}

    def build_module(self, outputs: Sequence[str]) -> fx.GraphModule:
        output_paths = {path: self._resolve_output_path(path) for path in outputs}
        first = next(iter(self.spans.values()), None)
        for path in self.graph.inputs:
            self.values[path] = self._annotate_node(self.fx_graph.placeholder(_to_identifier(path)), path, first)
            self.values[path].meta["shape"] = self.sizes[path]
        realised = self._lower_nodes()
        for node in self.graph.nodes:
            self.values[node.path] = self._emit_node(node, realised[self.keys[node.path]])
            self.values[node.path].meta["shape"] = self.sizes[node.path]
        self._emit_output(output_paths)
        self.fx_graph.lint()
        modules = {key: value for key, value in realised.items() if not isinstance(value, Call)}
        root = nn.Module()
        assemble(root, modules)
        return SegModule(root, self.fx_graph, class_name=_to_identifier(self.graph.name))

    def _lower_nodes(self) -> dict[str, TorchOp]:
        """Lower every node, returning torch ops by module key."""
        # In graph order, because initialization draws from one random generator. Nodes that share a key share weights.
        found: dict[str, TorchOp] = {}
        for node in self.graph.nodes:
            key = self.keys[node.path]
            if key in found:
                continue
            # A free parameter has no operands; its size is its own shape.
            found[key] = lower_op(node.op, [self.sizes[path] for path in node.operands or (node.path,)])
            if not isinstance(found[key], Call):
                _check_name_free(key, node.span)
        return found

    def _emit_node(self, node: Node, torch_op: TorchOp) -> fx.Node:
        span, name = self.spans[node.path], _to_identifier(node.path)
        operands = [self.values[path] for path in node.operands]
        if isinstance(torch_op, nn.Module):
            fx_node = self.fx_graph.create_node("call_module", self.keys[node.path], tuple(operands), {}, name)
        elif isinstance(torch_op, nn.Parameter):
            fx_node = self.fx_graph.create_node("get_attr", self.keys[node.path], (), {}, name)
        else:
            for index, shape in torch_op.views.items():
                view = self.fx_graph.create_node("call_method", "view", (operands[index], *shape), {}, f"{name}_view")
                operands[index] = self._annotate_node(view, node.path, span)
            middle = (operands,) if torch_op.takes_list else operands
            arguments = (*torch_op.leading_args, *middle, *torch_op.trailing_args)
            fx_node = self.fx_graph.create_node(
                "call_function", torch_op.function, arguments, dict(torch_op.options), name
            )
        return self._annotate_node(fx_node, node.path, span)

    def _emit_output(self, output_paths: Mapping[str, str]) -> None:
        outputs = dict(output_paths or self.graph.outputs)
        tensors = {name: self.values[path] for name, path in outputs.items()}
        result: Any = tensors if output_paths or len(tensors) != 1 else next(iter(tensors.values()))
        last = next(reversed(outputs.values()), "")
        self._annotate_node(self.fx_graph.output(result), last, self.spans.get(last))

    def _resolve_output_path(self, path: str) -> str:
        """Return the node or input behind an output path that the caller asked for."""
        paths = [*self.graph.inputs, *(node.path for node in self.graph.nodes)]
        node_paths = {**{p: p for p in paths}, **self.graph.outputs, **self.graph.names}
        if path not in node_paths:
            remedy = suggest_name(path, node_paths, "outputs")
            raise fail("unknown-output", f"the model has no tensor named `{path}`", remedy)
        return node_paths[path]

    def _annotate_node(self, fx_node: fx.Node, path: str, span: Span | None) -> fx.Node:
        fx_node.stack_trace = format_stack_trace(path, span, self.sources)
        fx_node.meta["path"], fx_node.meta["span"] = path, span
        return fx_node


def assign_module_keys(graph: Graph) -> dict[str, str]:
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
        if node.module is None and (node.path in module_names or any(map(is_name_taken, parts))):
            stem = ".".join(suggest_free_name(part) if is_name_taken(part) else part for part in parts)
            # The colon cannot occur in a name of the language, so these keys collide with no other.
            candidates = (f"{stem}:{type(node.op).__name__.lower()}{number}" for number in count(1))
            key = next(key for key in candidates if key not in alternatives)
            alternatives.add(key)
        keys[node.path] = key
    return keys


def _check_name_free(path: str, span: Span | None) -> None:
    taken = next(filter(is_name_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in path `{path}` is a reserved name of torch modules"
        raise fail("name-taken", message, f"rename it, for example to `{suggest_free_name(taken)}`", span=span)


def _to_identifier(path: str) -> str:
    name = re.sub(r"\W", "_", path) or "model"
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name
