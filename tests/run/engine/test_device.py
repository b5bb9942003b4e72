"""The device that a model runs on, and what is said of one that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segdsl.cli.invoke import run_cli
from segdsl.diagnostics import SegError
from segdsl.inference.bench import measure_speed
from segdsl.inference.models.opener import open_model
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
def test_an_available_device(two_cards: None, name: str, expected: str) -> None:
    assert str(device.pick_device(name)) == expected


@pytest.mark.parametrize(
    ("name", "is_kind"),
    [("cuda:2", True), ("xpu", True), ("mps", True), ("gpu", False), ("cuda:one", True), ("cpu:0", True), ("", False)],
)
def test_a_missing_device(two_cards: None, name: str, is_kind: bool) -> None:
    with pytest.raises(SegError) as caught:
        device.pick_device(name)
    (found,) = caught.value.diagnostics
    assert found.slug == "device-not-here" and f"`{name}`" in found.message
    assert ("this machine" in found.message) is is_kind
    assert "(`cpu`, `cuda:0`, `cuda:1`)" in found.help


def test_auto_picks_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device.pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert device.pick_device("auto") == torch.device("xpu")


@pytest.mark.parametrize("command", ["train FILE", "bench FILE", "eval RUN", "predict RUN set/val/images --out seen"])
def test_every_command_has_the_option(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(device, "list_devices", lambda: ("cpu",))
    trained = str(train_file("tiny.seg", ["train.epochs=1"], quiet=True).run)
    monkeypatch.setattr("segdsl.inference.bench.SECONDS", 0.0)
    words = [{"FILE": "tiny.seg", "RUN": trained}.get(word, word) for word in command.split()]
    assert run_cli([*words, "--device", "cuda:7"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error[device-not-here]") and "`cuda:7`" in err
    assert not (project / "seen").exists() and not (project / "runs/tiny-2").exists()
    assert run_cli([*words, "--device", "cpu"]) == 0


def test_a_model_is_on_its_device(project: Path, slugs: Slugs) -> None:
    trained = train_file("tiny.seg", ["train.epochs=1"], quiet=True, device="cpu").run
    assert str(open_model(trained, device="cpu").device) == "cpu"  # type: ignore[attr-defined]
    (project / "model.xml").write_text("", encoding="utf-8")
    assert slugs(lambda: open_model("model.xml", device="cuda")) == ["device-not-here"]
    assert slugs(lambda: measure_speed("model.xml", device="cuda")) == ["device-not-here"]
