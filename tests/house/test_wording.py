"""Wording is compared with golden files only: no sentence in an assertion, and no golden file without a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORDING = ROOT / "tests" / "goldens" / "wording"
MAX_WORDS = 3
QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
CODE = re.compile(r"\S*[=(\[{|/\\<>_.]\S*")
"""Words of a text that are no English: paths, expressions, patterns."""
WORD = re.compile(r"(?<![\w-])[A-Za-z][a-z]+(?![\w-])")


def count_words(text: str) -> int:
    """Count the English words of a text."""
    text = QUOTED.sub(" ", text)
    # A program in an assertion is code, whatever words its names are made of.
    is_program = text.count("\n") > 1 or " = " in text or "->" in text
    return 0 if is_program else len(WORD.findall(CODE.sub(" ", text)))


def find_texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the strings that an assertion compares, or that `match` is given, each with its line."""
    if isinstance(node, ast.Assert):
        node = node.test
    elif not (isinstance(node, ast.keyword) and node.arg == "match"):
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def find_sentences(nodes: list[ast.AST]) -> list[tuple[int, str]]:
    """Return the sentences in assertions, each with its line."""
    texts = {found for node in nodes for found in find_texts(node)}
    return sorted((line, text) for line, text in texts if count_words(text) > MAX_WORDS)


def test_no_assertion_holds_a_sentence(sources: list[Any]) -> None:
    tests = [source for source in sources if source.name.startswith("tests/")]
    assert len(tests) > 50
    found = [f"{source.name}:{line}: {text}" for source in tests for line, text in find_sentences(source.nodes)]
    assert found == [], "use a slug, a number or the fixture `wording`"


def test_the_test_for_sentences_sees_them() -> None:
    code = """
assert found.help == "leave out the second argument"
assert [d.slug for d in found] == ["unknown-key", "loss-without-weight"]
assert "out of memory" not in err, "a reason that pytest shows"
with pytest.raises(SegError, match="weights-missing: .*no file has this name"):
    assert text == "y = x -> Conv(4, bias = false) -> Scale()"
"""
    assert [line for line, _ in find_sentences(list(ast.walk(ast.parse(code))))] == [2, 5]


def test_every_golden_wording_belongs_to_a_test(sources: list[Any]) -> None:
    tests = {
        source.name.removeprefix("tests/").removesuffix(".py"): {
            node.name for node in source.nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        for source in sources
        if source.name.startswith("tests/")
    }
    orphans = []
    for file in sorted(WORDING.rglob("*.txt")):
        module = file.parent.relative_to(WORDING).as_posix()
        # The name of a file is that of its test, then its parameters and a suffix, each after a hyphen.
        if file.stem.partition("-")[0] not in tests.get(module, ()):
            orphans.append(file.relative_to(WORDING).as_posix())
    assert orphans == []
