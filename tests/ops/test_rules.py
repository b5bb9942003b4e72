"""Each op's rules for shape, state and cost against torch on the meta device, over drawn arguments and sizes.

Nothing is computed there, so that large maps cost nothing. The rules are worked out at one size of the program, and
hold at another one as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import Shape, ceil_div, evaluate_shape, make_symbol
from segdsl.ir.values import Size
from segdsl.ir.word import list_words
from segdsl.lower.graph import build_module
from segdsl.ops.act import GELU, Identity, ReLU, Sigmoid, SiLU, Softmax
from segdsl.ops.attention import Attention
from segdsl.ops.conv import Conv, Linear
from segdsl.ops.drop import ChannelDropout, Dropout, DropPath
from segdsl.ops.factor import NMF
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.ops.norm import BatchNorm, GroupNorm, L2Normalize, LayerNorm
from segdsl.ops.parameter import Full, Normal, Parameter, TruncNormal, Uniform
from segdsl.ops.pool import AdaptiveAvgPool
from segdsl.ops.resize import ResizeTo
from segdsl.ops.scalar import Add, Divide, Multiply, Subtract
from segdsl.ops.tokens import Tokens, ToMap

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = tuple[Op, list[Shape]]
B, H, W = make_symbol("B"), make_symbol("H"), make_symbol("W")
CHANNELS = st.integers(1, 48)
STRIDES = st.sampled_from([1, 2, 4, 8])
SIZES = st.tuples(st.integers(8, 600), st.integers(8, 600))
SHARE = st.sampled_from([0.0, 0.1, 0.9])
EPS = st.sampled_from([1e-6, 1e-3])


def feature_map(channels: int, stride: int = 1) -> Shape:
    return (B, channels, ceil_div(H, stride), ceil_div(W, stride))


def tokens(channels: int, stride: int = 8) -> Shape:
    return (B, ceil_div(H, stride) * ceil_div(W, stride), channels)


def any_map(draw: Draw) -> Shape:
    return feature_map(draw(CHANNELS), draw(STRIDES))


def features(draw: Draw) -> Shape:
    return any_map(draw) if draw(st.booleans()) else tokens(draw(CHANNELS))


def conv(draw: Draw) -> Case:
    groups, each = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    op = Conv(
        channels=groups * draw(st.integers(1, 8)),
        kernel=Size(draw(st.integers(1, 7)), draw(st.integers(1, 7))),
        stride=draw(st.integers(1, 4)),
        padding=draw(st.none() | st.integers(0, 4)),
        dilation=draw(st.integers(1, 3)),
        groups=groups,
        bias=draw(st.booleans()),
        init=draw(st.sampled_from(["default", "kaiming"])),
    )
    return op, [feature_map(groups * each, draw(STRIDES))]


def joined(draw: Draw) -> Case:
    stride, widths = draw(STRIDES), draw(st.lists(CHANNELS, min_size=1, max_size=4))
    make = feature_map if draw(st.booleans()) else tokens
    return Concat(), [make(width, stride) for width in widths]


def arithmetic(kind: Any) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = features(draw)
        width = shape[1] if len(shape) == 4 else shape[2]
        number = draw(st.floats(-4, 4).filter(bool))
        gate = (B, width, 1, 1) if len(shape) == 4 else (1, 1, width)
        others: list[Shape] = [shape, (), (width,), gate]
        form = draw(st.integers(0, len(others) + 1))
        if form >= len(others):
            return kind(**{"left" if form == len(others) else "right": number}), [shape]
        sides = [shape, others[form]]
        return kind(), sides[:: draw(st.sampled_from([1, -1]))]

    return case


def parameter(draw: Draw) -> Case:
    extents = st.integers(1, 9) | st.sampled_from([ceil_div(H, 8), 1 + ceil_div(H, 8) * ceil_div(W, 8)])
    start = draw(st.sampled_from([Full(value=1.0), Normal(), TruncNormal(), Uniform()]))
    return Parameter(shape=tuple(draw(st.lists(extents, max_size=3))), init=start), []


def group_norm(draw: Draw) -> Case:
    groups = draw(st.integers(1, 8))
    return GroupNorm(groups=groups, eps=draw(EPS)), [feature_map(groups * draw(st.integers(1, 6)), draw(STRIDES))]


def shuffle(draw: Draw) -> Case:
    groups = draw(st.integers(1, 8))
    return ChannelShuffle(groups=groups), [feature_map(groups * draw(st.integers(1, 6)), draw(STRIDES))]


def pool(draw: Draw) -> Case:
    if draw(st.booleans()):
        return AdaptiveAvgPool(size=Size(draw(st.integers(1, 9)), draw(st.integers(1, 9)))), [any_map(draw)]
    return AdaptiveAvgPool(), [any_map(draw), any_map(draw)]


def resize(draw: Draw) -> Case:
    mode = draw(st.sampled_from(["nearest", "bilinear", "bicubic"]))
    corners = mode != "nearest" and draw(st.booleans())
    return ResizeTo(mode=mode, align_corners=corners), [any_map(draw), any_map(draw)]


def split(draw: Draw) -> Case:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    make = feature_map if draw(st.booleans()) else tokens
    return Split(sizes=tuple(sizes)), [make(sum(sizes))]


def to_tokens(draw: Draw) -> Case:
    shape = any_map(draw)
    first = [(1, draw(st.integers(1, 4)), shape[1])] if draw(st.booleans()) else []
    return Tokens(), [shape, *first]


def to_map(draw: Draw) -> Case:
    stride, skip = draw(STRIDES), draw(st.integers(0, 4))
    count = skip + ceil_div(H, stride) * ceil_div(W, stride)
    return ToMap(skip=skip), [(B, count, draw(CHANNELS)), feature_map(draw(CHANNELS), stride)]


def attention(draw: Draw) -> Case:
    heads = draw(st.integers(1, 6))
    return Attention(heads=heads), [tokens(3 * heads * draw(st.integers(1, 8)))]


def linear(draw: Draw) -> Case:
    return Linear(channels=draw(CHANNELS), bias=draw(st.booleans())), [tokens(draw(CHANNELS), draw(STRIDES))]


def over(kind: Any, of: Callable[[Draw], Shape]) -> Callable[[Draw], Case]:
    return lambda draw: (kind(over=draw(st.sampled_from(["space", "channels"]))), [of(draw)])


def noise(kind: Any, of: Callable[[Draw], Shape]) -> Callable[[Draw], Case]:
    return lambda draw: (kind(p=draw(SHARE)), [of(draw)])


def norm(kind: Any, of: Callable[[Draw], Shape]) -> Callable[[Draw], Case]:
    return lambda draw: (kind(eps=draw(EPS)), [of(draw)])


def nmf(draw: Draw) -> Case:
    rank, steps = draw(st.integers(1, 20)), draw(st.integers(1, 9))
    return NMF(rank=rank, steps=draw(st.integers(1, 9)), eval_steps=steps), [any_map(draw)]


CASES: dict[type[Op], Callable[[Draw], Case]] = {
    Conv: conv,
    Linear: linear,
    BatchNorm: norm(BatchNorm, any_map),
    LayerNorm: norm(LayerNorm, features),
    GroupNorm: group_norm,
    L2Normalize: over(L2Normalize, any_map),
    Softmax: over(Softmax, features),
    **{kind: lambda draw, kind=kind: (kind(), [features(draw)]) for kind in (ReLU, GELU, Sigmoid, SiLU, Identity)},
    Dropout: noise(Dropout, features),
    ChannelDropout: noise(ChannelDropout, any_map),
    DropPath: noise(DropPath, features),
    NMF: nmf,
    AdaptiveAvgPool: pool,
    ResizeTo: resize,
    Concat: joined,
    Split: split,
    Item: split,
    ChannelShuffle: shuffle,
    **{kind: arithmetic(kind) for kind in (Add, Subtract, Multiply, Divide)},
    Tokens: to_tokens,
    ToMap: to_map,
    Attention: attention,
    Parameter: parameter,
}


def graph_of(sketch: Any, op: Op, shapes: list[Shape], size: tuple[int, int]) -> Any:
    """The graph of one op; of a `Split`, that of all its parts."""
    inputs = {f"x{index}": shape for index, shape in enumerate(shapes)} or {"image": feature_map(3)}
    drawn = sketch(size, **inputs)
    drawn.add("node", op, *(inputs if shapes else ()))
    if not isinstance(op, Split):
        return drawn.graph()
    for index, width in enumerate(op.sizes):
        drawn.add(f"node.{index}", Item(index=index, channels=width), "node")
    return drawn.graph(*(f"node.{index}" for index in range(len(op.sizes))))


def on_meta(graph: Any, env: dict[str, int]) -> tuple[Any, list[torch.Tensor]]:
    with torch.device("meta"):
        return build_module(graph, {}).eval(), [
            torch.empty(evaluate_shape(shape, env)) for shape in graph.inputs.values()
        ]


def part(got: Any, name: str) -> torch.Tensor:
    """One of the outputs of a model, which gives a dictionary where it has several."""
    return got[name] if isinstance(got, dict) else got


def test_every_op_is_drawn() -> None:
    assert set(CASES) == set(list_words(Op).values())


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=SIZES, other=SIZES)
def test_shape_state_and_cost_are_those_of_torch(
    sketch: Any, kind: type[Op], data: Any, size: tuple[int, int], other: tuple[int, int]
) -> None:
    op, shapes = CASES[kind](data.draw)
    try:
        graph = graph_of(sketch, op, shapes, size)
    except ShapeError:
        assume(False)
        raise
    model, inputs = on_meta(graph, graph.env)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        got = model(*inputs)
    computed = graph.collect_shapes()
    for name, path in graph.outputs.items():
        assert tuple(part(got, name).shape) == evaluate_shape(computed[path], graph.env)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == {
        key: state.shape for key, state in graph.collect_state().items()
    }
    trained = {key for key, state in graph.collect_state().items() if state.kind == "trained"}
    assert trained == {key for key, value in model.named_parameters() if value.requires_grad}
    assert counter.get_total_flops() == 2 * graph.count_macs()
    assert_holds_at(graph, model, {"B": 2, "H": other[0], "W": other[1]})


def assert_holds_at(graph: Any, model: Any, env: dict[str, int]) -> None:
    """The symbolic shape at another size and batch, unless something in the op is made for one size."""
    node = graph.nodes[0]
    at_home = all(isinstance(extent, int) for extent in node.shape)
    if isinstance(node.op, Parameter) or at_home:
        return
    try:
        node.op.infer_shape([graph.inputs[path] for path in node.operands], env)
    except ShapeError:  # patches that do not divide, a kernel that does not fit
        return
    inputs = [torch.empty(evaluate_shape(shape, env), device="meta") for shape in graph.inputs.values()]
    got = model(*inputs)
    shapes = graph.collect_shapes()
    assert all(
        tuple(part(got, name).shape) == evaluate_shape(shapes[path], env) for name, path in graph.outputs.items()
    )
