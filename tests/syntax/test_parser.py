"""Syntax trees: precedence, every construct, spans, and the programs shipped with segdsl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdsl.diagnostics import Span
from segdsl.syntax import tree
from segdsl.syntax.parser import parse, parse_override
from segdsl.syntax.tokens import KEYWORDS, MARKS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*(ROOT / "segdsl" / "std").glob("*.seg"), *(ROOT / "specs").glob("*.seg")])
MANUAL = ROOT.parent / "shared" / "design" / "LANGUAGE.md"


def brief(node: Any) -> str:
    """Return a tree as one line: `(Kind part part)`, with plain names and constants and without spans."""
    if isinstance(node, tuple) and not isinstance(node, Span):
        return "[" + " ".join(map(brief, node)) + "]"
    if isinstance(node, (tree.Name, tree.Ident)):
        return node.name
    if isinstance(node, tree.Constant):
        return repr(node.value)
    if isinstance(node, tree.Binary):
        return f"({brief(node.left)} {node.op} {brief(node.right)})"
    if isinstance(node, tree.Argument):
        return brief(node.value) if node.name is None else f"{node.name.name}={brief(node.value)}"
    if isinstance(node, tree.Tree):
        parts = [brief(v) for k, v in vars(node).items() if not k.endswith("span")]
        return f"({type(node).__name__} {' '.join(parts)})"
    return str(node)


def body(text: str) -> tuple[tree.Statement, ...]:
    parsed = parse(f"seg 1\n{text}", "f")
    assert parsed.diagnostics == ()
    return parsed.file.body


def value(text: str) -> str:
    [statement] = body(f"a = {text}")
    assert isinstance(statement, tree.Assign)
    return brief(statement.value)


def in_block(text: str) -> str:
    [block] = body(f"block A() {{\n{text}\n}}")
    assert isinstance(block, tree.Block)
    return " ".join(map(brief, block.body))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("8 / 2 // 3", "((8 / 2) // 3)"),
        ("-2 ** 2", "(Unary - (2 ** 2))"),
        ("2 ** -3 ** 2", "(2 ** (Unary - (3 ** 2)))"),
        ("-x.y[0]", "(Unary - (Index (Attribute x y) 0))"),
        ("+ - x", "(Unary + (Unary - x))"),
        ("not a == b", "(Unary not (a == b))"),
        ("not not a", "(Unary not (Unary not a))"),
        ("a or b and not c", "(a or (b and (Unary not c)))"),
        ("a < b and c >= d", "((a < b) and (c >= d))"),
        ("0.2..1.0", "(RangeExpr 0.2 1.0)"),
        ("-10 deg..10 deg", "(RangeExpr (Unary - (QuantityLiteral 10 deg)) (QuantityLiteral 10 deg))"),
        ("1..n + 1", "(RangeExpr 1 (n + 1))"),
        ("a == 1..2", "(a == (RangeExpr 1 2))"),
        ("480x640", "(SizeLiteral 480 640)"),
        ("100 iters", "(QuantityLiteral 100 iters)"),
        ("0.5 GiB", "(QuantityLiteral 0.5 GiB)"),
        (r'"a\"\\\n\tb"', repr('a"\\\n\tb')),
        ("[true, false, none]", "(ListExpr [True False None])"),
        ("[]", "(ListExpr [])"),
        ("[1, 2,]", "(ListExpr [1 2])"),
        ("(1)", "1"),
        ("F()", "(Call F [])"),
        ("F(1, b = 2,)", "(Call F [1 b=2])"),
        ("ns.F(1)(2)", None),
        ("ns.F(model = 1, in = 2)", "(Call (Attribute ns F) [model=1 in=2])"),
        ("xs[i][j].height", "(Attribute (Index (Index xs i) j) height)"),
        ("data.in.model", "(Attribute (Attribute data in) model)"),
        ("[x * 2 for x in xs]", "(Comprehension (x * 2) [x] xs None None)"),
        ("[a + b for a, b in zip(xs, ys)]", "(Comprehension (a + b) [a b] (Call zip [xs ys]) None None)"),
        ("[t -> B() for i in range(3) from t = e]",
         "(Comprehension (Flow t [(Step (Call B []) False None None None)]) [i] (Call range [3]) t e)"),
        ("if a then b else if c then d else e", "(If a b (If c d e))"),
        ("if a then x -> F else y -> G",
         "(If a (Flow x [(Step F False None None None)]) (Flow y [(Step G False None None None)]))"),
        ("(if a then b else c) + 1", "((If a b c) + 1)"),
        ("a + b -> F", "(Flow (a + b) [(Step F False None None None)])"),
        ("a or b -> F", "(Flow (a or b) [(Step F False None None None)])"),
        ("x * (g -> F)", "(x * (Flow g [(Step F False None None None)]))"),
        ("F(1) -> G(2)", "(Flow (Call F [1]) [(Step (Call G [2]) False None None None)])"),
        ("xs -> each F() * (n - 1) -> xs[0]",
         "(Flow xs [(Step (Call F []) True (n - 1) None None) (Step (Index xs 0) False None None None)])"),
        ("x -> F * 2 -> G", "(Flow x [(Step F False 2 None None) (Step G False None None None)])"),
        ("x -> F * -n", "(Flow x [(Step F False (Unary - n) None None)])"),
    ],
)  # fmt: skip
def test_expressions(text: str, expected: str | None) -> None:
    if expected is None:
        assert [d.slug for d in parse(f"seg 1\na = {text}", "f").diagnostics] == ["call-of-value"]
    else:
        assert value(text) == expected


def test_a_value_continues_before_an_arrow_then_else_and_inside_brackets() -> None:
    assert value("x\n  -> F()\n  -> G()") == value("x -> F() -> G()")
    assert value("if a\n  then b\n  else c") == value("if a then b else c")
    assert value("F(\n  1,\n  2\n)\n") == value("F(1, 2)")
    assert value("[1\n  +\n  2]") == value("[1 + 2]")
    assert value("x  # why\n  # more\n  -> F()") == value("x -> F()")


def test_a_newline_ends_a_statement_elsewhere() -> None:
    assert [d.slug for d in parse("seg 1\na = 1\n  + 2", "f").diagnostics] == ["unexpected-token"]
    assert len(body("a = x\nb = y")) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in x", "(In x None)"),
        ("in xs: list", "(In xs (ShapeNote None))"),
        ("in x: [B, C, H/4, W]", "(In x (ShapeNote [B C (H / 4) W]))"),
        ("let n = len(xs)", "(Let n (Call len [xs]))"),
        ("param p: [1, dim] = 0.0", "(Param p (ShapeNote [1 dim]) 0.0)"),
        ("param s: [] = 1.0", "(Param s (ShapeNote []) 1.0)"),
        ("y = x", "(Assign [y] x)"),
        ("out y = x", "(Out y None x)"),
        ("out y: [B, 3] = x", "(Out y (ShapeNote [B 3]) x)"),
        ("x -> F() as f", "(Run (Flow x [(Step (Call F []) False None f None)]))"),
        ("x\n  -> F() * 2 as f: [B,]",
         "(Run (Flow x [(Step (Call F []) False 2 f (ShapeNote [B]))]))"),
        ("let model = 1\nmodel = 2\nout out = model", "(Let model 1) (Assign [model] 2) (Out out None model)"),
        ("in in: list\nparam as: [] = in", None),
    ],
)  # fmt: skip
def test_statements_of_blocks(text: str, expected: str | None) -> None:
    if expected is None:
        assert [d.slug for d in parse(f"seg 1\nblock A() {{\n{text}\n}}", "f").diagnostics] == ["keyword-as-name"]
    else:
        assert in_block(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import "a.seg"', "(Import 'a.seg' None)"),
        ('import "a.seg" as ns', "(Import 'a.seg' ns)"),
        ('extends "a.seg"', "(Extends 'a.seg')"),
        ("let a = 1", "(Let a 1)"),
        ("drop data.train.flip", "(Drop [data train flip])"),
        ("drop model.in", "(Drop [model in])"),
        ("model = Net()", "(Assign [model] (Call Net []))"),
        ("model.classes = 3", "(Assign [model classes] 3)"),
        ("data {\n}", "(Section [data] [])"),
        ("data {}", "(Section [data] [])"),
        ("data { a = 1 }", "(Section [data] [(Assign [a] 1)])"),
        ("data.train {\n  model { in = 2 }\n  drop x\n}",
         "(Section [data train] [(Section [model] [(Assign [in] 2)]) (Drop [x])])"),
        ("block A() {\n}", "(Block block A [] [] )"),
        ("model A(n: int, k: size = 3x3,) {\n in x\n}",
         "(Block model A [(Parameter n int None) (Parameter k size (SizeLiteral 3 3))] [(In x None)] )"),
        ("block A(\n  in: int,\n  model: int = 1\n) { in x }",
         "(Block block A [(Parameter in int None) (Parameter model int 1)] [(In x None)] )"),
    ],
)  # fmt: skip
def test_statements_of_files(text: str, expected: str) -> None:
    assert " ".join(map(brief, body(text))) == expected


def test_the_smallest_files() -> None:
    for text in ("seg 1", "seg 1\n", "# note\nseg 1\n# note", "\ufeffseg 1\r\n"):
        parsed = parse(text, "f")
        assert (parsed.file.version, parsed.file.body, parsed.diagnostics) == (1, (), ())


def test_spans_cover_the_text_of_their_constructs() -> None:
    text = "seg 1\na = F(x, b = (1 + 2)) -> each G() * 2 as g\n"
    [statement] = parse(text.replace(" as g", ""), "f").file.body
    assert isinstance(statement, tree.Assign) and isinstance(statement.value, tree.Flow)
    flow = statement.value

    def cut(span: Span) -> str:
        assert span.file == "f"
        return text[span.start : span.end]

    assert isinstance(flow.source, tree.Call)
    argument = flow.source.args[1]
    assert isinstance(argument.value, tree.Binary)
    assert [cut(n.span) for n in (statement, flow, flow.source, argument, argument.value, flow.steps[0])] == [
        "a = F(x, b = (1 + 2)) -> each G() * 2", "F(x, b = (1 + 2)) -> each G() * 2", "F(x, b = (1 + 2))",
        "b = (1 + 2)", "1 + 2", "each G() * 2",
    ]  # fmt: skip
    assert cut(argument.value.op_span) == "+"
    assert cut(statement.path[0].span) == "a"


def test_doc_comments_belong_to_the_file_and_to_blocks() -> None:
    text = "seg 1\n\n## The file.\n## More.\n\n## The block.\nblock A() {}\n\n## Not its own.\n\nblock B() {}\n"
    parsed = parse(text, "f")
    docs = [b.doc for b in parsed.file.body if isinstance(b, tree.Block)]
    assert (parsed.file.doc, docs) == ("The file.\nMore.", ["The block.", ""])
    assert parse("seg 1\n\n## A block.\nblock A() {}", "f").file.doc == ""
    assert parse("seg 1\n\n## A program.\na = 1", "f").file.doc == "A program."
    assert parse("seg 1 ## no\n# no\na = 1", "f").file.doc == ""


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_shipped_programs_parse(path: Path) -> None:
    parsed = parse(path.read_text(encoding="utf-8"), path.name)
    assert parsed.diagnostics == ()
    assert len(parsed.file.body) >= 2


@pytest.mark.skipif(not MANUAL.is_file(), reason="the design in shared/ is not here")
def test_the_examples_of_the_manual_parse() -> None:
    examples = re.findall(r"```seg\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 4
    assert [parse(e, "f").diagnostics for e in examples] == [()] * len(examples)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.lr=1e-3", "(Assign [train lr] 0.001)"),
        ("model = Net(classes = 2)", "(Assign [model] (Call Net [classes=2]))"),
        ("drop data.train.augment.flip", "(Drop [data train augment flip])"),
        ("  drop = 1  ", "(Assign [drop] 1)"),
        ("a = [\n1,\n2]", "(Assign [a] (ListExpr [1 2]))"),
    ],
)
def test_options(text: str, expected: str) -> None:
    statement, diagnostics = parse_override(text, "--set")
    assert diagnostics == ()
    assert statement is not None and statement.span.file == "--set"
    assert brief(statement) == expected


@pytest.mark.parametrize(
    ("text", "slug", "place"),
    [
        ("", "option-form", (0, 0)),
        ("a", "option-form", (1, 1)),
        ("drop", "option-form", (4, 4)),
        ("a {", "unclosed-brace", (2, 3)),
        ("a { b = 1 }", "option-form", (2, 3)),
        ("a=", "missing-value", (1, 2)),
        ("a=1\nb=2", "option-form", (3, 3)),
        ("a=1, b=2", "option-form", (3, 4)),
        ("a==1", "double-equals", (1, 3)),
        ("a=1 2", "unexpected-token", (4, 5)),
        ("a=True", "python-word", (2, 6)),
        ("a=é", "bad-character", (2, 3)),
        ("let a = 1", "option-form", (0, 3)),
        ("a=(1", "unclosed-bracket", (2, 3)),
        ("a[0]=1", "index-in-path", (1, 2)),
    ],
)
def test_invalid_options(text: str, slug: str, place: tuple[int, int]) -> None:
    statement, [found] = parse_override(text, "--set")
    assert statement is None
    assert found.span is not None
    assert (found.slug, found.span.file, found.span[1:]) == (slug, "--set", place)


NAMES = st.sampled_from(["x", "y", "Conv", *sorted(KEYWORDS)])
ATOMS = st.sampled_from(["1", "2.5", "3x3", '"s"', "4 iters", "true", "none", "x", "y", "F()", "[]"])


def nest(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Nest expressions in each other, with parentheses wherever they could matter."""
    marks = st.sampled_from(
        [m for m, kind in MARKS.items() if kind in ("PLUS", "STAR", "COMPARE", "POWER", "SLASHSLASH")]
    )
    return st.one_of(
        st.tuples(inner, marks, inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        inner.map(lambda e: f"not ({e})"),
        st.tuples(inner, inner, inner).map(lambda t: f"if ({t[0]}) then {t[1]} else {t[2]}"),
        st.tuples(NAMES, inner).map(lambda t: f"F(({t[1]}), {t[0]} = {t[1]})"),
        st.lists(inner.map(lambda e: f"({e})"), max_size=3).map(lambda es: f"[{', '.join(es)}]"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]}) -> F(({t[1]})) * 2 -> each x"),
    )


@given(st.recursive(ATOMS, nest, max_leaves=12))
def test_parentheses_do_not_change_an_expression(text: str) -> None:
    assert value(f"({text})") == value(text)
