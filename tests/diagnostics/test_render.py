"""Diagnostics as text, as JSON and as SARIF."""

from __future__ import annotations

import json
import textwrap

import pytest

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.diagnostics.render import Renderer, expand_tabs, format_counts
from segdsl.diagnostics.serialize import build_sarif, serialize_diagnostic
from segdsl.text.columns import measure_char, sanitize_text, slice_columns


def rendered(text: str, diagnostic: Diagnostic, width: int = 120, **sources: str) -> str:
    return Renderer({"a.seg": text, **sources}, width=width).render(diagnostic)


def found(text: str, part: str, **more: object) -> Diagnostic:
    start = text.index(part)
    return Diagnostic("slug", "message", "do it", span=Span("a.seg", start, start + len(part)), **more)  # type: ignore[arg-type]


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def test_the_form_of_the_language_definition() -> None:
    text = "\n" * 28 + "  low  = c2 -> ConvModule(48)\n\n  both = low + c3\n"
    start = text.index("ConvModule")
    diagnostic = Diagnostic(
        "channel-mismatch",
        "`+` needs equal channels, got 48 and 96",
        "project it first: `c3 -> ConvModule(48)`",
        span=Span("specs/pyramid.seg", text.index("+"), text.index("+") + 1),
        label="96 channels on the right",
        labels=(Label(Span("specs/pyramid.seg", start, start + 10), "48 channels come from here"),),
    )
    assert Renderer({"specs/pyramid.seg": text}).render(diagnostic) == dedent(
        """
        error[channel-mismatch]: `+` needs equal channels, got 48 and 96
          --> specs/pyramid.seg:31:14
           |
        29 |   low  = c2 -> ConvModule(48)
           |                ---------- 48 channels come from here
        31 |   both = low + c3
           |              ^ 96 channels on the right
           = help: project it first: `c3 -> ConvModule(48)`
        """
    )


def test_tabs_and_wide_characters_keep_the_marks_in_place() -> None:
    text = "a\tb = 漢字 + bad"
    lines = rendered(text, found(text, "bad")).splitlines()
    assert lines[3] == "1 | a   b = 漢字 + bad"
    # 漢字 takes two columns each, so the marks stand two further to the right than the characters say
    assert lines[4].index("^^^") == lines[3].index("bad") + 2


def test_combining_characters_take_no_column() -> None:
    text = "e\u0301 bad"
    lines = rendered(text, found(text, "bad")).splitlines()
    assert lines[4].index("^^^") == lines[3].index("bad") - 1


def test_a_span_of_several_lines_marks_its_first_and_its_last() -> None:
    text = "x = 1\ndata {\n  a = 1\n  b = 2\n}\n"
    diagnostic = found(text, "data {\n  a = 1\n  b = 2\n}", label="here")
    assert rendered(text, diagnostic) == dedent(
        """
        error[slug]: message
         --> a.seg:2:1
          |
        2 | data {
          | ^^^^^^
        5 | }
          | ^ here
          = help: do it
        """
    )


def test_a_second_file_is_shown_below() -> None:
    text, other = "x = y\n", "let y = 1\n"
    diagnostic = found(text, "y", labels=(Label(Span("b.seg", 4, 5), "defined here"),))
    sources = {"a.seg": text, "b.seg": other}
    assert Renderer(sources).render(diagnostic) == dedent(
        """
        error[slug]: message
         --> a.seg:1:5
          |
        1 | x = y
          |     ^
         ::: b.seg:1:5
          |
        1 | let y = 1
          |     - defined here
          = help: do it
        """
    )


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("before", [0, 30, 400])
def test_long_lines_are_cut_around_the_mark(width: int, before: int) -> None:
    text = "x" * before + " bad " + "y" * 500
    _, _, _, line, marks, _ = rendered(text, found(text, "bad"), width).splitlines()
    assert len(line) <= width
    assert line.endswith("…")
    assert line.index("bad") == marks.index("^^^")


def test_a_mark_longer_than_the_terminal_is_cut() -> None:
    text = "x" * 5000
    lines = rendered(text, found(text, text), 80).splitlines()
    assert max(map(len, lines)) <= 100


def test_the_end_of_the_text_can_be_marked() -> None:
    text = "seg 1\ndata {"
    diagnostic = Diagnostic("slug", "m", "h", span=Span("a.seg", len(text), len(text)))
    assert rendered(text, diagnostic).splitlines()[-2:] == ["  |       ^", "  = help: h"]
    assert rendered("", Diagnostic("slug", "m", "h", span=Span("a.seg", 0, 0))).splitlines()[1] == " --> a.seg:1:1"


def test_a_span_beyond_the_text_does_not_crash() -> None:
    assert " --> a.seg:1:3" in rendered("ab", Diagnostic("slug", "m", "h", span=Span("a.seg", 10, 20)))
    assert " --> gone.seg\n" in rendered("ab", Diagnostic("slug", "m", "h", span=Span("gone.seg", 1, 2)))


def test_the_text_of_an_option_is_a_source() -> None:
    text = "train.epoch=3"
    diagnostic = Diagnostic("slug", "m", "h", span=Span("--set", 6, 11))
    assert Renderer({"--set": text}).render(diagnostic).splitlines()[1:5] == [
        " --> --set:1:7",
        "  |",
        "1 | train.epoch=3",
        "  |       ^^^^^",
    ]


def test_nothing_hostile_reaches_the_terminal() -> None:
    text = "x = \x1b[31m\u202e\x07bad\x00"
    drawn = rendered(text, found(text, "bad", label="\x1b[2J"))
    assert not [c for c in drawn if c < " " and c != "\n"]
    assert "\u202e" not in drawn
    assert sanitize_text("a\nb\tc\x1b") == "a b c\ufffd"


def test_color_changes_nothing_else() -> None:
    import re

    text = "x = y + z\n"
    diagnostic = found(text, "y", label="here", labels=(Label(Span("a.seg", 8, 9), "there"),), severity="warning")
    plain = Renderer({"a.seg": text}).render(diagnostic)
    colored = Renderer({"a.seg": text}, color=True).render(diagnostic)
    assert colored != plain
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain


def test_diagnostics_come_in_the_order_of_the_text() -> None:
    text = "one two three"
    drawn = Renderer({"a.seg": text}).render_all([found(text, "three"), found(text, "one")])
    assert [line for line in drawn.splitlines() if "-->" in line] == [" --> a.seg:1:1", " --> a.seg:1:9"]


def test_columns() -> None:
    assert expand_tabs("\ta漢") == ("    a漢", [0, 4, 5, 7])
    assert [measure_char(c) for c in "a漢\u0301é"] == [1, 2, 0, 1]
    assert slice_columns("漢字x", 1, 5) == " 字x"
    assert slice_columns("漢字x", 0, 3) == "漢 "


@pytest.mark.parametrize(
    ("counts", "text"), [((0, 0), ""), ((1, 0), "1 error"), ((2, 1), "2 errors, 1 warning"), ((0, 2), "2 warnings")]
)
def test_summary(counts: tuple[int, int], text: str) -> None:
    assert format_counts(*counts) == text


def example() -> tuple[str, Diagnostic]:
    text = "seg 1\nx = 漢 y\n"
    start = text.index("y")
    labels = (Label(Span("a.seg", 0, 3), "version"),)
    return text, found(text, "y", label="here", labels=labels, fix=Fix(Span("a.seg", start, start + 1), "z"))


def test_json_counts_lines_and_columns_from_one() -> None:
    text, diagnostic = example()
    found = serialize_diagnostic(diagnostic, {"a.seg": text})
    place = {"file": "a.seg", "line": 2, "column": 7, "end_line": 2, "end_column": 8}
    assert {k: found[k] for k in place} == place
    assert found["labels"] == [
        {"file": "a.seg", "line": 1, "column": 1, "end_line": 1, "end_column": 4, "text": "version"}
    ]
    assert found["fix"] == {**place, "text": "z"}
    assert json.loads(json.dumps(found)) == found


def test_sarif_has_rules_results_and_regions() -> None:
    text, diagnostic = example()
    at_image = Diagnostic("other", "m", "h", path="a folder/x.png", severity="warning")
    log = build_sarif([diagnostic, at_image], {"a.seg": text}, "1.2.3", {"slug": "long text"})
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == ["other", "slug"]
    first, second = run["results"]
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]] == {"id": "slug", "help": {"text": "long text"}}
    region = first["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 7, "endLine": 2, "endColumn": 8}
    assert first["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"] == {"text": "z"}
    assert second["level"] == "warning"
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20folder/x.png"
