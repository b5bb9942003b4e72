"""`class_weights = auto`: counted in the training subset, bounded, said once, and kept in the lock."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segdsl.data.stats.class_weights import compute_median_frequency_weights
from segdsl.run.engine.setup import compile_start_model, prepare_run
from segdsl.run.program_data import resolve_classes
from segdsl.run.train import train_file


def slow_weights(masks: list[np.ndarray], classes: int, ignore: int = 255) -> list[float]:
    """Eigen and Fergus, section 6.3.2, mask by mask and pixel by pixel."""
    frequencies = []
    for k in range(classes):
        own = within = 0
        for mask in masks:
            counts = Counter(mask.ravel().tolist())
            if counts[k] and k != ignore:
                own += counts[k]
                within += sum(n for value, n in counts.items() if value != ignore)
        frequencies.append(own / within if within else None)
    here = sorted(f for f in frequencies if f is not None)
    middle = (here[(len(here) - 1) // 2] + here[len(here) // 2]) / 2
    return [1.0 if f is None else min(max(middle / f, 0.1), 10.0) for f in frequencies]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0) | st.just(0.0), min_size=1, max_size=8))
def test_weights_are_bounded_and_the_middle_class_weighs_one(frequencies: list[float]) -> None:
    weights = compute_median_frequency_weights(frequencies)
    assert all(0.1 <= w <= 10.0 for w in weights)
    assert all(w == 1.0 for w, f in zip(weights, frequencies, strict=True) if f == 0)
    here = sorted(f for f in frequencies if f)
    if len(here) % 2:
        assert weights[frequencies.index(here[len(here) // 2])] == 1.0
    rarer = sorted(zip(frequencies, weights, strict=True))
    assert [w for f, w in rarer if f] == sorted((w for f, w in rarer if f), reverse=True)


def masks_of(project: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((project / "set/train/masks").iterdir())]


def found(*overrides: str) -> dict[str, float]:
    return prepare_run(
        compile_start_model(resolve_classes("tiny.seg", ["train.loss=CrossEntropy(class_weights=auto)", *overrides]))
    ).class_weights


def test_they_are_counted_in_the_masks_that_are_learnt(project: Path) -> None:
    mask = project / "set/train/masks/1-0.png"
    only_ground = np.asarray(Image.open(mask)).copy()
    only_ground[only_ground == 2] = 0  # `blue` is not in all images: its frequency is not its share of all pixels
    Image.fromarray(only_ground).save(mask)
    masks = masks_of(project)
    assert found() == pytest.approx(dict(zip(("ground", "red", "blue"), slow_weights(masks, 3), strict=True)))
    merged = [np.where(m == 2, 1, m) for m in masks]
    thing = found('data.remap=[Merge(["red", "blue"], into="thing")]', "model.classes=2")
    assert thing == pytest.approx(dict(zip(("ground", "thing"), slow_weights(merged, 2), strict=True)))
    without = [np.where(m == 0, 255, m) - (m != 255) * (m != 0) for m in masks]
    excluded = found('data.exclude=["ground"]', "model.classes=2")
    assert excluded == pytest.approx(dict(zip(("red", "blue"), slow_weights(without, 2), strict=True)))


def test_a_class_that_never_occurs_weighs_one_and_a_rare_one_ten(project: Path) -> None:
    for number, path in enumerate(sorted((project / "set/train/masks").iterdir())):
        mask = np.zeros((24, 32), np.uint8)
        mask[0, : 2 if number == 0 else 0] = 1
        Image.fromarray(mask).save(path)
    assert found() == {"ground": pytest.approx(0.5, abs=0.01), "red": 10.0, "blue": 1.0}


def test_a_run_prints_and_stores_them_and_trains_with_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = "train.loss=WeightedSum([Dice(), Focal(class_weights=auto)])"
    auto = train_file("tiny.seg", [loss, "train.epochs=1"])
    out = " ".join(capsys.readouterr().out.split())
    locked = json.loads((auto.run / "lock.json").read_text(encoding="utf-8"))["class_weights"]
    weights = {name: locked[name] for name in ("ground", "red", "blue")}
    assert list(weights.values()) == pytest.approx(slow_weights(masks_of(project), 3))
    line = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    assert out.count(line) == 1
    numbers = ", ".join(map(str, weights.values()))
    stated = train_file("tiny.seg", [loss.replace("auto", f"[{numbers}]"), "train.epochs=1"])
    assert stated.best["loss"] == auto.best["loss"]
    assert "class weights" not in capsys.readouterr().out
    assert "class_weights" not in json.loads((stated.run / "lock.json").read_text(encoding="utf-8"))
    again = train_file(auto.run / "program.seg", ["train.epochs=1"], quiet=True)
    assert again.best["loss"] == auto.best["loss"]
