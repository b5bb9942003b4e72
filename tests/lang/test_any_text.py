"""Any input gives a program or diagnostics, never another exception (DESIGN.md, section 6)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.diagnostics.render import Renderer
from segdsl.lang.program import check_file, load

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = '\nextends "std/semantic.seg"\n\ndata.input_size = 64x64\nmodel = {}(classes = len(data.classes))\n'


def texts() -> list[str]:
    """Programs that check: ours, and the examples of the language with a program around them."""
    examples = Path(__file__).resolve().parent / "examples"
    pyramid = (examples / "graph.seg").read_text(encoding="utf-8") + PROGRAM.format("PyramidSeg")
    specs = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "specs").glob("*.seg"))]
    return [pyramid, (examples / "program.seg").read_text(encoding="utf-8"), *specs]


TOKEN = re.compile(r'"[^"\n]*"|\w+|->|\.\.|\*\*|//|[=!<>]=|[^\w\s]|\n')
TEXTS = texts()
STRANGE = [
    "0",
    "-1",
    "1e999",
    "9" * 30,
    "0x0",
    "none",
    "each",
    "as",
    "from",
    '"',
    "#",
    "\n",
    "{",
    "]",
    "seg",
    "é",
    "\t",
    "5%",
]
WORDS = sorted({t for text in TEXTS for t in TOKEN.findall(text)} | set(STRANGE))

edits = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["drop", "twice", "swap", "put"]), st.sampled_from(WORDS)),
    min_size=1,
    max_size=4,
)


def mutated(text: str, changes: list[tuple[int, str, str]]) -> str:
    """A text of which some tokens are dropped, doubled, moved, or replaced."""
    parts = re.split(f"({TOKEN.pattern})", text)
    places = range(1, len(parts), 2)
    for number, how, word in changes:
        at = places[number % len(places)]
        other = places[(number * 7 + 3) % len(places)]
        if how == "swap":
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts[at] = {"drop": "", "twice": f"{parts[at]} {parts[at]}", "put": word}[how]
    return "".join(parts)


def findings(path: Path) -> tuple[tuple[Diagnostic, ...], dict[str, str]]:
    try:
        _, warnings, sources = check_file(path)
    except SegError as error:
        assert any(d.severity == "error" for d in error.diagnostics)
        return error.diagnostics, error.sources
    assert all(d.severity == "warning" for d in warnings)
    return warnings, sources


def assert_sound(diagnostics: tuple[Diagnostic, ...], sources: dict[str, str]) -> None:
    """Every finding says something, points into a text that is there, and can be drawn."""
    for finding in diagnostics:
        assert finding.slug
        assert finding.message
        assert finding.help
        assert finding.span is not None or finding.path is not None
        for span in (finding.span, *(label.span for label in finding.labels)):
            assert span is None or 0 <= span.start <= span.end <= len(sources[span.file])
    Renderer(sources).render_all(diagnostics)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(text=st.sampled_from(TEXTS), changes=edits)
def test_a_spoilt_program_ends_in_diagnostics(folder: Path, text: str, changes: list[tuple[int, str, str]]) -> None:
    path = folder / "main.seg"
    path.write_text(mutated(text, changes), encoding="utf-8")
    assert_sound(*findings(path))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
def test_any_text_ends_in_diagnostics(folder: Path, text: str) -> None:
    path = folder / "any.seg"
    path.write_text("seg 1\n" + text, encoding="utf-8", errors="replace")
    assert_sound(*findings(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(option=st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_any_option_ends_in_a_program_or_diagnostics(folder: Path, option: str) -> None:
    path = folder / "pyramid.seg"
    path.write_text(TEXTS[0], encoding="utf-8")
    try:
        load(path, [option])
    except SegError as error:
        assert_sound(error.diagnostics, error.sources)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.binary(max_size=80))
def test_any_bytes_end_in_diagnostics(folder: Path, data: bytes) -> None:
    path = folder / "bytes.seg"
    path.write_bytes(data)
    assert_sound(*findings(path))
