"""Elaboration always ends: no recursion, and budgets for nodes, nesting, lists, integers and extents."""

from __future__ import annotations

from typing import Any

import pytest


def doubled(start: str, step: str) -> str:
    """Forty lets, each made of the one before (`#`) as ``step`` says."""
    return f"let a0 = {start}\n" + "\n".join(f"let a{i + 1} = {step}".replace("#", f"a{i}") for i in range(40))


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ("y = x -> ReLU() * 100001", "node-budget"),
        ("y = [x -> ReLU() for i in range(60000)] -> each ReLU()", "node-budget"),
        ("let a = range(100001)", "list-budget"),
        ("let a = [len(range(90000)) for i in range(90000)]", "list-budget"),
        (doubled(start="[x, x]", step="# + #"), "list-budget"),
        (doubled(start="[x, x]", step="[#, #]"), "list-budget"),
        (doubled(start="[x, x]", step="zip(#, #)"), "list-budget"),
        (doubled(start='"ab"', step="# + #"), "list-budget"),
        (doubled(start="3", step="# * #"), "integer-bound"),
        (doubled(start="1.5", step="# * #"), "integer-bound"),
        (doubled(start="H + W + 1", step="# * #"), "integer-bound"),
        (doubled(start="H", step="# * # / 3"), "integer-bound"),
        ("let a = 2 ** 54", "integer-bound"),
        ("let a = 2 ** 1000000", "integer-bound"),
        ("let a = 0 ** -1", "division-by-zero"),
        ("y = x -> Conv(48, 7x7, stride = 2, padding = 90) * 900", "integer-bound"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_budgets(bench: Any, body: str, slug: str) -> None:
    assert [d.slug for d in bench.model_errors(body)] == [slug]


def test_a_spent_budget_is_reported_once(bench: Any) -> None:
    blocks = "block A0() {\n  in x\n\n  out y = x -> ReLU()\n}\n" + "".join(
        f"block A{i + 1}() {{\n  in x\n\n  out y = x -> A{i}() -> A{i}()\n}}\n" for i in range(25)
    )
    assert [d.slug for d in bench.model_errors("y = x -> A25()\nz = x -> A25()", blocks)] == ["node-budget"]


WIDE = "max(" + ", ".join(["max(" + ", ".join("1" * 100) + ")"] * 100) + ")"


@pytest.mark.parametrize(
    "body",
    [
        "let xs = range(100000)\nlet ys = [sum(xs) for i in range(99999)]",
        "let xs = range(100000)\nlet ys = [max(xs) for i in range(99999)]",
        "let xs = [[i] for i in range(30000)]\nlet zs = [[i] for i in range(30000)]\n"
        "let ys = [xs == zs for i in range(30000)]",
        f"let ys = [{WIDE} for i in range(99999)]",
    ],
    ids=["sum", "max", "equal", "wide"],
)
def test_what_a_comprehension_does_for_each_element_counts(bench: Any, body: str) -> None:
    assert [d.slug for d in bench.model_errors(body)] == ["work-budget"]


def test_applications_without_an_op_count(bench: Any) -> None:
    blocks = "block A0() {\n  in x\n\n  out y = x\n}\n" + "".join(
        f"block A{i + 1}() {{\n  in x\n\n  out y = x -> A{i}() -> A{i}()\n}}\n" for i in range(40)
    )
    assert [d.slug for d in bench.model_errors("y = x -> A40()", blocks)] == ["work-budget"]


def test_texts_together_count(bench: Any) -> None:
    texts = "let long = " + " + ".join(['"' + "a" * 900 + '"'] * 20)
    body = f'{texts}\nlet all = [long + "b" for i in range(90000)]'
    assert [d.slug for d in bench.model_errors(body)] in (["list-budget"], ["work-budget"])


def test_nesting(bench: Any) -> None:
    def chain(depth: int) -> str:
        inner = "".join(f"block A{i}() {{\n  in x\n\n  out y = x -> A{i + 1}()\n}}\n" for i in range(depth))
        return f"{inner}block A{depth}() {{\n  in x\n\n  out y = x -> ReLU()\n}}\n"

    assert bench.model_errors("y = x -> A0()", chain(55)) == []
    assert [d.slug for d in bench.model_errors("y = x -> A0()", chain(65))] == ["nesting-budget"]


@pytest.mark.parametrize(
    "blocks",
    [
        "block A() {\n  in x\n\n  out y = x -> A()\n}\n",
        "block A() {\n  in x\n\n  out y = if 1 == 2 then x -> A() else x\n}\n",
        "block A() {\n  in x\n\n  out y = x -> B()\n}\n\nblock B() {\n  in x\n\n  out y = [x] -> each A()\n}\n",
        "block A(m: module = A()) {\n  in x\n\n  out y = x -> m\n}\n",
    ],
)
def test_blocks_do_not_contain_themselves(bench: Any, blocks: str) -> None:
    errors = bench.model_errors("y = x -> A()", blocks)
    assert {d.slug for d in errors} == {"recursion"}
    assert bench.said(errors[0]).startswith(("A(", "B("))


def test_a_block_applied_inside_its_own_argument_is_no_recursion(bench: Any) -> None:
    block = "block A(m: module = ReLU()) {\n  in x\n\n  c = x -> Conv(48)\n  out y = c -> m\n}\n"
    errors = bench.model_errors("y = x -> A(m = A())", block)
    assert errors == []


@pytest.mark.parametrize(
    "value",
    [
        "(" * 3000 + "1" + ")" * 3000,
        "[" * 3000 + "1" + "]" * 3000,
        "-" * 3000 + "1",
        "+".join(["1"] * 3000),
        "min(" * 3000 + "1" + ")" * 3000,
        "if true then 1 else " * 3000 + "1",
        "[1]" + "[0]" * 3000,
        "not " * 3000 + "true",
        "x" + ".width" * 3000,
        " -> ReLU()".join(["x"] * 2) + " -> ReLU()" * 3000,
    ],
    ids=lambda v: v[:12],
)
def test_deep_texts_end_in_a_program_or_a_diagnostic(bench: Any, value: str) -> None:
    for error in bench.model_errors(f"let a = {value}"):
        assert error.help
