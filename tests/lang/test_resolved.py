"""Programs as data: a lossless JSON round trip, and a resolved source that means the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.syntax.printer.format import format_text

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "specs").glob("*.seg"))
SECTIONS = ("data", "train", "eval", "export", "weights")


def meaning(program: Program) -> dict[str, Any]:
    """What a program says, without where it says it."""
    graph = program.graph
    nodes = [(n.path, n.op, n.operands, n.shape, n.module) for n in graph.nodes]
    said = {name: getattr(program, name) for name in SECTIONS}
    return {**said, "nodes": nodes, "names": graph.names, "outputs": graph.outputs, "size": graph.size}


def assert_resolves(program: Program, folder: Path) -> str:
    """Loads the resolved text alone and compares; gives it."""
    path = folder / "alone" / "program.seg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(program.resolved, encoding="utf-8")
    again = load(path)
    assert meaning(again) == meaning(program)
    assert again.resolved == program.resolved
    assert format_text(program.resolved) == program.resolved
    assert "import" not in program.resolved.split("\n\n")[0]
    assert set(again.sources) == {str(path)}
    return program.resolved


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_json_without_loss(path: Path) -> None:
    program = load(path)
    assert Program.model_validate_json(program.model_dump_json()) == program


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_the_resolved_text_is_the_same_program(path: Path, tmp_path: Path) -> None:
    assert_resolves(load(path), tmp_path)


def test_the_resolved_text_holds_what_was_set(tmp_path: Path) -> None:
    text = assert_resolves(load(SPECS[0], ['data.classes=["a", "b", "c"]', "train.stop = none"]), tmp_path)
    assert re.search(r'classes += \["a", "b", "c"\]', text) and "EarlyStopping" not in text


def test_classes_that_were_given_are_recorded(tmp_path: Path) -> None:
    program = load(SPECS[0], [], ["road", "car", "sky"])
    assert program.data.classes == ("road", "car", "sky")
    assert 'classes = ["road", "car", "sky"]' in assert_resolves(program, tmp_path).replace("  ", " ").replace(
        "  ", " "
    )
    assert load(SPECS[0], [], 4).classes == ("class_0", "class_1", "class_2", "class_3")


def test_a_given_number_of_classes_goes_before_the_program(bench: Any) -> None:
    path = bench.write(bench.model_text("y = x") + '\ndata.classes = ["a", "b", "c"]\n')
    assert load(path).classes == load(path, [], 3).classes == ("a", "b", "c")
    assert load(path, [], ["x", "y", "z"]).classes == ("x", "y", "z")
    assert load(path, ["data.classes = none"]).assumed_classes
    program = load(path, [], 2)
    assert program.classes == ("class_0", "class_1")
    assert program.graph.collect_state()["last.weight"].shape[0] == 2


HEAD = """seg 1

let width = 5
let act = ReLU()

## The head of another file.
block Head(classes: int, m: module = ReLU()) {
  in x

  let local = [width for width in [1, 2]]

  a = x -> Conv(width) -> m
  out y = a -> Conv(classes + len(local) - 2)
}
"""
MAIN = """seg 1

## Two heads.
extends "std/semantic.seg"
import "head.seg" as other

let half  = 3
let width = 2 * half
let names = ["a", "b", "c"]

# A comment in between.
block Head(width: int) {
  in x

  out y = x -> Conv(width)  # stays
}

block Unused() {
  in x

  out y = x
}

model Net(classes: int, act: module = ReLU(), sizes: list = [1]) {
  in image: [B, 3, H, W]

  first = image -> Head(width) -> act
  width2 = first -> other.Head(classes)
  out logits = width2
}

data.classes = names
train.loss.ignore = half

model = Net(len(data.classes), act = other.Head(width), sizes = [half, 1])
"""


def test_names_of_several_files_do_not_meet(bench: Any) -> None:
    bench.write(HEAD, "head.seg")
    text = assert_resolves(bench.loaded(MAIN), bench.folder)
    assert text.startswith("seg 1\n\n## Two heads.\n")
    assert HEAD.count("## ") == 1 and HEAD[HEAD.index("## ") :].partition("\n")[0] in text
    assert "# stays" in text
    assert "Unused" not in text
    assert "half" in text
    assert 'classes    = ["a", "b", "c"]' in text


def test_changes_by_path_and_option_are_spelled_out(bench: Any) -> None:
    text = """seg 1

extends "std/semantic.seg"

let power = 2.0

model Net(classes: int, act: module = ReLU(), name: string = "a\\"b\\n", flag: bool = true, k: size = 3x3) {
  in image: [B, 3, H, W]

  first = image -> Conv(4, k) -> act
  last  = first -> Conv(classes)
  out logits = last
}

model = Net(classes = len(data.classes))
train.freeze = [first, "last"]
data.root = "with \\"quotes\\" and \\\\"
"""
    options = ("model.act=GELU()", "model.k=1x1", "train.schedule=Poly(power = power)", "train.optimizer.lr=1e-5")
    program = bench.loaded(text, *options)
    assert_resolves(program, bench.folder)
    assert program.train.optimizer.lr == 1e-5  # type: ignore[union-attr]


def test_spans_lead_to_values(bench: Any) -> None:
    text = bench.model_text("y = x").replace(
        "data.input_size = 64x64", "data.input_size = 64x64\ntrain.optimizer.lr = 0.5"
    )
    program = bench.loaded(text, "train.epochs = 3")
    for path, value in (("train.epochs", "3"), ("train.optimizer.lr", "0.5"), ("data.input_size", "64x64")):
        span = program.spans[path]
        assert program.sources[span.file].text[span.start : span.end] == value
    for node in program.graph.nodes:
        assert node.span is not None
        assert node.span.file in program.sources
