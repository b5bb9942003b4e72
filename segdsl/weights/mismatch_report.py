"""The error of a file that does not fit: what is missing, what has another shape, what it may have been meant for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from segdsl.diagnostics import Diagnostic, SegError, nearest
from segdsl.weights.match_layout import Reading, best_reading

SHOWN, SHOWN_OF_FOREIGN = 5, 2
"""Keys of one kind that an error spells out, and those where most of the model is not in the file."""
HELD = 3
"""Keys of a file that an error names where hardly anything of it fits."""
SLUG = "weights-do-not-fit"


class Gaps(NamedTuple):
    """Keys of the model that the file has not, those of another shape there, and keys of the file that are too many."""

    missing: tuple[str, ...]
    differ: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def number(self) -> int:
        """How many keys do not fit."""
        return len(self.missing) + len(self.differ) + len(self.extra)


def misfits(
    path: str,
    content: Mapping[str, Any],
    ours: Mapping[str, Tensor],
    reading: Reading,
    gaps: Gaps,
    remedies: Mapping[str, str],
    part: str,
) -> SegError:
    """One finding that counts what does not fit, then one for each key, of a kind at most SHOWN, and fewer where hardly
    anything fits.

    ``remedies`` say of a key what is to be done about it.
    """
    fitting = None if part else _only_part(content, ours, reading)
    if fitting is not None:
        message = f"the file fits the part `{fitting}` of the model, and is to fill all of it"
        help = f'write `weights {{ {fitting} = "…" }}`, or `--set \'weights.{fitting}="…"\'`'
        return SegError([Diagnostic(SLUG, message, help, path=path)])
    theirs = {**reading.tensors, **reading.others}
    foreign = not gaps.extra and len(gaps.missing) * 2 > len(ours)
    found = []
    if gaps.number != 1 or foreign:
        found = [Diagnostic(SLUG, _summary(theirs, ours, gaps, part), _remedy(reading, gaps, foreign), path=path)]
    most = SHOWN_OF_FOREIGN if foreign else SHOWN
    for key in gaps.differ[:most]:
        message = f"`{key}` is {list(theirs[key].shape)} in the file and {list(ours[key].shape)} in the model"
        remedy = remedies.get(key, "both must have one shape: check the classes and the widths")
        found.append(Diagnostic(SLUG, message, remedy, path=path))
    for key in _told(gaps.missing)[: most if theirs else 0]:
        help = _nearest_key(key, ours[key], reading.others, "the file")
        found.append(Diagnostic(SLUG, f"the file has no `{key}` {list(ours[key].shape)}", help, path=path))
    for key in _told(gaps.extra)[:most]:
        help = _nearest_key(key, theirs[key], ours, "the model")
        found.append(Diagnostic(SLUG, f"the model has no `{key}` {list(theirs[key].shape)}", help, path=path))
    return SegError(found)


def _told(keys: Iterable[str]) -> list[str]:
    """The keys that say something about a file: the first of each layer, and no counters."""
    firsts: dict[str, str] = {}
    for key in keys:
        if not key.endswith(".num_batches_tracked"):
            firsts.setdefault(key.rpartition(".")[0], key)
    return list(firsts.values())


def _summary(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], gaps: Gaps, part: str) -> str:
    message = f"the file does not fit {f'`{part}`' if part else 'the model'}"
    if not theirs:
        return f"{message}: there is no tensor in it"
    counts = {"not in it": gaps.missing, "of another shape": gaps.differ}
    told = ", ".join(
        f"{len(keys):,} {'is' if len(keys) == 1 else 'are'} {what}" for what, keys in counts.items() if keys
    )
    extra = f"it has {len(gaps.extra):,} too many" if gaps.extra else ""
    return f"{message}: " + "; ".join(
        [*([f"of {len(ours):,} tensors {told}"] if told else []), *([extra] if extra else [])]
    )


def _remedy(reading: Reading, gaps: Gaps, foreign: bool) -> str:
    if reading.tensors and not gaps.missing and not gaps.extra:
        return "check the widths and the classes that the file was trained with, or train with `--weights none`"
    remedy = "use weights of this model, or train without them: `--weights none`"
    others = _told(reading.others)
    if not foreign or not others:
        return remedy
    shown = ", ".join(f"`{key}` {list(reading.others[key].shape)}" for key in others[:HELD])
    more = f" and {len(reading.others) - HELD:,} more" if len(reading.others) > HELD else ""
    return f"the file has {shown}{more}\n{remedy}"


def _only_part(content: Mapping[str, Any], ours: Mapping[str, Tensor], reading: Reading) -> str | None:
    """The part of a model, at its first level, that a file fills where it has hardly anything of the others."""
    for part in dict.fromkeys(key.partition(".")[0] for key in ours if "." in key):
        outside = [key for key in ours if not key.startswith(f"{part}.")]
        if sum(key in reading.tensors for key in outside) * 2 < len(outside) and _fills(content, ours, part):
            return part
    return None


def _fills(content: Mapping[str, Any], ours: Mapping[str, Tensor], part: str) -> bool:
    inside = {key: value for key, value in ours.items() if key.startswith(f"{part}.")}
    got = best_reading(content, inside, f"{part}.").tensors
    return all(
        key in got and got[key].shape == value.shape
        for key, value in inside.items()
        if not key.endswith(".num_batches_tracked")
    )


def _nearest_key(key: str, value: Tensor, others: Mapping[str, Tensor], where: str) -> str:
    """The key of the other side that is most like this one: of the same leaf, of the same shape if there is one."""
    leaf = key.rpartition(".")[2]
    alike = [other for other in others if other.rpartition(".")[2] == leaf]
    same = [other for other in alike if others[other].shape == value.shape]
    near = nearest(key, same) or nearest(key, alike) or next(iter(same), None)
    if near is None:
        return f"nothing in {where} is like it"
    return f"the nearest in {where} is `{near}` {list(others[near].shape)}"
