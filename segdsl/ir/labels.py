"""The label space: from the classes that masks declare to those that a model learns.

`data.exclude` takes classes out (their pixels become void), `data.remap` merges and renames them. What is left, in the
order of the ids that were declared, is what the loss, the scores and the exported labels are about.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from segdsl.diagnostics import nearest
from segdsl.ir.values import Range

VOID_ID = 255
"""The id of void where masks hold values of their own."""


CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of Unicode that a name cannot have: control characters, line separators, halves of a pair."""


class Fault(NamedTuple):
    """What is wrong with one entry of a setting of `data`."""

    setting: str
    position: int
    slug: str
    message: str
    help: str


class Relabelling(NamedTuple):
    """``classes`` are learnt; ``ids[k]`` is the place among them of the class declared k-th, None where it is void."""

    classes: tuple[str, ...]
    ids: tuple[int | None, ...]


Merges = Sequence[tuple[Sequence[str], str]]
"""Names of classes, and the class that they become."""


def relabelled(declared: Sequence[str], exclude: Sequence[str] = (), merges: Merges = ()) -> Relabelling:
    """What becomes of the classes ``declared`` by masks, in the order of their ids; names that are none are skipped.

    A merged class stands where the first of its members stood.
    """
    becomes = {name: into for names, into in merges for name in names}
    learnt = [becomes.get(name, name) for name in declared if name not in exclude]
    classes = tuple(dict.fromkeys(learnt))
    place = {name: position for position, name in enumerate(classes)}
    return Relabelling(classes, tuple(None if n in exclude else place[becomes.get(n, n)] for n in declared))


def faults(
    declared: Sequence[str],
    ignore: int,
    exclude: Sequence[str] = (),
    merges: Merges = (),
    values: Sequence[Range] | None = None,
) -> list[Fault]:
    """Everything that keeps ``exclude``, ``merges`` and ``values`` from having one meaning over these classes."""
    found: list[Fault] = [] if values is None else _of_values(declared, values)
    moved: dict[str, str] = {}
    for position, name in enumerate(exclude):
        found += _placed("exclude", position, name, "excluded", declared, moved)
    for position, (names, into) in enumerate(merges):
        for name in names:
            found += _placed("remap", position, name, f"merged into `{into}`", declared, moved)
    for position, (names, into) in enumerate(merges):
        if into in moved and into not in names:
            message = f"classes are merged into `{into}`, which is itself {moved[into]}"
            help = f"name the final class in `into`, or leave `{into}` where it is"
            found.append(Fault("remap", position, "class-moved-twice", message, help))
    if (exclude or merges) and values is None and ignore < len(declared):
        message = (
            f"the ignored value {ignore} is also the class `{declared[ignore]}`, and classes change their ids here"
        )
        help = f'write `exclude = ["{declared[ignore]}"]` in place of `ignore`'
        found.append(Fault("ignore", 0, "ignore-is-class", message, help))
    changed = bool(exclude or merges)
    left = relabelled(declared, exclude, merges).classes
    if not found and changed and len(left) < 2:
        message = f"{len(left)} of {len(declared)} classes is left, and a segmentation needs two"
        found.append(
            Fault("exclude" if exclude else "remap", 0, "too-few-classes", message, "exclude or merge fewer classes")
        )
    return found


def has_control_character(name: str) -> bool:
    """Whether a name holds a line break or another character that a table and a file of text cannot hold."""
    return any(unicodedata.category(c) in CONTROL for c in name)


def escaped(name: str) -> str:
    """A name with its control characters spelled out: `\\n`."""
    spelled = (c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROL else c for c in name)
    return "".join(spelled)


def control_character(name: str) -> tuple[str, str]:
    """What is wrong with the name of a class that :func:`has_control_character`, and what to do."""
    message = f'the name of the class "{escaped(name)}" has a control character, such as a line break or a tab'
    return message, "name it in one line of printed characters, with blanks between the words"


def offered(name: str, declared: Sequence[str]) -> str:
    """The class that a misspelt ``name`` may mean, or those there are."""
    near = nearest(name, declared)
    listing = ", ".join(f"`{n}`" for n in declared[:8]) + (", …" if len(declared) > 8 else "")
    return f"did you mean `{near}`?" if near else f"known: {listing}"


def _placed(
    setting: str, position: int, name: str, what: str, declared: Sequence[str], moved: dict[str, str]
) -> list[Fault]:
    """Notes in ``moved`` what becomes of a class; says where there is none of this name, or it was moved before."""
    if name not in declared:
        return [Fault(setting, position, "class-unknown", f"there is no class `{name}`", offered(name, declared))]
    if name in moved:
        message = f"`{name}` is {moved[name]}, and here {what}" if moved[name] != what else f"`{name}` is {what} twice"
        return [Fault(setting, position, "class-moved-twice", message, "keep one of the two")]
    moved[name] = what
    return []


def _of_values(declared: Sequence[str], values: Sequence[Range]) -> list[Fault]:
    if len(values) != len(declared):
        message = f"{len(values)} mask values are given for {len(declared)} classes"
        return [Fault("values", -1, "values-count", message, "give one, or a range, for each class in their order")]
    owner: dict[int, str] = {}
    for position, (name, span) in enumerate(zip(declared, values, strict=True)):
        for value in range(int(span.low), int(span.high) + 1):
            other = owner.setdefault(value, name)
            if other != name:
                message = f"the mask value {value} is both `{other}` and `{name}`"
                return [Fault("values", position, "values-overlap", message, "give every value to one class")]
    return []
