"""A number that is not finite ends a run, and the place of the program that it came from is said."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.diagnostics import SegError
from segdsl.run.train import train_file

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "stopped"
NORM = "bn   = stem -> BatchNorm()"

CASES = {
    "output": ("bn   = (stem - stem) / (stem - stem)", []),
    "gradient": ("big  = (stem * 0.0) * 1e30 * 1e30\n  bn   = big + stem", []),
    "gradient-of-one-branch": (
        "calm = stem -> Conv(8)\n  wild = (stem * 0.0) * 1e30 * 1e30\n  bn   = calm + wild + stem",
        ["data.train.batch=1", "train.accumulate=4"],
    ),
    "gradient-of-weights": ("param gain: [8] = 0\n  bn   = stem * 1e30 * gain * 1e30 + stem", ["train.clip=1.0"]),
    "rate": (NORM, ["train.optimizer=SGD(lr=1e30)", "drop train.schedule"]),
    "later-step": (NORM, ["train.optimizer=SGD(lr=1e12)", "drop train.schedule", "data.train.batch=1"]),
}


def changed(project: Path, line: str) -> None:
    text = (project / "tiny.seg").read_text(encoding="utf-8")
    assert NORM in text
    (project / "tiny.seg").write_text(text.replace(NORM, line), encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_the_message_names_the_node(
    project: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line, overrides = CASES[name]
    changed(project, line)
    status = run_cli(
        ["train", "tiny.seg", "--device", "cpu", *(part for text in overrides for part in ("--set", text))]
    )
    err = capsys.readouterr().err
    assert status == 1
    assert re.match(r"error\[(loss|gradient)-not-finite\]: ", err)
    golden(GOLDENS / f"{name}.txt", err)


def test_the_weights_are_those_before_the_step(project: Path) -> None:
    """What an epoch has saved stays, and no file holds what is not finite."""
    with pytest.raises(SegError) as caught:
        train_file(
            "tiny.seg",
            ["train.schedule=Constant(over = 2 iters) -> Constant()", "train.optimizer=SGD(lr=1e25)"],
            out="spoilt",
            quiet=True,
        )
    assert caught.value.diagnostics[0].slug == "loss-not-finite"
    assert not list((project / "spoilt/checkpoints").iterdir())


def test_a_failure_that_does_not_repeat(
    project: Path, monkeypatch: pytest.MonkeyPatch, wording: Callable[..., None]
) -> None:
    monkeypatch.setattr("segdsl.run.engine.loop.get_total_norm", lambda gradients: gradients[0].new_tensor(math.inf))
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", out="spoilt", quiet=True)
    (found,) = caught.value.diagnostics
    assert found.slug == "gradient-not-finite" and found.span is None
    wording(found.message)


def test_a_non_finite_loss_of_a_finite_output(
    project: Path, monkeypatch: pytest.MonkeyPatch, wording: Callable[..., None]
) -> None:
    from segdsl.run.engine.group_loss import GroupLoss

    part = GroupLoss.compute_part
    monkeypatch.setattr(GroupLoss, "compute_part", lambda self, *given: part(self, *given) * math.inf)
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", out="spoilt", quiet=True)
    wording(re.sub(r"magnitude \S+\)", "magnitude N)", caught.value.diagnostics[0].message))
