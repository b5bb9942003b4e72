"""Pages: untrusted text stays text, and what a template lacks is an error."""

from __future__ import annotations

import re
from hashlib import sha256
from html import unescape
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from segdsl.pages.page import Section, encode_data_uri, format_percent, open_templates, render_page

PAGE = '{% extends "page.html.j2" %}{% block title %}{{ name }}{% endblock %}{% block header %}{{ name }}{% endblock %}'


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    (tmp_path / "own.html.j2").write_text(PAGE, encoding="utf-8")
    (tmp_path / "part.html.j2").write_text("<p>{{ view.text }}</p>", encoding="utf-8")
    (tmp_path / "style.css").write_text("b { top: 0 }", encoding="utf-8")
    return tmp_path


def test_values_are_escaped_and_cannot_reorder_text(templates: Path) -> None:
    names = {"text": "<i>&\"\x00\u202e'"}
    page = render_page(templates, "own", [Section("a", "A & B", "part.html.j2", names)], name="</title><script>")
    assert "<p>&lt;i&gt;&amp;&#34;\ufffd\ufffd&#39;</p>" in page and page.count("<script>") == 1
    assert page.count("&lt;/title&gt;&lt;script&gt;") == 2 and "A &amp; B" in page


def test_the_policy_allows_the_style_and_script_of_the_page_alone(templates: Path) -> None:
    page = render_page(templates, "own", [], name="x")
    match = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert match is not None
    allowed = re.findall("'sha256-([^']+)'", unescape(match[1]))
    parts = [re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[0] for kind in ("style", "script")]
    assert "b { top: 0 }" in parts[0] and unescape(match[1]).startswith("default-src 'none'")
    assert [encode_data_uri(sha256(part.encode()).digest(), "x").partition(",")[2] for part in parts] == allowed


def test_a_value_that_a_template_lacks_is_an_error(templates: Path) -> None:
    with pytest.raises(UndefinedError):
        render_page(templates, "own", [])
    with pytest.raises(UndefinedError):
        render_page(templates, "own", [Section("a", "A", "part.html.j2", {})], name="x")


def test_a_closed_section_is_closed(templates: Path) -> None:
    parts = [Section(k, k, "part.html.j2", {"text": k}, is_open=k == "a") for k in ("a", "b")]
    page = render_page(templates, "own", parts, name="x")
    assert '<details id="a" open>' in page and '<details id="b">' in page


@pytest.mark.parametrize(("digits", "least"), [(1, "<0.1%"), (2, "<0.01%")])
def test_a_small_share_is_not_none(digits: int, least: str) -> None:
    assert format_percent(1e-9, digits) == least and format_percent(0, digits) == f"{0:.{digits}f}%"
    assert format_percent(0.25, digits) == f"{25:.{digits}f}%"


def test_counts_are_grouped_and_agree_with_their_noun(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(
        '{{ a|counted("class", "classes") }}, {{ b|counted("image") }}, {{ b|grouped }}', "utf-8"
    )
    assert open_templates(tmp_path).get_template("t").render(a=1, b=1200) == "1 class, 1,200 images, 1,200"
