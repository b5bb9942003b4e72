"""The device that a model runs on, and what is said of one that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segdsl.cli.invoke import run
from segdsl.diagnostics import SegError
from segdsl.inference.bench import bench
from segdsl.inference.models.model import open_model
from segdsl.run.engine import device
from segdsl.run.train import train_file

Slugs = Callable[[Callable[[], object]], list[str]]


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two NVIDIA cards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("name", "expected"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_a_device_that_is_here(two_cards: None, name: str, expected: str) -> None:
    assert str(device.pick_device(name)) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", "this machine has no device `cuda:2`"),
        ("xpu", "this machine has no device `xpu`"),
        ("mps", "this machine has no device `mps`"),
        ("gpu", "`gpu` names no device"),
        ("cuda:one", "this machine has no device `cuda:one`"),
        ("cpu:0", "this machine has no device `cpu:0`"),
        ("", "`` names no device"),
    ],
)
def test_a_device_that_is_not(two_cards: None, name: str, message: str) -> None:
    with pytest.raises(SegError) as caught:
        device.pick_device(name)
    (found,) = caught.value.diagnostics
    assert (found.slug, found.message) == ("device-not-here", message)
    assert "(`cpu`, `cuda:0`, `cuda:1`)" in found.help


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device.pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert device.pick_device("auto") == torch.device("xpu")


@pytest.mark.parametrize("command", ["train FILE", "bench FILE", "eval RUN", "predict RUN set/val/images --out seen"])
def test_every_command_takes_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(device, "devices_here", lambda: ("cpu",))
    trained = str(train_file("tiny.seg", ["train.epochs=1"], quiet=True).run)
    monkeypatch.setattr("segdsl.inference.bench.SECONDS", 0.0)
    words = [{"FILE": "tiny.seg", "RUN": trained}.get(word, word) for word in command.split()]
    assert run([*words, "--device", "cuda:7"]) == 1
    assert "error[device-not-here]: this machine has no device `cuda:7`" in capsys.readouterr().err
    assert not (project / "seen").exists() and not (project / "runs/tiny-2").exists()
    assert run([*words, "--device", "cpu"]) == 0


def test_a_model_is_where_it_was_asked_for(project: Path, slugs: Slugs) -> None:
    trained = train_file("tiny.seg", ["train.epochs=1"], quiet=True, device="cpu").run
    assert str(open_model(trained, device="cpu").device) == "cpu"  # type: ignore[attr-defined]
    (project / "model.xml").write_text("", encoding="utf-8")
    assert slugs(lambda: open_model("model.xml", device="cuda")) == ["device-not-here"]
    assert slugs(lambda: bench("model.xml", device="cuda")) == ["device-not-here"]
