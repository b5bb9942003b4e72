"""Suggestions for misplaced settings: the section, argument or command-line option where they belong."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from segdsl.diagnostics import find_closest_name, match_name, suggest_name
from segdsl.diagnostics.aliases import fold_name, list_meanings
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import Size, Units
from segdsl.ir.word import REGISTRY, Word, find_word_family, list_words
from segdsl.lang.suggest.foreign_settings import (
    COMMON_MISUSES,
    EARLY_STOPPING,
    EXPORT_PRECISIONS,
    FOREIGN_ARGUMENTS,
    FOREIGN_SETTINGS,
)
from segdsl.lang.suggest.remedies import add_article, is_number_literal
from segdsl.syntax import tree
from segdsl.text.listing import quote_names

Path = tuple[str, ...]
Mark = typing.TypeVar("Mark")
MAX_VALUE_LENGTH = 40
"""The maximum length of a value that a suggestion repeats."""
ANY_NAME = "open"
"""Placeholder in a path for a name that the author chooses."""


class SettingSlot(NamedTuple):
    """A place for a setting: a key, or an argument of the words that a key takes.

    ``words`` are the words with this argument, empty for a key. ``can_set_by_path`` is False for arguments within a
    chain, which no path can reach.
    """

    path: Path
    words: tuple[str, ...] = ()
    can_set_by_path: bool = True


@lru_cache(maxsize=1)
def _index_slots() -> dict[str, tuple[SettingSlot, ...]]:
    """Return every key and argument of the sections by its name, keys before arguments."""
    found = sorted(_iterate_slots(), key=lambda home: bool(home.words))
    index: dict[str, tuple[SettingSlot, ...]] = {}
    for home in found:
        index[home.path[-1]] = (*index.get(home.path[-1], ()), home)
    return index


def _iterate_slots() -> Iterator[SettingSlot]:
    yield SettingSlot(("model",))
    yield SettingSlot(("weights",))
    for name, record in SECTIONS.items():
        yield SettingSlot((name,))
        yield from _iterate_section_slots((name,), record)


def _iterate_section_slots(path: Path, record: type[Section]) -> Iterator[SettingSlot]:
    for name, info in record.model_fields.items():
        child, kind = (*path, name), info.annotation
        yield SettingSlot(child)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _iterate_section_slots(child, kind)
        family = find_word_family(kind)
        if family is None or typing.get_origin(kind) is dict:
            continue
        taken: dict[str, list[str]] = {}
        for word, cls in list_words(family).items():
            for argument in cls.model_fields:
                taken.setdefault(argument, []).append(word)
        for argument, words in taken.items():
            yield SettingSlot((*child, argument), tuple(words), typing.get_origin(kind) is not tuple)


def find_slots(name: str, section: Path) -> tuple[SettingSlot, ...]:
    """Return the slots outside ``section`` for a setting of this name or a synonym of it, the best first."""
    index = _index_slots()
    # A key is more likely meant than an argument: `save_top_k` is `keep` before it is `best`.
    meanings = sorted(list_meanings(name), key=lambda meant: all(home.words for home in index.get(meant, ())))
    for candidate in (name, *meanings):
        found = [home for home in index.get(candidate, ()) if home.path[:-1] != section]
        if found:
            return tuple(sorted(found, key=lambda home: _rank_slot(home, section)))
    return ()


def _rank_slot(home: SettingSlot, section: Path) -> tuple[bool, bool, bool, int]:
    # An author who writes `train.lr` most likely means an argument of something inside `train`. Next come slots below
    # another section of the same name (`data.train.batch` for `train.batch`), then the shallowest path.
    inside = bool(section) and home.path[: len(section)] == section
    same = bool(section) and section[-1] in home.path[:-1]
    return not inside, not home.can_set_by_path, not same, len(home.path)


def find_keys_for_word(word: type[Word]) -> Iterator[Path]:
    """Yield the keys that take a word."""
    for name, record in SECTIONS.items():
        yield from _iterate_keys_for_word((name,), record, word)


def _iterate_keys_for_word(path: Path, record: type[Section], word: type[Word]) -> Iterator[Path]:
    for name, info in record.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _iterate_keys_for_word((*path, name), kind, word)
        family = find_word_family(typing.get_args(kind)[1] if typing.get_origin(kind) is dict else kind)
        if family is not None and issubclass(word, family):
            yield (*path, name, ANY_NAME) if typing.get_origin(kind) is dict else (*path, name)


def list_key_paths() -> list[str]:
    """Return the paths of all sections and keys."""
    paths = [home.path for home in _iterate_slots() if not home.words]
    return [".".join(path) for path in paths if path[0] in SECTIONS]


def find_section(path: Path) -> type[Section] | None:
    """Return the section at a path, or None."""
    kind: Any = SECTIONS.get(path[0]) if path else None
    for name in path[1:]:
        kind = kind.model_fields[name].annotation if kind is not None and name in kind.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            return None
    return kind


class UnknownSetting(NamedTuple):
    """A setting that its section does not have.

    ``brace_depth`` is the number of parts of the section's path that come from braces around the setting; the others
    are written with its name. ``value`` and ``text`` are None and "" for a section.
    """

    name: str
    section: Path
    brace_depth: int
    value: tree.Expr | None
    text: str


class Remedy(NamedTuple):
    """A help text, and the path that fixes the setting when it replaces the name; "" if no path does."""

    help: str
    replacement_path: str = ""


def suggest_argument(name: str, valid_names: Iterable[str]) -> str:
    """Return the help for an argument that a word does not have: a similar argument, or the key of this name."""
    valid_names = list(valid_names)
    sentence = FOREIGN_ARGUMENTS.get(fold_name(name))
    if sentence is not None:
        return sentence
    keys = [".".join(home.path) for home in find_slots(name, ()) if home.path[-1] == name and not home.words]
    help = suggest_name(name, valid_names, "arguments")
    return f"set the key `{keys[0]} = …` instead; {help}" if keys and not find_closest_name(name, valid_names) else help


def find_remedy(setting: UnknownSetting, valid_names: Iterable[str]) -> Remedy | None:
    """Return what to do about a setting that belongs elsewhere.

    None if the name is a misspelling or synonym of one of ``valid_names``, or if nothing is known about it.
    """
    value = setting.value
    valid_names = [name for name in valid_names if value is None or not is_brace_group((*setting.section, name))]
    found = tuple(home for home in find_slots(setting.name, setting.section) if _can_hold(home, value, setting.section))
    same = bool(found) and found[0].path[-1] == setting.name
    sentence = _find_foreign_setting(setting)
    if sentence is not None and not same:
        return Remedy(sentence)
    if match_name(setting.name, valid_names) and not (same and not found[0].words):
        return None
    # Key and value may be swapped: `export.format = "onnx"` for `export.onnx = …`.
    text = _get_plain_text(value)
    if text in valid_names:
        return Remedy(f"`{text}` is a key: write `{'.'.join((*setting.section, text))} = {_show_usual_value(text)}`")
    # What the value builds says more about the intended place than the name of the setting.
    found = _find_slots_for_value(setting) or found
    if found:
        return _suggest_slot(setting, found)
    return _suggest_without_slot(setting) if value is not None else None


def _find_foreign_setting(setting: UnknownSetting) -> str | None:
    name = fold_name(setting.name)
    if setting.section[:1] == ("export",) and name in EXPORT_PRECISIONS:
        return f"set the precision of the exporter: `export.openvino = OpenVINO(precision = {EXPORT_PRECISIONS[name]})`"
    # `early_stopping = EarlyStopping()` and `early_stopping = 10` need nothing but the right name.
    is_switch = isinstance(setting.value, tree.Constant) and isinstance(setting.value.value, (bool, type(None)))
    return None if name == EARLY_STOPPING and not is_switch else FOREIGN_SETTINGS.get(name)


def _get_plain_text(value: tree.Expr | None) -> str:
    """Return a bare name or the text of a string, otherwise ""."""
    if isinstance(value, tree.Constant) and isinstance(value.value, str):
        return value.value
    return value.name if isinstance(value, tree.Name) else ""


def _show_usual_value(key: str) -> str:
    """Return the word that a key is named after, with its parentheses: `ONNX()` for `onnx`."""
    word = next((name for name in REGISTRY if name.lower() == key), None)
    return f"{word}()" if word else "…"


def _find_slots_for_value(setting: UnknownSetting) -> tuple[SettingSlot, ...]:
    """Return the slots for the word that a value builds; none for any other value."""
    value = setting.value
    if not (isinstance(value, tree.Call) and isinstance(value.func, tree.Name) and value.func.name in REGISTRY):
        return ()
    paths = find_keys_for_word(REGISTRY[value.func.name])
    return tuple(SettingSlot((*path[:-1], setting.name) if path[-1] == ANY_NAME else path) for path in paths)


def _can_hold(home: SettingSlot, value: tree.Expr | None, section: Path) -> bool:
    # A plain value does not fit a section, and a setting does not belong at a section that already surrounds it.
    around = section[: len(home.path)] == home.path
    return not around and (value is None or (not is_brace_group(home.path) and _accepts_constant(home, value)))


def _accepts_constant(home: SettingSlot, value: tree.Expr) -> bool:
    """Return whether the type of a slot can hold a constant; True for other expressions."""
    if not isinstance(value, tree.Constant) or isinstance(value.value, bool) or value.value is None:
        return True
    kind = get_annotation(home)
    leaves = set(_iterate_leaf_types(kind))
    if not isinstance(value.value, str):
        return leaves != {str}
    return not leaves <= {float, int} or not (
        _contains_list(kind) or not (home.words or is_number_literal(value.value))
    )


def get_annotation(home: SettingSlot) -> Any:
    """Return the type of the value that a slot takes."""
    if home.words:
        return REGISTRY[home.words[0]].model_fields[home.path[-1]].annotation
    holder = find_section(home.path[:-1])
    return holder.model_fields[home.path[-1]].annotation if holder is not None else None


def _iterate_leaf_types(kind: Any) -> Iterator[Any]:
    """Yield the types that a type consists of, without None."""
    if typing.get_origin(kind) is typing.Annotated:
        yield from _iterate_leaf_types(typing.get_args(kind)[0])
    elif typing.get_origin(kind) in (tuple, typing.Union, types.UnionType):
        for inner in typing.get_args(kind):
            yield from () if inner in (type(None), Ellipsis) else _iterate_leaf_types(inner)
    else:
        yield kind


def _contains_list(kind: Any) -> bool:
    return any(typing.get_origin(inner) is tuple for inner in (kind, *typing.get_args(kind)))


def _format_share_argument(word: type[Word], setting: UnknownSetting) -> str:
    # `hflip = 0.5` in other frameworks is a probability, `hflip = true` merely turns the step on.
    value = setting.value.value if isinstance(setting.value, tree.Constant) else None
    if next(iter(word.model_fields), "") != "p" or value is None or isinstance(value, str) or value is False:
        return "…"
    return "" if value is True else f"p = {setting.text}"


def _suggest_without_slot(setting: UnknownSetting) -> Remedy | None:
    """Return what to do about a value that no key takes, by the section or word of this name; None if unknown."""
    sentence = COMMON_MISUSES.get(fold_name(setting.name))
    if sentence is not None:
        return Remedy(sentence)
    section = next((h.path for h in find_slots(setting.name, setting.section) if is_brace_group(h.path)), None)
    if section is not None:
        return Remedy(f"this is a section: write `{'.'.join(section)} {{ … }}`")
    names = (setting.name, *list_meanings(setting.name))
    word = next((REGISTRY[name] for name in names if name in REGISTRY), None)
    path = next(find_keys_for_word(word), None) if word is not None else None
    if word is None or path is None:
        return None
    arguments = _format_share_argument(word, setting)
    own = re.findall("[A-Z][a-z]*", word.__name__)[-1].lower()
    key = ".".join((*path[:-1], own) if path[-1] == ANY_NAME else path)
    return Remedy(f"this is {add_article(word.kind)}: write `{key} = {word.__name__}({arguments})`")


def _fit_text(home: SettingSlot, setting: UnknownSetting) -> str:
    """Return the text of a value as the slot takes it: `640x640` for the size 640, `20 epochs` for a patience of 20."""
    holder = find_section(home.path[:-1]) if not home.words else REGISTRY[home.words[0]]
    info = holder.model_fields[home.path[-1]] if holder is not None else None
    is_whole = isinstance(setting.value, tree.Constant) and type(setting.value.value) is int
    if info is None or not is_whole:
        return setting.text
    if Size in _iterate_leaf_types(info.annotation):
        return f"{setting.text}x{setting.text}"
    units = next((entry.names for entry in find_marks(info, Units)), ())
    return f"{setting.text} epochs" if "epochs" in units else setting.text


def find_marks(info: FieldInfo, kind: type[Mark]) -> Iterator[Mark]:
    """Yield the marks of a kind in the annotation of a field."""
    stack: list[Any] = [*info.metadata, info.annotation]
    while stack:
        entry = stack.pop()
        if isinstance(entry, kind):
            yield entry
        elif typing.get_args(entry):
            stack += [*typing.get_args(entry), *getattr(entry, "__metadata__", ())]


def accepts_subpath(home: SettingSlot) -> bool:
    """Return whether a path can continue below a slot: it is a section, or takes a component with arguments."""
    return not home.words and (is_brace_group(home.path) or find_word_family(get_annotation(home)) is not None)


def is_brace_group(path: Path) -> bool:
    """Return whether a path leads to a section, or to a group of names that the author chooses."""
    if path == ("weights",) or find_section(path) is not None:
        return True
    holder = find_section(path[:-1])
    return holder is not None and typing.get_origin(holder.model_fields[path[-1]].annotation) is dict


def _suggest_slot(setting: UnknownSetting, slots: tuple[SettingSlot, ...]) -> Remedy:
    best, *others = slots
    path = best.path
    around = setting.section[: setting.brace_depth]
    inside = bool(around) and path[: len(around)] == around
    target = ".".join(path[len(around) :] if inside else path)
    value = " { … }" if is_brace_group(path) else f" = {_fit_text(best, setting) or '…'}"
    if not best.can_set_by_path:
        return Remedy(f"this is an argument: write `{'.'.join(path[:-1])} = {best.words[0]}({path[-1]}{value})`")
    what = f", an argument of {quote_names(best.words, 4)}" if best.words else ""
    where = "" if inside or not around else f" outside of `{'.'.join(around)} {{ }}`"
    help = f"this is `{'.'.join(path)}`{what}: write `{target}{value}`{where}"
    rest = [".".join(home.path) for home in others if home.can_set_by_path][:2]
    if rest:
        help += f"; see also {' and '.join(f'`{path}`' for path in rest)}"
    # A fix must be certain: it needs a single candidate, and braces that the replacement path can stay within.
    replaces = (inside or not around) and not others
    return Remedy(help, target if replaces else "")
