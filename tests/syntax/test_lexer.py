"""The lexer: lossless tokens, numbers, strings, contextual keywords, and diagnostics."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdsl.syntax.lexer import lex
from segdsl.syntax.tokens import END, KEYWORDS, MARKS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*(ROOT / "segdsl" / "std").glob("*.seg"), *(ROOT / "specs").glob("*.seg")])
ODD = ("\t", "\r\n", "%", "ü", "50%", "100iters", "\\", "\ufeff", '"', "'", "\n", "\n  ", " ", "# note\n", "## doc")
PIECES = st.sampled_from([*KEYWORDS, *MARKS, *ODD, "x", "Conv", "1", "0.5", "1e-3", "3x3", '"text"'])
SOUP = st.lists(PIECES, max_size=40).map("".join) | st.lists(PIECES, max_size=40).map(" ".join)


def kinds(text: str) -> list[str]:
    return [t.kind for t in lex(text, "f").tokens[:-1]]


def assert_lossless(text: str) -> None:
    tokens = lex(text, "f").tokens
    assert "".join(t.trivia + t.text for t in tokens) == text
    assert tokens[-1].kind == END
    assert all(text[t.start : t.end] == t.text for t in tokens)
    assert all(t.text != "" for t in tokens[:-1])


@given(st.text())
def test_tokens_restore_any_text(text: str) -> None:
    assert_lossless(text)


@given(SOUP)
def test_tokens_restore_any_mix_of_tokens(text: str) -> None:
    assert_lossless(text)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_tokens_restore_programs_without_errors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert_lossless(text)
    assert lex(text, "f").diagnostics == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.2..1.0", ["FLOAT", "RANGE", "FLOAT"]),
        ("1..2", ["INT", "RANGE", "INT"]),
        ("-10 deg..10 deg", ["MINUS", "INT", "NAME", "RANGE", "INT", "NAME"]),
        ("1e-3 2.5E+4 7e2", ["FLOAT", "FLOAT", "FLOAT"]),
        ("512x512", ["SIZE"]),
        ("512 x512", ["INT", "NAME"]),
        ("a.b", ["NAME", "DOT", "NAME"]),
        ("a//b**c->d", ["NAME", "SLASHSLASH", "NAME", "POWER", "NAME", "ARROW", "NAME"]),
        ("a<=b==c", ["NAME", "COMPARE", "NAME", "COMPARE", "NAME"]),
        (r'"a \" b" "\\"', ["STRING", "STRING"]),
        ("\ufeffseg 1", ["SEG", "INT"]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected
    assert lex(text, "f").diagnostics == ()


@pytest.mark.parametrize(
    ("text", "word", "keyword"),
    [
        ("model Net() {", "model", True),
        ("model = Net()", "model", False),
        ("model.classes = 3", "model", False),
        ("weights { model = 1 }", "model", False),
        ("x = [model]", "model", False),
        ("drop model", "model", False),
        ("drop a.b", "drop", True),
        ("drop = 0.1", "drop", False),
        ("f(drop = 0.1)", "drop", False),
        ("in x", "in", True),
        ("in in: list", "in", True),
        ("block A(in: int) {", "in", False),
        ("y = [x for x in xs]", "in", True),
        ("y = [x\n  for x\n  in xs]", "in", True),
        ("data.in = 3", "in", False),
        ("f(in = 3)", "in", False),
        ("if.rate = 3", "if", False),
        ("y = xs -> each A()", "each", True),
        ("each = 3", "each", False),
        ("y = each", "each", False),
        ("true = 1", "true", False),
        ("a = true", "true", True),
        ("let let = 1", "let", True),
        ("let\n", "let", False),
        ("seg 1", "seg", True),
        ("seg.x = 1", "seg", False),
        ("x -> A() as out", "out", False),
        ("model for x", "model", False),
        ("let for = 1", "let", True),
        ("as { a = 1 }", "as", False),
    ],
)
def test_keywords_depend_on_the_context(text: str, word: str, keyword: bool) -> None:
    token = next(t for t in lex(text, "f").tokens if t.text == word)
    assert token.kind == (word.upper() if keyword else "NAME")


def test_an_open_bracket_above_does_not_affect_keywords() -> None:
    assert "LET" in kinds("a = (1\nlet b = 2")


@pytest.mark.parametrize(
    ("text", "slug", "place"),
    [
        ("a = é", "bad-character", (4, 5)),
        ("a = é漢", "bad-character", (4, 6)),
        ("a = b;", "bad-character", (5, 6)),
        ("a = b && c", "bad-character", (6, 8)),
        ("a\u00a0= b", "bad-character", (1, 2)),
        ("a = \x00", "bad-character", (4, 5)),
        ('a = "b', "unterminated-string", (4, 6)),
        ('a = "b\nc = 1', "unterminated-string", (4, 6)),
        (r'a = "\q"', "unknown-escape", (5, 7)),
        ("a = 'b'", "single-quotes", (4, 7)),
        ("a = 50%", "percent-literal", (4, 7)),
        ("a = 5 % 2", "bad-character", (6, 7)),
        ("a = 100iters", "glued-unit", (4, 12)),
        ("a = 1_000", "bad-number", (4, 9)),
        ("a = 3x3x3", "bad-number", (4, 9)),
        ("a = 3X3", "bad-number", (4, 7)),
        ("a = 1e", "bad-number", (4, 6)),
    ],
)
def test_diagnostics(text: str, slug: str, place: tuple[int, int]) -> None:
    [found] = lex(text, "f").diagnostics
    assert found.span is not None
    assert (found.slug, found.span[1:]) == (slug, place)


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("a = 50%", "a = 0.5"),
        ("a = 100%", "a = 1.0"),
        ("a = 0.01%", "a = 0.0001"),
        ("a = 100iters", "a = 100 iters"),
        ("a = 1_000", "a = 1000"),
        ("a = 3X3", "a = 3x3"),
        ("a = 'b'", 'a = "b"'),
    ],
)
def test_fixes_of_the_lexer(text: str, fixed: str) -> None:
    fix = lex(text, "f").diagnostics[0].fix
    assert fix is not None
    assert text[: fix.span.start] + fix.text + text[fix.span.end :] == fixed
    assert lex(fixed, "f").diagnostics == ()


def test_every_error_is_reported() -> None:
    assert [d.slug for d in lex("a = ;\nb = 'c'\nd = \"e", "f").diagnostics] == [
        "bad-character", "single-quotes", "unterminated-string",
    ]  # fmt: skip
