"""Warnings about legal but doubtful settings, and errors across sections."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.lang.lint.schedule_lints import find_length_issues
from segdsl.words.schedules import Horizon


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
        ("Warmup(100 iters) -> Poly(over = 9 epochs)", 10, []),
        ("Warmup(2 epochs) -> Poly(over = 700 iters)", 10, []),
        ("Warmup(10 epochs) -> Poly()", 10, ["warmup-too-long"]),
        ("Warmup(9 epochs) -> Poly()", 10, []),
        ("Warmup(1000000 iters) -> Poly()", 10, ["stop-in-warmup"]),
        ("Constant()", 10, []),
        ("Step([3 epochs, 9 epochs])", 10, []),
        ("Step([3 epochs, 10 epochs, 20 epochs])", 10, ["schedule-horizon"]),
        ("Step([300 iters, 1000 iters])", 10, []),
        ("Step(every = 9 epochs)", 10, []),
        ("Step(every = 10 epochs)", 10, ["schedule-horizon"]),
        ("Warmup(2 epochs) -> Step([8 epochs])", 10, ["schedule-horizon"]),
        ("Step([2 epochs], over = 5 epochs) -> Poly(over = 6 epochs)", 10, ["schedule-horizon"]),
    ],
)
def test_schedules_are_held_against_the_run(bench: Any, schedule: str, epochs: int, slugs: list[str]) -> None:
    assert warnings(bench, f"train.schedule = {schedule}\ntrain.epochs = {epochs}\n") == slugs


@pytest.mark.parametrize(
    ("schedule", "slugs"),
    [
        ("Poly() -> Constant()", ["schedule-never-reached"]),
        ("ReduceOnPlateau() -> Poly()", ["schedule-never-reached"]),
        ("Step(every = 2 epochs) -> Poly()", ["schedule-never-reached"]),
        ("Constant(over = 3 epochs) -> Poly()", []),
    ],
)
def test_a_schedule_that_never_ends_is_the_last(bench: Any, schedule: str, slugs: list[str]) -> None:
    assert [d.slug for d in bench.setting_errors(f"train.schedule = {schedule}\n")] == slugs


def test_only_what_can_end_is_told_to_end(bench: Any) -> None:
    (error,) = bench.setting_errors("train.schedule = ReduceOnPlateau() -> Poly()\n")
    assert "over" not in error.help
    (error,) = bench.setting_errors("train.schedule = Poly() -> Poly()\n")
    assert "`Poly(over = …)`" in error.help


@pytest.mark.parametrize(
    ("schedule", "steps", "slugs"),
    [
        ("Warmup(100 iters) -> Poly()", 20, []),
        ("Warmup(200 iters) -> Poly()", 20, ["warmup-too-long"]),
        ("Poly(over = 201 iters)", 20, ["schedule-horizon"]),
        ("Poly(over = 199 iters)", 20, ["zero-rate-tail"]),
        ("Poly(over = 200 iters)", 20, []),
        ("Warmup(100 iters) -> Cosine(over = 10 epochs)", 20, ["schedule-horizon"]),
        ("Step([199 iters])", 20, []),
        ("Step([200 iters])", 20, ["schedule-horizon"]),
        ("Step(every = 200 iters)", 20, ["schedule-horizon"]),
        ("Poly(over = 20 epochs)", 20, []),  # said already
    ],
)
def test_what_only_the_steps_of_a_run_tell(bench: Any, schedule: str, steps: int, slugs: list[str]) -> None:
    program = bench.settings(f"train.schedule = {schedule}\ntrain.epochs = 10\n")
    assert [d.slug for d in find_length_issues(program, Horizon(steps, 10))] == slugs


@pytest.mark.parametrize(
    ("groups", "slugs"),
    [
        ("Group([backbone], lr = 1e-4)", []),
        ("Group([bakbone], lr = 1e-4)", ["unknown-graph-path"]),
        ('Group(lr = 1e-4, paths = [head, "bakbone"])', ["unknown-graph-path"]),
        ("Group([backbone]), Group([head, backbone])", ["path-in-two-groups"]),
        ("Group([head, head])", ["path-in-two-groups"]),
        ("Group([nowhere, head]), Group([head])", ["path-in-two-groups", "unknown-graph-path"]),
    ],
)
def test_groups_name_parts_of_the_graph_once(bench: Any, groups: str, slugs: list[str]) -> None:
    errors = bench.setting_errors(f"train.optimizer = SGD(lr = 0.1, groups = [{groups}])\n")
    assert sorted(d.slug for d in errors) == slugs
    places = {"unknown-graph-path": {"bakbone", '"bakbone"', "nowhere"}, "path-in-two-groups": {"backbone", "head"}}
    assert all(bench.said(d) in places[d.slug] for d in errors)
    assert all("`backbone`" in d.help for d in errors if "bakbone" in d.message)
    where = [(d.slug, bench.said(d)) for d in errors]
    changed = bench.setting_errors(f"train.optimizer.groups = [{groups}]\n")
    assert [(d.slug, bench.said(d)) for d in changed] == where
    held = bench.setting_errors(f"let held = [{groups}]\ntrain.optimizer = SGD(groups = held)\n")
    assert sorted(d.slug for d in held) == slugs and all("held" in bench.said(d) for d in held)


def test_a_group_trains_something(bench: Any) -> None:
    weights = 'weights.model = "a.pth"\n'
    both = "train.optimizer = SGD(groups = [Group([backbone]), Group([head])])\n"
    assert warnings(bench, weights + both) == []
    assert warnings(bench, weights + both + "train.freeze = [backbone]\n") == ["group-trains-nothing"]
    deeper = """
    block Stage() {
      in x

      a = x -> Conv(8)
      b = a -> Conv(8)
      m = b -> ReLU() -> NMF(rank = 2) as ham
      out y = m
    }
    """
    for paths, slugs in (
        ("[y], [y.a]", []),
        ("[y], [y.a, y.b]", ["group-trains-nothing"]),
        ("[y.ham]", ["group-trains-nothing"]),
    ):
        groups = ", ".join(f"Group([{each}])" for each in paths.strip("[]").split("], ["))
        text = bench.model_text("y = x -> Stage()", deeper) + f"\ntrain.optimizer = SGD(groups = [{groups}])\n"
        assert [d.slug for d in bench.check(text)[1]] == slugs, paths


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
    assert error.slug == "unknown-graph-path" and "`backbone`" in error.help
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
    assert error.slug == "class-weights-count" and "road, car" in error.help and "sky" not in error.help
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
    assert error.slug == "value-cycle" and "`data.remap`" in error.message and "`data.classes`" in error.message
    assert error.span is not None and text[error.span.start : error.span.end] == "data.classes"
