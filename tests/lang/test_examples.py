"""The examples of the language definition check, some of them only with the blocks that they leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segdsl.ir.shape import format_shape

EXAMPLES = Path(__file__).resolve().parent / "examples"
DEFINITION = Path(__file__).resolve().parents[3] / "shared" / "design" / "LANGUAGE.md"


def text(name: str) -> str:
    return (EXAMPLES / f"{name}.seg").read_text(encoding="utf-8")


def test_the_examples_are_those_of_the_definition() -> None:
    if not DEFINITION.is_file():
        pytest.skip("the shared folder with the definition is not there")
    definition = DEFINITION.read_text(encoding="utf-8")
    assert definition.count("```seg") == len(list(EXAMPLES.glob("*.seg")))
    for path in EXAMPLES.glob("*.seg"):
        assert f"```seg\n{path.read_text(encoding='utf-8')}```" in definition


def test_the_program(bench: Any) -> None:
    program, warnings = bench.check(text("program"))
    assert warnings == ()
    assert list(program.data.train.augment) == ["crop", "photo", "flip"]
    assert program.train.epochs == 200
    assert program.weights == {"backbone": "otx:lite_hrnet_s"}
    assert program.graph.name == "LiteHRNetS"


def test_the_child_differs_where_it_says_so(bench: Any) -> None:
    program, warnings = bench.check(text("child"))
    assert [w.slug for w in warnings] == ["frozen-random"]
    assert list(program.data.train.augment) == ["crop", "photo", "flip", "turn"]
    assert program.data.train.augment["crop"].scale.low == 0.08
    assert program.train.freeze == ("backbone",)
    assert program.train.keep is not None


def pyramid(bench: Any, size: str) -> Any:
    sections = (
        f'\nextends "std/semantic.seg"\n\ndata.input_size = {size}\nmodel = PyramidSeg(classes = len(data.classes))\n'
    )
    return bench.program(text("graph") + sections)


@pytest.mark.parametrize("size", ["512x512", "511x513", "65x33"])
def test_the_graph(bench: Any, size: str) -> None:
    graph = pyramid(bench, size).graph
    shapes = graph.collect_shapes()
    assert format_shape(shapes[graph.names["c2"]]) == "[B, 48, H/4, W/4]"
    assert format_shape(shapes[graph.names["c5"]]) == "[B, 384, H/32, W/32]"
    assert format_shape(shapes[graph.outputs["logits"]]) == "[B, 2, H, W]"
    keys = set(graph.collect_state())
    assert {
        "stem.conv.weight",
        "c2.0.y.0.conv.weight",
        "c3.2.y.2.bn.bias",
        "fused.2.conv.weight",
        "classifier.bias",
    } <= keys
    assert {k.split(".")[0] for k in keys} == {"stem", "c2", "c3", "c4", "c5", "lateral", "fused", "classifier"}


def test_the_graph_without_its_program_is_a_library(bench: Any) -> None:
    assert bench.check(text("graph")) == (None, ())


HARDER = """
extends "std/semantic.seg"

block Block(heads: int) {
  in x: [B, N, D]

  norm1 = x -> LayerNorm()
  qkv   = norm1 -> Linear(3 * D)
  attn  = qkv -> Attention(heads)
  out y = x + attn
}

block Project(channels: int) {
  in x

  out y = x -> Conv(channels, bias = false) -> BatchNorm()
}

block Down(channels: int, act: module = ReLU()) {
  in x

  out y = x -> Conv(channels, 3x3, stride = 2, bias = false) -> BatchNorm() -> act
}

model Both(classes: int) {
  in image: [B, 3, H, W]

  vit    = image -> ViT(48, taps = [2, 11])
  small  = [image -> Down(8) as a, a -> Down(16) as b, b -> Down(32) as c]
  fusion = small -> Fusion()
  fused  = fusion + [last(vit)] -> each ResizeTo(image) -> Concat() -> Conv(classes)
  out logits = fused
}

data.input_size = 56x70
model = Both(classes = len(data.classes))
"""


def test_the_harder_ones_with_the_blocks_that_they_leave_out(bench: Any) -> None:
    graph = bench.program(text("harder") + HARDER).graph
    state = graph.collect_state()
    assert state["vit.pos_embed"].shape == (1, 1 + 4 * 5, 48)
    assert state["vit.cls_token"].shape == (1, 1, 48)
    assert {k.split(".")[2] for k in state if k.startswith("vit.blocks.")} == {str(i) for i in range(12)}
    assert "vit.norm.weight" in state
    assert format_shape(graph.collect_shapes()[graph.names["vit.maps.1"]]) == "[B, 48, H/14, W/14]"
    down = {k.rpartition(".")[0] for k in state if k.startswith("fusion.fuse_layers.2.0.")}
    assert down == {f"fusion.fuse_layers.2.0.{i}.{j}" for i in (0, 1) for j in (0, 1)}
    assert not any(k.startswith("fusion.fuse_layers.1.1") for k in state)


def test_the_harder_ones_alone_lack_only_what_they_leave_out(bench: Any) -> None:
    errors = bench.errors(text("harder"))
    assert {d.slug for d in errors} == {"unknown-component"}
    assert {bench.said(d) for d in errors} == {"Block", "Project", "Down"}
