"""Generation of HTML: every text is escaped unless it is HTML made by this module."""

from __future__ import annotations

from html import escape

from segdsl.text.columns import sanitize_text

VOID_ELEMENTS = frozenset({"meta", "img", "input", "line", "rect", "circle", "path"})
"""Elements without content, written as `<name/>`, which SVG requires."""


UNKNOWN = "-"
"""Placeholder for an unknown number."""
MAX_OPEN_ROWS = 30
"""Maximum number of table rows without a scroll box."""


class Html(str):
    """A string of HTML, which is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """Render an element with its children, escaped unless they are HTML.

    Attribute values are escaped too; None and False omit an attribute, True writes it without a value. Underscores in
    attribute names become hyphens; a trailing one is dropped (`class_`).
    """
    text = "".join(_format_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{text}/>" if name in VOID_ELEMENTS else f"<{name}{text}>{join_html(*children)}</{name}>")


def join_html(*children: str) -> Html:
    """Concatenate children, escaped unless they are HTML."""
    return Html(
        "".join(child if isinstance(child, Html) else escape(sanitize_text(child, "\n\t")) for child in children)
    )


def isolate_name(name: str) -> Html:
    """Render a name chosen by the user, isolated from the text direction of its surroundings."""
    # A right-to-left name would otherwise reorder the text around it.
    return tag("bdi", name)


def render_facts(*pairs: tuple[str, str | None]) -> Html:
    """Render a list of names and values; values of None are omitted."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value is not None]
    return tag("dl", *rows, class_="facts")


def render_table(
    header: list[str],
    rows: list[list[str]],
    *,
    caption: str,
    sortable: bool = False,
    text_columns: int = 1,
    descending_column: int | None = None,
) -> Html:
    """Render a table in a scroll box.

    The first ``text_columns`` columns are text, the others numbers. ``descending_column`` is the column by which the
    rows are sorted, largest first.
    """
    order = {descending_column: "descending"}
    top = tag("tr", *(tag("th", cell, scope="col", aria_sort=order.get(k)) for k, cell in enumerate(header)))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    parts = (tag("caption", tag("span", caption)), tag("thead", top), tag("tbody", *body))
    return wrap_scrollable(
        tag("table", *parts, data_sortable=text_columns if sortable else None, class_=f"texts{text_columns}"),
        caption,
        len(rows) > MAX_OPEN_ROWS,
    )


def wrap_scrollable(inner: Html, label: str, is_tall: bool = False) -> Html:
    """Wrap content that may be wider than the page, or ``is_tall``, in a scroll box."""
    # The tab index makes it scrollable by keyboard.
    return tag("div", inner, class_="scroll tall" if is_tall else "scroll", tabindex=0, role="region", aria_label=label)


def _format_attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(sanitize_text(str(value)))}"'
