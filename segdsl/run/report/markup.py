"""HTML that cannot be broken by what it shows: every text is escaped unless it was made here."""

from __future__ import annotations

from html import escape

from segdsl.diagnostics.render import clean

VOID = frozenset({"meta", "img", "input", "line", "rect", "circle", "path"})
"""Elements without content; in SVG each has to say so."""


UNKNOWN = "-"
"""What stands in place of a number that nobody has."""
MANY_ROWS = 30
"""Rows of a table that are shown without a box to scroll."""


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """An element with its children, escaped but for those that are HTML.

    Attributes are escaped too; None and False leave one out, True gives it without a value. Underscores become hyphens,
    but for one at the end (`class_`).
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{given}/>" if name in VOID else f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Children one after the other, escaped but for those that are HTML."""
    return Html("".join(child if isinstance(child, Html) else escape(clean(child, "\n\t")) for child in children))


def named(name: str) -> Html:
    """A name that somebody chose, in whatever script: it turns the direction of nothing else."""
    return tag("bdi", name)


def facts(*pairs: tuple[str, str | None]) -> Html:
    """Names and what is known of them; those with None are left out."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value is not None]
    return tag("dl", *rows, class_="facts")


def table(
    header: list[str],
    rows: list[list[str]],
    *,
    caption: str,
    sortable: bool = False,
    texts: int = 1,
    falling: int | None = None,
) -> Html:
    """A table whose first columns are ``texts`` and whose others are numbers; ``falling`` is the column by which its
    rows are in order, the largest first. It scrolls by itself where the page is too narrow, and where it has many
    rows."""
    order = {falling: "descending"}
    top = tag("tr", *(tag("th", cell, scope="col", aria_sort=order.get(k)) for k, cell in enumerate(header)))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    parts = (tag("caption", tag("span", caption)), tag("thead", top), tag("tbody", *body))
    return scrolled(
        tag("table", *parts, data_sortable=texts if sortable else None, class_=f"texts{texts}"),
        caption,
        len(rows) > MANY_ROWS,
    )


def scrolled(inner: Html, label: str, tall: bool = False) -> Html:
    """What may be wider than the page, or is ``tall``, in a box that the keyboard scrolls as well."""
    return tag("div", inner, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=label)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)))}"'
