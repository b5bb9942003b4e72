"""The seven models as plain PyTorch: a file that knows nothing of segdsl, with the same keys, start and logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segdsl.cli.invoke import run
from segdsl.ir.graph import Graph
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.lower.emit import emit_torch
from segdsl.lower.graph import build
from segdsl.passes import dead_nodes, run_passes

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted(p.stem for p in (ROOT / "specs").glob("*.seg"))


def emitted(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(compile(text, "model.py", "exec"), scope)
    return scope


@pytest.mark.parametrize("passes", [True, False], ids=["as computed", "as written"])
@pytest.mark.parametrize("name", SPECS)
def test_the_same_seed_gives_the_same_weights_logits_and_training(name: str, passes: bool) -> None:
    program = load(ROOT / "specs" / f"{name}.seg", ["data.input_size=70x98"], classes=3)
    text = emit_torch(run_passes(program.graph) if passes else program.graph, f"{name}.seg")
    assert "import segdsl" not in text and "from segdsl" not in text
    torch.manual_seed(3)
    ours = compile_program(program, "none").model
    torch.manual_seed(3)
    theirs = emitted(text)[program.graph.name]()
    state = theirs.state_dict()
    assert set(state) == set(ours.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    images = torch.randn(2, 3, 70, 98)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=0 if passes else 1e-5)
    if passes:
        grads = []
        for model in (ours, theirs):
            torch.manual_seed(1)
            model.train()(images).square().mean().backward()
            grads.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        assert all(torch.equal(grad, grads[1][key]) for key, grad in grads[0].items())


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_model_is_written_as_it_is(drawn_model: Any, data: Any) -> None:
    graph: Graph = dead_nodes(drawn_model(data))  # noise that nothing needs is not written down
    name = data.draw(st.sampled_from(["Net", "Group", "KaimingConv2d", "F", "Tensor", "DropPath"]))
    source = data.draw(st.sampled_from(["net.seg", 'a"""b.seg', "C:\\users\\N.seg", "{name}.seg", "a\nb.seg"]))
    graph = graph.model_copy(update={"name": name})
    text = emit_torch(graph, source)
    made = next(line for line in text.splitlines() if "written by segdsl" in line).split(",")[0].strip('"')
    models = []
    for make in (lambda: build(graph, {}), emitted(text)[made]):
        torch.manual_seed(0)
        models.append(make())
    ours, theirs = (model.state_dict() for model in models)
    assert set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    images = torch.randn(2, 3, 6, 8)
    for training in (True, False):
        got = []
        for model in models:
            torch.manual_seed(1)
            given_back = model.train(training)(images)
            got.append(list(given_back.values()) if isinstance(given_back, dict) else [given_back])
        assert all(torch.equal(one, other) for one, other in zip(*got, strict=True))


RUNNER = """
import sys
sys.modules["segdsl"] = None  # importing it would fail
import torch
from model import PyramidSeg
model = PyramidSeg()
model.load_state_dict(torch.load("weights.pt"))
with torch.no_grad():
    torch.save(model.eval()(torch.load("images.pt")), "logits.pt")
"""


def test_the_written_file_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    spec = ROOT / "specs" / "examples" / "pyramid.seg"
    assert run(["compile", str(spec), "--emit", "torch", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    images = torch.randn(1, 3, 65, 97)
    torch.save(images, tmp_path / "images.pt")
    done = subprocess.run([sys.executable, "-c", RUNNER], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = compile_program(load(spec), str(tmp_path / "weights.safetensors")).model.eval()
    with torch.no_grad():
        assert torch.equal(model(images), torch.load(tmp_path / "logits.pt"))


def test_without_a_folder_it_is_printed(capsys: Any) -> None:
    spec = str(ROOT / "specs" / "quickstart.seg")
    assert run(["compile", spec, "--emit", "torch"]) == 0
    text = capsys.readouterr().out
    assert emitted(text)["LiteHRNetS"]
    assert run(["compile", spec, "--emit", "torch", "--weights", "some.pth"]) == 2
    assert "--out DIR" in capsys.readouterr().err
