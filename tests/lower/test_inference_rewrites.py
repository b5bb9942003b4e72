"""Rewrites for inference: they leave logits unchanged, and each removes what it should."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from segdsl.ir.graph import Graph
from segdsl.ir.values import Size
from segdsl.lower.graph import build_module
from segdsl.lower.inference_rewrites import INFERENCE_REWRITES, optimize_for_inference
from segdsl.lower.modules import DropPath
from segdsl.ops.act import ReLU
from segdsl.ops.conv import Conv, Linear
from segdsl.ops.drop import ChannelDropout, Dropout
from segdsl.ops.drop import DropPath as DropPathOp
from segdsl.ops.norm import BatchNorm
from segdsl.ops.parameter import Normal, Parameter
from segdsl.ops.scalar import Add, Multiply
from segdsl.ops.tokens import Tokens


def trained(graph: Graph) -> fx.GraphModule:
    """A model whose norms have statistics, and are not what they start as."""
    torch.manual_seed(0)
    model = build_module(graph, {})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.2, 2)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return model.eval()


def kinds(model: fx.GraphModule) -> Counter[str]:
    """How many nodes call a module of each kind, or a function."""
    modules = dict(model.named_modules())
    return Counter(
        type(modules[node.target]).__name__ if node.op == "call_module" else str(getattr(node.target, "__name__", ""))
        for node in model.graph.nodes
        if node.op in ("call_module", "call_function")
    )


def same(model: Any, other: Any, image: torch.Tensor) -> None:
    got, wanted = other(image), model(image)
    got, wanted = (list(v.values()) if isinstance(v, dict) else [v] for v in (got, wanted))
    for one, two in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_logits_stay(drawn_model: Any, data: st.DataObject) -> None:
    model = trained(drawn_model(data))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    same(model, optimize_for_inference(model), torch.randn(2, 3, 6, 8))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("op", [Dropout(p=0.5), ChannelDropout(p=0.5), DropPathOp(p=0.5)])
def test_noise_goes_and_equals_are_shared(sketch: Any, op: Any) -> None:
    drawn = sketch()
    drawn.add("a", op, "image")
    drawn.add("b", op, "image")
    drawn.add("c", ReLU(), "a")
    drawn.add("d", ReLU(), "b")
    drawn.add("e", Add(), "c", "d")
    assert kinds(optimize_for_inference(trained(drawn.graph()))) == {"relu": 1, "add": 1}


@pytest.mark.parametrize(
    ("conv", "first"),
    [
        (Conv(channels=6, kernel=Size(3, 3), groups=3), True), (Conv(channels=6, bias=False), True),
        (Conv(channels=6, groups=3), False), (Conv(channels=6, bias=False), False),
    ],
)  # fmt: skip
def test_a_norm_goes_into_its_convolution(sketch: Any, conv: Conv, first: bool) -> None:
    drawn = sketch()
    ops = [("conv", conv), ("norm", BatchNorm())]
    drawn.add("start", Multiply(left=2.0), "image")
    before = "start"
    for path, op in ops if first else ops[::-1]:
        before = drawn.add(path, op, before)
    drawn.add("end", ReLU(), before)
    model = trained(drawn.graph())
    reduced = optimize_for_inference(model, {"fold_norms": INFERENCE_REWRITES["fold_norms"]})
    assert "BatchNorm2d" not in kinds(reduced)
    same(model, reduced, torch.randn(2, 3, 32, 48))


def test_a_norm_before_a_padded_convolution_stays(sketch: Any) -> None:
    drawn = sketch()
    drawn.add("norm", BatchNorm(), "image")
    drawn.add("conv", Conv(channels=6, kernel=Size(3, 3)), "norm")
    reduced = optimize_for_inference(trained(drawn.graph()))
    assert kinds(reduced)["BatchNorm2d"] == 1


def test_a_convolution_that_others_need_stays_as_it_is(sketch: Any) -> None:
    drawn = sketch()
    drawn.add("conv", Conv(channels=3), "image")
    drawn.add("norm", BatchNorm(), "conv")
    drawn.add("again", Conv(channels=3), "norm", module="conv")
    drawn.add("sum", Add(), "conv", "again")
    model = trained(drawn.graph())
    same(model, optimize_for_inference(model), torch.randn(2, 3, 32, 48))


def test_a_factor_by_channel_goes_into_the_map_before_it(sketch: Any) -> None:
    drawn = sketch()
    drawn.add("conv", Conv(channels=6), "image")
    drawn.add("scale", Parameter(shape=(6,), init=Normal(std=1.0)))
    drawn.add("scaled", Multiply(), "scale", "conv")
    drawn.add("tokens", Tokens(), "scaled")
    drawn.add("linear", Linear(channels=5), "tokens")
    drawn.add("gamma", Parameter(shape=(5,), init=Normal(std=1.0)))
    drawn.add("out", Multiply(), "linear", "gamma")
    drawn.add("half", Multiply(right=0.5), "out")
    model = trained(drawn.graph())
    reduced = optimize_for_inference(model)
    assert kinds(reduced)["mul"] == 0 and len(kinds(reduced)) < len(kinds(model))
    same(model, reduced, torch.randn(2, 3, 32, 48))


@pytest.mark.parametrize(("middle", "convolutions"), [(64, 1), (2, 2)])
def test_two_convolutions_are_one_where_that_costs_no_more(sketch: Any, middle: int, convolutions: int) -> None:
    drawn = sketch()
    drawn.add("first", Conv(channels=middle, kernel=Size(3, 3)), "image")
    drawn.add("second", Conv(channels=6), "first")
    model = trained(drawn.graph())
    reduced = optimize_for_inference(model)
    assert sum(isinstance(m, nn.Conv2d) for m in reduced.modules()) == convolutions
    same(model, reduced, torch.randn(2, 3, 32, 48))


QUICK = ["lite_hrnet_s", "segnext_tiny", "dinov2-small-seg"]
"""One of each architecture; the others are made of the same parts."""
LARGER = ["lite_hrnet_18", "lite_hrnet_x", "segnext_small", "segnext_base"]


@pytest.mark.parametrize(
    "published", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)], indirect=True
)
def test_no_published_model_keeps_a_norm_over_the_batch(published: Any) -> None:
    size = (70, 70) if published.is_sized else (64, 64)
    model = published.evaluation_model(2, size)
    reduced = optimize_for_inference(model)
    before, after = kinds(model), kinds(reduced)
    assert not any(isinstance(m, (nn.Dropout, nn.Dropout2d, DropPath)) for m in reduced.modules())
    assert sum(after.values()) < sum(before.values())
    image = published.image(size, 1)
    with torch.inference_mode():
        wanted, got = model(image)["logits"], reduced(image)["logits"]
    assert (wanted - got).abs().max() < 1e-3 * wanted.std()
