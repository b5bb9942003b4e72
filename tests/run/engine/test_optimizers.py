"""Optimizers: which parameter has which rate and decay, and that a run has at every step the rates of the schedule."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from segdsl.ir.program import Optimizer
from segdsl.ir.word import list_words
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.lower.freeze import freeze_parts
from segdsl.run.engine.optimizers import build_optimizer, set_rates
from segdsl.run.train import train_file
from segdsl.words.optimizers import SGD, Adam, AdamW, Group
from segdsl.words.schedules import Horizon, Poly, compute_rate_factor

SOURCE = """seg 1

extends "std/semantic.seg"

block Mix() {
  in x: [B, C, H, W]

  param scale: [C] = 1.0
  param table: [1, C, 1, 1] = 0.0

  conv = x -> Conv(8)
  norm = conv -> BatchNorm()
  out y = norm * scale + table
}

model Net(classes: int) {
  in image: [B, 3, H, W]

  stem = image -> Conv(8, bias = false)
  body = stem -> Mix()
  head = body -> Conv(classes)
  out logits = head
}

model = Net(classes = len(data.classes))
data.input_size = 8x8
"""
ALL = {"stem.weight", "body.scale", "body.table", "body.conv.weight", "body.conv.bias", "body.norm.weight",
       "body.norm.bias", "head.weight", "head.bias"}  # fmt: skip
WEIGHTS = {"stem.weight", "body.conv.weight", "head.weight"}


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., nn.Module]:
    def build(*frozen: str) -> nn.Module:
        (tmp_path / "net.seg").write_text(SOURCE, encoding="utf-8")
        torch.manual_seed(0)
        built = compile_program(load(tmp_path / "net.seg"), weights="none").model
        freeze_parts(built, frozen)
        return built

    return build


def told(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter that the optimizer moves."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [(names[p], (g["lr"], g["weight_decay"])) for g in optimizer.param_groups for p in g["params"]]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_without_groups_all_have_the_optimizers_own(model: Callable[..., nn.Module]) -> None:
    built = model()
    assert told(build_optimizer(AdamW(lr=0.1, weight_decay=0.2), built), built) == dict.fromkeys(ALL, (0.1, 0.2))


def test_the_longest_path_decides_and_gaps_are_the_optimizers(model: Callable[..., nn.Module]) -> None:
    groups = (
        Group(paths=("body",), lr=1e-4),
        Group(paths=("body.norm", "head"), weight_decay=0.0),
        Group(paths=("body.scale",), lr=1e-2, weight_decay=0.5),
    )
    built = model()
    found = told(build_optimizer(SGD(lr=0.1, weight_decay=0.2, groups=groups), built), built)
    assert found == {
        "stem.weight": (0.1, 0.2),
        "body.scale": (1e-2, 0.5),
        "body.table": (1e-4, 0.2),
        "body.conv.weight": (1e-4, 0.2),
        "body.conv.bias": (1e-4, 0.2),
        "body.norm.weight": (0.1, 0.0),
        "body.norm.bias": (0.1, 0.0),
        "head.weight": (0.1, 0.0),
        "head.bias": (0.1, 0.0),
    }


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_decay_of_weights_only(kind: Any, model: Callable[..., nn.Module]) -> None:
    built, group = model("head"), Group(paths=("body",), lr=1e-4, weight_decay=0.3)
    found = told(build_optimizer(kind(lr=0.1, weight_decay=0.2, decay="weights", groups=(group,)), built), built)
    assert set(found) == ALL - {"head.weight", "head.bias"}
    assert {name for name, (_, decay) in found.items() if decay} == WEIGHTS - {"head.weight"}
    assert found["stem.weight"] == (0.1, 0.2) and found["body.conv.weight"] == (1e-4, 0.3)
    assert found["body.table"] == (1e-4, 0.0)


def test_a_step_moves_each_parameter_by_its_own_rate_and_decay(model: Callable[..., nn.Module]) -> None:
    groups = (Group(paths=("body",), lr=0.01), Group(paths=("head",), weight_decay=0.5))
    word, built = SGD(lr=0.1, momentum=0.0, weight_decay=0.2, decay="weights", groups=groups), model()
    optimizer = build_optimizer(word, built)
    assert set_rates(optimizer, (Poly(power=1.0),), 3, Horizon(4, 1)) == pytest.approx(0.025)
    built(torch.randn(2, 3, 8, 8)).square().mean().backward()
    expected = {}
    for name, p in built.named_parameters():
        rate = 0.25 * (0.01 if name.startswith("body") else 0.1)
        decay = (0.5 if name.startswith("head") else 0.2) if name in WEIGHTS else 0.0
        assert p.grad is not None
        expected[name] = (p - rate * (p.grad + decay * p)).detach().clone()
    optimizer.step()
    for name, p in built.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])


VARIED: dict[type[Optimizer], dict[str, Any]] = {
    Adam: {"betas": (0.5, 0.999), "eps": 1e-2},
    AdamW: {"betas": (0.5, 0.999), "eps": 1e-2},
    SGD: {"momentum": 0.1, "nesterov": True},
}


@pytest.mark.parametrize("kind", list_words(Optimizer).values(), ids=lambda k: k.__name__)
def test_every_argument_changes_what_is_learnt(kind: type[Optimizer], model: Callable[..., nn.Module]) -> None:
    groups = (Group(paths=("body",), lr=0.2),)
    changes = {"lr": 0.3, "weight_decay": 0.1, "decay": "weights", "groups": groups, **VARIED[kind]}
    assert set(changes) == set(kind.model_fields)
    plain = {"lr": 0.1, "weight_decay": 0.5}
    usual = learnt(kind(**plain), model())
    for name, value in changes.items():
        assert learnt(kind(**{**plain, name: value}), model()) != usual, name


def learnt(word: Optimizer, model: nn.Module) -> list[float]:
    """All parameters after three steps."""
    optimizer = build_optimizer(word, model)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@pytest.fixture
def stepped() -> Iterator[list[dict[str, float]]]:
    """The rate of every parameter at every step that an optimizer has taken, by its shape."""
    seen: list[dict[str, float]] = []

    def record(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        seen.append({str(tuple(p.shape)): g["lr"] for g in optimizer.param_groups for p in g["params"]})

    handle = register_optimizer_step_pre_hook(record)
    yield seen
    handle.remove()


GROUPS = "groups=[Group([stem], lr=1e-3), Group([bn, classifier], weight_decay=0)]"
RATES = {"(8, 3, 3, 3)": 1e-3, "(8,)": 2e-2, "(3, 8, 1, 1)": 2e-2, "(3,)": 2e-2}
"""The rates of the program's four kinds of parameters, by their shapes: of `stem`, `bn`, and the classifier."""
SCHEDULES = [
    "Constant()",
    "Warmup(3 iters)",
    "Poly(power=0.9)",
    "Poly(power=2.0, over=4 epochs)",
    "Cosine(floor=0.1)",
    "Step([3 iters, 3 epochs], factor=0.5)",
    "Step(every=2 epochs)",
    "ReduceOnPlateau(factor=0.5, patience=0 epochs, threshold=10.0)",
    "ReduceOnPlateau(factor=0.5, patience=1 epochs, threshold=10.0)",
    "Warmup(1 epochs) -> Constant(over=3 iters) -> Cosine()",
    "Warmup(3 iters) -> Step([1 epochs, 4 iters], over=3 epochs) -> Poly()",
    "Warmup(3 iters) -> ReduceOnPlateau(factor=0.5, patience=0 epochs, threshold=10.0)",
]


@pytest.mark.parametrize("text", SCHEDULES)
def test_the_rate_at_every_step_is_that_of_the_pure_function(
    text: str, project: Path, stepped: list[dict[str, float]]
) -> None:
    overrides = [f"train.schedule={text}", "train.epochs=6", f"train.optimizer=SGD(lr=2e-2, {GROUPS})"]
    run = train_file("tiny.seg", overrides, quiet=True).run
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    history = [float(row["val.dice"]) for row in rows]
    schedule = load("tiny.seg", overrides).train.schedule
    scales = [compute_rate_factor(schedule, step, Horizon(2, 6), history[: step // 2]) for step in range(12)]
    trial, *steps = stepped  # of a copy, before the run begins: see `trial`
    assert trial == RATES and steps == [{shape: rate * scale for shape, rate in RATES.items()} for scale in scales]
    assert len(set(scales)) > 1 or text == "Constant()"
    assert [float(row["lr"]) for row in rows] == pytest.approx([2e-2 * scale for scale in scales[1::2]], rel=1e-5)
