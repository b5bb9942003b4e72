"""The formatter: its layout rules, and that it preserves tree and comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdsl.diagnostics import SegError
from segdsl.syntax import tree
from segdsl.syntax.parser import parse
from segdsl.syntax.printer.format import LINE_WIDTH, format_text

ROOT = Path(__file__).resolve().parents[3]
FILES = [*sorted((ROOT / "specs").glob("*.seg")), *sorted((ROOT / "segdsl" / "std").glob("*.seg"))]
EXAMPLES = sorted((ROOT / "tests" / "lang" / "examples").glob("*.seg"))
PAIRS = sorted((Path(__file__).parent / "format").glob("*.in.seg"))


def shape(node: Any) -> Any:
    """Return a tree without its spans."""
    if isinstance(node, tree.Tree):
        return (type(node).__name__, *(shape(getattr(node, p)) for p in node.parts if not p.endswith("span")))
    return tuple(map(shape, node)) if isinstance(node, tuple) else node


def comments(text: str) -> list[str]:
    """Return the comments of a text in order."""
    parts = [token.trivia for token in parse(text, "a.seg").tokens]
    return [line[line.index("#") :].rstrip() for part in parts for line in part.split("\n") if "#" in line]


def check_format(text: str) -> str:
    """Format ``text``, and check that tree and comments are preserved and a second pass changes nothing."""
    formatted = format_text(text)
    assert format_text(formatted) == formatted
    before, after = parse(text, "a.seg"), parse(formatted, "a.seg")
    assert after.diagnostics == ()
    assert shape(after.file) == shape(before.file)
    assert sorted(comments(formatted)) == sorted(comments(text))
    assert not re.search(r"[ \t]\n|\n\n\n|\A\n", formatted)
    assert formatted.endswith("\n") and not formatted.endswith("\n\n")
    return formatted


@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.name)
def test_pairs(path: Path, golden: Any) -> None:
    golden(path.with_name(path.name.replace(".in.", ".out.")), check_format(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_shipped_programs_are_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert check_format(text) == text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_of_the_manual_change_only_in_whitespace(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "".join(check_format(text).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["", "seg 1\nepochs 3\n", "a = 1\n", 'seg 1\nx = "a\n', "seg 2\n", "seg 1\nx = 50%\n"])
def test_invalid_programs_are_rejected(text: str) -> None:
    with pytest.raises(SegError) as caught:
        format_text(text, "a.seg")
    assert caught.value.diagnostics and caught.value.sources == {"a.seg": text}


def test_line_ends_tabs_and_a_byte_order_mark_are_normalized() -> None:
    assert check_format("\ufeffseg 1\r\n\r\n\r\n\ttrain.lr\t=  3\t# c\r\n") == "seg 1\n\ntrain.lr = 3  # c\n"


# --- generated programs ----------------------------------------------------------------------------------------------

NAMES = ("a", "bn", "conv1", "backbone_of_the_whole_network", "C", "x", "xs")
ATOMS = (["1"], ["0.5"], ["1e-3"], ["3x3"], ['"a # b"'], ["true"], ["none"], ["18", "deg"], *([n] for n in NAMES))
OPERATORS = ("+", "-", "*", "/", "//", "**", "and", "or")
GAPS = (*" " * 9, "\n", "  # behind\n", "\n# own\n", "\n\n  # own\n  # two\n\n")
ENDS = (*"\n" * 4, "\n\n", "  # end\n", "\n\n\n## doc\n", "\n# own\n\n# two\n")


class Writer:
    """Writes random valid programs, with spaces, newlines and comments wherever the language allows them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pick = random.choice

    def maybe(self, *tokens: str) -> list[str]:
        return list(tokens) if self.random.random() < 0.4 else []

    def name(self) -> str:
        return self.pick(NAMES)

    def separated(self, items: list[list[str]]) -> list[str]:
        tokens = [token for item in items for token in (*item, ",")]
        return tokens if self.random.random() < 0.3 else tokens[:-1]

    def several(self, write: Callable[[int], list[str]], depth: int, most: int = 3) -> list[list[str]]:
        return [write(depth) for _ in range(self.random.randint(0, most))]

    def call(self, depth: int) -> list[str]:
        named = [[self.name(), "=", *self.expression(depth)] for _ in range(self.random.randint(0, 1))]
        return [self.name(), "(", *self.separated([*self.several(self.expression, depth, 2), *named]), ")"]

    def postfix(self, depth: int) -> list[str]:
        kind = self.random.randint(0, 4)
        if kind > 2:
            return self.call(depth - 1)
        inner = self.expression(depth - 1)
        return [[self.name(), ".", self.name()], [self.name(), "[", *inner, "]"], ["(", *inner, ")"]][kind]

    def operand(self, depth: int) -> list[str]:
        return self.postfix(depth - 1) if depth > 0 and self.random.random() < 0.4 else self.pick(ATOMS)

    def sum(self, depth: int) -> list[str]:
        tokens = [*self.operand(depth)]
        while self.random.random() < 0.5:
            tokens += [self.pick(OPERATORS), *self.operand(depth - 1)]
        return tokens

    def note(self) -> list[str]:
        dims = [["1"], ["B"], ["H", "/", "4"], ["1", "+", "H", "/", "14", "*", "W", "/", "14"]]
        return self.pick([["list"], ["[", *self.separated(dims[: self.random.randint(0, 4)]), "]"]])

    def step(self, depth: int) -> list[str]:
        name = self.maybe("as", self.name())
        note = [":", *self.note()] if name and self.random.random() < 0.4 else []
        return ["->", *self.maybe("each"), *self.postfix(depth), *self.maybe("*", "2"), *name, *note]

    def flow(self, depth: int) -> list[str]:
        return [*self.sum(depth), *self.step(depth), *(self.step(depth - 1) if self.random.random() < 0.5 else [])]

    def comprehension(self, depth: int) -> list[str]:
        carry = self.maybe("from", self.name(), "=", *self.expression(depth - 1))
        targets = [self.name(), *self.maybe(",", self.name())]
        return ["[", *self.expression(depth), "for", *targets, "in", *self.postfix(depth - 1), *carry, "]"]

    def conditional(self, depth: int) -> list[str]:
        branches = ["then", *self.expression(depth), "else", *self.expression(depth)]
        return ["if", *self.sum(depth - 1), *branches]

    def expression(self, depth: int) -> list[str]:
        if depth <= 0:
            return self.pick(ATOMS)
        below = depth - 1
        return self.pick([self.sum, self.flow, self.comprehension, self.conditional, self.call, self.postfix,
                          lambda d: ["[", *self.separated(self.several(self.expression, d)), "]"],
                          lambda d: ["0.5", "..", self.name()],
                          lambda d: ["not", *self.operand(d)], lambda d: ["-", *self.operand(d)],
                          lambda d: [*self.operand(d), "==", *self.operand(d)]])(below)  # fmt: skip

    def value(self) -> list[str]:
        return ["=", *self.expression(self.random.randint(0, 3))]

    def body(self, write: Callable[[int], list[str]], depth: int) -> list[str]:
        return ["{", "\n", *(t for s in self.several(write, depth, 4) for t in (*s, "\n")), "}"]

    def assign(self, depth: int = 0) -> list[str]:
        return [self.name(), *self.maybe(".", self.name()), *self.value()]

    def section(self, depth: int) -> list[str]:
        return [self.name(), *self.body(self.section if depth > 0 else self.assign, depth - 1)]

    def in_block(self, depth: int) -> list[str]:
        noted = [":", *self.note()]
        return self.pick([["in", self.name(), *self.maybe(*noted)], ["let", self.name(), *self.value()],
                          ["param", self.name(), *noted, *self.value()], [self.name(), *self.value()],
                          ["out", self.name(), *self.maybe(*noted), *self.value()],
                          [self.name(), *self.step(2), *self.step(1)]])  # fmt: skip

    def parameter(self, depth: int) -> list[str]:
        return [self.name(), ":", "int", *self.maybe(*self.value())]

    def block(self, depth: int) -> list[str]:
        head = [self.pick(["block", "model"]), "Name", "(", *self.separated(self.several(self.parameter, 0)), ")"]
        return [*head, *self.body(self.in_block, 0)]

    def statement(self) -> list[str]:
        import_ = ["import", '"a.seg"', *self.maybe("as", "x")]
        section = self.section(self.random.randint(0, 2))
        return self.pick([import_, ["let", "a", *self.value()], ["drop", "a", ".", "b"], self.assign(), self.assign(),
                          section, self.block(0), self.block(0)])  # fmt: skip

    def program(self) -> str:
        tokens = ["seg", "1", "\n"]
        for _ in range(self.random.randint(1, 4)):
            tokens += [*self.statement(), "\n"]
        return "".join(self.spaced(tokens))

    def spaced(self, tokens: list[str]) -> Iterator[str]:
        depth = 0
        for token, following in zip(tokens, [*tokens[1:], "\n"], strict=True):
            if token == "\n":
                yield self.pick(ENDS)
                continue
            depth += (token in ("(", "[")) - (token in (")", "]"))
            yield token
            if following != "\n":
                yield self.pick(GAPS) if depth or following in ("->", "then", "else") else " "


@given(st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_generated_programs(random: Random) -> None:
    text = Writer(random).program()
    assert parse(text, "a.seg").diagnostics == ()
    check_format(text)


def test_long_lines_are_broken() -> None:
    names = ", ".join(f"argument{n} = {n}" for n in range(20))
    formatted = check_format(f"seg 1\ntrain.optimizer = Adam({names})\n")
    assert formatted.count("\n") == 24 and max(map(len, formatted.splitlines())) <= LINE_WIDTH
