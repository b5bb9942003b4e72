"""`train.monitor`: a score over all classes, without the background, or of one class."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.ir.monitor import OverAll, extract_class
from segdsl.ir.program import Program
from segdsl.ir.word import list_choices
from segdsl.lang.program import load

CLASSES = 'data.classes = ["road", "traffic light", "a.b", "in"]\n'


@pytest.mark.parametrize("name", list_choices(OverAll))
def test_the_scores_over_all_classes(bench: Any, name: str) -> None:
    assert bench.settings(f"train.monitor = {name}\n").train.monitor == name
    assert extract_class(name) is None


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("val.dice.road", "road"),
        ("val.iou.road", "road"),
        ('"val.dice.road"', "road"),
        ('"val.iou.traffic light"', "traffic light"),
        ("val.dice.a.b", "a.b"),
        ("val.dice.in", "in"),
        ('if len(data.classes) > 2 then val.dice.road else val.dice', "road"),
        ('"val.dice." + first(["road"])', "road"),
        ("chosen", "traffic light"),
    ],
)  # fmt: skip
def test_the_score_of_a_class(bench: Any, written: str, name: str) -> None:
    text = f'let chosen = "val.dice.traffic light"\n\n{CLASSES}\ntrain.monitor = {written}\n'
    monitor = bench.settings(text).train.monitor
    assert extract_class(monitor) == name and monitor in (f"val.dice.{name}", f"val.iou.{name}")


def test_a_class_with_the_name_of_a_score_changes_no_score(bench: Any) -> None:
    text = 'data.classes = ["road", "miou"]\n\ntrain.monitor = val.miou\n'
    assert bench.settings(text).train.monitor == "val.miou"


@pytest.mark.parametrize(
    ("written", "slug", "help"),
    [
        ("val.dice.raod", "class-unknown", "`road`"),
        ('"val.iou.zebra crossing"', "class-unknown", "`road`, `traffic light`, `a.b`, `in`"),
        ("val.recall.road", "unknown-member", "`val.dice.CLASS`, `val.iou.CLASS`"),
        ("val.foreground.iou", "unknown-member", "mean `val.foreground.miou`"),
        ("val.dise", "unknown-member", "mean `val.dice`"),
        ("dice", "unknown-member", "mean `val.dice`"),
        ('"val.dice."', "unknown-member", "`val.dice.CLASS`"),
        ('"val.dice"', "quoted-member", "`val.dice`"),
        ("7", "unknown-member", "`val.miou`"),
        ("none", "unknown-member", "`val.miou`"),
        ("val.dice.traffic light", "unexpected-token", ""),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(bench: Any, written: str, slug: str, help: str) -> None:
    errors = bench.setting_errors(f"{CLASSES}\ntrain.monitor = {written}\n")
    assert errors and (slug == "unexpected-token" or [d.slug for d in errors] == [slug])
    assert help in f"{errors[0].message}\n{errors[0].help}"
    assert slug == "unexpected-token" or bench.said(errors[0]) == written


def test_a_class_is_looked_for_among_those_that_are_left(bench: Any) -> None:
    merged = 'data.remap = [Merge(["road", "in"], into = "ground")]\n'
    assert bench.settings(f"{CLASSES}{merged}train.monitor = val.dice.ground\n").train.monitor == "val.dice.ground"
    errors = bench.setting_errors(f"{CLASSES}{merged}train.monitor = val.dice.road\n")
    assert [d.slug for d in errors] == ["class-unknown"]


def test_placeholders_are_no_names(bench: Any) -> None:
    text = "train.monitor = val.dice.road\n"
    assert bench.settings(text).train.monitor == "val.dice.road", "the data set may have it"
    path = bench.folder / "main.seg"
    assert load(path, classes=4).train.monitor == "val.dice.road"
    named = load(path, classes=["ground", "road"])
    assert named.classes == ("ground", "road")
    mixed = 'data.train.augment.mix = ClassMix(classes = ["road"])\n'
    bench.settings(text + mixed)
    assert load(path, classes=4).classes[0] == "class_0", "nor for a step that names classes"


@pytest.mark.parametrize("monitor", ["val.miou", "val.foreground.dice", '"val.dice.traffic light"', "val.iou.road"])
def test_it_comes_back_from_the_resolved_text_and_from_json(bench: Any, monitor: str) -> None:
    program = bench.settings(f"{CLASSES}\ntrain.monitor = {monitor}\n")
    text = load(bench.folder / "main.seg").resolved
    again = load(bench.write(text, "again.seg"))
    assert again.train.monitor == program.train.monitor and again.resolved == text
    assert Program.model_validate_json(again.model_dump_json()).train.monitor == program.train.monitor


def test_a_name_with_a_control_character_is_refused(bench: Any) -> None:
    for name, shown in (("dent\\n", "dent\\n"), ("a\\tb", "a\\tb"), ("x\x85", "x\\x85"), ("\u2028y", "\\u2028y")):
        errors = bench.setting_errors(f'data.classes = ["ground", "{name}"]\n')
        assert [d.slug for d in errors] == ["class-control-character"], name
        assert f'"{shown}"' in errors[0].message
    errors = bench.setting_errors('data.classes = ["a", "b", "c"]\ndata.remap = [Merge(["a"], into = "d\\n")]\n')
    assert [d.slug for d in errors] == ["out-of-bounds"] and "`into`" in errors[0].message
