"""The error for a file that does not fit a model: missing keys, different shapes, and what the file might be for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from segdsl.diagnostics import Diagnostic, SegError, nearest
from segdsl.weights.match_layout import Reading, best_reading

# At most this many keys of each kind get a diagnostic; fewer for an unrelated file, where the details say nothing.
SHOWN, SHOWN_OF_FOREIGN = 5, 2
# At most this many keys of an unrelated file are listed, so that the user can recognize it.
HELD = 3
SLUG = "weights-do-not-fit"


class Gaps(NamedTuple):
    """Keys that are missing in the file, have another shape there, or exist only in the file."""

    missing: tuple[str, ...]
    differ: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def number(self) -> int:
        """Return the number of keys that do not fit."""
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
    """Return an error with a summary, followed by a diagnostic for each of the first keys that do not fit.

    ``remedies`` are help texts for single keys.
    """
    fitting = None if part else _only_part(content, ours, reading)
    if fitting is not None:
        message = f"the file fits only the part `{fitting}`, not the whole model"
        help = f'write `weights {{ {fitting} = "…" }}`, or use `--set \'weights.{fitting}="…"\'`'
        return SegError([Diagnostic(SLUG, message, help, path=path)])
    theirs = {**reading.tensors, **reading.others}
    foreign = not gaps.extra and len(gaps.missing) * 2 > len(ours)
    found = []
    # A summary of a single key would only repeat its diagnostic.
    if gaps.number != 1 or foreign:
        found = [Diagnostic(SLUG, _summary(theirs, ours, gaps, part), _remedy(reading, gaps, foreign), path=path)]
    limit = SHOWN_OF_FOREIGN if foreign else SHOWN
    for key in gaps.differ[:limit]:
        message = f"`{key}` has shape {list(theirs[key].shape)} in the file but {list(ours[key].shape)} in the model"
        remedy = remedies.get(key, "check that the numbers of classes and channels are the same")
        found.append(Diagnostic(SLUG, message, remedy, path=path))
    for key in _told(gaps.missing)[: limit if theirs else 0]:
        help = _nearest_key(key, ours[key], reading.others, "the file")
        found.append(Diagnostic(SLUG, f"the file has no `{key}` {list(ours[key].shape)}", help, path=path))
    for key in _told(gaps.extra)[:limit]:
        help = _nearest_key(key, theirs[key], ours, "the model")
        found.append(Diagnostic(SLUG, f"the model has no `{key}` {list(theirs[key].shape)}", help, path=path))
    return SegError(found)


def _told(keys: Iterable[str]) -> list[str]:
    """Return the first key of each layer, without batch counters."""
    # If a layer is missing, all its tensors are: one of them says as much as all.
    firsts: dict[str, str] = {}
    for key in keys:
        if not key.endswith(".num_batches_tracked"):
            firsts.setdefault(key.rpartition(".")[0], key)
    return list(firsts.values())


def _summary(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], gaps: Gaps, part: str) -> str:
    message = f"the file does not fit {f'`{part}`' if part else 'the model'}"
    if not theirs:
        return f"{message}: it contains no tensors"
    counts = {"missing": gaps.missing, "of a different shape": gaps.differ}
    counted = " and ".join(
        f"{len(keys):,} {'is' if len(keys) == 1 else 'are'} {what}" for what, keys in counts.items() if keys
    )
    extra = f"{len(gaps.extra):,} in the file {'is' if len(gaps.extra) == 1 else 'are'} not in the model"
    return f"{message}: " + "; ".join(
        [*([f"of {len(ours):,} tensors, {counted}"] if counted else []), *([extra] if gaps.extra else [])]
    )


def _remedy(reading: Reading, gaps: Gaps, foreign: bool) -> str:
    if reading.tensors and not gaps.missing and not gaps.extra:
        return "use the widths and classes that the file was trained with, or train with `--weights none`"
    remedy = "use weights for this model, or train without them: `--weights none`"
    others = _told(reading.others)
    if not foreign or not others:
        return remedy
    examples = ", ".join(f"`{key}` {list(reading.others[key].shape)}" for key in others[:HELD])
    more = f" and {len(reading.others) - HELD:,} more" if len(reading.others) > HELD else ""
    return f"the file has {examples}{more}\n{remedy}"


def _only_part(content: Mapping[str, Any], ours: Mapping[str, Tensor], reading: Reading) -> str | None:
    """Return the top-level part that the file fills if it has less than half of the other parts, else None."""
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
    """Describe the key of the other side that is closest to this one."""
    # A weight is never a renamed bias: the last part must agree. Equal shapes are the next best evidence, then names.
    leaf = key.rpartition(".")[2]
    alike = [other for other in others if other.rpartition(".")[2] == leaf]
    same = [other for other in alike if others[other].shape == value.shape]
    near = nearest(key, same) or nearest(key, alike) or next(iter(same), None)
    if near is None:
        return f"{where} has no similar key"
    return f"the closest key in {where} is `{near}` {list(others[near].shape)}"
