"""Syntax errors: the diagnosis of each mistake, recovery after it, and robustness against any input."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdsl.diagnostics import Diagnostic, find_position
from segdsl.explain import explanations
from segdsl.syntax import tree
from segdsl.syntax.parser import parse, parse_override
from segdsl.syntax.tokens import KEYWORDS, MARKS

ROOT = Path(__file__).resolve().parents[3]
TABLE = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8")
"""One paragraph per mistake: the indented source, then `line:column slug` for each diagnostic."""
EXPLAINED = (ROOT / "segdsl" / "explain" / "syntax.md").read_text(encoding="utf-8")
SLUGS = re.findall(r"^## (\S+)$", EXPLAINED, re.MULTILINE)
CASES = [case for case in TABLE.split("\n\n\n") if case.strip()]


def summarize(text: str, diagnostic: Diagnostic) -> str:
    assert diagnostic.span is not None
    line, column = find_position(text, diagnostic.span.start)
    return f"{line}:{column} {diagnostic.slug}"


def split_case(case: str) -> tuple[str, str]:
    """Return the source and the expected diagnostics of a paragraph of the table."""
    lines = case.strip("\n").splitlines()
    text = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    return text + "\n", "\n".join(line for line in lines if line and not line.startswith("    "))


@pytest.mark.parametrize("case", CASES, ids=lambda c: re.sub(r"\W+", "-", split_case(c)[1])[:60])
def test_mistake(case: str) -> None:
    text, expected = split_case(case)
    assert "\n".join(summarize(text, d) for d in parse(text, "f").diagnostics) == expected


def test_wording_of_all_mistakes(wording: Callable[[str], None]) -> None:
    """One golden for all mistakes: the source, then message and help of each diagnostic."""
    blocks = []
    for text, _ in map(split_case, CASES):
        lines = [f"    {line}".rstrip() for line in text.splitlines()]
        for found in parse(text, "f").diagnostics:
            lines += [f"{summarize(text, found)}: {found.message}", f"  help: {found.help}"]
            lines += [f"  label: {label.text}" for label in found.labels]
        blocks.append("\n".join(lines))
    wording("\n\n".join(blocks))


def examples(slug: str) -> tuple[str, str]:
    body = explanations()[slug] + "\n"
    wrong, right = (re.search(rf"^{w}:\n\n((?:    .*\n|\n)+)", body, re.MULTILINE) for w in ("Wrong", "Right"))
    assert wrong and right, f"{slug} has no examples"
    return textwrap.dedent(wrong[1]).strip() + "\n", textwrap.dedent(right[1]).strip() + "\n"


def findings(slug: str, example: str) -> list[str]:
    if slug == "option-form":
        return [d.slug for d in parse_override(example.strip(), "--set")[1]]
    whole = "seg " in example or slug in ("missing-header", "foreign-file")
    return [d.slug for d in parse(example if whole else f"seg 1\n\n{example}", "f").diagnostics]


@pytest.mark.parametrize("slug", SLUGS)
def test_examples_of_the_explanations(slug: str) -> None:
    wrong, right = examples(slug)
    assert slug in findings(slug, wrong)
    assert findings(slug, right) == []


def test_explanations_and_code_have_the_same_slugs() -> None:
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "segdsl" / "syntax").rglob("*.py") if p.stem != "format"]
    used = {slug for s in sources for slug in re.findall(r'(?:Diagnostic|\.tell|\.diagnose)\(\s*"([a-z-]+)"', s)}
    assert used == set(SLUGS)
    assert sorted(SLUGS) == SLUGS


@pytest.mark.parametrize("case", CASES, ids=lambda c: re.sub(r"\W+", "-", split_case(c)[1])[:60])
def test_a_fix_removes_its_diagnostic_and_adds_none_before_it(case: str) -> None:
    text, _ = split_case(case)
    before = parse(text, "f").diagnostics
    for finding in before:
        if finding.fix is None or finding.span is None:
            continue
        fixed = text[: finding.fix.span.start] + finding.fix.text + text[finding.fix.span.end :]
        after = parse(fixed, "f").diagnostics
        assert len(after) <= len(before)
        remaining = [(d.slug, d.span.start) for d in after if d.span]
        assert (finding.slug, finding.span.start) not in remaining
        earlier = [d for d in before if d.span and d.span.start < finding.span.start]
        assert len([at for _, at in remaining if at < finding.span.start]) <= len(earlier)


# --- recovery --------------------------------------------------------------------------------------------------------


ERROR = tree.ErrorStatement.__name__


def outline(text: str) -> list[str]:
    """Return the statements of a file by kind and name; those of sections and blocks in brackets."""

    def describe(statement: tree.Statement) -> str:
        name = getattr(statement, "name", None) or (getattr(statement, "path", None) or ("",))[-1]
        inner = ""
        if isinstance(statement, (tree.Section, tree.Block)):
            inner = f"[{' '.join(map(describe, statement.body))}]"
        return f"{type(statement).__name__}:{getattr(name, 'name', '')}{inner}"

    return [describe(s) for s in parse(text, "f").file.body]


def test_an_error_removes_only_its_own_statement() -> None:
    text = "seg 1\na = 1\nb = = 2\nc = 3\nblock A() {\n  in x\n  y = x ->\n    F()\n  out z = x\n}\nd = 4\n"
    assert outline(text) == ["Assign:a", f"{ERROR}:", "Assign:c", f"Block:A[In:x {ERROR}: Out:z]", "Assign:d"]


def test_the_body_after_a_broken_head_is_parsed() -> None:
    parsed = parse("seg 1\nblock A(a int) {\n  in x\n  out y = = x\n}\nb = 1\n", "f")
    assert [d.slug for d in parsed.diagnostics] == ["missing-colon", "unexpected-token"]
    assert [type(s).__name__ for s in parsed.file.body] == [ERROR, "Assign"]


def test_a_missing_brace_is_closed_by_indentation() -> None:
    text = "seg 1\ndata {\n  train {\n    batch = 8\n  root = 1\n}\nmodel = F()\n"
    assert outline(text) == ["Section:data[Section:train[Assign:batch] Assign:root]", "Assign:model"]
    text = "seg 1\nblock A() {\n  in x\n\nblock B() {\n  in y\n}\n"
    assert outline(text) == ["Block:A[In:x]", "Block:B[In:y]"]


def test_an_error_statement_spans_the_skipped_text() -> None:
    text = "seg 1\na = F(1 2\n  3)\nb = 1\n"
    broken = parse(text, "f").file.body[0]
    assert isinstance(broken, tree.ErrorStatement)
    assert text[broken.span.start : broken.span.end] == "a = F(1 2\n  3)"


def test_a_half_typed_line_does_not_affect_other_statements() -> None:
    text = (ROOT / "segdsl" / "std" / "blocks.seg").read_text(encoding="utf-8")
    whole = outline(text)
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith(("#", "seg", "}")):
            typed = "".join([*lines[:number], line[: len(line) // 2].rstrip() + "\n", *lines[number + 1 :]])
            names = {s.split("[")[0] for s in outline(typed)}
            assert len({s.split("[")[0] for s in whole} - names) <= 1, line


def test_another_version_is_the_only_diagnostic() -> None:
    assert [d.slug for d in parse("seg 2\na = = 1\n'b\n", "f").diagnostics] == ["unknown-version"]


@pytest.mark.parametrize("text", ["seg = 1\n", "seg.a = 1\n", "SEG = 2\n", "a = 1\n", "", "# seg 1\n"])
def test_lookalikes_of_the_header_are_not_a_header(text: str) -> None:
    assert [d.slug for d in parse(text, "f").diagnostics] == ["missing-header"]


# --- robustness ------------------------------------------------------------------------------------------------------

ODD = (
    "x",
    "Conv",
    "1",
    "0.5",
    "3x3",
    '"s"',
    '"',
    "'q'",
    "é",
    "50%",
    "2x",
    "\n",
    "\n  ",
    "\n}\n",
    "{\n",
    "## d\n",
    "def",
)
PIECES = st.sampled_from([*KEYWORDS, *MARKS, *ODD, "\n", "seg 1\n", "block A() {\n", "True"])
SOUP = st.lists(PIECES, max_size=40).map(" ".join)


def assert_sound(text: str) -> None:
    parsed = parse(text, "f")
    assert "".join(t.trivia + t.text for t in parsed.tokens) == text
    for finding in (*parsed.diagnostics, *parse_override(text, "f")[1]):
        assert finding.span is not None and 0 <= finding.span.start <= finding.span.end <= len(text)
        assert finding.message and finding.help
        internal = re.findall(r"lark|LALR|Traceback|RSQB|LPAR|NEWLINE|\$END|Token", finding.message + finding.help)
        assert all(word in text for word in internal)
        assert finding.slug in explanations()
    assert parsed.diagnostics or f"{ERROR}(" not in repr(parsed.file)


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    assert_sound(text)


@given(SOUP)
def test_no_mix_of_tokens_breaks_the_parser(text: str) -> None:
    assert_sound(text)
    assert_sound(f"seg 1\n{text}")


@given(st.data())
def test_no_edit_of_a_program_breaks_the_parser(data: st.DataObject) -> None:
    text = (ROOT / "segdsl" / "std" / "blocks.seg").read_text(encoding="utf-8")
    low = data.draw(st.integers(0, len(text)))
    high = data.draw(st.integers(low, min(len(text), low + 30)))
    assert_sound(text[:low] + data.draw(SOUP.map(lambda s: s[:20])) + text[high:])


DEEP = {
    "parentheses": "(" * 10_000 + "1" + ")" * 10_000,
    "open parentheses": "(" * 10_000,
    "lists": "[" * 2_000 + "]" * 2_000,
    "calls": "F(" * 2_000 + ")" * 2_000,
    "signs": "-" * 2_000 + "1",
    "powers": "2" + " ** 2" * 2_000,
    "sums": "1" + " + 1" * 2_000,
    "not": "not " * 2_000 + "a",
    "choices": "if a then b else " * 2_000 + "c",
    "attributes": "a" + ".b" * 2_000,
    "indices": "a" + "[0]" * 2_000,
    "flows in flows": "x -> (" * 2_000 + "y" + ")" * 2_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_nesting_is_reported_without_a_crash(text: str) -> None:
    for line in (f"a = {text}", f"let a = {text}", f"block A() {{\n  in x\n  y = {text}\n}}"):
        parsed = parse(f"seg 1\n{line}\nb = 1\n", "f")
        assert [d.slug for d in parsed.diagnostics] == ["nesting-too-deep"]
        assert isinstance(parsed.file.body[-1], tree.Assign)
        assert repr(parsed.file) and hash(parsed.file) and parsed.file == parse(f"seg 1\n{line}\nb = 1\n", "f").file


def test_braces_nest_up_to_the_limit() -> None:
    parsed = parse("seg 1\n" + "a {\n" * 10_000 + "}\n" * 10_000, "f")
    assert [d.slug for d in parsed.diagnostics] == ["nesting-too-deep"]
    parsed = parse("seg 1\n" + "a {\n" * 99 + "b = " + "-" * 90 + "1\n" + "}\n" * 99, "f")
    assert parsed.diagnostics == ()
    assert repr(parsed.file) and parsed.file == parsed.file


def test_parameter_defaults_obey_the_nesting_limit() -> None:
    parsed = parse(f"seg 1\nblock A(n: int = {'-' * 10_000}1) {{\n  in x\n}}\n", "f")
    assert [d.slug for d in parsed.diagnostics] == ["nesting-too-deep"]
    assert repr(parsed.file)


def test_the_number_of_diagnostics_is_limited() -> None:
    assert len(parse("seg 1\n" + "a = = 1\n" * 1000, "f").diagnostics) == 200
