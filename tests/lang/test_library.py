"""The library: every block has documentation, all files can be combined, and its errors show where it is used."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.lang.elaborate.files import STD
from segdsl.syntax.parser import parse
from segdsl.syntax.tree import Block

FILES = sorted(STD.glob("*.seg"))
MODELS = ("lite_hrnet", "segnext", "dinov2", "fcn")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_block_has_a_line_of_documentation(path: Any) -> None:
    file = parse(path.read_text(encoding="utf-8"), path.name).file
    assert file.doc
    assert [block.name.name for block in file.body if isinstance(block, Block) and not block.doc] == []


def test_the_models_are_short() -> None:
    assert sum(len((STD / f"{name}.seg").read_text(encoding="utf-8").splitlines()) for name in MODELS) < 500


def test_all_files_can_be_imported_together(bench: Any) -> None:
    imports = "".join(f'import "std/{path.name}"\n' for path in FILES if path.stem != "semantic")
    program, warnings = bench.check(
        f'seg 1\n\nextends "std/semantic.seg"\n{imports}\nmodel = SegNeXtT(classes = len(data.classes))\n'
    )
    assert program is not None and warnings == ()


HEAD = """seg 1

extends "std/semantic.seg"
import "std/segnext.seg"
"""
MODEL = """
model Net(classes: int) {{
  in image: [B, 3, H, W]

{body}
  out logits = image -> Conv(classes) as last
}}
"""
BUILT = "\nmodel = Net(classes = len(data.classes))\n"


def lines(bench: Any, errors: Any, text: str) -> list[str]:
    return [text[error.span.start : error.span.end] for error in errors]


def test_each_faulty_use_is_reported(bench: Any) -> None:
    body = "  a = image -> ConvGroupNorm(33)\n  b = image -> ConvGroupNorm(40)\n"
    body += "  c = [image -> ConvGroupNorm(50) for i in range(3)]"
    text = HEAD + MODEL.format(body=body) + BUILT
    errors = bench.errors(text)
    assert lines(bench, errors, text) == ["ConvGroupNorm(33)", "ConvGroupNorm(40)", "ConvGroupNorm(50)"]


def test_a_module_is_at_fault_where_it_is_made(bench: Any) -> None:
    text = HEAD + MODEL.format(body="  m = ConvGroupNorm(33)\n  a = image -> m") + BUILT
    assert lines(bench, bench.errors(text), text) == ["ConvGroupNorm(33)"]


def test_the_caller_of_the_authors_own_block_is_reported_too(bench: Any) -> None:
    block = "\nblock Mine(n: int) {\n  in x: [B, C, H, W]\n\n  norm = x -> ConvGroupNorm(n)\n  out y = norm\n}\n"
    text = HEAD + block + MODEL.format(body="  a = image -> Mine(33)") + BUILT
    (error,) = bench.errors(text)
    assert text[error.span.start : error.span.end] == "ConvGroupNorm(n)"
    assert "Mine(33)" in [text[label.span.start : label.span.end] for label in error.labels]


def test_an_output_of_the_wrong_size_is_reported_in_the_program(bench: Any) -> None:
    text = HEAD + MODEL.format(body="").replace("Conv(classes) as last", "StemConv(classes) as last") + BUILT
    (error,) = bench.errors(text)
    assert (error.slug, text[error.span.start : error.span.end]) == ("output-size", "StemConv(classes)")


def test_a_size_that_cannot_be_read_has_no_consequences(bench: Any) -> None:
    text = 'seg 1\n\nextends "std/semantic.seg"\nimport "std/dinov2.seg"\n\ndata.input_size = 364\n'
    errors = bench.errors(text + "model = DinoV2Seg(classes = len(data.classes))\n")
    assert [error.slug for error in errors] == ["wrong-type"]


def test_sizes_that_never_meet_are_not_blamed_on_the_input(bench: Any) -> None:
    body = "  l = [p -> Conv(8, 3x3, stride = 2) for i in range(4) from p = image]\n  j = [l[3], l[2]] -> Concat()"
    text = HEAD + MODEL.format(body=body) + "\ndata.input_size = 512x512\n" + BUILT
    (error,) = bench.errors(text)
    assert error.slug == "size-mismatch" and text[error.span.start : error.span.end] == "Concat()"
    assert "`ResizeTo`" in error.help and "data.input_size" not in error.help


def test_one_override_may_be_given_as_a_text(bench: Any) -> None:
    from segdsl.lang.program import load

    path = bench.write(HEAD + "model = SegNeXtT(classes = len(data.classes))\n", "one.seg")
    assert load(path, "train.epochs=3").train.epochs == 3


def test_none_unsets_weights(bench: Any) -> None:
    text = HEAD + 'model = SegNeXtT(classes = len(data.classes))\nweights.backbone = "a.pth"\n'
    assert bench.program(text).weights == {"backbone": "a.pth"}
    assert bench.program(text.replace('"a.pth"', "none")).weights == {}
