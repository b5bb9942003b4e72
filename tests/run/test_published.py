"""Each published program trains: twenty steps of its own recipe, at a reduced size, lower the loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from segdsl.run.console.display import Display
from segdsl.run.train import train_file

ROOT = Path(__file__).resolve().parents[2]
CAMVID = ROOT.parent / "shared" / "data" / "camvid_small"
SIZES = {
    "litehrnet_s": "64x96", "litehrnet_18": "64x96", "litehrnet_x": "64x96", "segnext_t": "64x96",
    "segnext_s": "64x96", "segnext_b": "64x96", "dinov2": "70x98",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="the shared folder with the images is not there")
@pytest.mark.parametrize("name", SIZES)
def test_twenty_steps_lower_the_loss(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    monkeypatch.setattr(Display, "show_step", lambda self, facts: losses.append(facts.loss))
    overrides = [
        f"data.input_size={SIZES[name]}", "data.train.batch=6", "data.train.workers=0", "data.val.workers=0",
        "train.epochs=5",
    ]  # fmt: skip
    train_file(ROOT / "specs" / f"{name}.seg", overrides, data=CAMVID, weights="none", out=tmp_path / "run", quiet=True)
    assert len(losses) == 20 and all(map(math.isfinite, losses))
    assert sum(losses[-5:]) < sum(losses[:5])
