"""Sections merge, values replace, `drop` removes; paths reach into arguments; `--set` is the same statement."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.ir.values import Quantity, Size

NET = """
model Net(classes: int, width: int = 8, act: module = ReLU()) {
  in image: [B, 3, H, W]

  backbone = image -> Conv(width) -> act
  head     = backbone -> Conv(classes)
  out logits = head
}
"""
PARENT = f"""seg 1

extends "std/semantic.seg"

let side = 64

data {{
  input_size = 64x64

  train {{
    batch = 4

    augment {{
      drop photo
      turn = Rotate(range = -10 deg..10 deg, p = 0.25)
    }}
  }}
}}
{NET}
model = Net(classes = len(data.classes), width = side)

train {{
  optimizer = SGD(lr = 0.5, momentum = 0.8)
  stop      = none
}}
"""


@pytest.fixture
def child(bench: Any) -> Any:
    bench.write(PARENT, "parent.seg")

    def load(text: str, *overrides: str) -> Any:
        return bench.program(f'seg 1\n\nextends "parent.seg"\n\n{text}\n', *overrides)

    return load


@pytest.fixture
def child_errors(bench: Any) -> Any:
    bench.write(PARENT, "parent.seg")
    return lambda text, *overrides: bench.errors(f'seg 1\n\nextends "parent.seg"\n\n{text}\n', *overrides)


def test_a_child_that_changes_nothing_is_its_parent(child: Any, bench: Any) -> None:
    program = child("")
    parent = bench.program(PARENT)
    assert (program.data, program.train, program.eval, program.export) == (
        parent.data, parent.train, parent.eval, parent.export,
    )  # fmt: skip
    assert program.graph.collect_state() == parent.graph.collect_state()


def test_sections_merge_and_values_replace(child: Any) -> None:
    program = child("data {\n  train.workers = 0\n}\n\ndata.train {\n  batch = 2\n}")
    assert (program.data.train.workers, program.data.train.batch) == (0, 2)
    assert program.data.input_size == Size(64, 64)
    assert program.data.val.batch == 8


def test_augmentations_keep_their_order(child: Any) -> None:
    assert list(child("").data.train.augment) == ["crop", "flip", "turn"]
    program = child("data.train.augment {\n  noise = VerticalFlip()\n  crop = RandomCrop()\n}")
    assert list(program.data.train.augment) == ["crop", "flip", "turn", "noise"]
    assert type(program.data.train.augment["crop"]).__name__ == "RandomCrop"
    program = child("drop data.train.augment.crop\n")
    assert list(program.data.train.augment) == ["flip", "turn"]
    assert child("drop data.train.augment").data.train.augment == {}


def test_a_step_that_is_dropped_and_set_again_goes_last(child: Any) -> None:
    program = child("drop data.train.augment.crop", "data.train.augment.crop = RandomCrop()")
    assert list(program.data.train.augment) == ["flip", "turn", "crop"]


def test_paths_reach_into_arguments(child: Any) -> None:
    optimizer = child("train.optimizer.lr = 0.25").train.optimizer
    assert (optimizer.lr, optimizer.momentum) == (0.25, 0.8)
    turn = child("data.train.augment.turn.p = 1.0").data.train.augment["turn"]
    assert (turn.p, turn.range.low) == (1.0, -10.0)
    assert child("model.width = 3").graph.collect_state()["backbone.0.weight"].shape[0] == 3
    assert "act.weight" in child("model.act = LayerNorm()").graph.collect_state()


def test_replacing_a_component_discards_changes(child: Any) -> None:
    program = child("train.optimizer = AdamW()", "train.optimizer.lr = 0.125")
    assert program.train.optimizer.lr == 0.125
    program = child("train.optimizer.lr = 0.25", "train.optimizer = AdamW()")
    assert program.train.optimizer.lr == 1e-3


def test_dropping_an_argument_brings_its_default_back(child: Any) -> None:
    assert child("drop train.optimizer.momentum").train.optimizer.momentum == 0.9
    assert child("drop train.optimizer").train.optimizer is None
    assert child("train.optimizer.lr = 0.25", "drop train.optimizer.lr").train.optimizer.lr == 1e-2
    assert child("drop model.width").graph.collect_state()["backbone.0.weight"].shape[0] == 8


def test_a_changed_argument_is_read_where_it_is_written(child: Any) -> None:
    program = child("let side = 5\nmodel.width = side")
    assert program.graph.collect_state()["backbone.0.weight"].shape[0] == 5
    assert child("").graph.collect_state()["backbone.0.weight"].shape[0] == 64


def test_lets_are_local_to_their_file(child_errors: Any) -> None:
    assert [d.slug for d in child_errors("data.train.batch = side")] == ["unknown-name"]


def test_three_generations(bench: Any) -> None:
    bench.write(PARENT, "parent.seg")
    bench.write('seg 1\n\nextends "parent.seg"\n\ntrain.optimizer.lr = 0.25\ntrain.epochs = 7\n', "middle.seg")
    program = bench.program('seg 1\n\nextends "middle.seg"\n\ntrain.optimizer.momentum = 0.5\ntrain.epochs = 9\n')
    assert (program.train.optimizer.lr, program.train.optimizer.momentum, program.train.epochs) == (0.25, 0.5, 9)


def test_overrides_are_statements(child: Any) -> None:
    program = child(
        "",
        "data.input_size=32x48", "train.schedule = Warmup(3 epochs) -> Cosine()", "drop train.loss",
        'data.classes=["a", "b", "c"]', "train.stop = EarlyStopping(patience = 2 epochs)", "model.width=2*8",
    )  # fmt: skip
    assert program.data.input_size == Size(32, 48)
    assert program.train.schedule[0].over == Quantity(3, "epochs")
    assert program.train.loss is None
    assert program.classes == ("a", "b", "c")
    assert program.graph.collect_state()["head.weight"].shape == (3, 16, 1, 1)
    assert program.train.stop.patience == Quantity(2, "epochs")


def test_the_last_of_equal_overrides_counts(child: Any) -> None:
    assert child("", "train.epochs=3", "train.epochs=4").train.epochs == 4


@pytest.mark.parametrize(
    ("override", "slug", "said"),
    [
        ("train.epoch=3", "unknown-key", "epoch"),
        ("trian.epochs=3", "unknown-section", "trian"),
        ("train.epochs=0", "out-of-bounds", "0"),
        ("train.optimizer.weigth_decay=0.1", "unknown-argument", "weigth_decay"),
        ("model.widht=3", "unknown-argument", "widht"),
        ('model.width="a"', "wrong-type", '"a"'),
        ("eval.scale=larg", "unknown-member", "larg"),
        ("train.epochs=unheard", "unknown-name", "unheard"),
        ("drop train.stopp", "unknown-key", "stopp"),
        ("train.schedule=Warmup(100)", "unit-missing", "100"),
        ("train.schedule.power=2.0", "nothing-to-change", "power"),
        ("data.root.name=3", "unknown-key", "name"),
        ("train.stop.patience=3 epochs", "nothing-to-change", "patience"),
        ("train=3", "section-as-value", "train"),
    ],
)
def test_errors_point_into_the_option(bench: Any, child_errors: Any, override: str, slug: str, said: str) -> None:
    errors = child_errors("", override)
    assert [d.slug for d in errors] == [slug]
    assert errors[0].span is not None
    assert errors[0].span.file == "--set"
    assert bench.said(errors[0], override) == said


def test_several_options_are_numbered(child_errors: Any) -> None:
    (error,) = child_errors("", "train.epochs=3", "train.epoch=3")
    assert error.span.file == "--set[2]"


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("train.epochs = 3\ntrain.epochs = 4", "rebinding"),
        ("train {\n  epochs = 3\n}\n\ntrain.epochs = 4", "rebinding"),
        ("train.optimizer.lr = 3.0\ntrain.optimizer.lr = 4.0", "rebinding"),
        ("drop train.freeze", "drop-nothing"),
        ("train.stop {\n  patience = 3 epochs\n}", "not-a-section"),
        ("train.optimizer {\n  lr = 0.1\n}", "not-a-section"),
        ("data.train.augment = RandomCrop()", "section-as-value"),
        ("weights = 3", "section-as-value"),
        ("sweep {\n  lr = 3\n}", "reserved-feature"),
        ("model = ReLU()", "wrong-component"),
        ("model = Nett()", "unknown-component"),
        ("model = 3", "wrong-component"),
        ("train.optimizer.lr.x = 3", "unknown-key"),
        ("train {\n  let a = 3\n  epochs = a\n}", "statement-in-section"),
    ],
)
def test_statements_that_are_refused(child_errors: Any, text: str, slug: str) -> None:
    assert [d.slug for d in child_errors(text)] == [slug]


def test_a_component_that_stands_in_the_wrong_place_stays_wrong_when_it_is_changed(child_errors: Any) -> None:
    assert [d.slug for d in child_errors("train.optimizer = Poly()\ntrain.optimizer.power = 2.0")] == [
        "wrong-component"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "train.optimizer.lr = 3.0\ntrain.optimizer = AdamW()",
        "train.epochs = 3\ndrop train.epochs",
        "train.optimizer.lr = 3.0\ndrop train.optimizer",
        "model.width = 3\nmodel = Net(classes = 2)",
    ],
)
def test_what_a_later_line_makes_void_is_a_warning(child: Any, text: str) -> None:
    assert [d.slug for d in child(text).warnings] == ["discarded-change"]


def test_weights_are_paths_of_the_graph(child: Any, child_errors: Any) -> None:
    program = child('weights {\n  backbone = "a.pth"\n}\nweights.head = "b.pth"\n')
    assert program.weights == {"backbone": "a.pth", "head": "b.pth"}
    assert [d.slug for d in child_errors('weights.neck = "a.pth"')] == ["unknown-graph-path"]
    assert [d.slug for d in child_errors("weights.head = 3")] == ["wrong-type"]


def test_class_names(child: Any, child_errors: Any) -> None:
    assert child("").assumed_classes
    program = child('data.classes = ["road", "car", "sky"]')
    assert (program.classes, program.assumed_classes) == (("road", "car", "sky"), False)
    assert program.graph.collect_shapes()[program.graph.outputs["logits"]][1] == 3
    assert [d.slug for d in child_errors('data.classes = ["road", "road"]')] == ["class-twice"]
    assert [d.slug for d in child_errors('data.classes = ["road", " "]')] == ["class-unnamed"]
    assert [d.slug for d in child_errors("data.classes = []")] == ["too-few-classes"]
    assert [d.slug for d in child_errors('data.classes = ["a", "b"]\nmodel.classes = 3')] == ["class-count-mismatch"]
    assert [d.slug for d in child("model.classes = 3").warnings] == ["class-count-mismatch"]


def test_paths_resolve_after_merging(child: Any, child_errors: Any) -> None:
    program = child("data.ignore = 7\ndata.val.batch = 2 * data.train.batch\ntrain.epochs = data.val.batch")
    assert program.train.loss.ignore == 7
    assert program.train.epochs == 8
    (error,) = child_errors("train.epochs = data.val.batch\ndata.val.batch = train.epochs")
    assert error.slug == "value-cycle"
