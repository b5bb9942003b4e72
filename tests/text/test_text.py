"""Counts, listings, and text cut to the columns of a terminal."""

from __future__ import annotations

import pytest

from segdsl.text.columns import measure_width, truncate_end, truncate_middle
from segdsl.text.json import parse_json
from segdsl.text.listing import join_names, quote_names
from segdsl.text.plural import format_count, pick_noun
from segdsl.text.table import render_table


def test_a_noun_agrees_with_its_number() -> None:
    assert [format_count(n, "image") for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert [pick_noun(n, "class", "classes") for n in (1, 2)] == ["class", "classes"]


def test_a_listing_counts_the_names_that_it_leaves_out() -> None:
    assert quote_names("abc") == "`a`, `b`, `c`"
    assert quote_names("abc", 2) == "`a`, `b` and 1 more"
    assert join_names("abc", 2, total=2000, separator="; ") == "a; b and 1,998 more"
    assert join_names([]) == ""


@pytest.mark.parametrize("text", ["abcdefghij", "中文文件名字很长", "a\u0301bcdefghijk", "short"])
@pytest.mark.parametrize("truncate", [truncate_end, truncate_middle])
def test_a_text_is_cut_to_its_columns(text: str, truncate) -> None:
    for width in range(1, 20):
        cut = truncate(text, width)
        assert measure_width(cut) <= width
        assert (cut == text) == (measure_width(text) <= width)


def test_the_middle_is_left_out() -> None:
    assert truncate_middle("abcdefghij", 6) == "abc…ij"


def test_a_wide_cell_is_cut_or_folded() -> None:
    rows = [("道" * 50, "1"), ("b[red]", "23")]
    cut = render_table(["name", "count"], rows, width=20)
    assert cut == ["name           count", "道道道道道道…      1", "b[red]            23"]
    folded = render_table(["name", "count"], rows, width=20, overflow="fold")
    assert "".join(folded).count("道") == 50 and max(map(measure_width, folded)) <= 20


@pytest.mark.parametrize("text", ["1" * 5000, '{"a": ' * 100_000, "[" * 100_000, "{", "", b"\xff"])
def test_json_that_python_cannot_hold_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
