"""The values of expressions during elaboration, and the exception that stops an evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.ir.graph import Op
from segdsl.ir.shape import Dim, Extent, Shape, format_shape
from segdsl.ir.values import Quantity, Range, Size
from segdsl.ir.word import Word
from segdsl.lang.elaborate.scopes import BlockDef


class EvalStop(Exception):
    """An evaluation cannot continue. Without a diagnostic, the cause is an error that is already reported."""

    def __init__(self, diagnostic: Diagnostic | None = None) -> None:
        super().__init__(diagnostic.message if diagnostic else "")
        self.diagnostic = diagnostic


def eval_error(
    slug: str,
    span: Span,
    message: str,
    help: str,
    *,
    labels: Iterable[Label] = (),
    fix: str | None = None,
) -> EvalStop:
    """Return an :class:`EvalStop` with one error, to be raised; ``fix`` is the correct text in place of ``span``."""
    replacement = Fix(span, fix) if fix else None
    return EvalStop(Diagnostic(slug, message, help, span=span, labels=tuple(labels), fix=replacement))


class Tensor:
    """A value in the graph: the path of its node or input, its symbolic shape, and the place of its origin."""

    __slots__ = ("path", "shape", "span")

    def __init__(self, path: str, shape: Shape, span: Span) -> None:
        self.path, self.shape, self.span = path, shape, span

    @property
    def channels(self) -> Extent:
        # Maps are [B, C, H, W], tokens [B, N, C].
        return self.shape[1] if len(self.shape) == 4 else self.shape[-1]


class Poison:
    """The value of a failed computation. Any use of it stops the evaluation without another error."""


POISON = Poison()


class OpRecipe(NamedTuple):
    """An op with its arguments; ``operands`` are the tensors passed by name."""

    op: Op
    operands: tuple[Tensor, ...]


class BlockRecipe(NamedTuple):
    """A block with the values of its parameters and extra inputs; ``argument_spans`` holds their places."""

    block: BlockDef
    arguments: dict[str, Any]
    argument_spans: dict[str, Span]
    extra_inputs: dict[str, Any]


class ChainRecipe(NamedTuple):
    """Modules applied one after the other."""

    parts: tuple[Module, ...]


Recipe = OpRecipe | BlockRecipe | ChainRecipe


@dataclass(eq=False, slots=True)
class Module:
    """A recipe that can be applied, and the path at which it is built.

    ``path`` is None if no binding names the module. The first application builds the state, later ones share it.
    ``application_count`` counts applications; ``is_copied`` means that the module was copied, which counts as a use.
    """

    recipe: Recipe
    path: str | None
    span: Span
    application_count: int = 0
    is_copied: bool = False
    part_count: int = field(default=1, init=False)
    """The number of modules that a copy of this one makes."""

    def __post_init__(self) -> None:
        if isinstance(self.recipe, ChainRecipe):
            self.part_count += sum(part.part_count for part in self.recipe.parts)

    def copy_to(self, path: str | None) -> Module:
        """Return a fresh module of the same recipe at another path; parts of a chain get their position as path."""
        self.is_copied = True
        recipe = self.recipe
        if isinstance(recipe, ChainRecipe):
            recipe = ChainRecipe(tuple(p.copy_to(element_path(path, i)) for i, p in enumerate(recipe.parts)))
        return Module(recipe, path, self.span)

    @property
    def name(self) -> str:
        """The name for messages: `Conv`, `ConvModule`, `a chain`."""
        if isinstance(self.recipe, OpRecipe):
            return type(self.recipe.op).__name__
        return self.recipe.block.name if isinstance(self.recipe, BlockRecipe) else "a chain"


def copy_modules(value: Any, path: str) -> Any:
    """Return an argument as a block receives it: modules, also those in lists, are fresh copies at ``path``."""
    # Two instances of a block must not share the weights of a module that was passed to both.
    if isinstance(value, Module):
        return value.copy_to(path)
    if isinstance(value, tuple) and any(isinstance(v, (Module, tuple)) for v in value):
        return tuple(copy_modules(v, join_path(path, str(i))) for i, v in enumerate(value))
    return value


def count_modules(value: Any) -> int:
    """Return the number of modules that :func:`copy_modules` makes."""
    if isinstance(value, Module):
        return value.part_count
    return sum(map(count_modules, value)) if isinstance(value, tuple) else 0


def join_path(*parts: str | None) -> str:
    """Join the parts of a path; empty parts add no level."""
    return ".".join(p for p in parts if p)


def element_path(path: str | None, position: int) -> str | None:
    """Return the path of a list element: the list's path and the position."""
    return None if path is None else join_path(path, str(position))


def describe_value(value: Any) -> str:
    """Describe a value for messages: `the integer 3`, `a map [B, 48, H/4, W/4]`."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None:
        return "`none`"
    if isinstance(value, (int, float)):
        return f"the {'integer' if isinstance(value, int) else 'float'} {value}"
    if isinstance(value, str):
        return f'the string "{value}"'
    if isinstance(value, Tensor):
        return f"a {'map' if len(value.shape) == 4 else 'tensor'} {format_shape(value.shape)}"
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    names = {
        Size: "the size", Range: "the range", Quantity: "the quantity", Dim: "the extent", Module: "the module",
        BlockDef: "the block",
    }  # fmt: skip
    what = names.get(type(value))
    if what is None:
        return f"the {value.kind} {type(value).__name__}" if isinstance(value, Word) else "something else"
    return f"{what} {value.name if isinstance(value, (Module, BlockDef)) else value}"
