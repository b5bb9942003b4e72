"""The manual is correct: its programs check, and its errors and paths are those of the compiler."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import pytest

from segdsl.cli.group import root_group
from segdsl.diagnostics import Diagnostic, SegError
from segdsl.diagnostics.render import Renderer
from segdsl.editor import reference
from segdsl.lang.program import check_file, load
from segdsl.syntax.parser import parse
from segdsl.syntax.printer.format import format_text

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = ROOT / "grammar"
MANUAL = (GRAMMAR / "LANGUAGE.md").read_text(encoding="utf-8")
HEADER = "seg 1\n"


@dataclass(frozen=True)
class Example:
    """A `seg` block of the manual, with the file name above it and the expected results below it."""

    name: str
    text: str
    paths: str
    error: str
    line: int

    @property
    def file(self) -> str:
        return self.name or "main.seg"


BLOCK = re.compile(r"(?:^`(?P<name>\w+\.seg)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def examples() -> list[Example]:
    blocks = list(BLOCK.finditer(MANUAL))
    found = []
    for block, below in zip(blocks, [*blocks[1:], None], strict=True):
        if block["kind"] != "seg":
            continue
        paths = below["text"] if below and below["kind"] == "paths" else ""
        between = MANUAL[block.end() : below.start()] if below else "-"
        error = below["text"] if below and below["kind"] == "" and not between.strip() else ""
        found.append(
            Example(block["name"] or "", block["text"], paths, error, MANUAL.count("\n", 0, block.start()) + 1)
        )
    return found


EXAMPLES = examples()
WHOLE = [e for e in EXAMPLES if e.text.startswith(HEADER)]


def by_line(example: Example) -> str:
    return f"line{example.line}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that contains the named examples."""
    folder = tmp_path_factory.mktemp("manual")
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    for example in EXAMPLES:
        if example.name:
            (folder / example.name).write_text(example.text, encoding="utf-8")
    return folder


def shown(found: tuple[Diagnostic, ...], sources: dict[str, str]) -> str:
    return Renderer(sources, False, 120).render_all(found).rstrip("\n") + "\n"


def test_the_manual_has_examples_of_all_kinds() -> None:
    assert len(WHOLE) >= 12
    assert sum(bool(e.error) for e in EXAMPLES) >= 4
    assert sum(bool(e.paths) for e in EXAMPLES) >= 2


@pytest.mark.parametrize("example", EXAMPLES, ids=by_line)
def test_an_example_parses_and_is_laid_out(example: Example) -> None:
    text = example.text if example in WHOLE else f"{HEADER}\n{example.text}"
    assert parse(text, "main.seg").diagnostics == ()
    assert format_text(text) == text


@pytest.mark.parametrize("example", WHOLE, ids=by_line)
def test_an_example_checks(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = example.text
    models = re.findall(r"^model (\w+)\(", text, re.MULTILINE)
    if models and not re.search(r"^model =", text, re.MULTILINE):
        text += f"\nmodel = {models[-1]}(classes = 2)\n"
    Path(example.file).write_text(text, encoding="utf-8")
    if example.error:
        with pytest.raises(SegError) as raised:
            check_file(example.file)
        assert shown(raised.value.diagnostics, raised.value.sources) == example.error
        return
    program, warnings, _ = check_file(example.file)
    assert warnings == ()
    if models or "extends" in text:
        assert program is not None
    if example.paths:
        assert program is not None
        found = list(dict.fromkeys(n.module for n in program.graph.nodes if n.module))
        assert sorted(found) == sorted(example.paths.split())


def test_the_error_in_an_option_reads_as_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SegError) as raised:
        load("scratches.seg", ["data.input_size=320"])
    assert f"```\n{shown(raised.value.diagnostics, raised.value.sources)}```" in MANUAL


def test_steps_of_the_child_run_in_the_order_that_the_manual_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (steps,) = re.findall(r"Its steps are (.*?)\.", MANUAL)
    assert list(load("turned.seg").data.train.augment) == re.findall(r"`(\w+)`", steps)


def test_commands_in_the_manual_exist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = [
        line
        for text in re.findall(r"^```sh\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
        for line in text.splitlines()
    ]
    assert len(lines) >= 5
    for words in map(shlex.split, lines):
        command = root_group.get_command(click.Context(root_group), words[1])
        assert words[0] == "segdsl" and command is not None, words
        options = {w for w in words if w.startswith("--")}
        assert options <= {o for p in command.params for o in p.opts}, words
        overrides = [value for option, value in pairwise(words) if option == "--set"]
        load(words[2], overrides)


def anchors(text: str) -> set[str]:
    """Return the anchors that code hosts generate for the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_links_lead_somewhere() -> None:
    pages = {"": anchors(MANUAL), "REFERENCE.md": anchors(reference.build_reference())}
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", MANUAL)
    assert len(links) >= 15
    for path, anchor in links:
        assert not path or (GRAMMAR / path).is_file(), path
        assert not anchor or anchor in pages[path], (path, anchor)


def test_every_type_and_function_is_in_the_manual() -> None:
    for name in (*reference.PARAMETER_TYPE_DOCS, *reference.FUNCTION_DOCS):
        assert f"`{name}`" in MANUAL, name


MESSY = """seg 1
data{


    root="x" # where
    train { batch=8 }
    input_size = 64x64
    # a note

}
block A(c:int=2*3,k:size=1x1){
in x:[B,C,H / 4,W]
    let  n=-1
    out y=x
-> Conv( c ,k )
     -> ReLU( )
}
"""
TIDY = """seg 1

data {
  root = "x"  # where

  train {
    batch = 8
  }

  input_size = 64x64
  # a note
}

block A(c: int = 2 * 3, k: size = 1x1) {
  in x: [B, C, H/4, W]

  let n = -1

  out y = x
    -> Conv(c, k)
    -> ReLU()
}
"""


def test_the_formatter_keeps_the_rules_of_the_manual() -> None:
    laid_out = format_text(MESSY)
    assert [line for line in laid_out.splitlines() if line] == [line for line in TIDY.splitlines() if line]
    assert "\n\n\n" not in laid_out and "{\n\n" not in laid_out and "\n\n}" not in laid_out
