"""Frozen parts: they do not change, need no gradients, store no activations, and stay in evaluation mode."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.lower.failure import explain_failure
from segdsl.lower.freeze import freeze_parts
from segdsl.run.engine.optimizers import build_optimizer

SOURCE = """seg 1

extends "std/semantic.seg"

block Stage(channels: int) {
  in x: [B, C, H, W]

  conv = x -> Conv(channels, 3x3)
  bn   = conv -> BatchNorm()
  out y = bn -> ReLU() -> Dropout(0.5)
}

model Net(classes: int) {
  in image: [B, 3, H, W]

  param scale: [3] = 1.0

  scaled   = scale * image
  backbone = [x -> Stage(8) for i in range(3) from x = scaled]
  pooled   = last(backbone) -> AdaptiveAvgPool(4x4)
  neck     = pooled -> Stage(8)
  factor   = neck -> ReLU() -> NMF(rank = 2) as ham
  joined   = [factor, last(backbone)] -> each ResizeTo(image) -> Concat()
  head     = joined -> Conv(classes)
  out logits = head
}

model = Net(classes = len(data.classes))
data.input_size = 16x24
"""
IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Program]:
    (tmp_path / "net.seg").write_text(SOURCE, encoding="utf-8")
    return lambda frozen: load(tmp_path / "net.seg", [f"train.freeze={frozen}"])


def frozen_model(program: Program) -> fx.GraphModule:
    torch.manual_seed(0)
    model = compile_program(program, weights="none").model
    freeze_parts(model, program.train.freeze)
    return model.train()


def saved_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """Return what a forward pass stores for the backward pass, without the parameters."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        got = model(images)
    assert got.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(
    "frozen", ["[backbone, scale]", "[backbone]", "[neck]", '["backbone.0", ham]', "[head]", "[backbone, neck, ham]"]
)
def test_nothing_frozen_changes_and_everything_else_does(program: Any, frozen: str) -> None:
    checked = program(frozen)
    model, paths = frozen_model(checked), checked.train.freeze
    word = checked.train.optimizer
    optimizer = build_optimizer(word.model_copy(update={"lr": 0.1}), model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(3):
        model.train()  # as a training loop does after each validation
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    below = {key for key in before if any(key == path or key.startswith(f"{path}.") for path in paths)}
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert below and changed == set(before) - below - {"ham.bases"}
    assert {id(p) for p in optimizer.state} == {id(p) for k, p in model.named_parameters() if k in changed}
    assert all(p.grad is None for key, p in model.named_parameters() if key in below)


def test_memory_falls(program: Any) -> None:
    everything = saved_bytes(frozen_model(program("[]")), IMAGES)
    backbone = saved_bytes(frozen_model(program("[backbone, scale]")), IMAGES)
    behind = saved_bytes(frozen_model(program("[head]")), IMAGES)
    one_map = IMAGES.numel() // 3 * 8 * 4
    assert everything - backbone > 3 * 4 * one_map  # three stages of at least four maps each
    assert backbone < 4 * one_map
    assert behind > everything - 2 * one_map  # what a frozen part hands gradients through still keeps its inputs


def test_what_needs_no_gradient_runs_in_inference_mode(program: Any) -> None:
    seen: dict[str, bool] = {}
    model = frozen_model(program('["backbone.0", "backbone.1", scale, neck]'))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o, name=name: seen.update({name: torch.is_inference_mode_enabled()})
            )
    model(IMAGES).sum().backward()
    assert seen == {
        "backbone.0.conv": True, "backbone.1.conv": True, "backbone.2.conv": False, "neck.conv": False, "head": False,
    }  # fmt: skip
    assert model.get_parameter("backbone.2.conv.weight").grad is not None
    assert not torch.is_inference_mode_enabled()


def test_it_computes_what_it_did_before(program: Any) -> None:
    plain = compile_program(program("[]"), weights="none").model.eval()
    frozen = copy.deepcopy(plain)
    freeze_parts(frozen, ["backbone", "scale"])
    assert torch.equal(frozen(IMAGES), plain(IMAGES))
    assert [m.training for m in frozen.train().get_submodule("backbone").modules()] == [False] * 13
    assert frozen.get_submodule("neck").training


def test_a_copy_is_frozen_too(program: Any) -> None:
    model = copy.deepcopy(frozen_model(program("[backbone, scale]"))).train()
    assert not model.get_submodule("backbone.0.bn").training
    assert "inference_mode" in model.code
    model(IMAGES).sum().backward()
    assert model.get_parameter("backbone.0.conv.weight").grad is None


def test_a_fault_inside_is_explained_and_leaves_no_mode_behind(program: Any) -> None:
    model = frozen_model(program("[backbone, scale]"))
    with pytest.raises(RuntimeError) as caught:
        model(torch.randn(1, 4, 16, 24))
    assert "`scaled`" in explain_failure(model, caught.value).message
    assert not torch.is_inference_mode_enabled()


def test_freezing_more_later_separates_more(program: Any) -> None:
    model = frozen_model(program('["backbone.0", scale]'))
    freeze_parts(model, ["backbone.1"])
    inside = model.code.partition("unfrozen_")[0]
    assert "inference_mode" in inside and "backbone_1" in inside and "backbone_2" not in inside
    model(IMAGES).sum().backward()
    assert model.get_parameter("backbone.1.conv.weight").grad is None
    assert model.get_parameter("backbone.2.conv.weight").grad is not None


def test_a_part_may_be_called_unfrozen(tmp_path: Path) -> None:
    (tmp_path / "net.seg").write_text(SOURCE.replace("scaled", "unfrozen"), encoding="utf-8")
    assert "inference_mode" in frozen_model(load(tmp_path / "net.seg", ["train.freeze=[backbone, scale]"])).code


def test_freezing_nothing_changes_nothing(program: Any) -> None:
    assert "inference_mode" not in frozen_model(program("[]")).code
