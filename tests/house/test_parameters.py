"""No function takes more parameters than a reader can hold; more belong together in a record."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "segdsl"
MAX_PARAMETERS = 6
"""The maximum number of parameters, `self`, `*args` and `**options` included."""


def count_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    starred = [each for each in (given.vararg, given.kwarg) if each is not None]
    return len([*given.posonlyargs, *given.args, *given.kwonlyargs, *starred])


def find_long_signatures(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and count_parameters(node) > MAX_PARAMETERS:
            yield f"{node.name} takes {count_parameters(node)} parameters"


def test_no_function_takes_too_many_parameters() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): long
        for path in sorted(PACKAGE.rglob("*.py"))
        if (long := list(find_long_signatures(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_the_test_sees_every_kind_of_parameter() -> None:
    assert list(find_long_signatures("def f(self, a, /, b, *c, d, e, **g): ...")) == ["f takes 7 parameters"]
    assert list(find_long_signatures("def f(a, b, *, c, d, e, g): ...")) == []
