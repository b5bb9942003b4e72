"""Samplers: each image comes as often as its classes say, in every epoch, whoever loads it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segdsl.data.check.checker import check_data
from segdsl.data.formats.layout import Request
from segdsl.data.stats.samplers import (
    compute_epoch_length,
    compute_repeats,
    count_occurrences,
    draw_epoch_order,
    pack_presence,
)
from segdsl.lang.program import load
from segdsl.run.engine.setup import compile_start_model, prepare_run
from segdsl.words.samplers import ClassBalanced, RepeatFactor

tables = st.integers(1, 12).flatmap(
    lambda classes: st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=1, max_size=30).map(
        lambda rows: np.array(rows, bool)
    )
)


def shown(table: np.ndarray) -> np.ndarray:
    return np.packbits(table, axis=1)


@given(tables, st.floats(0.01, 1.0))
def test_repeat_factor_is_the_published_formula(table: np.ndarray, threshold: float) -> None:
    found = compute_repeats(RepeatFactor(threshold=threshold), shown(table), table.shape[1])
    for image, row in enumerate(table):
        factors = [max(1.0, (threshold / (table[:, c].sum() / len(table))) ** 0.5) for c in np.flatnonzero(row)]
        assert found[image] == pytest.approx(max(factors, default=1.0))


@given(tables)
def test_balanced_classes_get_equal_shares(table: np.ndarray) -> None:
    found = compute_repeats(ClassBalanced(), shown(table), table.shape[1])
    assert found.sum() == pytest.approx(len(table))
    if not table.any():
        assert (found == 1).all()
        return
    occurring = np.flatnonzero(table.any(axis=0))
    slow = np.zeros(len(table))
    for c in occurring:
        slow[table[:, c]] += len(table) / len(occurring) / table[:, c].sum()
    assert found == pytest.approx(slow)


@given(st.lists(st.floats(0, 7), min_size=1, max_size=40), st.integers(0, 99))
def test_an_epoch_is_within_one_of_what_is_asked(often: list[float], seed: int) -> None:
    wanted = np.array(often)
    if wanted.sum() < 0.6:
        return
    order = draw_epoch_order(wanted, np.random.default_rng(seed))
    assert len(order) == compute_epoch_length(wanted) == max(round(wanted.sum()), 1)
    exact = wanted * len(order) / wanted.sum()
    counts = np.bincount(order, minlength=len(wanted))
    assert (np.abs(counts - exact) < 1 + 1e-9).all() and (counts[wanted == 0] == 0).all()


def test_over_many_epochs_the_average_is_what_was_asked() -> None:
    wanted = np.array([0.3, 1.0, 2.5, 0.7, 1.5])
    total = sum(np.bincount(draw_epoch_order(wanted, np.random.default_rng(k)), minlength=5) for k in range(4000))
    assert total / 4000 == pytest.approx(wanted, abs=0.04)


@given(st.lists(st.integers(0, 5)))
def test_occurrences_count_from_the_start(order: list[int]) -> None:
    seen: Counter[int] = Counter()
    for place, value in zip(count_occurrences(np.array(order, int)).tolist(), order, strict=True):
        assert place == seen[value]
        seen[value] += 1


@settings(max_examples=30)
@given(st.dictionaries(st.integers(0, 255), st.integers(0, 3)), st.integers(1, 40))
def test_classes_are_packed_without_void(counts: dict[int, int], classes: int) -> None:
    bits = np.unpackbits(pack_presence(counts, classes), count=classes).tolist()
    assert bits == [int(counts.get(k, 0) > 0) for k in range(classes)]


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """Eight images of `a`, two of which show `b` as well; one more is all void."""
    for subset in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / subset / kind).mkdir(parents=True)
        (tmp_path / subset / "dataset_meta.json").write_text(json.dumps({"labels": ["a", "b"]}))
        for number in range(9):
            mask = np.zeros((16, 16), np.uint8)
            if number in (2, 5):
                mask[4:9] = 1
            if number == 8:
                mask[:] = 255
            Image.fromarray(mask).save(tmp_path / subset / "masks" / f"{number}.png")
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / subset / "images" / f"{number}.png")
    return tmp_path


def test_the_check_says_what_each_image_shows(rare: Path) -> None:
    report = check_data(rare, "common_semantic_segmentation", Request(["train"]))
    bits = np.unpackbits(report.class_presence["train"], axis=1, count=2)
    assert bits[:, 0].tolist() == [1] * 8 + [0] and np.flatnonzero(bits[:, 1]).tolist() == [2, 5]


@pytest.mark.parametrize(
    ("word", "steps", "share"),
    [
        (None, 3, 2 / 9),
        ("ClassBalanced()", 3, 0.5 + 0.5 * 2 / 8),  # half of the draws are for `b`, and of the others a quarter
        ("RepeatFactor(threshold = 0.9)", 4, 4.02 / 11),  # sqrt(0.9 * 9 / 2) = 2.01 each, of 11 in all
    ],
)
def test_a_run_draws_rare_classes_more_often(rare: Path, word: str | None, steps: int, share: float) -> None:
    said = [f"data.root={json.dumps(str(rare))}", "data.input_size=32x32", 'data.classes=["a","b"]']
    said += ["data.train.batch=3"]
    said += ["data.train.workers=0", "data.val.workers=0", *([f"data.train.sampler={word}"] if word else [])]
    setup = prepare_run(compile_start_model(load("specs/litehrnet_s.seg", said), "none"))
    assert len(setup.train_loader) == setup.horizon.steps_per_epoch == steps
    drawn = [
        key.position for epoch in range(200) for batch in setup.train_loader.make_epoch_keys(epoch) for key in batch
    ]
    assert sum(p in (2, 5) for p in drawn) / len(drawn) == pytest.approx(share, abs=0.03)
    assert (8 in drawn) == (word != "ClassBalanced()")
