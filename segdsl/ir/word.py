"""The base of every word that a program may name: one pydantic class each, found by its name.

A word's class name is the word, its fields are the arguments in order, the string under a field is its documentation,
its annotation and bounds are the validation. Registry, reference, hover, completion and highlighting derive from this.
"""

from __future__ import annotations

import types
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

if TYPE_CHECKING:
    import ast

from segdsl.ir.shape import Dim


class Record(BaseModel):
    """A frozen record that refuses what it does not know. Its validators are built when first used."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def trusted(cls, values: dict[str, Any]) -> Self:
        """The record of values that are checked already: what ``model_construct`` does, at a tenth of its cost."""
        record = cls.__new__(cls)
        plain, made = _defaults(cls)
        fresh = {name: make() for name, make in made if name not in values} if made else {}
        object.__setattr__(record, "__dict__", {**plain, **fresh, **values})
        object.__setattr__(record, "__pydantic_fields_set__", set(values))
        object.__setattr__(record, "__pydantic_extra__", None)
        object.__setattr__(record, "__pydantic_private__", None)
        return record


@lru_cache(maxsize=512)
def _defaults(record: type[Record]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """The defaults of a record: frozen values, and functions that make the others."""
    fields = {name: info for name, info in record.model_fields.items() if not info.is_required()}
    plain = {name: info.default for name, info in fields.items() if info.default_factory is None}
    return plain, tuple((n, info.default_factory) for n, info in fields.items() if info.default_factory is not None)


REGISTRY: dict[str, type[Word]] = {}
"""Every concrete word by name."""
Family = TypeVar("Family", bound="Word")


class Word(Record):
    """Something a program names: an op, an optimizer, an augmentation …

    ``kind`` says in the singular what it is, for diagnostics (`optimizer`). A subclass that sets ``abstract=True`` is a
    family and no word itself. Two words of one name are refused when they are defined.
    """

    kind: ClassVar[str] = "word"

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        if cls.__name__ in REGISTRY:
            raise TypeError(f"two words are called {cls.__name__}: {REGISTRY[cls.__name__]} and {cls}")
        if not cls.__doc__:
            raise TypeError(f"the word {cls.__name__} has no documentation")
        REGISTRY[cls.__name__] = cls

    @model_serializer(mode="plain")
    def _tagged(self) -> dict[str, Any]:
        return {"word": type(self).__name__, **{name: _plain(getattr(self, name)) for name in type(self).model_fields}}

    @model_validator(mode="wrap")
    @classmethod
    def _by_name(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, dict) and "word" in value:
            fields = {k: v for k, v in value.items() if k != "word"}
            found = REGISTRY.get(value["word"])
            if found is None or not issubclass(found, cls):
                raise ValueError(f"{value['word']} is no {cls.kind}")
            return handler(fields) if found is cls else found.model_validate(fields)
        return handler(value)


def _plain(value: Any) -> Any:
    """What pydantic can write down by itself: symbolic extents as text."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_plain(item) for item in value)
    return str(value) if isinstance(value, Dim) else value


def members(family: type[Family]) -> dict[str, type[Family]]:
    """The words of a family, by name."""
    return {name: word for name, word in sorted(REGISTRY.items()) if issubclass(word, family)}


def word_family(kind: Any) -> type[Word] | None:
    """The family of words that a field of this type holds, or None."""
    if get_origin(kind) in (Union, types.UnionType):
        return next((w for k in get_args(kind) if (w := word_family(k))), None)
    if get_origin(kind) is Annotated or get_origin(kind) is tuple:
        return word_family(get_args(kind)[0])
    return kind if isinstance(kind, type) and issubclass(kind, Word) else None


def choices_of(kind: Any) -> tuple[str, ...]:
    """The names that a field of this type takes as they stand; empty for one without choices."""
    if get_origin(kind) is Literal:
        return tuple(member for member in get_args(kind) if isinstance(member, str))
    return tuple(member for inner in get_args(kind) for member in choices_of(inner))


def field_docs(record: type[BaseModel]) -> dict[str, str]:
    """The documentation of every field: the string that stands under it in the source, inherited ones included."""
    import inspect

    docs: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        if cls is not BaseModel and issubclass(cls, BaseModel):
            docs.update(_docs_of_file(inspect.getsourcefile(cls) or "").get(cls.__name__, {}))
    return {name: docs[name] for name in record.model_fields if name in docs}


@lru_cache(maxsize=64)
def _docs_of_file(path: str) -> dict[str, dict[str, str]]:
    import ast

    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return {node.name: _docs_of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _docs_of_class(node: ast.ClassDef) -> dict[str, str]:
    import ast
    import inspect

    docs: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            docs[field.target.id] = inspect.cleandoc(below.value.value)
    return docs
