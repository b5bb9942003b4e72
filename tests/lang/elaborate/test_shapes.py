"""Shapes are symbolic in B, H, W; `H/4` rounds up; notes are assertions; errors name both shapes and places."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.ir.shape import evaluate_shape


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = x -> Conv(8, 3x3)", "[B, 8, H/2, W/2]"),
        ("y = x -> Conv(8, 3x3, stride = 2)", "[B, 8, H/4, W/4]"),
        ("y = x -> Conv(48, 3x3, stride = 2) as a -> Conv(48, 3x3, stride = 2) -> ReLU()", "[B, 48, H/8, W/8]"),
        ("y = x -> Conv(8, 3x3, padding = 0)", "[B, 8, H/2 - 2, W/2 - 2]"),
        ("y = x -> AdaptiveAvgPool(1x1)", "[B, 48, 1, 1]"),
        ("y = x -> ResizeTo(image)", "[B, 48, H, W]"),
        ("y = [x, x] -> Concat()", "[B, 96, H/2, W/2]"),
        ("y = x -> Tokens()", "[B, H/2*W/2, 48]"),
        ("y = x + 1", "[B, 48, H/2, W/2]"),
        ("y = -x", "[B, 48, H/2, W/2]"),
        ("y = sum([x, x, x]) / 3", "[B, 48, H/2, W/2]"),
        ("y = x * (x -> AdaptiveAvgPool(1x1))", "[B, 48, H/2, W/2]"),
        ("y = last(x -> Split([16, 32]))", "[B, 32, H/2, W/2]"),
    ],
)
def test_shapes_are_symbolic(bench: Any, body: str, shape: str) -> None:
    assert bench.shape(body) == shape


@pytest.mark.parametrize("size", ["64x64", "65x67", "63x1", "1x1", "127x130"])
def test_h_over_4_is_the_ceiling_at_every_size(bench: Any, size: str) -> None:
    body = """
    x -> Conv(48, 3x3, stride = 2) as y: [B, 48, H/4, W/4]
    big = y -> ResizeTo(x)
    z = x + big
    """
    graph = bench.model(body, size=size).graph
    height, width = map(int, size.split("x"))
    assert evaluate_shape(graph.collect_shapes()["y"], graph.env) == (1, 48, -(-height // 4), -(-width // 4))
    assert str(graph.collect_shapes()["y"][2]) == "H/4"


def test_odd_sizes_meet_only_where_they_are_equal(bench: Any) -> None:
    body = "small = x -> Conv(48, 3x3, padding = 0, stride = 2)\nlow = x -> Conv(48, 3x3, stride = 2)\ny = small + low"
    errors = bench.model_errors(body, size="64x64")
    assert [d.slug for d in errors] == ["size-mismatch"]
    assert "15x15 at 64x64" in errors[0].message
    assert "16x16 at 64x64" in errors[0].message
    assert bench.said(errors[0]) == "+"
    assert [bench.said(d).split("(")[0] for d in (type("L", (), {"span": s})() for s, _ in errors[0].labels)] == [
        "Conv", "Conv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "nearest"), [("512x512", "504x504 or 518x518"), ("518x500", "518x490 or 518x504"), ("7x7", "14x14")]
)
def test_patches_name_the_sizes_that_fit(bench: Any, size: str, nearest: str) -> None:
    (error,) = bench.model_errors("y = image -> Conv(8, 14x14, stride = 14, padding = 0)", size=size)
    assert error.slug == "size-not-divisible"
    assert nearest in error.help
    assert bench.said(error) == "data.input_size"
    assert bench.model_errors("y = image -> Conv(8, 14x14, stride = 14, padding = 0)", size="518x28") == []


def test_the_names_of_an_input_note_are_values(bench: Any) -> None:
    block = """
    block Half() {
      in x: [B, C, H, W]

      let same = H == W and C == 48
      out y = x -> Conv(if same then C // 2 else 1)
    }
    """
    assert bench.shape("y = x -> Half()", blocks=block) == "[B, 24, H/2, W/2]"
    assert bench.shape("y = x -> Half()", blocks=block, size="64x32") == "[B, 1, H/2, W/2]"


@pytest.mark.parametrize(
    "note",
    ["[B, 48, H/2, W/2]", "[B, 48, 32, 32]", "[B, 3*16, H - 32, W/2]", "[B, x.channels, H/2, image.width/2]"],
)
def test_notes_that_are_true(bench: Any, note: str) -> None:
    assert bench.model_errors(f"x -> ReLU() as y: {note}") == []


@pytest.mark.parametrize(
    ("note", "slug", "said"),
    [
        ("[B, 48, H/4, W/2]", "shape-note-false", "H/4"),
        ("[B, 49, H/2, W/2]", "shape-note-false", "49"),
        ("[1, 48, H/2, W/2]", "shape-note-false", "1"),
        ("[B, 48, H/2]", "shape-note-false", "[B, 48, H/2]"),
        ("list", "shape-note-false", "list"),
        ("[B, D, H/2, W/2]", "unknown-name", "D"),
        ("[B, 48, H/0, W/2]", "wrong-type", "0"),
        ("[B, 48.0, H/2, W/2]", "wrong-type", "48.0"),
    ],
)
def test_notes_that_are_false(bench: Any, note: str, slug: str, said: str) -> None:
    errors = bench.model_errors(f"x -> ReLU() as y: {note}")
    assert [d.slug for d in errors] == [slug]
    assert bench.said(errors[0]) == said


def test_a_false_input_note_points_at_what_flows_in(bench: Any) -> None:
    block = "block Of(c: int) {\n  in x: [B, c, H, W]\n\n  out y = x -> ReLU()\n}\n"
    (error,) = bench.model_errors("y = x -> Of(12)", block)
    assert error.slug == "shape-note-false"
    assert bench.said(error) == "Of(12)"
    assert "12 instead of 48" in error.message


def test_lists_and_tensors_as_inputs(bench: Any) -> None:
    block = "block L() {\n  in xs: list\n\n  out y = xs[0]\n}\n\nblock T() {\n  in x: [B, C, H, W]\n\n  out y = x\n}\n"
    assert [d.slug for d in bench.model_errors("y = x -> L()", block)] == ["not-a-list"]
    assert [d.slug for d in bench.model_errors("y = [x] -> T()", block)] == ["not-a-tensor"]
    assert bench.model_errors("y = [x] -> L() -> T()", block) == []


def test_further_inputs_are_given_by_name(bench: Any) -> None:
    block = """
    block Attend() {
      in x: [B, C, H, W]
      in gate: [B, C, h, w]

      out y = x * (gate -> ResizeTo(x))
    }
    """
    assert bench.shape("g = x -> AdaptiveAvgPool(4x4)\ny = x -> Attend(gate = g)", blocks=block) == "[B, 48, H/2, W/2]"
    (error,) = bench.model_errors("y = x -> Attend()", block)
    assert error.slug == "missing-argument" and "`Attend(gate = …)`" in error.help


def test_parameters_spread_over_channels_and_tokens(bench: Any) -> None:
    body = """
    param gamma: [48] = 1e-2
    param scalar: [] = Full(2.0)
    param pos: [1, 1 + H/2 * W/2, 48] = TruncNormal(std = 0.02)
    param cls: [1, 1, 48] = 0.0

    z = gamma * x + scalar
    y = (z -> Tokens(first = cls)) + pos
    """
    graph = bench.model(body).graph
    assert {k: s.shape for k, s in graph.collect_state().items() if k in ("gamma", "scalar", "pos", "cls")} == {
        "gamma": (48,), "scalar": (), "pos": (1, 1 + 32 * 32, 48), "cls": (1, 1, 48),
    }  # fmt: skip
    assert bench.shape(body) == "[B, 1 + H/2*W/2, 48]"


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ("param p: [B] = 0.0\ny = x", "parameter-shape"),
        ("param p: [0] = 0.0\ny = x", "parameter-shape"),
        ("param p: [-1] = 0.0\ny = x", "parameter-shape"),
        ("param p: [48] = true\ny = x", "wrong-type"),
        ("param p: [48] = AdamW()\ny = x", "wrong-component"),
        ("param p: [47] = 0.0\ny = p * x", "channel-mismatch"),
        ("param x: [48] = 0.0", "rebinding"),
    ],
)
def test_parameters_that_are_refused(bench: Any, body: str, slug: str) -> None:
    assert [d.slug for d in bench.model_errors(body)] == [slug]


def test_outputs_are_held_against_classes_and_size(bench: Any) -> None:
    text = bench.model_text("y = x -> Conv(classes)").replace("out logits = last", "out logits = y")
    (error,) = bench.errors(text)
    assert error.slug == "output-size" and "`-> ResizeTo(image)`" in error.help
    text = bench.model_text("y = image -> Tokens()").replace("out logits = last", "out logits = y")
    assert [d.slug for d in bench.errors(text)] == ["wrong-rank"]
    text = bench.model_text("y = [image]").replace("out logits = last", "out logits = y")
    assert [d.slug for d in bench.errors(text)] == ["not-a-tensor"]


def test_properties(bench: Any) -> None:
    body = """
    let c = x.channels
    t = x -> Tokens()
    u = t -> Linear(t.length // t.length + c + len(x.shape) + x.shape[1])
    y = u -> Tokens2()
    """
    block = "block Tokens2() {\n  in t: [B, N, D]\n\n  out y = t -> Linear(D)\n}\n"
    assert bench.shape(body.replace("t.length // t.length", "1"), blocks=block) == "[B, H/2*W/2, 101]"
    (error,) = bench.model_errors("t = x -> Tokens()\nlet h = t.height")
    assert error.slug == "no-such-property"
    assert "`channels`, `length`, `shape`" in error.help
