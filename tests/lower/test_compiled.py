"""From a program record to a model with weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segdsl.diagnostics import SegError, Span
from segdsl.ir.program import Data, Eval, Export, Program, Source, Train
from segdsl.lower.compiled import compile_program
from segdsl.ops.act import Identity, ReLU
from segdsl.ops.conv import Conv
from segdsl.ops.resize import ResizeTo
from segdsl.weights.files import save_weights

TEXT = 'weights {\n  backbone = "w.safetensors"\n}\n'


@pytest.fixture
def program(sketch, tmp_path: Path) -> Program:
    """A model of two convolutions, with a binding that no output needs, written in a file of ``tmp_path``."""
    drawn = sketch((16, 16))
    drawn.add("backbone.conv", Conv(channels=4), "image")
    drawn.add("same", Identity(), "backbone.conv")
    drawn.add("unused", ReLU(), "same")
    drawn.add("head", Conv(channels=2), "same")
    drawn.add("logits", ResizeTo(), "head", "image")
    graph = drawn.graph("logits", names={"backbone": "backbone.conv", "spare": "unused", "logits": "logits"})
    file = str(tmp_path / "p.seg")
    return Program(
        name="p", graph=graph, data=Data(), train=Train(), eval=Eval(), export=Export(),
        sources={file: Source(text=TEXT, digest="")}, spans={"weights.backbone": Span(file, 12, 40)},
    )  # fmt: skip


def with_weights(program: Program, **weights: str) -> Program:
    return program.model_copy(update={"weights": weights})


def test_the_model_has_been_through_the_passes(program: Program) -> None:
    compiled = compile_program(program)
    assert compiled.program is program
    names = [node.name for node in compiled.model.graph.nodes]
    assert names == ["image", "backbone_conv", "head", "logits", "output"]
    assert compiled.model(torch.randn(2, 3, 16, 16)).shape == (2, 2, 16, 16)


def test_outputs_keep_what_only_they_need(program: Program) -> None:
    model = compile_program(program, outputs=("spare", "logits", "same")).model
    got = model(torch.randn(2, 3, 16, 16))
    assert list(got) == ["spare", "logits", "same"] and got["spare"].min() >= 0


def test_an_unknown_output_is_refused(program: Program) -> None:
    with pytest.raises(SegError, match="unknown-output"):
        compile_program(program, outputs=("spar",))


def test_a_whole_file_by_argument(program: Program, tmp_path: Path) -> None:
    save_weights(compile_program(program).model, tmp_path / "all.safetensors", {})
    model = compile_program(with_weights(program, backbone="otx:x"), weights=str(tmp_path / "all.safetensors")).model
    again = compile_program(program, weights=str(tmp_path / "all.safetensors")).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_part_from_the_program_is_relative_to_the_program(program: Program, tmp_path: Path) -> None:
    model = compile_program(program).model
    save_weights(model.get_submodule("backbone"), tmp_path / "w.safetensors", {})
    got = compile_program(with_weights(program, backbone="w.safetensors")).model
    assert torch.equal(got.get_parameter("backbone.conv.weight"), model.get_parameter("backbone.conv.weight"))
    assert not torch.equal(got.get_parameter("head.weight"), model.get_parameter("head.weight"))


@pytest.mark.parametrize("source", ["otx:lite_hrnet", "hf://a/b", "https://x.org", "timm:x", "", "s3://a/b.pth"])
def test_a_source_that_is_none_is_refused_where_it_is_written(program: Program, source: str) -> None:
    wanted = with_weights(program, backbone=source)
    with pytest.raises(SegError) as caught:
        compile_program(wanted)
    (found,) = caught.value.diagnostics
    assert found.slug == "weights-source" and found.span == program.spans["weights.backbone"]
    assert found.help and caught.value.sources
    assert compile_program(wanted, weights="none").model
    assert compile_program(with_weights(program, backbone="none")).model


def test_the_whole_comes_before_its_parts(program: Program, tmp_path: Path) -> None:
    """What is said of a part wins, in whatever order it is written."""
    one, two = compile_program(program).model, compile_program(program).model
    save_weights(one, tmp_path / "one.safetensors")
    save_weights(two, tmp_path / "two.safetensors")
    sources = {"backbone": str(tmp_path / "one.safetensors"), "model": str(tmp_path / "two.safetensors")}
    for names in (list(sources), list(reversed(sources))):
        got = compile_program(with_weights(program, **{name: sources[name] for name in names})).model
        assert torch.equal(got.get_parameter("backbone.conv.weight"), one.get_parameter("backbone.conv.weight"))
        assert torch.equal(got.get_parameter("head.weight"), two.get_parameter("head.weight"))


def test_a_file_that_does_not_fit_is_told_where_it_is_named(program: Program, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(SegError) as caught:
        compile_program(with_weights(program, backbone="w.safetensors"))
    first = caught.value.diagnostics[0]
    assert first.span == program.spans["weights.backbone"] and "w.safetensors" in first.message
    assert {d.slug for d in caught.value.diagnostics} == {"weights-do-not-fit"}
