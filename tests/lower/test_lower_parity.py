"""Lite-HRNet-s against the numbers of the reference: keys, parameters, cost, and logits from the same weights."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.passes import run_passes

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "reference"
SPEC = ROOT / "specs" / "litehrnet_s.seg"
CLASSIFIER = "decode_head.conv_seg"

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference numbers are not on this machine")


@cache
def reference() -> Any:
    """The deterministic weights and inputs that the goldens were made from."""
    sys.path.insert(0, str(REFERENCE))
    try:
        import fill  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(str(REFERENCE))
    return fill


@cache
def network(classes: int) -> fx.GraphModule:
    model = compile_program(load(SPEC, classes=classes), weights="none", outputs=(CLASSIFIER, "logits")).model.eval()
    checksum = reference().load(model, "lite_hrnet_s")
    expected = json.loads((REFERENCE / "goldens" / "goldens.json").read_text())["models"]["lite_hrnet_s"]["fill"]
    assert checksum["sum"] == pytest.approx(expected[f"nc{classes}"]["sum"], abs=1e-3)
    return model


def test_keys_and_shapes_are_those_of_the_published_files() -> None:
    expected = json.loads((REFERENCE / "keys" / "lite_hrnet_s.json").read_text())["state_dict"]
    program = load(SPEC, classes=2)
    assert {key: list(state.shape) for key, state in program.graph.state().items()} == {k: s for k, s, _ in expected}
    model = compile_program(program, weights="none").model
    got = {key: [list(value.shape), str(value.dtype)] for key, value in model.state_dict().items()}
    assert got == {key: [shape, f"torch.{dtype}"] for key, shape, dtype in expected}


def test_parameters_and_cost_are_those_of_the_reference() -> None:
    program = load(SPEC, classes=2)
    assert program.graph.parameters() == 828_894
    model = compile_program(program, weights="none").model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 512, 512))
    # What is written twice is computed once: the first fusion maps of every module.
    assert counter.get_total_flops() == 2 * run_passes(program.graph).macs() < 2 * program.graph.macs()
    assert 2 * program.graph.macs() == pytest.approx(1.366e9, rel=1e-3)


@pytest.mark.parametrize("last", [False, True], ids=["rows", "channels_last"])
@pytest.mark.parametrize("size", [(64, 64), (96, 128), (76, 108)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("classes", [2, 5])
def test_logits_are_those_of_the_reference(classes: int, size: tuple[int, int], last: bool) -> None:
    goldens = np.load(REFERENCE / "goldens" / "lite_hrnet_s.npz")
    tag = f"nc{classes}_{size[0]}x{size[1]}"
    layout = torch.channels_last if last else torch.contiguous_format
    image = torch.from_numpy(reference().image(2, size)).contiguous(memory_format=layout)
    with torch.no_grad():
        got = network(classes).to(memory_format=layout)(image)
    low, logits = got[CLASSIFIER].numpy(), got["logits"].numpy()
    assert np.abs(low - goldens[f"pre_{tag}"]).max() < 1e-4 * goldens[f"pre_{tag}"].std()
    assert np.abs(logits[:, :, ::5, ::7] - goldens[f"up_{tag}"]).max() < 1e-4 * goldens[f"up_{tag}"].std()
    assert np.array_equal(logits.argmax(1), goldens[f"argmax_{tag}"])


def test_a_checkpoint_with_published_key_names_loads(tmp_path: Path) -> None:
    expected = network(2).state_dict()
    torch.save({"state_dict": {f"model.{key}": value for key, value in expected.items()}}, tmp_path / "otx.ckpt")
    model = compile_program(load(SPEC, classes=2), weights=str(tmp_path / "otx.ckpt")).model
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_every_node_of_the_model_names_a_line() -> None:
    program = load(SPEC, classes=2)
    texts = {name: source.text.splitlines() for name, source in program.sources.items()}
    for node in compile_program(program, weights="none").model.graph.nodes:
        found = re.fullmatch(r'File "(.+)", line (\d+), in (.+)\n    (.+)', node.stack_trace or "")
        assert found and texts[found[1]][int(found[2]) - 1].strip() == found[4], node.stack_trace


@cache
def training_step() -> tuple[fx.GraphModule, float]:
    """The filled model after one forward and backward in training mode, and its loss over all pixels."""
    model = compile_program(load(SPEC, classes=5), weights="none").model.train()
    reference().load(model, "lite_hrnet_s")
    logits = model(torch.from_numpy(reference().image(2, (96, 128))))
    target = torch.from_numpy(reference().mask(2, (96, 128), 5))
    loss = F.cross_entropy(logits, target, ignore_index=255, reduction="sum") / target.numel()
    loss.backward()
    return model, loss.item()


def golden(names: str, values: str) -> dict[str, float]:
    arrays = np.load(REFERENCE / "goldens" / "lite_hrnet_s.npz")
    return dict(zip(arrays[names].tolist(), arrays[values].tolist(), strict=True))


def test_gradients_are_those_of_the_reference() -> None:
    model, loss = training_step()
    expected = json.loads((REFERENCE / "goldens" / "goldens.json").read_text())["models"]["lite_hrnet_s"]["train"]
    assert loss == pytest.approx(expected["loss_reference_mean_over_all_pixels"], rel=1e-5)
    norms = golden("train_grad_names", "train_grad_norms")
    got = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == norms.keys()
    largest = max(norms.values())
    for name, norm in norms.items():
        if norm > 1e-3 * largest:
            assert got[name] == pytest.approx(norm, rel=1e-3), name


def test_running_statistics_are_those_of_the_reference() -> None:
    model, _ = training_step()
    buffers = dict(model.named_buffers())
    for name, norm in golden("train_bnstat_names", "train_bnstat_norms").items():
        assert buffers[name].norm().item() == pytest.approx(norm, rel=1e-5), name
    counted = golden("train_num_batches_tracked_names", "train_num_batches_tracked")
    assert {name: buffers[name].item() for name in counted} == counted
