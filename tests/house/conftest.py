"""The Python files of the repository, each parsed once for all rules."""

from __future__ import annotations

import ast
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Source:
    """A Python file, by its path below the repository."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the syntax tree."""
        return list(ast.walk(ast.parse(self.text)))


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """The Python files of segdsl, the tests and the benchmarks."""
    paths = sorted(p for folder in ("segdsl", "tests", "bench") for p in (ROOT / folder).rglob("*.py"))
    return [Source(path) for path in paths]


@pytest.fixture(scope="session")
def package(sources: list[Source]) -> list[Source]:
    """The Python files of segdsl."""
    return [source for source in sources if source.name.startswith("segdsl/")]
