"""A graph as one file of plain PyTorch that needs nothing of segdsl: same keys, same start from a seed, same logits."""

from __future__ import annotations

import inspect
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, groupby
from typing import Any

import torch
from torch import nn

from segdsl.ir.graph import Graph, Node
from segdsl.ir.parts import parts_of
from segdsl.ir.shape import shape_at, show
from segdsl.lower import functional, hierarchy, modules
from segdsl.lower.graph import module_keys
from segdsl.lower.modules import Call, Realisation, realise, start_of
from segdsl.ops.parameter import Parameter
from segdsl.version import __version__

INFIX = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/"}
HEAD = '''\
"""{name}, written by segdsl {version} from {source}: plain PyTorch, without segdsl.

    model = {name}()
    model.load_state_dict(torch.load("weights.pt"))
    logits = model.eval()(images)  # {images} -> {logits}

Images are {normalized}, built for {height}x{width}.
After `torch.manual_seed(n)` the weights start as segdsl's do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
'''
RESERVED = {
    "self", "annotations", "Mapping", "torch", "Tensor", "nn", "F",
    *(name for module in (functional, modules, hierarchy) for name, item in vars(module).items()
      if callable(item) and getattr(item, "__module__", "") == module.__name__),
}  # fmt: skip
"""Names that the emitted file uses, or may use, for something of its own."""


def emit_torch(graph: Graph, source: str, normalized: str = "normalised") -> str:
    """The file. ``source`` says in one line what the graph was made from, ``normalized`` what is done to an image."""
    return _Emitter(graph, source, normalized).text()


@dataclass
class _Step:
    """A run of nodes of one part of the graph: a method of the emitted class."""

    name: str
    part: str
    nodes: list[Node]


class _Emitter:
    def __init__(self, graph: Graph, source: str, normalized: str) -> None:
        self.graph, self.normalized = graph, normalized
        self.source = "".join(c if c.isprintable() and c not in '\\"' else "_" for c in source)
        self.name = _free(graph.name, set(RESERVED))
        self.sizes = {path: shape_at(shape, graph.env) for path, shape in graph.shapes().items()}
        self.keys = module_keys(graph)
        # The best name comes last: no number at its end, as few parts as possible.
        names = sorted(graph.names, key=lambda n: (not n.rpartition(".")[2].isdigit(), -n.count("."), -len(n)))
        self.bindings = {graph.names[name]: name for name in names}
        self.helpers: dict[str, str] = {}
        for item in (hierarchy.Group, hierarchy.assemble):
            self._need(item)
        self.realised: dict[str, Realisation] = {}
        self.starts: dict[str, str] = {}
        with torch.device("meta"):  # their arguments are wanted, not their numbers
            for node in graph.nodes:
                key = self.keys[node.path]
                if key not in self.realised:
                    self.realised[key] = realise(node.op, [self.sizes[path] for path in node.operands or (node.path,)])
                    self.starts[key] = self._start(node, self.realised[key])
        self.attributes = _attributes([key for key, start in self.starts.items() if start])
        self.owners = set(self.attributes.values())
        self.lists = {node.path for node in graph.nodes if node.op.returns == "list"}
        self.steps = self._steps()
        self.wanted = {*graph.outputs.values(), *(path for step in self.steps for path in self._needs(step))}

    def text(self) -> str:
        graph = self.graph
        (_, output), *_ = graph.outputs.items()
        shapes = graph.shapes()
        head = HEAD.format(
            name=self.name, version=__version__, source=self.source, logits=_shape(shapes[output]),
            images=_shape(next(iter(graph.inputs.values()))), normalized=self.normalized,
            height=graph.size[0], width=graph.size[1],
        )  # fmt: skip
        lines = [f"class {self.name}(nn.Module):", f'    """{self.name} as it stands in {self.source}."""', ""]
        lines += [*self._init(), "", *self._forward()]
        for step in self.steps:
            lines += self._method(step)
        helpers = [self.helpers[name] for name in sorted(self.helpers, key=str.lower)]
        return "\n\n".join([head, *helpers, "\n".join(lines) + "\n"])

    # --- what the model is made of -----------------------------------------------------------------------------------

    def _start(self, node: Node, realised: Realisation) -> str:
        """The expression that builds a module or a parameter; nothing for a function."""
        if isinstance(node.op, Parameter):
            return _parameter(node.op, self.sizes[node.path])
        if isinstance(realised, nn.Module):
            kind = type(realised)
            if kind.__module__ == modules.__name__:
                self._need(kind)
            return CONSTRUCTORS[kind](realised)
        return ""

    def _need(self, item: Callable[..., Any] | type) -> None:
        if item.__name__ not in self.helpers:
            self.helpers[item.__name__] = inspect.getsource(item)

    def _init(self) -> list[str]:
        lines = ["    def __init__(self) -> None:", "        super().__init__()"]
        lines.append("        parts: dict[str, nn.Module | nn.Parameter] = {}")
        lines += [f'        parts["{self.attributes[key]}"] = {start}' for key, start in self.starts.items() if start]
        return [*lines, "        assemble(self, parts)"]

    # --- what it computes --------------------------------------------------------------------------------------------

    def _steps(self) -> list[_Step]:
        parts = {part.path for _, part in parts_of(self.graph).rows(2) if part.parameters or part.macs}

        def part_of(node: Node) -> str:
            path = node.path.partition(":")[0]
            while path and path not in parts:
                path = path.rpartition(".")[0]
            return path

        computed = [node for node in self.graph.nodes if not isinstance(node.op, Parameter)]
        steps: list[_Step] = []
        taken = {*dir(nn.Module()), *(attribute.partition(".")[0] for attribute in self.attributes.values())}
        for part, nodes in groupby(computed, part_of):
            name = _free(f"run_{part}" if part else "finish", taken)
            steps.append(_Step(name, part, list(nodes)))
        return steps

    def _forward(self) -> list[str]:
        inputs = list(self.graph.inputs)
        names = _Names(self.bindings, inputs)
        lines = [f"    def forward(self, {', '.join(f'{names[i]}: Tensor' for i in inputs)}) -> {self._returns()}:"]
        shapes = self.graph.shapes()
        for step in self.steps:
            gives = self._gives(step)
            if not gives:
                continue
            targets = ", ".join(names[path] for path in gives)
            call = f"self.{step.name}({', '.join(names[path] for path in self._needs(step))})"
            lines.append(f"        {targets} = {call}  # {', '.join(_shape(shapes[path]) for path in gives)}")
        values = {name: self._value(path, names) for name, path in self.graph.outputs.items()}
        several = "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"
        return [*lines, f"        return {several if len(values) > 1 else values.popitem()[1]}"]

    def _returns(self) -> str:
        return "Tensor" if len(self.graph.outputs) == 1 else "dict[str, Tensor]"

    def _needs(self, step: _Step) -> list[str]:
        """The tensors of other steps that a step takes."""
        own = {node.path for node in step.nodes}
        taken = [path for node in step.nodes for path in node.operands]
        return [path for path in dict.fromkeys(taken) if path not in own and not self._is_parameter(path)]

    def _gives(self, step: _Step) -> list[str]:
        """The tensors of a step that others take."""
        return [node.path for node in step.nodes if node.path in self.wanted]

    def _is_parameter(self, path: str) -> bool:
        return isinstance(self.realised.get(self.keys.get(path, "")), nn.Parameter)

    def _method(self, step: _Step) -> list[str]:
        needs, gives = self._needs(step), self._gives(step)
        names = _Names(self.bindings, needs, step.part)
        arguments = ", ".join(["self", *(f"{names[path]}: {self._type(path)}" for path in needs)])
        returned = self._type(gives[0]) if len(gives) == 1 else "tuple[Tensor, ...]"
        lines = ["", f"    def {step.name}({arguments}) -> {returned}:"]
        for node in step.nodes:
            value = self._expression(node, names)
            lines.append(f"        {names[node.path]} = {value}")
        return [*lines, f"        return {', '.join(names[path] for path in gives)}"]

    def _value(self, path: str, names: _Names) -> str:
        return self._access(path) if self._is_parameter(path) else names[path]

    def _access(self, path: str) -> str:
        """`self.backbone.stage0[1].conv`: the module or parameter of a node."""
        reached, so_far = "self", ""
        for part in self.attributes[self.keys[path]].split("."):
            if not part.isdigit():
                reached = f"{reached}.{part}"
            elif so_far in self.owners:  # a module of torch, which gives nothing by number
                reached = f'getattr({reached}, "{part}")'
            else:
                reached = f"{reached}[{part}]"
            so_far = f"{so_far}.{part}".lstrip(".")
        return reached

    def _type(self, path: str) -> str:
        return "tuple[Tensor, ...]" if path in self.lists else "Tensor"

    def _expression(self, node: Node, names: _Names) -> str:
        realised = self.realised[self.keys[node.path]]
        values = [self._value(path, names) for path in node.operands]
        if isinstance(realised, nn.Module):
            return f"{self._access(node.path)}({', '.join(values)})"
        assert isinstance(realised, Call)
        for index, shape in realised.views.items():
            values[index] = f"{values[index]}.view{shape}"
        if realised.function is operator.getitem:
            return f"{values[0]}[{realised.after[0]}]"
        if realised.function in INFIX:
            sides = [*map(repr, realised.before), *values, *map(repr, realised.after)]
            return f"{sides[0]} {INFIX[realised.function]} {sides[1]}"
        given = [f"[{', '.join(values)}]"] if realised.listed else values
        options = [f"{name}={value!r}" for name, value in realised.options.items()]
        arguments = [*map(repr, realised.before), *given, *map(repr, realised.after), *options]
        return f"{self._function(realised.function)}({', '.join(arguments)})"

    def _function(self, function: Callable[..., Any]) -> str:
        name = function.__name__
        if getattr(functional, name, None) is function:
            self._need(function)
            return name
        return f"torch.{name}" if getattr(torch, name, None) is function else f"F.{name}"


class _Names:
    """Identifiers for the tensors of one method, by path: their bindings, without what all of a part begin with."""

    def __init__(self, bindings: Mapping[str, str], given: Iterable[str], part: str = "") -> None:
        self.bindings, self.part, self.known = bindings, part, dict[str, str]()
        self.taken = set(RESERVED)
        for path in given:
            self.known[path] = _free(bindings.get(path, path), self.taken)

    def __getitem__(self, path: str) -> str:
        if path not in self.known:
            name = self.bindings.get(path, path)
            inside = name.removeprefix(f"{self.part}.") if self.part else name
            self.known[path] = _free(inside if inside != self.part else inside.rpartition(".")[2], self.taken)
        return self.known[path]


def _free(wish: str, taken: set[str]) -> str:
    """``wish`` as an identifier that nothing has yet, which it then has."""
    stem = re.sub(r"\W", "_", wish)
    stem = f"{stem.strip('_')}_" if stem.startswith("__") else stem  # Python treats these in its own way
    stem = f"_{stem}" if stem[:1].isdigit() or keyword.iskeyword(stem) else stem
    name = next(name for name in _numbered(stem) if name not in taken)
    taken.add(name)
    return name


def _attributes(keys: Sequence[str]) -> dict[str, str]:
    """The attribute path of every key: itself, or what is free where it is no path of Python names.

    Only what has no weights may lie at `conv:dropout1`, beside something called `conv`; it becomes `conv_dropout1`.
    """
    found = {key: key for key in keys if ":" not in key}
    taken = set(found)
    for key in keys:
        if key not in found:
            parent, _, name = key.rpartition(".")
            first, *others = name.split(":")
            second = "_".join(others)
            wish = f"{second}_{first}" if first.isdigit() else f"{first}_{second}"
            path = next(p for p in _numbered(f"{parent}.{wish}".lstrip(".")) if p not in taken)
            found[key] = path
            taken.add(path)
    return found


def _numbered(stem: str) -> Iterator[str]:
    """`stem`, `stem_2`, `stem_3`, …"""
    return chain([stem], (f"{stem}_{number}" for number in count(2)))


def _shape(shape: Sequence[object]) -> str:
    return f"({show(tuple(shape))[1:-1].replace('B', 'N', 1)})"  # type: ignore[arg-type]


def _parameter(op: Parameter, shape: tuple[int, ...]) -> str:
    """The expression that makes a free parameter as :func:`segdsl.lower.modules.realise` does."""
    name, arguments = start_of(op.init)
    given = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return f"nn.Parameter(nn.init.{name}(torch.empty({shape}){given}))"


def _call(name: str, *positional: object, **named: tuple[object, object]) -> str:
    """A call; each named argument comes with its default, and is left out where it has that value."""
    arguments = [repr(value) for value in positional]
    arguments += [f"{key}={value!r}" for key, (value, default) in named.items() if value != default]
    return f"{name}({', '.join(arguments)})"


def _conv(name: str) -> Callable[[Any], str]:
    return lambda m: _call(
        name, m.in_channels, m.out_channels, m.kernel_size, stride=(m.stride, (1, 1)), padding=(m.padding, (0, 0)),
        dilation=(m.dilation, (1, 1)), groups=(m.groups, 1), bias=(m.bias is not None, True),
    )  # fmt: skip


CONSTRUCTORS: dict[type[nn.Module], Callable[[Any], str]] = {
    nn.Conv2d: _conv("nn.Conv2d"),
    modules.KaimingConv2d: _conv("KaimingConv2d"),
    nn.Linear: lambda m: _call("nn.Linear", m.in_features, m.out_features, bias=(m.bias is not None, True)),
    nn.BatchNorm2d: lambda m: _call("nn.BatchNorm2d", m.num_features, eps=(m.eps, 1e-5), momentum=(m.momentum, 0.1)),
    modules.RepeatedBatchNorm: lambda m: f"RepeatedBatchNorm({m.num_features}, {m.eps!r}, {m.once!r}, {m.updates})",
    modules.LayerNorm: lambda m: _call("LayerNorm", m.normalized_shape[0], eps=(m.eps, 1e-5)),
    nn.GroupNorm: lambda m: _call("nn.GroupNorm", m.num_groups, m.num_channels, eps=(m.eps, 1e-5)),
    nn.Identity: lambda m: "nn.Identity()",
    nn.Dropout: lambda m: f"nn.Dropout({m.p!r})",
    nn.Dropout2d: lambda m: f"nn.Dropout2d({m.p!r})",
    modules.DropPath: lambda m: f"DropPath({m.p!r})",
    modules.NMF: lambda m: f"NMF({m.extra_repr()})",
}
"""The expression that builds each kind of module."""
