"""The label space: from the classes that masks declare to the classes that a model learns.

`data.exclude` removes classes (their pixels are ignored), `data.remap` merges and renames them. Loss, scores and
exported labels use the remaining classes, in the order of their original ids.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from segdsl.diagnostics import find_closest_name
from segdsl.ir.values import Range
from segdsl.text.listing import quote_names

VOID_ID = 255
"""The id of ignored pixels if `data.values` assigns mask values to classes."""


CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories not allowed in class names: control characters, lone surrogates, line and paragraph separators."""


class Fault(NamedTuple):
    """An error in one entry of a setting of `data`; ``position`` is its index there, -1 for the setting as a whole."""

    setting: str
    position: int
    slug: str
    message: str
    help: str


class Relabelling(NamedTuple):
    """``classes`` are the learned classes; ``ids[k]`` is the new id of the k-th declared class, None if ignored."""

    classes: tuple[str, ...]
    ids: tuple[int | None, ...]


Merges = Sequence[tuple[Sequence[str], str]]
"""Pairs of class names and the class that they are merged into."""


def relabel_classes(declared: Sequence[str], exclude: Sequence[str] = (), merges: Merges = ()) -> Relabelling:
    """Return the learned classes and new ids for the ``declared`` classes, which are in the order of their ids.

    A merged class takes the position of its first member. Unknown names in ``exclude`` and ``merges`` are skipped.
    """
    becomes = {name: into for names, into in merges for name in names}
    learned = [becomes.get(name, name) for name in declared if name not in exclude]
    classes = tuple(dict.fromkeys(learned))
    place = {name: position for position, name in enumerate(classes)}
    return Relabelling(classes, tuple(None if n in exclude else place[becomes.get(n, n)] for n in declared))


def find_label_faults(
    declared: Sequence[str],
    ignore: int,
    exclude: Sequence[str] = (),
    merges: Merges = (),
    values: Sequence[Range] | None = None,
) -> list[Fault]:
    """Return all errors and ambiguities in ``exclude``, ``merges`` and ``values`` for the declared classes."""
    found: list[Fault] = [] if values is None else _find_value_faults(declared, values)
    moved: dict[str, str] = {}
    for position, name in enumerate(exclude):
        found += _record_move("exclude", position, name, "excluded", declared, moved)
    for position, (names, into) in enumerate(merges):
        for name in names:
            found += _record_move("remap", position, name, f"merged into `{into}`", declared, moved)
    found += _find_moved_targets(merges, moved)
    # Without `values`, mask values are the ids: once classes are renumbered, the ignore value must not be one of them.
    if (exclude or merges) and values is None and ignore < len(declared):
        message = f"ignore value {ignore} is also the id of class `{declared[ignore]}`, and class ids change here"
        help = f'replace `ignore` with `exclude = ["{declared[ignore]}"]`'
        found.append(Fault("ignore", 0, "ignore-is-class", message, help))
    return found or list(_find_lost_classes(declared, exclude, merges))


def _find_moved_targets(merges: Merges, moved: dict[str, str]) -> Iterator[Fault]:
    """Yield an error for each class that others are merged into although it is excluded or merged itself."""
    for position, (names, into) in enumerate(merges):
        if into in moved and into not in names:
            message = f"classes are merged into `{into}`, but `{into}` itself is {moved[into]}"
            help = f"set `into` to the final class, or leave `{into}` unchanged"
            yield Fault("remap", position, "class-moved-twice", message, help)


def _find_lost_classes(declared: Sequence[str], exclude: Sequence[str], merges: Merges) -> Iterator[Fault]:
    """Yield an error if the changes leave fewer than two classes."""
    left = relabel_classes(declared, exclude, merges).classes
    if (exclude or merges) and len(left) < 2:
        message = f"{len(left)} of {len(declared)} classes remain, but segmentation needs at least 2"
        setting = "exclude" if exclude else "remap"
        yield Fault(setting, 0, "too-few-classes", message, "exclude or merge fewer classes")


def has_control_character(name: str) -> bool:
    """Return whether a name has a line break or another control character, which tables and text files cannot hold."""
    return any(unicodedata.category(c) in CONTROL_CATEGORIES for c in name)


def escape_control_characters(name: str) -> str:
    """Return a name with its control characters as escapes: `\\n`."""
    characters = (
        c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROL_CATEGORIES else c for c in name
    )
    return "".join(characters)


def describe_control_character(name: str) -> tuple[str, str]:
    """Return the message and the help for a class name that :func:`has_control_character`."""
    message = (
        f'class name "{escape_control_characters(name)}" contains a control character, such as a line break or a tab'
    )
    return message, "use printable characters only, with spaces between words"


def suggest_class(name: str, declared: Sequence[str]) -> str:
    """Return the help for an unknown class: the closest name, or the declared classes."""
    near = find_closest_name(name, declared)
    return f"did you mean `{near}`?" if near else f"known classes: {quote_names(declared)}"


def _record_move(
    setting: str, position: int, name: str, change: str, declared: Sequence[str], moved: dict[str, str]
) -> list[Fault]:
    """Record in ``moved`` that a class is excluded or merged; return an error if it is unknown or moved already."""
    if name not in declared:
        return [Fault(setting, position, "class-unknown", f"unknown class `{name}`", suggest_class(name, declared))]
    if name in moved:
        message = (
            f"`{name}` is {moved[name]} and also {change}" if moved[name] != change else f"`{name}` is {change} twice"
        )
        return [Fault(setting, position, "class-moved-twice", message, "remove one of the two")]
    moved[name] = change
    return []


def _find_value_faults(declared: Sequence[str], values: Sequence[Range]) -> list[Fault]:
    if len(values) != len(declared):
        message = f"`values` has {len(values)} entries for {len(declared)} classes"
        return [Fault("values", -1, "values-count", message, "list one value or range per class, in class order")]
    owner: dict[int, str] = {}
    for position, (name, span) in enumerate(zip(declared, values, strict=True)):
        for value in range(int(span.low), int(span.high) + 1):
            other = owner.setdefault(value, name)
            if other != name:
                message = f"mask value {value} is assigned to both `{other}` and `{name}`"
                return [Fault("values", position, "values-overlap", message, "assign each value to a single class")]
    return []
