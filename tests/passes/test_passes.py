"""Passes: they leave results unchanged and names valid, and each removes what it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segdsl.ir.graph import Graph
from segdsl.lower.graph import build_module
from segdsl.ops.act import Identity, ReLU
from segdsl.ops.conv import Conv
from segdsl.ops.drop import Dropout
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.ops.norm import BatchNorm
from segdsl.ops.parameter import Normal, Parameter
from segdsl.ops.scalar import Add, Multiply
from segdsl.passes import PASSES, remove_dead_nodes, remove_identity, run_passes, share_equal

CHANNELS = 4
KINDS = ["identity", "relu", "add", "twice", "shuffle", "conv", "norm", "norm", "split", "one", "param"]


def draw_graph(data: st.DataObject, sketch: Any, noise: float = 0.5) -> Graph:
    """Up to a dozen nodes of 4 channels each, on operands drawn from those before."""
    drawn = sketch((4, 5))
    values = [drawn.add("first", Conv(channels=CHANNELS), "image")]
    for index in range(data.draw(st.integers(1, 12))):
        path = f"n{index}"
        one, two = (data.draw(st.sampled_from(values)) for _ in range(2))
        match data.draw(st.sampled_from(KINDS)):
            case "identity":
                drawn.add(path, data.draw(st.sampled_from([Identity(), Dropout(p=0.0), Dropout(p=noise)])), one)
            case "relu":
                drawn.add(path, ReLU(), one)
            case "add":
                drawn.add(path, Add(), one, two)
            case "twice":
                drawn.add(path, Multiply(left=2.0), one)
            case "shuffle":
                drawn.add(path, ChannelShuffle(groups=data.draw(st.sampled_from([1, 2]))), one)
            case "conv":
                drawn.add(path, Conv(channels=CHANNELS), one, module=data.draw(st.sampled_from(["shared", path])))
            case "norm":
                drawn.add(path, BatchNorm(), one, module=data.draw(st.sampled_from(["norms", path])))
            case "split":
                drawn.add(f"{path}.s", Split(sizes=(1, 3)), one)
                drawn.add(f"{path}.0", Item(index=0, channels=1), f"{path}.s")
                drawn.add(f"{path}.1", Item(index=1, channels=3), f"{path}.s")
                drawn.add(path, Concat(), f"{path}.1", f"{path}.0")
            case "one":
                drawn.add(f"{path}.s", Split(sizes=(CHANNELS,)), one)
                drawn.add(f"{path}.0", Item(index=0, channels=CHANNELS), f"{path}.s")
                drawn.add(path, Concat(), f"{path}.0")
            case "param":
                drawn.add(f"{path}.p", Parameter(shape=(CHANNELS,), init=Normal(std=1.0)))
                drawn.add(path, Multiply(), f"{path}.p", one)
        values.append(path)
    names = {f"name.{path}": path for path in values}
    return drawn.graph(*data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)), names=names)


def outputs_of(graph: Graph, state: dict[str, torch.Tensor], image: torch.Tensor) -> list[torch.Tensor]:
    model = build_module(graph, {}).eval()
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    got = model(image)
    return list(got.values()) if isinstance(got, dict) else [got]


@pytest.mark.parametrize("name", [*PASSES, "all"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_pass_keeps_what_the_outputs_compute(sketch, name: str, data: st.DataObject) -> None:
    before = draw_graph(data, sketch)
    after = run_passes(before) if name == "all" else PASSES[name](before)
    state = build_module(before, {}).state_dict()
    image = torch.randn(2, 3, 4, 5)
    for was, now in zip(outputs_of(before, state, image), outputs_of(after, state, image), strict=True):
        assert torch.equal(was, now)
    known = {*after.inputs, *(node.path for node in after.nodes)}
    assert set(after.names.values()) <= known and set(after.outputs.values()) <= known
    assert after.outputs.keys() == before.outputs.keys()
    assert len(after.nodes) <= len(before.nodes)
    again = run_passes(after) if name == "all" else PASSES[name](after)
    assert again == after


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_passes_keep_what_training_does_to_the_statistics(sketch, data: st.DataObject) -> None:
    before = draw_graph(data, sketch, noise=0.0)
    after = run_passes(before)
    models = [build_module(graph, {}).double() for graph in (before, after)]
    models[0].load_state_dict({**models[0].state_dict(), **models[1].state_dict()})
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for model in models:
        model(image)
    needed = remove_dead_nodes(before).collect_state()
    for key, value in models[1].state_dict().items():
        if key in needed and not _has_dead_uses(before, key):
            torch.testing.assert_close(value, models[0].state_dict()[key])


def _has_dead_uses(graph: Graph, key: str) -> bool:
    """Whether a module is also applied where no output needs it: such uses are dropped, with what they counted."""
    uses = [node.path for node in graph.nodes if key.startswith(f"{node.module}.")]
    alive = {node.path for node in remove_dead_nodes(graph).nodes}
    return not alive.issuperset(uses)


def test_a_norm_applied_twice_to_one_tensor_counts_twice(sketch) -> None:
    drawn = sketch()
    drawn.add("a", BatchNorm(momentum=0.2), "image", module="norm")
    drawn.add("b", BatchNorm(momentum=0.2), "image", module="norm")
    drawn.add("c", Add(), "a", "b")
    (norm, _) = share_equal(drawn.graph()).nodes
    assert norm.op == BatchNorm(momentum=0.2, updates=2)


def test_a_norm_that_is_also_applied_elsewhere_is_left_alone(sketch) -> None:
    drawn = sketch()
    drawn.add("a", BatchNorm(), "image", module="norm")
    drawn.add("b", BatchNorm(), "image", module="norm")
    drawn.add("c", BatchNorm(), "b", module="norm")
    drawn.add("d", Concat(), "a", "c")
    graph = drawn.graph()
    assert share_equal(graph) == graph


def test_identity_split_of_one_and_noise_of_zero_go(sketch) -> None:
    drawn = sketch()
    drawn.add("a", Identity(), "image")
    drawn.add("b", Dropout(p=0.0), "a")
    drawn.add("s", Split(sizes=(3,)), "b")
    drawn.add("s.0", Item(index=0, channels=3), "s")
    drawn.add("c", Concat(), "s.0")
    drawn.add("d", ReLU(), "c")
    after = remove_identity(drawn.graph("d", "c", names={"x": "b", "y": "c"}))
    assert [node.path for node in after.nodes] == ["d"]
    assert after.nodes[0].operands == ("image",)
    assert after.names == {"x": "image", "y": "image"} and after.outputs == {"out0": "d", "out1": "image"}


def test_equal_nodes_are_shared_but_not_noise_or_other_weights(sketch) -> None:
    drawn = sketch()
    drawn.add("a", ReLU(), "image")
    drawn.add("b", ReLU(), "image")
    drawn.add("c", Conv(channels=4), "a", module="conv")
    drawn.add("d", Conv(channels=4), "b", module="conv")
    drawn.add("e", Conv(channels=4), "b", module="other")
    drawn.add("f", Dropout(p=0.5), "c")
    drawn.add("g", Dropout(p=0.5), "d")
    drawn.add("h", Concat(), "e", "f", "g")
    after = share_equal(drawn.graph("h", names={"d": "d"}))
    assert [node.path for node in after.nodes] == ["a", "c", "e", "f", "g", "h"]
    assert after.names == {"d": "c"}


def test_what_no_output_needs_goes_with_its_names(sketch) -> None:
    drawn = sketch()
    drawn.add("a", ReLU(), "image")
    drawn.add("b", ReLU(), "a")
    drawn.add("c", Conv(channels=4), "b")
    after = remove_dead_nodes(drawn.graph("a", names={"x": "a", "y": "c", "z": "image"}))
    assert [node.path for node in after.nodes] == ["a"]
    assert after.names == {"x": "a", "z": "image"}


def test_run_passes_stops_after_the_named_one(sketch) -> None:
    drawn = sketch()
    drawn.add("a", Identity(), "image")
    drawn.add("b", ReLU(), "a")
    drawn.add("c", ReLU(), "a")
    graph = drawn.graph("b")
    assert [n.path for n in run_passes(graph, "remove_identity").nodes] == ["b", "c"]
    assert [n.path for n in run_passes(graph).nodes] == ["b"]
