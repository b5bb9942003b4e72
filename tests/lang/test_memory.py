"""Programs in memory: text without a file, settings as values, one parse for several elaborations."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdsl.diagnostics import SegError
from segdsl.ir.values import Size
from segdsl.lang.program import check_file, elaborate_program, load, load_text, parse_program
from segdsl.lang.resolve import move_program
from segdsl.lang.settings.overrides import Override

TEXT = """seg 1

import "net.seg"

let last = len(data.classes)

data { classes = ["a", "b"] }
model = Net(classes = last)
"""
NET = """seg 1

model Net(classes: int) {
  in image: [B, 3, H, W]

  head = image -> Conv(classes)
  out logits = head
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.seg").write_text(NET, encoding="utf-8")
    return tmp_path


def test_text_is_loaded_as_if_it_were_at_its_path(folder: Path) -> None:
    path = folder / "main.seg"
    program = load_text(TEXT, path)
    assert program.name == "main" and next(iter(program.sources)) == str(path)
    assert not path.exists()
    path.write_text(TEXT, encoding="utf-8")
    assert load(path) == program
    with pytest.raises(SegError) as caught:
        check_file(path, text=TEXT.replace("= Net", "= Nett"))
    (found,) = caught.value.diagnostics
    assert found.span is not None and found.span.file == str(path)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (("data.classes", ("a", 'a "quoted" one', "c")), r'data.classes=["a", "a \"quoted\" one", "c"]'),
        (("data.input_size", Size(32, 64)), "data.input_size=32x64"),
        (("data.root", "a\\b"), r'data.root="a\\b"'),
        (("eval.flip", True), "eval.flip=true"),
        (("eval.overlap", 0.5), "eval.overlap=0.5"),
        (("train.epochs", 3), "train.epochs=3"),
        (("train.clip", None), "train.clip=none"),
    ],
)
def test_a_value_sets_what_its_text_sets(folder: Path, override: Override, text: str) -> None:
    by_value, by_text = (load_text(TEXT, folder / "main.seg", [one]) for one in (override, text))
    assert by_value.resolved == by_text.resolved != load_text(TEXT, folder / "main.seg").resolved or override[1] is None


def test_an_error_in_a_value_has_a_place(folder: Path) -> None:
    with pytest.raises(SegError) as caught:
        load_text(TEXT, folder / "main.seg", ["train.epochs=3", ("data.classes", ("a", "b", "a"))])
    (found,) = caught.value.diagnostics
    assert found.slug == "class-twice" and found.span is not None
    source = caught.value.sources[found.span.file]
    assert source[found.span.start : found.span.end] == '"a"' and found.span.start > source.index("b")


def test_an_elaboration_does_not_affect_the_next(folder: Path) -> None:
    """A `let` that counts the classes is evaluated again, and an error is not remembered."""
    parsed = parse_program(folder / "main.seg", TEXT)
    expected = elaborate_program(parsed)
    three: Override = ("data.classes", ("a", "b", "c"))
    assert len(elaborate_program(parsed, [three]).classes) == 3
    assert elaborate_program(parsed, [three]).graph.nodes[-1].shape[1] == 3
    with pytest.raises(SegError):
        elaborate_program(parsed, ["data.clases=none"])
    assert elaborate_program(parsed) == expected
    assert expected.graph.nodes[-1].shape[1] == 2


def test_a_moved_program_is_the_one_that_its_text_gives(folder: Path) -> None:
    program = load_text(TEXT, folder / "main.seg", [("weights.model", "old.safetensors"), ("data.root", "set")])
    moved = move_program(program, folder / "run" / "program.seg", {"root": "../set"}, {"model": "../w.safetensors"})
    again = load_text(moved.resolved, folder / "run" / "program.seg")
    assert (again.name, again.data, again.weights, again.resolved) == (
        moved.name, moved.data, moved.weights, moved.resolved,
    )  # fmt: skip
    assert moved.spans["weights.model"].file == again.spans["weights.model"].file
    assert program.data.root == "set" and program.weights == {"model": "old.safetensors"}
