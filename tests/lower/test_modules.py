"""Every op against torch: shapes at any size, state and cost; and every argument has an effect on the module."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.ir.graph import Initializer, Op
from segdsl.ir.shape import Shape, ceil_div, evaluate_extent, evaluate_shape, make_symbol
from segdsl.ir.values import Size
from segdsl.ir.word import Word, list_words
from segdsl.lower.emit import emit_torch
from segdsl.lower.graph import build_module
from segdsl.lower.modules import LOWERINGS
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

B, H, W = make_symbol("B"), make_symbol("H"), make_symbol("W")
SIZE = (24, 40)


def feature_map(channels: int, stride: int = 1) -> Shape:
    return (B, channels, ceil_div(H, stride), ceil_div(W, stride))


def patches(channels: int) -> Shape:
    return (B, ceil_div(H, 4) * ceil_div(W, 4), channels)


SAMPLES: list[tuple[Op, list[Shape]]] = [
    (Conv(channels=6, kernel=Size(3, 3), stride=2, groups=2), [feature_map(4)]),
    (Conv(channels=5, kernel=Size(1, 7), dilation=2, bias=False, init="kaiming"), [feature_map(4, 2)]),
    (Conv(channels=6, kernel=Size(2, 2), stride=2, padding=1), [feature_map(4)]),
    (Conv(channels=7, init="kaiming"), [feature_map(4)]),
    (Linear(channels=6), [patches(4)]),
    (Linear(channels=6, bias=False), [patches(4)]),
    (BatchNorm(eps=1e-3, momentum=0.2), [feature_map(4)]),
    (LayerNorm(eps=1e-3), [feature_map(4)]),
    (LayerNorm(), [patches(4)]),
    (GroupNorm(groups=2, eps=1e-3), [feature_map(4)]),
    (L2Normalize(over="space"), [feature_map(4)]),
    (L2Normalize(), [feature_map(4)]),
    *[(op, [feature_map(4)]) for op in (ReLU(), GELU(), Sigmoid(), SiLU(), Identity(), Softmax())],
    (Softmax(over="space"), [feature_map(4)]),
    (Softmax(over="space"), [patches(4)]),
    (Softmax(), [patches(4)]),
    (NMF(rank=3), [feature_map(4)]),
    (NMF(rank=2, steps=1, eval_steps=9), [feature_map(4, 2)]),
    *[(op, [feature_map(4)]) for op in (Dropout(p=0.25), ChannelDropout(p=0.25), DropPath(p=0.25))],
    (AdaptiveAvgPool(size=Size(1, 1)), [feature_map(4)]),
    (AdaptiveAvgPool(size=Size(3, 2)), [feature_map(4)]),
    (AdaptiveAvgPool(), [feature_map(4), feature_map(2, 4)]),
    (AdaptiveAvgPool(), [feature_map(4), feature_map(2)]),
    (ResizeTo(), [feature_map(4, 4), feature_map(2)]),
    (ResizeTo(mode="nearest"), [feature_map(4, 4), feature_map(2)]),
    (ResizeTo(mode="bicubic", align_corners=True), [feature_map(4, 4), feature_map(2)]),
    (Concat(), [feature_map(4), feature_map(2), feature_map(3)]),
    (Concat(), [patches(4), patches(3)]),
    (ChannelShuffle(groups=2), [feature_map(6)]),
    (Add(), [feature_map(4), (B, 4, 1, 1)]),
    (Add(), [(4,), feature_map(4)]),
    (Subtract(), [patches(4), (1, 1, 4)]),
    (Subtract(left=1.0), [feature_map(4)]),
    (Multiply(), [patches(4), (4,)]),
    (Multiply(), [feature_map(4), ()]),
    (Divide(right=2.0), [feature_map(4)]),
    (Tokens(), [feature_map(4)]),
    (Tokens(), [feature_map(4), (1, 2, 4)]),
    (ToMap(), [patches(5), feature_map(3, 4)]),
    (Attention(heads=2), [patches(12)]),
    (Parameter(shape=(1, 1 + ceil_div(H, 4), 6), init=TruncNormal()), []),
]
IDS = [f"{index}-{op!r}"[:48] for index, (op, _) in enumerate(SAMPLES)]


def single(sketch, op: Op, shapes: list[Shape]):
    """The graph of one op, and its node."""
    inputs = {f"x{index}": shape for index, shape in enumerate(shapes)} or {"image": feature_map(3)}
    drawn = sketch(SIZE, **inputs)
    drawn.add("node", op, *(inputs if shapes else ()))
    graph = drawn.graph()
    return graph, graph.nodes[0]


def inputs_of(graph, env: dict[str, int]) -> list[torch.Tensor]:
    return [torch.randn(evaluate_shape(shape, env)) for shape in graph.inputs.values()]


def test_ops_and_realisations_have_the_same_keys() -> None:
    assert set(LOWERINGS) == set(list_words(Op).values())


def test_every_op_has_a_sample() -> None:
    assert {type(op) for op, _ in SAMPLES} | {Split, Item} == set(list_words(Op).values())


@pytest.mark.parametrize(("op", "shapes"), SAMPLES, ids=IDS)
def test_state_has_the_keys_shapes_and_kinds_that_torch_has(sketch, op: Op, shapes: list[Shape]) -> None:
    graph, _ = single(sketch, op, shapes)
    model = build_module(graph, {})
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == {
        key: state.shape for key, state in graph.collect_state().items()
    }
    trained = {key for key, state in graph.collect_state().items() if state.kind == "trained"}
    assert trained == {key for key, value in model.named_parameters() if value.requires_grad}
    assert graph.count_parameters() == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("op", "shapes"), SAMPLES, ids=IDS)
@pytest.mark.parametrize("training", [True, False])
def test_the_inferred_shape_holds_at_any_size(sketch, op: Op, shapes: list[Shape], training: bool) -> None:
    graph, node = single(sketch, op, shapes)
    model = build_module(graph, {}).train(training)
    for height, width in [SIZE, (9, 21), (31, 4)]:
        if isinstance(op, Parameter) and (height, width) != SIZE:
            continue
        env = {"B": 2, "H": height, "W": width}
        assert tuple(model(*inputs_of(graph, env)).shape) == evaluate_shape(node.shape, env)


@pytest.mark.parametrize(("op", "shapes"), SAMPLES, ids=IDS)
def test_the_cost_is_what_torch_counts(sketch, op: Op, shapes: list[Shape]) -> None:
    graph, _ = single(sketch, op, shapes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_module(graph, {}).eval()(*inputs_of(graph, graph.env))
    # The counter does not see the fused attention kernel of the CPU.
    attended = graph.count_macs() if isinstance(op, Attention) else 0
    assert counter.get_total_flops() + 2 * attended == 2 * graph.count_macs()


@pytest.mark.parametrize(("op", "shapes"), SAMPLES, ids=IDS)
@pytest.mark.parametrize("training", [True, False])
def test_plain_pytorch_starts_and_computes_the_same(sketch, op: Op, shapes: list[Shape], training: bool) -> None:
    graph, _ = single(sketch, op, shapes)
    scope: dict[str, Any] = {}
    exec(emit_torch(graph, "the test"), scope)
    models = []
    for make in (lambda: build_module(graph, {}), scope["Sketch"]):
        torch.manual_seed(0)
        models.append(make().train(training))
    ours, theirs = (model.state_dict() for model in models)
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    inputs = inputs_of(graph, {"B": 2, "H": SIZE[0], "W": SIZE[1]})
    got = []
    for model in models:
        torch.manual_seed(1)
        got.append(model(*inputs))
    assert torch.equal(*got)


def test_attention_costs_two_products_for_every_head() -> None:
    tokens, width = 60, 4
    with FlopCounterMode(display=False) as counter:
        q = torch.randn(2, tokens, width // 2)
        torch.bmm(torch.bmm(q, q.transpose(1, 2)).softmax(-1), q)
    shape = (B, tokens, 3 * width)
    assert counter.get_total_flops() == 2 * evaluate_extent(
        Attention(heads=2).count_macs([shape], (B, tokens, width)), {}
    )


VARIATIONS: dict[type[Op], tuple[Op, list[Shape], dict[str, object]]] = {
    Conv: (
        Conv(channels=4, kernel=Size(3, 3)), [feature_map(4)],
        {"channels": 8, "kernel": Size(1, 1), "stride": 2, "padding": 0, "dilation": 2, "groups": 2, "bias": False,
         "init": "kaiming"},
    ),
    Linear: (Linear(channels=4), [patches(4)], {"channels": 5, "bias": False}),
    BatchNorm: (BatchNorm(), [feature_map(4)], {"eps": 1e-3, "momentum": 0.5, "updates": 2}),
    LayerNorm: (LayerNorm(), [feature_map(4)], {"eps": 1e-3}),
    GroupNorm: (GroupNorm(groups=2), [feature_map(4)], {"groups": 4, "eps": 1e-3}),
    L2Normalize: (L2Normalize(), [feature_map(4)], {"over": "space"}),
    Softmax: (Softmax(), [feature_map(4)], {"over": "space"}),
    Dropout: (Dropout(), [feature_map(4)], {"p": 0.1}),
    ChannelDropout: (ChannelDropout(), [feature_map(4)], {"p": 0.1}),
    DropPath: (DropPath(), [feature_map(4)], {"p": 0.2}),
    NMF: (NMF(), [feature_map(4)], {"rank": 3, "steps": 2, "eval_steps": 9, "eps": 1e-3}),
    AdaptiveAvgPool: (AdaptiveAvgPool(size=Size(1, 1)), [feature_map(4)], {"size": Size(2, 2)}),
    ResizeTo: (ResizeTo(), [feature_map(4, 4), feature_map(2)], {"mode": "nearest", "align_corners": True}),
    Split: (Split(sizes=(1, 3)), [feature_map(4)], {"sizes": (2, 2)}),
    Item: (Item(index=0, channels=2), [feature_map(4)], {"index": 1, "channels": 3}),
    ChannelShuffle: (ChannelShuffle(groups=2), [feature_map(4)], {"groups": 4}),
    ToMap: (ToMap(skip=0), [(B, 60, 4), feature_map(3, 4)], {}),
    Attention: (Attention(heads=2), [patches(12)], {"heads": 4}),
    Parameter: (Parameter(shape=(4,), init=Full(value=0.0)), [], {"shape": (5,), "init": Full(value=1.0)}),
    **{
        kind: (kind(right=2.0), [feature_map(4)], {"left": None, "right": 3.0})
        for kind in (Add, Subtract, Multiply, Divide)
    },
}  # fmt: skip


def fingerprint(sketch, op: Op, shapes: list[Shape]) -> str:
    torch.manual_seed(0)
    graph, node = single(sketch, op, shapes)
    model = build_module(graph, {})
    state = {key: value.tolist() for key, value in model.state_dict().items()}
    return f"{node.shape} {[repr(m) for m in model.modules()]} {model.graph} {state}"


@pytest.mark.parametrize("kind", VARIATIONS, ids=lambda kind: kind.__name__)
def test_every_argument_reaches_the_built_model(sketch, kind: type[Op]) -> None:
    op, shapes, variations = VARIATIONS[kind]
    usual = fingerprint(sketch, op, shapes)
    for name, value in variations.items():
        if name == "left":
            continue
        assert fingerprint(sketch, op.model_copy(update={name: value}), shapes) != usual, name


def test_every_argument_of_every_op_is_varied() -> None:
    for op in list_words(Op).values():
        varied = next((fields for kind, (_, _, fields) in VARIATIONS.items() if kind is op), {})
        assert set(op.model_fields) - set(varied) <= ({"skip"} if op is ToMap else set()), op


def test_a_number_may_stand_on_either_side(sketch) -> None:
    x = torch.rand(2, 4, *SIZE) + 1
    for kind, expected in ((Subtract, 3 - x), (Divide, 3 / x), (Add, 3 + x), (Multiply, 3 * x)):
        torch.testing.assert_close(build_module(single(sketch, kind(left=3.0), [feature_map(4)])[0], {})(x), expected)
    torch.testing.assert_close(build_module(single(sketch, Divide(right=4.0), [feature_map(4)])[0], {})(x), x / 4)


def test_tokens_lie_row_by_row_and_skip_leaves_out_the_first(sketch) -> None:
    drawn = sketch((2, 3), image=feature_map(3))
    drawn.add("first", Parameter(shape=(1, 1, 3), init=Full(value=7.0)))
    drawn.add("tokens", Tokens(), "image", "first")
    drawn.add("map", ToMap(skip=1), "tokens", "image")
    model = build_module(drawn.graph("tokens", "map"), {})
    image = torch.randn(2, 3, 2, 3)
    got = model(image)
    assert got["out0"][:, 0].eq(7).all()
    torch.testing.assert_close(got["out0"][0, 1 + 4], image[0, :, 1, 1])
    torch.testing.assert_close(got["out1"], image)


def test_attention_is_the_textbook_formula(sketch) -> None:
    model = build_module(single(sketch, Attention(heads=2), [(B, 5, 12)])[0], {})
    x = torch.randn(3, 5, 12)
    q, k, v = (part.view(3, 5, 2, 2).transpose(1, 2) for part in x.split(4, dim=-1))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(2)).softmax(-1)
    torch.testing.assert_close(model(x), (weights @ v).transpose(1, 2).reshape(3, 5, 4))


def test_normalisations_follow_their_formulas(sketch) -> None:
    x = torch.randn(2, 4, 5, 7)
    over_space = build_module(single(sketch, L2Normalize(over="space"), [feature_map(4)])[0], {})
    torch.testing.assert_close(over_space(x), F.normalize(x.flatten(2), dim=-1).view_as(x))
    over_channels = build_module(single(sketch, L2Normalize(), [feature_map(4)])[0], {})
    torch.testing.assert_close(over_channels(x), F.normalize(x, dim=1))
    layer = build_module(single(sketch, LayerNorm(), [feature_map(4)])[0], {})
    torch.testing.assert_close(layer(x), (x - x.mean(1, True)) / (x.var(1, False, keepdim=True) + 1e-5).sqrt())
    spatial = build_module(single(sketch, Softmax(over="space"), [feature_map(4)])[0], {})
    torch.testing.assert_close(spatial(x).sum((2, 3)), torch.ones(2, 4))


@given(groups=st.integers(1, 4), each=st.integers(1, 4), last=st.booleans())
@settings(max_examples=20)
def test_channel_shuffle_deals_and_keeps_the_memory_format(sketch, groups: int, each: int, last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(2, groups * each, 3, 2).contiguous(memory_format=layout)
    got = build_module(single(sketch, ChannelShuffle(groups=groups), [feature_map(groups * each)])[0], {})(x)
    for i in range(each):
        for j in range(groups):
            assert torch.equal(got[:, i * groups + j], x[:, j * each + i])
    assert got.is_contiguous(memory_format=layout)


def test_equal_sizes_are_not_copied(sketch) -> None:
    x = torch.randn(1, 4, 6, 8)
    for op in (ResizeTo(), ResizeTo(mode="bicubic", align_corners=True), AdaptiveAvgPool()):
        model = build_module(single(sketch, op, [feature_map(4), feature_map(4)])[0], {})
        assert model(x, torch.randn(1, 1, 6, 8)) is x


def test_drop_path_drops_whole_images_and_keeps_the_mean(sketch) -> None:
    torch.manual_seed(0)
    model = build_module(single(sketch, DropPath(p=0.25), [feature_map(4)])[0], {})
    got = model(torch.ones(4000, 4, 2, 2)).flatten(1)
    assert got.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert got.eq(got[:, :1]).all()
    assert got.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(model.eval()(torch.ones(2, 4, 2, 2)), torch.ones(2, 4, 2, 2))


def test_a_factorisation_finds_the_factors_of_a_product(sketch) -> None:
    torch.manual_seed(0)
    low_rank = torch.einsum("nck,nkhw->nchw", torch.rand(2, 8, 2), torch.rand(2, 2, 6, 7))
    rough, close = (
        (model.eval()(low_rank) - low_rank).norm()
        for n in (1, 200)
        for model in [build_module(single(sketch, NMF(rank=4, eval_steps=n), [feature_map(8)])[0], {})]
    )
    assert close < 0.05 * low_rank.norm() < rough


def test_a_factorisation_starts_from_noise_only_in_training(sketch) -> None:
    model = build_module(single(sketch, NMF(rank=4), [feature_map(8)])[0], {})
    x = torch.rand(2, 8, 6, 7)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    assert model.get_parameter("node.bases").norm(dim=1).allclose(torch.ones(1, 4))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_factorisation_stays_in_single_precision(sketch, half: torch.dtype) -> None:
    model = build_module(single(sketch, NMF(rank=4), [feature_map(8)])[0], {}).train()
    x = (torch.rand(2, 8, 6, 7) * 1e-3).to(half)

    def run(x: torch.Tensor, enabled: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        x = x.detach().requires_grad_()
        with torch.autocast("cpu", half, enabled=enabled):
            out = model(x)
        out.square().sum().backward()
        assert x.grad is not None
        return out.detach(), x.grad

    single_out, single_grad = run(x.float(), enabled=False)
    out, grad = run(x, enabled=True)
    assert torch.equal(out, single_out)
    torch.testing.assert_close(grad.float(), single_grad, atol=0, rtol=1e-2)


@pytest.mark.parametrize("how", list_words(Initializer).values(), ids=list_words(Initializer))
def test_parameters_start_as_said(sketch, how: type[Word]) -> None:
    torch.manual_seed(0)
    starts = (Full(value=0.5), Normal(std=2.0), TruncNormal(std=0.5), Uniform(low=2.0, high=6.0))
    words: dict[type[Word], Initializer] = {type(start): start for start in starts}
    values = build_module(single(sketch, Parameter(shape=(4000,), init=words[how]), [])[0], {}).state_dict()["node"]
    expected: dict[type[Word], tuple[float, float]] = {
        Full: (0.5, 0.0),
        Normal: (0.0, 2.0),
        TruncNormal: (0.0, 0.5),
        Uniform: (4.0, 4 / math.sqrt(12)),
    }
    assert (values.mean().item(), values.std().item()) == pytest.approx(expected[how], abs=0.1)


def test_kaiming_start_is_over_the_fan_out_with_zero_bias(sketch) -> None:
    torch.manual_seed(0)
    op = Conv(channels=64, kernel=Size(3, 3), groups=2, init="kaiming")
    conv = build_module(single(sketch, op, [feature_map(128)])[0], {}).node
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)
    assert conv.bias.eq(0).all()
