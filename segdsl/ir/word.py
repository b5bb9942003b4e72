"""The base of all words that a program can name: one pydantic class each, registered by its name.

The class name is the word, the fields are its arguments in order, the string below a field is its documentation, and
the annotation is its validation. The reference, hover texts, completion and highlighting are derived from these.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

if TYPE_CHECKING:
    import ast

from segdsl.diagnostics.aliases import Aliases, register_aliases
from segdsl.ir.shape import Dim
from segdsl.ir.values import format_number, quote_string


class Record(BaseModel):
    """A frozen record without extra fields."""

    # Building all validators at import time would slow down every command; `defer_build` waits for their first use.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__()
        for name, info in cls.model_fields.items():
            inner = [mark for kind in get_args(info.annotation) for mark in getattr(kind, "__metadata__", ())]
            register_aliases(name, *(mark for mark in (*info.metadata, *inner) if isinstance(mark, Aliases)))

    @classmethod
    def build_unchecked(cls, values: dict[str, Any]) -> Self:
        """Build a record from values that are already validated."""
        # What `model_construct` does, at a tenth of its cost. Pydantic's own attributes are set by hand for that.
        record = cls.__new__(cls)
        defaults, factories = _collect_defaults(cls)
        fresh = {name: make() for name, make in factories if name not in values} if factories else {}
        object.__setattr__(record, "__dict__", {**defaults, **fresh, **values})
        object.__setattr__(record, "__pydantic_fields_set__", set(values))
        object.__setattr__(record, "__pydantic_extra__", None)
        object.__setattr__(record, "__pydantic_private__", None)
        return record


@lru_cache(maxsize=512)
def _collect_defaults(record: type[Record]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """Return the defaults of a record: constant values, and the factories of the others."""
    fields = {name: info for name, info in record.model_fields.items() if not info.is_required()}
    constants = {name: info.default for name, info in fields.items() if info.default_factory is None}
    return constants, tuple((n, info.default_factory) for n, info in fields.items() if info.default_factory is not None)


REGISTRY: dict[str, type[Word]] = {}
"""All concrete words by name."""
Family = TypeVar("Family", bound="Word")


class Word(Record):
    """Something that a program can name: an op, an optimizer, an augmentation and so on.

    A subclass with ``abstract=True`` is a family of words, not a word. Defining two words of the same name raises
    TypeError. What is known about a word stands in its class: its documentation, and the attributes below.
    """

    kind: ClassVar[str] = "word"
    """The family as a singular noun, for diagnostics: `optimizer`."""
    aliases: ClassVar[tuple[Aliases | str, ...]] = ()
    """Names of the word in other frameworks."""
    usual_form: ClassVar[str] = ""
    """How the word is usually written, if it needs arguments or something that follows it: `Warmup(5 epochs) ->
    Poly()`."""
    number_form: ClassVar[str] = ""
    """What a bare number in place of the word means, if that is clear; `{}` stands for the number."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        register_aliases(cls.__name__, *cls.__dict__.get("aliases", ()))
        if cls.__name__ in REGISTRY:
            raise TypeError(f"duplicate word {cls.__name__}: {REGISTRY[cls.__name__]} and {cls}")
        if not cls.__doc__:
            raise TypeError(f"the word {cls.__name__} has no documentation")
        REGISTRY[cls.__name__] = cls

    @classmethod
    def write_usual_form(cls) -> str:
        """Return the usual way to write the word: `Dice()`, `Warmup(5 epochs) -> Poly()`."""
        return cls.__dict__.get("usual_form", "") or f"{cls.__name__}()"

    @classmethod
    def write_chain_form(cls) -> str:
        """Return the usual way to write the word within a chain, without what follows it."""
        return cls.write_usual_form().partition(" -> ")[0]

    @classmethod
    def write_number_form(cls, value: float) -> str:
        """Return the word that a bare number stands for; "" if the number could be any of several arguments."""
        form = cls.__dict__.get("number_form", "")
        return form.format(format_number(value)) if form else ""

    @model_serializer(mode="plain")
    def _serialize_word(self) -> dict[str, Any]:
        return {
            "word": type(self).__name__,
            **{name: _make_serializable(getattr(self, name)) for name in type(self).model_fields},
        }

    @model_validator(mode="wrap")
    @classmethod
    def _resolve_word(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, cls):
            return value
        # In JSON the tag `word` selects the class, since a field is annotated with the family only.
        if isinstance(value, dict) and "word" in value:
            fields = {k: v for k, v in value.items() if k != "word"}
            found = REGISTRY.get(value["word"])
            if found is None or not issubclass(found, cls):
                raise ValueError(f"unknown {cls.kind} {value['word']}")
            return handler(fields) if found is cls else found.model_validate(fields)
        return handler(value)


def _make_serializable(value: Any) -> Any:
    """Convert symbolic extents to text, which pydantic can serialize."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_make_serializable(item) for item in value)
    return str(value) if isinstance(value, Dim) else value


def list_words(family: type[Family]) -> dict[str, type[Family]]:
    """Return the words of a family by name."""
    return {name: word for name, word in sorted(REGISTRY.items()) if issubclass(word, family)}


def find_word_family(kind: Any) -> type[Word] | None:
    """Return the family of words that a field of this type holds, or None."""
    if get_origin(kind) in (Union, types.UnionType):
        return next((w for k in get_args(kind) if (w := find_word_family(k))), None)
    if get_origin(kind) is Annotated or get_origin(kind) is tuple:
        return find_word_family(get_args(kind)[0])
    return kind if isinstance(kind, type) and issubclass(kind, Word) else None


class Choices:
    """Marks a string field that takes one of the names in a registry, which other modules fill."""

    def __init__(self, registry: Mapping[str, Any]) -> None:
        self.registry = registry


def list_choices(kind: Any) -> tuple[str, ...]:
    """Return the names that a field of this type accepts; empty if it has no choices."""
    if isinstance(kind, Choices):
        return tuple(kind.registry)
    if get_origin(kind) is Literal:
        return tuple(member for member in get_args(kind) if isinstance(member, str))
    return tuple(member for inner in get_args(kind) for member in list_choices(inner))


def has_only_choices(kind: Any) -> bool:
    """Return whether a type accepts nothing but names: a literal, a registry of names, or a union of them."""
    if get_origin(kind) in (Union, types.UnionType):
        return all(has_only_choices(inner) for inner in get_args(kind))
    return get_origin(kind) is Literal or any(isinstance(m, Choices) for m in getattr(kind, "__metadata__", ()))


def is_bare_choice(name: str) -> bool:
    """Return whether a choice is written without quotes: a name, or several with dots between them."""
    return all(part.isidentifier() for part in name.split("."))


def format_choice(name: str) -> str:
    """Return a choice as it is written in a program: bare where the language can, otherwise in quotes."""
    return name if is_bare_choice(name) else quote_string(name)


def list_choice_forms(choices: Iterable[str]) -> tuple[str, ...]:
    """Return choices as they are written, and those of one prefix as a single form: `"datumaro:NAME"`."""
    shortened = (f"{name.partition(':')[0]}:NAME" if ":" in name else name for name in choices)
    return tuple(dict.fromkeys(format_choice(name) for name in shortened))


def read_field_docs(record: type[BaseModel]) -> dict[str, str]:
    """Return the documentation of every field, inherited ones included: the string below it in the source."""
    # Python drops these strings when it compiles a class, so they are read from the source file.
    import inspect

    docs: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        if cls is not BaseModel and issubclass(cls, BaseModel):
            docs.update(_read_file_docs(inspect.getsourcefile(cls) or "").get(cls.__name__, {}))
    return {name: docs[name] for name in record.model_fields if name in docs}


@lru_cache(maxsize=64)
def _read_file_docs(path: str) -> dict[str, dict[str, str]]:
    import ast

    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return {node.name: _read_class_docs(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _read_class_docs(node: ast.ClassDef) -> dict[str, str]:
    import ast
    import inspect

    docs: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            docs[field.target.id] = inspect.cleandoc(below.value.value)
    return docs
