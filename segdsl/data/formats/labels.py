"""The label space of a data set: what `dataset_meta.json` says about class ids, names and colours.

A label's id is its *position* in `label_map`, not its key; keys in any other order than "0", "1", … mislabel silently
in every reader of the format, so they are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import Color, read_bytes
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.labels import VOID_ID, Merges, relabelled
from segdsl.ir.values import Range

META_FILE = "dataset_meta.json"
MAX_CLASSES = 256
VOID_NAMES = ("ignored", "ignore", "void", "border")
"""What the label of void is called, in lower case."""
DOUBTFUL_NAMES = (*VOID_NAMES, "unlabeled", "unlabelled", "unknown", "don't care", "dontcare", "unclassified")
"""What a class may be called that is none."""


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Class names in the order of their ids, and the colours of three-channel masks (empty where none are given).

    ``table`` is what each of the 256 values of a mask becomes, where they are not ids already; -1 for one that no mask
    of this format has. ``declared`` are the classes of the masks where a program learns others (`relabel`); colours are
    theirs.
    """

    classes: tuple[str, ...]
    colors: tuple[Color | None, ...] = ()
    table: tuple[int, ...] = ()
    declared: tuple[str, ...] = ()

    @property
    def in_masks(self) -> tuple[str, ...]:
        """The classes of the masks, in the order of their ids."""
        return self.declared or self.classes

    def relabel(
        self, ignore: int, exclude: Sequence[str], merges: Merges, values: Sequence[Range] | None = None
    ) -> LabelSpace:
        """The space that a program learns: mask values become the ids of classes that are left, or void (``ignore``).

        ``values`` are those of each class in the masks, where they are not its id.
        """
        if not (exclude or merges or values):
            return self
        learnt = relabelled(self.classes, exclude, merges)
        table = [-1] * 256
        void = ignore if values is None else VOID_ID
        for value, place in enumerate(self.table or _places(len(self.classes), ignore, values)):
            if 0 <= place < len(learnt.ids):
                found = learnt.ids[place]
                table[value] = void if found is None else found
            elif place == void:
                table[value] = void
        return LabelSpace(learnt.classes, self.colors, tuple(table), self.classes)


def _places(count: int, ignore: int, values: Sequence[Range] | None) -> list[int]:
    """The id of each mask value: itself, or by ``values``; -1 for one that is neither a class nor void."""
    places = [-1] * 256
    if values is None:
        places[ignore] = ignore
        places[:count] = range(count)
        return places
    places[ignore] = VOID_ID
    for place, span in enumerate(values):
        for value in range(int(span.low), int(span.high) + 1):
            places[value] = place
    return places


def read_label_space(path: Path) -> LabelSpace:
    """The label space that a meta file declares. Raises :class:`SegError` that names it."""
    meta = _json_object(path)
    names = _label_names(meta, path)
    if not names:
        raise _malformed(path, "it declares no class")
    if len(names) > MAX_CLASSES:
        raise _malformed(path, f"it declares {len(names)} classes; an 8-bit mask holds at most {MAX_CLASSES}")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise _malformed(path, f"a class name must be a text that is not empty, got {json.dumps(name)}")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        message = f"two classes are called `{twice[0]}`"
        raise fail("meta-class-twice", message, "give every class a name of its own, in every subset", path=str(path))
    return LabelSpace(tuple(names), _colors(meta.get("segmentation_colors"), len(names), path))


def _json_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        help = 'write it: {"label_map": {"0": "background", "1": "…"}}; every subset needs one'
        raise fail("meta-missing", f"`{META_FILE}` is missing", help, path=str(path))
    try:
        meta = json.loads(read_bytes(path).decode("utf-8-sig"), object_pairs_hook=lambda pairs: _once(pairs, path))
    except json.JSONDecodeError as error:
        raise _malformed(path, f"it is no JSON: line {error.lineno}, column {error.colno}") from None
    except (UnicodeDecodeError, RecursionError):
        raise _malformed(path, "it is no JSON in UTF-8") from None
    if not isinstance(meta, dict):
        raise _malformed(path, "expected an object in braces")
    return meta


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """An object; a key that stands in it twice would silently hide what it said first."""
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise _malformed(path, f'the key "{key}" stands in it twice')
        read[key] = value
    return read


def _label_names(meta: Mapping[str, Any], path: Path) -> list[str]:
    listed, mapped = meta.get("labels"), meta.get("label_map")
    if mapped is None and isinstance(listed, list):
        return listed
    if not isinstance(mapped, dict):
        raise _malformed(path, "it has no `label_map` object")
    expected = [str(i) for i in range(len(mapped))]
    if list(mapped) != expected:
        got = ", ".join(f'"{k}"' for k in list(mapped)[:5]) + (", …" if len(mapped) > 5 else "")
        message = f'the keys of `label_map` must be "0", "1", … in this order, got {got}'
        help = "a label's id is its position: renumber from 0 and check that the masks use the same ids"
        raise fail("meta-keys-shuffled", message, help, path=str(path))
    names = list(mapped.values())
    if listed is not None and listed != names:
        raise _malformed(path, "`labels` and `label_map` name different classes; remove one of them")
    return names


def _colors(value: Any, count: int, path: Path) -> tuple[Color | None, ...]:
    if value is None or value == []:
        return ()
    if not isinstance(value, list) or len(value) != count:
        got = f"{len(value)} entries" if isinstance(value, list) else "no list"
        raise _malformed(path, f"`segmentation_colors` needs one entry for each of the {count} classes, got {got}")
    colors = tuple(_color(entry, path) for entry in value)
    given = [c for c in colors if c is not None]
    twice = next((c for c in given if given.count(c) > 1), None)
    if twice is not None:
        first, second = [i for i, c in enumerate(colors) if c == twice][:2]
        message = f"classes {first} and {second} have the same colour {list(twice)}"
        raise fail("color-twice", message, "give every class a colour of its own", path=str(path))
    return colors


def drawn_classes(classes: Sequence[str], declared: int, ignore: int, path: Path) -> LabelSpace:
    """The label space of masks that are drawn from annotations, which declare the last ``declared`` of ``classes``.

    Raises :class:`SegError` that names the annotation file.
    """
    twice = next((name for name in classes if classes.count(name) > 1), None)
    if twice is not None:
        help = "give each a name of its own"
        raise fail("meta-class-twice", f"two classes are called `{twice}`", help, path=str(path))
    most = ignore if declared <= ignore < MAX_CLASSES else MAX_CLASSES
    if len(classes) > most or not declared:
        message = f"it declares {declared} categories; with the background a mask holds {MAX_CLASSES - 1} and void"
        raise fail("meta-malformed", message, "leave categories out", path=str(path))
    return LabelSpace(tuple(classes))


def _color(entry: Any, path: Path) -> Color | None:
    if entry is None:
        return None
    if isinstance(entry, list) and len(entry) == 3 and all(type(v) is int and 0 <= v <= 255 for v in entry):
        return (entry[0], entry[1], entry[2])
    raise _malformed(path, f"a colour is [r, g, b] with integers from 0 to 255, got {json.dumps(entry)[:60]}")


def _malformed(path: Path, message: str) -> SegError:
    help = 'expected {"label_map": {"0": "name", …}, "segmentation_colors": [[r, g, b], …]}; colours may be left out'
    return fail("meta-malformed", message, help, path=str(path))


def same_label_space(
    spaces: Mapping[str, LabelSpace], files: Mapping[str, Path], found: list[Diagnostic]
) -> LabelSpace | None:
    """The label space that all subsets share; None, with a finding for each that differs, where they do not."""
    if not spaces:
        return None
    first, space = next(iter(spaces.items()))
    agreed = True
    for name, other in list(spaces.items())[1:]:
        if other == space:
            continue
        agreed = False
        message = f"`{name}` and `{first}` declare different classes or colours: {_difference(other, space)}"
        help = "make the meta files of all subsets equal; the masks of each must use the same ids"
        found.append(Diagnostic("meta-differs", message, help, path=str(files[name])))
    return space if agreed else None


def _difference(a: LabelSpace, b: LabelSpace) -> str:
    if len(a.classes) != len(b.classes):
        return f"{len(a.classes)} classes and {len(b.classes)}"
    for i, (left, right) in enumerate(zip(a.classes, b.classes, strict=True)):
        if left != right:
            return f"id {i} is `{left}` and `{right}`"
    return "the colours differ"
