"""Aliases: names in PyTorch, Lightning, OpenMMLab, Ultralytics, YAML and argparse for names of this language.

Every suggestion of a name consults this registry, so a foreign name is recognized wherever it is written. The registry
starts empty: whoever defines a name registers its aliases.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Aliases(NamedTuple):
    """Names of other frameworks for one name here, separated by blanks.

    ``difference`` states what differs from them, if their arguments or values are not the same here: such a name must
    not simply be replaced. In the annotation of a field, it holds the aliases of the field's name.
    """

    names: str
    difference: str = ""


_MEANINGS: dict[str, tuple[str, ...]] = {}
_DIFFERENCES: dict[str, str] = {}


def fold_name(name: str) -> str:
    """Return a name in lower case, letters and digits only: `LRScheduler` and `lr_scheduler` are the same."""
    return "".join(c for c in name.lower() if c.isalnum())


def register_aliases(name: str, *aliases: Aliases | str) -> None:
    """Register the aliases of ``name``; a string holds aliases without differences."""
    # Several names may share an alias (`steps` is a unit, a list of milestones or a length). The names that are valid
    # in the place at hand decide which is meant, and the name that was registered first wins.
    for group in aliases:
        names, difference = (group, "") if isinstance(group, str) else group
        for alias in map(fold_name, names.split()):
            known = _MEANINGS.get(alias, ())
            _MEANINGS[alias] = known if name in known else (*known, name)
            if difference:
                _DIFFERENCES[alias] = difference


def list_aliases() -> dict[str, tuple[str, ...]]:
    """Return all aliases, folded, with the names that each may stand for."""
    return dict(_MEANINGS)


def list_meanings(name: str) -> tuple[str, ...]:
    """Return the names here that a foreign ``name`` may stand for, in order of preference."""
    return _MEANINGS.get(fold_name(name), ())


def is_foreign_name(name: str) -> bool:
    """Return whether ``name`` is a name of another framework."""
    return fold_name(name) in _MEANINGS


def describe_difference(name: str) -> str:
    """Return what differs from the foreign ``name``, or "" if it takes the same arguments and values here."""
    return _DIFFERENCES.get(fold_name(name), "")


def resolve_alias(name: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that the foreign ``name`` stands for, or None."""
    meanings = list_meanings(name)
    candidates = set(known) if meanings else set()
    return next((ours for ours in meanings if ours in candidates), None)
