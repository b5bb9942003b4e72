"""Warnings about what is legal and doubtful, and errors between sections."""

from __future__ import annotations

from typing import Any

import pytest


def warnings(bench: Any, text: str) -> list[str]:
    return [d.slug for d in bench.settings(text).warnings]


@pytest.mark.parametrize(
    ("schedule", "epochs", "slugs"),
    [
        ("Poly()", 10, []),
        ("Poly(over = 10 epochs)", 10, []),
        ("Poly(over = 20 epochs)", 10, ["schedule-horizon"]),
        ("Cosine(over = 20 epochs)", 10, ["schedule-horizon"]),
        ("Poly(over = 5 epochs)", 10, ["zero-rate-tail"]),
        ("Cosine(over = 5 epochs)", 10, ["zero-rate-tail"]),
        ("Cosine(over = 5 epochs, floor = 0.1)", 10, []),
        ("Poly(over = 5 epochs) -> Constant()", 10, []),
        ("Warmup(2 epochs) -> Poly(over = 8 epochs)", 10, []),
        ("Warmup(2 epochs) -> Poly(over = 10 epochs)", 10, ["schedule-horizon"]),
        ("Warmup(2 epochs) -> Poly(over = 7 epochs)", 10, ["zero-rate-tail"]),
        ("Warmup(2 epochs) -> Poly(over = 700 iters)", 10, []),
        ("Warmup(10 epochs) -> Poly()", 10, ["warmup-too-long"]),
        ("Warmup(9 epochs) -> Poly()", 10, []),
        ("Warmup(1000000 iters) -> Poly()", 10, []),
        ("Constant()", 10, []),
    ],
)
def test_schedules_are_held_against_the_run(bench: Any, schedule: str, epochs: int, slugs: list[str]) -> None:
    assert warnings(bench, f"train.schedule = {schedule}\ntrain.epochs = {epochs}\n") == slugs


@pytest.mark.parametrize(
    ("schedule", "slugs"),
    [
        ("Poly() -> Constant()", ["schedule-never-reached"]),
        ("ReduceOnPlateau() -> Poly()", ["schedule-never-reached"]),
        ("Constant(over = 3 epochs) -> Poly()", []),
    ],
)
def test_a_schedule_that_never_ends_is_the_last(bench: Any, schedule: str, slugs: list[str]) -> None:
    assert [d.slug for d in bench.setting_errors(f"train.schedule = {schedule}\n")] == slugs


@pytest.mark.parametrize(
    ("patience", "slugs"), [("5 epochs", []), ("4 epochs", ["plateau-never-reached"]), ("4 iters", [])]
)
def test_the_run_outlives_the_plateau(bench: Any, patience: str, slugs: list[str]) -> None:
    text = f"train.schedule = ReduceOnPlateau(patience = 4 epochs)\ntrain.stop = EarlyStopping(patience = {patience})\n"
    assert warnings(bench, text) == slugs


def test_the_ignored_value_is_no_class(bench: Any) -> None:
    assert warnings(bench, "data.ignore = 1\n") == ["ignore-is-class"]
    assert warnings(bench, "data.ignore = 2\n") == []
    assert warnings(bench, 'data.ignore = 2\ndata.classes = ["a", "b", "c"]\n') == ["ignore-is-class"]


def test_frozen_parts_have_weights(bench: Any) -> None:
    assert warnings(bench, "train.freeze = [backbone]\n") == ["frozen-random"]
    assert warnings(bench, 'train.freeze = [backbone]\nweights.backbone = "a.pth"\n') == []
    assert warnings(bench, 'train.freeze = [backbone]\nweights.model = "a.pth"\n') == []
    assert warnings(bench, 'train.freeze = [backbone]\nweights.head = "a.pth"\n') == ["frozen-random"]
    (error,) = bench.setting_errors("train.freeze = [head, bakbone]\n")
    assert (error.slug, error.help) == ("unknown-graph-path", "did you mean `backbone`?")
    assert bench.said(error) == "bakbone"


def test_strides_are_not_repeated_by_accident(bench: Any) -> None:
    conv = "Conv(48, 3x3, stride = {})"
    assert bench.model_warnings(f"y = x -> {conv.format(2)} * 2") == ["repeated-stride"]
    assert bench.model_warnings(f"y = x -> {conv.format(2)} * 1") == []
    assert bench.model_warnings(f"y = x -> {conv.format(1)} * 2") == []
    assert bench.model_warnings(f"let s = 2\ny = x -> {conv.format('s')} * 2") == ["repeated-stride"]


def test_warnings_point_at_the_value(bench: Any) -> None:
    (warning,) = bench.settings("data.ignore = 1\n").warnings
    assert bench.said(warning) == "1"
    (warning,) = bench.settings("train.optimizer.lr = 0.5\ntrain.freeze = [backbone]\n").warnings
    assert bench.said(warning) == "backbone"


def test_weights_of_classes_are_counted_where_classes_are_named(bench: Any) -> None:
    text = (
        'seg 1\n\nextends "std/semantic.seg"\nimport "std/lite_hrnet.seg"\n\n'
        'data.classes = ["road", "car", "sky"]\ndata.exclude = ["sky"]\n'
        "train.loss = WeightedSum([Dice(), CrossEntropy(class_weights = [1.0, 2.0, 3.0])])\n"
        "model = LiteHRNetS(classes = len(data.classes))\n"
    )
    (error,) = bench.errors(text)
    assert error.slug == "class-weights-count" and "in this order: road, car" in error.help
    assert error.span is not None and error.span.start > text.index("train.loss")
    program, _ = bench.check(text.replace("[1.0, 2.0, 3.0]", "[1.0, 2.0]"))
    assert program is not None


def test_what_changes_the_classes_is_not_defined_by_them(bench: Any) -> None:
    text = (
        'seg 1\n\nextends "std/semantic.seg"\nimport "std/lite_hrnet.seg"\n\n'
        'data.classes = ["road", "car", "sky"]\n'
        'data.remap = [Merge(data.classes, into = "all")]\n'
        "model = LiteHRNetS(classes = len(data.classes))\n"
    )
    (error,) = bench.errors(text)
    assert error.slug == "value-cycle" and "`data.remap` changes `data.classes`" in error.message
    assert error.span is not None and text[error.span.start : error.span.end] == "data.classes"
