"""The error for a file that does not fit a model: missing keys, different shapes, and what the file might be for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from segdsl.diagnostics import Diagnostic, SegError, find_closest_name
from segdsl.text.listing import join_names
from segdsl.weights.local_files import describe_part
from segdsl.weights.match_layout import LayoutMatch, find_best_match

# At most this many keys of each kind get a diagnostic; fewer for an unrelated file, where the details say nothing.
MAX_KEYS, MAX_KEYS_UNRELATED = 5, 2
# At most this many keys of an unrelated file are listed, so that the user can recognize it.
MAX_FILE_KEYS = 3
SLUG = "weights-do-not-fit"


class KeyMismatches(NamedTuple):
    """Keys that are missing in the file, have another shape there, or exist only in the file."""

    missing: tuple[str, ...]
    shape_mismatches: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def total(self) -> int:
        """Return the number of keys that do not fit."""
        return len(self.missing) + len(self.shape_mismatches) + len(self.extra)


class MismatchedFile(NamedTuple):
    """A file that does not fit: its path and content, the tensors of the model, and what was compared."""

    path: str
    content: Mapping[str, Any]
    model_tensors: Mapping[str, Tensor]
    match: LayoutMatch
    mismatches: KeyMismatches
    part: str


def build_mismatch_error(file: MismatchedFile, remedies: Mapping[str, str]) -> SegError:
    """Return an error with a summary, followed by a diagnostic for each of the first keys that do not fit.

    ``remedies`` are help texts for single keys.
    """
    path, content, model_tensors, match, mismatches, part = file
    fitting = None if part else _find_matching_part(content, model_tensors, match)
    if fitting is not None:
        message = f"the file fits only the part `{fitting}`, not the whole model"
        help = f'write `weights {{ {fitting} = "…" }}`, or use `--set \'weights.{fitting}="…"\'`'
        return SegError([Diagnostic(SLUG, message, help, path=path)])
    theirs = {**match.tensors, **match.leftovers}
    foreign = not mismatches.extra and len(mismatches.missing) * 2 > len(model_tensors)
    found = []
    advice = describe_part(Path(path))
    # A summary of a single key would only repeat its diagnostic.
    if mismatches.total != 1 or foreign or advice:
        found = [
            Diagnostic(
                SLUG,
                _summarize_mismatches(theirs, model_tensors, mismatches, part),
                advice or _suggest_weights_remedy(match, mismatches, foreign),
                path=path,
            )
        ]
    limit = MAX_KEYS_UNRELATED if foreign else MAX_KEYS
    for key in mismatches.shape_mismatches[:limit]:
        message = (
            f"`{key}` has shape {list(theirs[key].shape)} in the file but {list(model_tensors[key].shape)} in the model"
        )
        remedy = remedies.get(key, "check that the numbers of classes and channels are the same")
        found.append(Diagnostic(SLUG, message, remedy, path=path))
    for key in _pick_layer_keys(mismatches.missing)[: limit if theirs else 0]:
        help = _describe_closest_key(key, model_tensors[key], match.leftovers, "the file")
        found.append(Diagnostic(SLUG, f"the file has no `{key}` {list(model_tensors[key].shape)}", help, path=path))
    for key in _pick_layer_keys(mismatches.extra)[:limit]:
        help = _describe_closest_key(key, theirs[key], model_tensors, "the model")
        found.append(Diagnostic(SLUG, f"the model has no `{key}` {list(theirs[key].shape)}", help, path=path))
    return SegError(found)


def _pick_layer_keys(keys: Iterable[str]) -> list[str]:
    """Return the first key of each layer, without batch counters."""
    # If a layer is missing, all its tensors are: one of them says as much as all.
    firsts: dict[str, str] = {}
    for key in keys:
        if not key.endswith(".num_batches_tracked"):
            firsts.setdefault(key.rpartition(".")[0], key)
    return list(firsts.values())


def _summarize_mismatches(
    file_tensors: Mapping[str, Tensor], model_tensors: Mapping[str, Tensor], mismatches: KeyMismatches, part: str
) -> str:
    message = f"the file does not fit {f'`{part}`' if part else 'the model'}"
    if not file_tensors:
        return f"{message}: it contains no tensors"
    counts = {"missing": mismatches.missing, "of a different shape": mismatches.shape_mismatches}
    counted = " and ".join(
        f"{len(keys):,} {'is' if len(keys) == 1 else 'are'} {what}" for what, keys in counts.items() if keys
    )
    extra = f"{len(mismatches.extra):,} in the file {'is' if len(mismatches.extra) == 1 else 'are'} not in the model"
    return f"{message}: " + "; ".join(
        [
            *([f"of {len(model_tensors):,} tensors, {counted}"] if counted else []),
            *([extra] if mismatches.extra else []),
        ]
    )


def _suggest_weights_remedy(match: LayoutMatch, mismatches: KeyMismatches, is_unrelated: bool) -> str:
    if match.tensors and not mismatches.missing and not mismatches.extra:
        return "use the widths and classes that the file was trained with, or train with `--weights none`"
    remedy = "use weights for this model, or train without them: `--weights none`"
    others = _pick_layer_keys(match.leftovers)
    if not is_unrelated or not others:
        return remedy
    examples = [f"`{key}` {list(match.leftovers[key].shape)}" for key in others[:MAX_FILE_KEYS]]
    return f"the file has {join_names(examples, total=len(match.leftovers))}\n{remedy}"


def _find_matching_part(
    content: Mapping[str, Any], model_tensors: Mapping[str, Tensor], match: LayoutMatch
) -> str | None:
    """Return the top-level part that the file fills if it has less than half of the other parts, else None."""
    for part in dict.fromkeys(key.partition(".")[0] for key in model_tensors if "." in key):
        outside = [key for key in model_tensors if not key.startswith(f"{part}.")]
        if sum(key in match.tensors for key in outside) * 2 < len(outside) and _can_fill_part(
            content, model_tensors, part
        ):
            return part
    return None


def _can_fill_part(content: Mapping[str, Any], model_tensors: Mapping[str, Tensor], part: str) -> bool:
    inside = {key: value for key, value in model_tensors.items() if key.startswith(f"{part}.")}
    got = find_best_match(content, inside, f"{part}.").tensors
    return all(
        key in got and got[key].shape == value.shape
        for key, value in inside.items()
        if not key.endswith(".num_batches_tracked")
    )


def _describe_closest_key(key: str, value: Tensor, others: Mapping[str, Tensor], side: str) -> str:
    """Describe the key of the other side that is closest to this one."""
    # A weight is never a renamed bias: the last part must agree. Equal shapes are the next best evidence, then names.
    leaf = key.rpartition(".")[2]
    alike = [other for other in others if other.rpartition(".")[2] == leaf]
    same = [other for other in alike if others[other].shape == value.shape]
    near = find_closest_name(key, same) or find_closest_name(key, alike) or next(iter(same), None)
    if near is None:
        return f"{side} has no similar key"
    return f"the closest key in {side} is `{near}` {list(others[near].shape)}"
