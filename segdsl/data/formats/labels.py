"""The label space of a dataset: class ids, names and colors, as declared in `dataset_meta.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import Color, read_bytes
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.labels import VOID_ID, Merges, relabel_classes
from segdsl.ir.values import Range
from segdsl.text.json import parse_json
from segdsl.text.listing import join_names

META_FILE = "dataset_meta.json"
MAX_CLASSES = 256
VOID_NAMES = ("ignored", "ignore", "void", "border")
"""Label names that mean ignored pixels, in lower case."""
VOID_LIKE_NAMES = (*VOID_NAMES, "unlabeled", "unlabelled", "unknown", "don't care", "dontcare", "unclassified")
"""Class names that suggest ignored pixels."""


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Class names in the order of their ids, and the colors of three-channel masks (empty if there are none).

    ``value_to_id`` maps each of the 256 mask values to an id, or to -1 if no mask of this format may hold it; empty if
    values are ids already. ``source_classes`` are the classes in the masks if a program trains on others (see
    :meth:`relabel`); ``colors`` then belong to them.
    """

    classes: tuple[str, ...]
    colors: tuple[Color | None, ...] = ()
    value_to_id: tuple[int, ...] = ()
    source_classes: tuple[str, ...] = ()

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """The classes in the mask files, in the order of their ids there."""
        return self.source_classes or self.classes

    def relabel(
        self, ignore: int, exclude: Sequence[str], merges: Merges, values: Sequence[Range] | None = None
    ) -> LabelSpace:
        """Return the label space to train on, without excluded and with merged classes.

        ``values`` gives the mask values of each class if they are not its id. Excluded classes become ``ignore``.
        """
        if not (exclude or merges or values):
            return self
        target = relabel_classes(self.classes, exclude, merges)
        table = [-1] * 256
        void = ignore if values is None else VOID_ID
        for value, place in enumerate(self.value_to_id or _map_values_to_classes(len(self.classes), ignore, values)):
            if 0 <= place < len(target.ids):
                new_id = target.ids[place]
                table[value] = void if new_id is None else new_id
            # Values of other ids stay -1: finding one in a mask is an error, not a pixel to ignore.
            elif place == void:
                table[value] = void
        return LabelSpace(target.classes, self.colors, tuple(table), self.classes)


def _map_values_to_classes(count: int, ignore: int, values: Sequence[Range] | None) -> list[int]:
    """Return the class id of each mask value, from ``values`` or equal to it; -1 if neither a class nor ignored."""
    places = [-1] * 256
    if values is None:
        places[ignore] = ignore
        places[:count] = range(count)
        return places
    # Classes are written after the ignore value, so that a value listed for a class is never ignored.
    places[ignore] = VOID_ID
    for place, span in enumerate(values):
        for value in range(int(span.low), int(span.high) + 1):
            places[value] = place
    return places


def read_label_space(path: Path) -> LabelSpace:
    """Read the label space of a meta file. Raise :class:`SegError` naming the file if it is malformed."""
    meta = _read_json_object(path)
    names = _parse_label_names(meta, path)
    if not names:
        raise _make_malformed_error(path, "the file declares no class")
    if len(names) > MAX_CLASSES:
        raise _make_malformed_error(
            path, f"the file declares {len(names)} classes; an 8-bit mask can hold at most {MAX_CLASSES}"
        )
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise _make_malformed_error(path, f"a class name must be a non-empty string, got {json.dumps(name)}")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        message = f"two classes are named `{twice[0]}`"
        raise fail("meta-class-twice", message, "give every class a unique name, in every subset", path=str(path))
    return LabelSpace(tuple(names), _parse_colors(meta.get("segmentation_colors"), len(names), path))


def _read_json_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        help = 'create it: {"label_map": {"0": "background", "1": "…"}}; every subset needs one'
        raise fail("meta-missing", f"`{META_FILE}` is missing", help, path=str(path))
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front, which json would reject.
        meta = parse_json(
            read_bytes(path).decode("utf-8-sig"), pair_hook=lambda pairs: _reject_duplicate_keys(pairs, path)
        )
    except json.JSONDecodeError as error:
        raise _make_malformed_error(path, f"invalid JSON at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise _make_malformed_error(path, "the file is not valid JSON in UTF-8") from None
    if not isinstance(meta, dict):
        raise _make_malformed_error(path, "the file must contain a JSON object")
    return meta


def _reject_duplicate_keys(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    # json keeps the last value of a duplicate key: a class would disappear without a word.
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise _make_malformed_error(path, f'duplicate key "{key}"')
        content[key] = value
    return content


def _parse_label_names(meta: Mapping[str, Any], path: Path) -> list[str]:
    labels, label_map = meta.get("labels"), meta.get("label_map")
    if label_map is None and isinstance(labels, list):
        return labels
    if not isinstance(label_map, dict):
        raise _make_malformed_error(path, "the file has no `label_map` object")
    # A label's id is its position in the map, not its key. Every reader of the format mislabels masks silently if the
    # two differ, so such files are rejected.
    expected = [str(i) for i in range(len(label_map))]
    if list(label_map) != expected:
        got = join_names([f'"{key}"' for key in label_map], 5)
        message = f'the keys of `label_map` must be "0", "1", … in this order, got {got}'
        help = "renumber the labels from 0, since an id is a position, and check that the masks use the same ids"
        raise fail("meta-keys-shuffled", message, help, path=str(path))
    names = list(label_map.values())
    if labels is not None and labels != names:
        raise _make_malformed_error(path, "`labels` and `label_map` name different classes")
    return names


def _parse_colors(value: Any, count: int, path: Path) -> tuple[Color | None, ...]:
    if value is None or value == []:
        return ()
    if not isinstance(value, list) or len(value) != count:
        got = f"{len(value)} entries" if isinstance(value, list) else "no list"
        raise _make_malformed_error(
            path, f"`segmentation_colors` must list one color for each of the {count} classes, got {got}"
        )
    colors = tuple(_parse_color(entry, path) for entry in value)
    present = [c for c in colors if c is not None]
    twice = next((c for c in present if present.count(c) > 1), None)
    if twice is not None:
        first, second = [i for i, c in enumerate(colors) if c == twice][:2]
        message = f"classes {first} and {second} have the same color {list(twice)}"
        raise fail("color-twice", message, "give every class a unique color", path=str(path))
    return colors


def make_annotation_labels(classes: Sequence[str], category_count: int, ignore: int, path: Path) -> LabelSpace:
    """Make the label space of rasterized masks. The last ``category_count`` of ``classes`` come from the annotations.

    Raise :class:`SegError` naming the annotation file if they do not fit into a mask.
    """
    twice = next((name for name in classes if classes.count(name) > 1), None)
    if twice is not None:
        help = "give every class a unique name"
        raise fail("meta-class-twice", f"two classes are named `{twice}`", help, path=str(path))
    # We write these masks ourselves, so no class may get the id that means ignored.
    limit = ignore if category_count <= ignore < MAX_CLASSES else MAX_CLASSES
    if len(classes) > limit or not category_count:
        maximum = f"a mask can hold {MAX_CLASSES - 1} classes with the background, and ignored pixels"
        message = f"the file declares {category_count or 'no'} categories; {maximum}"
        raise fail(
            "meta-malformed", message, "remove categories" if category_count else "add categories", path=str(path)
        )
    return LabelSpace(tuple(classes))


def _parse_color(entry: Any, path: Path) -> Color | None:
    if entry is None:
        return None
    if isinstance(entry, list) and len(entry) == 3 and all(type(v) is int and 0 <= v <= 255 for v in entry):
        return (entry[0], entry[1], entry[2])
    raise _make_malformed_error(
        path, f"a color must be [r, g, b] with integers from 0 to 255, got {json.dumps(entry)[:60]}"
    )


def _make_malformed_error(path: Path, message: str) -> SegError:
    help = 'write {"label_map": {"0": "name", …}, "segmentation_colors": [[r, g, b], …]}; colors are optional'
    return fail("meta-malformed", message, help, path=str(path))


def find_shared_label_space(
    spaces: Mapping[str, LabelSpace], files: Mapping[str, Path], findings: list[Diagnostic]
) -> LabelSpace | None:
    """Return the label space that all subsets share, or None, with an error for each subset that differs."""
    if not spaces:
        return None
    first, space = next(iter(spaces.items()))
    agreed = True
    for name, other in list(spaces.items())[1:]:
        if other == space:
            continue
        agreed = False
        message = f"`{name}` and `{first}` declare different classes or colors: {_describe_difference(other, space)}"
        help = "make the meta files of all subsets equal, and use the same ids in all masks"
        findings.append(Diagnostic("meta-differs", message, help, path=str(files[name])))
    return space if agreed else None


def _describe_difference(a: LabelSpace, b: LabelSpace) -> str:
    if len(a.classes) != len(b.classes):
        return f"{len(a.classes)} classes versus {len(b.classes)}"
    for i, (left, right) in enumerate(zip(a.classes, b.classes, strict=True)):
        if left != right:
            return f"id {i} is `{left}` versus `{right}`"
    return "the colors differ"
