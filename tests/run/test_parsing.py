"""How often a run parses its files: a program in memory does not go back to text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from segdsl.lang.elaborate import files
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.train import train_file
from segdsl.weights.files import read_weights

SOURCES = ("tiny.seg", "net.seg", "std/fcn.seg", "std/blocks.seg")


@pytest.fixture
def parses(project: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each file is parsed. The program imports its model and a file of the library."""
    program = project / "tiny.seg"
    model, _, settings = program.read_text(encoding="utf-8").partition("data {")
    (project / "net.seg").write_text(model, encoding="utf-8")
    imports = 'seg 1\n\nimport "net.seg"\nimport "std/fcn.seg" as fcn\n\n'
    program.write_text(f"{imports}data {{{settings}", encoding="utf-8")
    found: Counter[str] = Counter()
    parse = files.parse

    def count(text: str, name: str) -> object:
        found[name] += 1
        return parse(text, name)

    monkeypatch.setattr(files, "parse", count)
    return found


def test_train_parses_each_file_once(parses: Counter[str]) -> None:
    """Also for the classes of the data set, the program of the run folder, and the report with the best weights."""
    result = train_file("tiny.seg", ["train.epochs=1"], out="left", quiet=True)
    assert (result.run / "report.html").is_file()
    assert parses == dict.fromkeys(SOURCES, 1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("left", ["left/program.seg"]),
        ("tiny.seg", [*SOURCES, "left/program.seg"]),
    ],
)
def test_resume_parses_each_file_once(parses: Counter[str], path: str, expected: list[str]) -> None:
    train_file("tiny.seg", ["train.epochs=1"], out="left", quiet=True)
    written = Path("left/program.seg").read_text(encoding="utf-8")
    parses.clear()
    assert train_file(path, ["train.epochs=1"], out="left", quiet=True, resume=True).epochs == 1
    assert parses == dict.fromkeys(expected, 1)
    # The text that is rendered for a resumed run is the one that is there.
    assert Path("left/program.seg").read_text(encoding="utf-8") == written


def test_opening_a_run_draws_no_random_numbers(project: Path) -> None:
    run = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    before = torch.get_rng_state()
    opened = open_run(run)
    assert torch.equal(torch.get_rng_state(), before)
    saved, _ = read_weights(opened.weights)
    state = opened.model.state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], tensor) for key, tensor in state.items())
