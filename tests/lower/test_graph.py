"""The built module: hierarchy, shared weights, traces to the `.seg` line, outputs by path, and explained failures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from segdsl.diagnostics import SegError, Span
from segdsl.ir.graph import Graph
from segdsl.ir.values import Size
from segdsl.lower.failure import explain_failure
from segdsl.lower.graph import build_module
from segdsl.ops.act import Identity, ReLU
from segdsl.ops.conv import Conv
from segdsl.ops.drop import Dropout
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.ops.names import MODULE_ATTRIBUTES
from segdsl.ops.norm import BatchNorm, LayerNorm
from segdsl.ops.parameter import Full, Parameter
from segdsl.ops.resize import ResizeTo
from segdsl.ops.scalar import Add, Multiply

SOURCE = "seg 1\n\nblock Stem() {\n  conv = x -> Conv(8, 3x3, stride = 2)\n}\n"
CONV = Span("specs/x.seg", SOURCE.index("Conv("), SOURCE.index("\n}"))


@pytest.fixture
def network(sketch) -> Graph:
    """conv, norm, a cut and shuffled copy, a scale, a norm applied twice, a sum, and a resize to the image."""
    drawn = sketch((32, 48))
    drawn.add("stem.conv", Conv(channels=8, kernel=Size(3, 3), stride=2), "image", span=CONV)
    drawn.add("stem.bn", BatchNorm(), "stem.conv")
    drawn.add("halves", Split(sizes=(3, 5)), "stem.bn")
    drawn.add("halves.0", Item(index=0, channels=3), "halves")
    drawn.add("halves.1", Item(index=1, channels=5), "halves")
    drawn.add("joined", Concat(), "halves.1", "halves.0")
    drawn.add("shuffled", ChannelShuffle(groups=2), "joined")
    drawn.add("scale", Parameter(shape=(8,), init=Full(value=0.5)))
    drawn.add("scaled", Multiply(), "scale", "shuffled")
    drawn.add("drop", Dropout(p=0.5), "scaled")
    drawn.add("maps.0", LayerNorm(), "drop", module="norm")
    drawn.add("maps.1", LayerNorm(), "maps.0", module="norm")
    drawn.add("sum", Add(), "maps.1", "stem.bn")
    drawn.add("act", ReLU(), "sum")
    drawn.add("head.0", Conv(channels=2), "act")
    drawn.add("logits", ResizeTo(align_corners=True), "head.0", "image")
    return drawn.graph("logits", names={"stem": "stem.bn", "features": "act"})


def test_paths_are_keys_and_a_shared_module_is_one(network: Graph) -> None:
    model = build_module(network, {})
    assert set(model.state_dict()) == set(network.collect_state())
    assert isinstance(model.get_submodule("stem.conv"), nn.Conv2d)
    assert [key for key in model.state_dict() if "norm" in key] == ["norm.weight", "norm.bias"]
    assert type(model).__mro__[-1] is object and isinstance(model, fx.GraphModule)


def test_names_of_fx_nodes_are_the_paths(network: Graph) -> None:
    names = [node.name for node in build_module(network, {}).graph.nodes]
    assert {"image", "stem_conv", "halves_1", "maps_0", "maps_1", "logits"} <= set(names)


def test_every_fx_node_names_a_line_of_the_program(network: Graph) -> None:
    model = build_module(network, {"specs/x.seg": SOURCE})
    for node in model.graph.nodes:
        first, second = (node.stack_trace or "").split("\n")
        assert first.startswith('File "specs/x.seg", line 4, in ')
        assert second == "    conv = x -> Conv(8, 3x3, stride = 2)"
    conv = next(node for node in model.graph.nodes if node.name == "stem_conv")
    assert conv.stack_trace.startswith('File "specs/x.seg", line 4, in stem.conv\n')
    # fx itself reads traces of this form when it prints the code.
    assert "# File: specs/x.seg:4 in stem.conv" in model.print_readable(print_output=False)


def test_a_graph_without_sources_has_traces_too(network: Graph) -> None:
    assert all(node.stack_trace for node in build_module(network, {}).graph.nodes)


def test_it_is_initialised_from_torchs_generator(network: Graph) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_module(network, {}).get_parameter("stem.conv.weight").detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (5, 90)])
def test_any_size_runs_in_both_memory_formats(network: Graph, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = build_module(network, {}).eval()
    image = torch.randn(2, 3, *size)
    plain = model(image)
    assert plain.shape == (2, 2, *size)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    got = last(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, plain)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_outputs_are_given_by_binding_node_or_output(network: Graph) -> None:
    model = build_module(network, {}, outputs=("features", "stem.conv", "out0", "image"))
    image = torch.randn(1, 3, 32, 48)
    got = model(image)
    assert list(got) == ["features", "stem.conv", "out0", "image"]
    assert got["features"].shape == (1, 8, 16, 24) and got["out0"].shape == (1, 2, 32, 48)
    assert got["image"] is image


def test_an_unknown_output_is_refused_with_the_nearest(network: Graph) -> None:
    with pytest.raises(SegError) as caught:
        build_module(network, {}, outputs=("featurse",))
    (found,) = caught.value.diagnostics
    assert found.slug == "unknown-output" and "`features`" in found.help


def test_gradients_and_training_mode_reach_every_parameter(network: Graph) -> None:
    model = build_module(network, {}).train()
    model(torch.randn(2, 3, 32, 48)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert model.get_buffer("stem.bn.num_batches_tracked") == 1


@pytest.mark.parametrize("copied", [False, True])
def test_a_failure_names_the_line_the_path_and_the_operands(network: Graph, copied: bool, capsys) -> None:
    model = build_module(network, {"specs/x.seg": SOURCE})
    model = copy.deepcopy(model) if copied else model
    with pytest.raises(RuntimeError) as caught:
        model(torch.randn(2, 4, 32, 48))
    found = explain_failure(model, caught.value)
    assert (found.slug, found.span) == ("graph-failed", CONV)
    assert "`stem.conv`" in found.message and "[2, 4, 32, 48]" in found.message
    assert capsys.readouterr().err == ""


def test_a_failure_of_a_plain_sum_is_found_too(sketch, capsys) -> None:
    drawn = sketch((32, 32))
    drawn.add("a", Conv(channels=3, kernel=Size(2, 2), stride=2, padding=0), "image")
    drawn.add("b", Conv(channels=3, kernel=Size(3, 3), stride=2), "image")
    drawn.add("sum", Add(), "a", "b", span=CONV)
    model = build_module(drawn.graph(), {})
    with pytest.raises(RuntimeError) as caught:
        model(torch.randn(1, 3, 33, 33))
    found = explain_failure(model, caught.value)
    assert "`sum`" in found.message and "[1, 3, 16, 16] float32, [1, 3, 17, 17] float32" in found.message
    assert found.span == CONV and capsys.readouterr().err == ""


def test_an_exception_from_elsewhere_has_no_span(network: Graph) -> None:
    found = explain_failure(build_module(network, {}), RuntimeError("out of memory"))
    assert found.span is None and "data.train.batch" in found.help


def test_children_of_a_module_with_state_stay(sketch) -> None:
    drawn = sketch()
    drawn.add("a.b", Conv(channels=4), "image")
    drawn.add("a", Conv(channels=4), "a.b")
    assert set(build_module(drawn.graph(), {}).state_dict()) == {"a.weight", "a.bias", "a.b.weight", "a.b.bias"}


def test_a_sum_and_the_convolution_behind_it_may_share_a_name(sketch) -> None:
    drawn = sketch()
    drawn.add("conv", Add(right=1.0), "image")
    drawn.add("conv:conv", Conv(channels=4), "conv", module="conv")
    drawn.add("noisy", Dropout(p=0.5), "conv:conv")
    drawn.add("noisy:conv", Conv(channels=2), "noisy", module="noisy")
    model = build_module(drawn.graph(), {}).eval()
    assert set(model.state_dict()) == {"conv.weight", "conv.bias", "noisy.weight", "noisy.bias"}
    image = torch.randn(1, 3, 4, 4)
    expected = model.get_submodule("noisy")(model.get_submodule("conv")(image + 1))
    assert torch.equal(model(image), expected)
    assert any(isinstance(module, nn.Dropout) for module in model.modules())


def test_an_output_may_be_the_input(sketch) -> None:
    drawn = sketch()
    drawn.add("same", Identity(), "image")
    image = torch.randn(1, 3, 4, 4)
    assert build_module(drawn.graph("same", "image"), {})(image)["out1"] is image


@pytest.mark.parametrize("name", ["half", "train", "forward", "class", "lambda", "self", "_modules", "__class__"])
def test_a_name_that_torch_uses_is_refused(sketch, name: str) -> None:
    drawn = sketch()
    drawn.add(f"stem.{name}", Conv(channels=4), "image", span=CONV)
    with pytest.raises(SegError) as caught:
        build_module(drawn.graph(), {})
    (found,) = caught.value.diagnostics
    assert (found.slug, found.span) == ("name-taken", CONV) and f"`{name}`" in found.message


def test_the_taken_names_are_those_of_the_installed_torch() -> None:
    has = {name for name in (*dir(nn.Module()), *dir(fx.GraphModule)) if not name.startswith("_")}
    assert has <= MODULE_ATTRIBUTES


def test_a_graph_survives_json(network: Graph) -> None:
    back = Graph.model_validate_json(network.model_dump_json())
    assert back == network
    assert build_module(back, {}).code == build_module(network, {}).code
