"""The seven published models against the numbers of the reference: keys, parameters, cost, and logits from the same
weights. Training has a file of its own."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_models import CLASSIFIER
from torch.utils.flop_counter import FlopCounterMode

from segdsl.ir.shape import evaluate_extent
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.ops.attention import Attention
from segdsl.passes import run_passes

PARAMETERS = {
    "lite_hrnet_s": 828_894, "lite_hrnet_18": 1_131_834, "lite_hrnet_x": 1_503_636, "segnext_tiny": 4_229_474,
    "segnext_small": 13_898_946, "segnext_base": 27_568_578, "dinov2-small-seg": 24_421_634,
}  # fmt: skip
TOLERANCE = 1e-4
"""Of the golden's standard deviation, for every logit."""


def cases(published: Any) -> list[tuple[int, tuple[int, int]]]:
    """Number of classes and size of every golden with complete logits."""
    tags = [re.fullmatch(r"pre_nc(\d)_(\d+)x(\d+)", name) for name in published.arrays.files]
    return [(int(t[1]), (int(t[2]), int(t[3]))) for t in tags if t]


def evaluated(published: Any, classes: int, size: tuple[int, int], batch: int = 2) -> dict[str, torch.Tensor]:
    """The logits before and after the upsample, and the backbone's levels, in evaluation."""
    with torch.no_grad():
        return published.evaluation_model(classes, size)(published.image(size, batch))


def assert_statistics(got: torch.Tensor, expected: dict[str, Any]) -> None:
    values = got.double().numpy()
    scale = expected["std"]
    assert list(values.shape) == expected["shape"]
    assert values.mean() == pytest.approx(expected["mean"], abs=TOLERANCE * scale)
    assert values.std() == pytest.approx(expected["std"], rel=TOLERANCE)
    assert np.abs(values.ravel()[:8] - expected["first8"]).max() < TOLERANCE * scale


def test_keys_and_shapes_are_those_of_the_published_files(published: Any) -> None:
    program = published.program()
    state = program.graph.collect_state()
    assert {key: list(value.shape) for key, value in state.items()} == {k: s for k, s, _ in published.keys}
    model = compile_program(program, weights="none").model
    got = {key: [list(value.shape), str(value.dtype)] for key, value in model.state_dict().items()}
    assert got == {key: [shape, f"torch.{dtype}"] for key, shape, dtype in published.keys}


def test_parameters_are_those_of_the_reference(published: Any) -> None:
    graph = published.program().graph
    assert graph.count_parameters() == PARAMETERS[published.name] == published.facts["params"]["total"]


def test_cost_is_that_of_the_reference(published: Any) -> None:
    for tag, flops in published.facts["flops"].items():
        size = tuple(int(n) for n in tag.split("x"))
        expected = flops.get("total_with_attention_GFLOP", flops["FlopCounterMode_GFLOP_2xMAC"])
        got = 2 * published.program(size=size).graph.count_macs() / 1e9
        assert got == pytest.approx(expected, rel=1e-4)


def test_torch_counts_the_same_cost(published: Any) -> None:
    program = load(published.spec, ["data.input_size=70x98"], classes=2)
    graph = run_passes(program.graph)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compile_program(program, weights="none").model.eval()(torch.zeros(1, 3, *graph.size))
    # What is written twice is computed once: the first fusion maps of every module of Lite-HRNet.
    assert (graph.count_macs() < program.graph.count_macs()) == published.name.startswith("lite_hrnet")
    shapes = graph.collect_shapes()
    unseen = [n for n in graph.nodes if isinstance(n.op, Attention)]  # the CPU's fused kernel
    attended = sum(
        evaluate_extent(n.op.count_macs([shapes[o] for o in n.operands], n.shape), graph.env) for n in unseen
    )
    assert counter.get_total_flops() == 2 * (graph.count_macs() - attended)


def test_logits_and_levels_are_those_of_the_reference(published: Any) -> None:
    found = cases(published)
    assert len(found) >= 4
    for classes, size in found:
        got = evaluated(published, classes, size)
        tag = f"nc{classes}_{size[0]}x{size[1]}"
        low, logits = got[CLASSIFIER].numpy(), got["logits"].numpy()
        golden = published.arrays
        assert np.abs(low - golden[f"pre_{tag}"]).max() < TOLERANCE * golden[f"pre_{tag}"].std(), tag
        up = golden[f"up_{tag}"]
        assert np.abs(logits[:, :, ::5, ::7] - up).max() < TOLERANCE * up.std(), tag
        assert np.array_equal(logits.argmax(1), golden[f"argmax_{tag}"]), tag
        expected = published.expected["eval"][tag]
        for path, statistics in zip(published.levels, expected["features"], strict=True):
            assert_statistics(got[path], statistics)
        assert_statistics(got[CLASSIFIER], expected["logits_pre"])
        assert_statistics(got["logits"], expected["logits_up"])


@pytest.mark.parametrize("tag", ["nc2_518x518", "nc5_518x518"])
def test_statistics_at_full_size_are_those_of_the_reference(dinov2: Any, tag: str) -> None:
    expected = dinov2.expected["eval"][tag]
    got = evaluated(dinov2, int(tag[2]), (518, 518), expected["batch"])
    for path, statistics in zip(dinov2.levels, expected["features"], strict=True):
        assert_statistics(got[path], statistics)
    assert_statistics(got[CLASSIFIER], expected["logits_pre"])


def test_the_layout_of_memory_changes_nothing(published: Any) -> None:
    classes, size = cases(published)[0]
    with torch.no_grad():
        rows = published.evaluation_model(classes, size)(published.image(size))["logits"]
        model = copy.deepcopy(published.evaluation_model(classes, size)).to(memory_format=torch.channels_last)
        last = model(published.image(size).contiguous(memory_format=torch.channels_last))["logits"]
    assert (rows - last).abs().max() < TOLERANCE * rows.std()


def test_a_checkpoint_with_published_key_names_loads(published: Any, tmp_path: Path) -> None:
    expected = published.tensors(2, (70, 70))
    torch.save({"state_dict": {f"model.{key}": value for key, value in expected.items()}}, tmp_path / "otx.ckpt")
    program = published.program(2, (70, 70))
    model = compile_program(program, weights=str(tmp_path / "otx.ckpt")).model
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_every_node_of_the_model_names_a_line(published: Any) -> None:
    program = published.program()
    texts = {name: source.text.splitlines() for name, source in program.sources.items()}
    for node in compile_program(program, weights="none").model.graph.nodes:
        found = re.fullmatch(r'File "(.+)", line (\d+), in (.+)\n    (.+)', node.stack_trace or "")
        assert found and texts[found[1]][int(found[2]) - 1].strip() == found[4], node.stack_trace
