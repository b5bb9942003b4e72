"""Symbolic extents: exact arithmetic over the model's `B`, `H`, `W`, where `H/4` rounds up (LANGUAGE.md §4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Union

from pydantic_core import core_schema

Atom = Union[str, "Ceil"]
Monomial = tuple[Atom, ...]


class Ceil:
    """ceil(``of`` / ``by``), the output extent of a strided convolution. Immutable; compared by its text."""

    __slots__ = ("by", "of", "text")

    def __init__(self, of: Dim, by: int) -> None:
        self.of, self.by = of, by
        self.text = f"{of}/{by}" if of.is_atom else f"({of})/{by}"

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ceil) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class Dim:
    """A sum of products of atoms with integer factors; immutable, hashable, equal if the normal forms are equal.

    Constants are plain integers everywhere: arithmetic returns an ``int`` as soon as no symbol remains.
    """

    __slots__ = ("_text", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        # The normal form: no zero terms, sorted by degree, then alphabetically. Equal sums get equal texts, which makes
        # the text a cheap key for comparison and hashing.
        nonzero = ((m, c) for m, c in terms.items() if c)
        self.terms = tuple(sorted(nonzero, key=lambda t: (len(t[0]), [str(a) for a in t[0]])))
        # Negative terms are printed last: `H/4 - 1`, not `-1 + H/4`.
        printed = sorted(self.terms, key=lambda t: t[1] < 0)
        self._text = " + ".join(_format_term(m, c) for m, c in printed).replace("+ -", "- ") or "0"

    @property
    def is_atom(self) -> bool:
        return len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __add__(self, other: Extent) -> Extent:
        terms = dict(self.terms)
        for monomial, factor in _get_terms(other):
            terms[monomial] = terms.get(monomial, 0) + factor
        return _simplify_terms(terms)

    __radd__ = __add__

    def __neg__(self) -> Extent:
        return _simplify_terms({m: -c for m, c in self.terms})

    def __sub__(self, other: Extent) -> Extent:
        return self + (-other)

    def __rsub__(self, other: int) -> Extent:
        return (-self) + other

    def __mul__(self, other: Extent) -> Extent:
        terms: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _get_terms(other):
                monomial = tuple(sorted(left + right, key=str))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return _simplify_terms(terms)

    __rmul__ = __mul__

    def evaluate_at(self, env: Mapping[str, int]) -> int:
        """Return the value for the symbol values in ``env``."""
        return sum(c * math.prod(_evaluate_atom(a, env) for a in m) for m, c in self.terms)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _validate_extent, serialization=core_schema.to_string_ser_schema()
        )


Extent = Union[int, Dim]
Shape = tuple[Extent, ...]


def make_symbol(name: str) -> Dim:
    """Return the extent of a single symbol, such as `H`."""
    return Dim({(name,): 1})


@lru_cache(maxsize=4096)
def ceil_div(extent: Extent, by: int) -> Extent:
    """Return ceil(extent / by) in normal form."""
    if isinstance(extent, int):
        return -(-extent // by)
    if by == 1:
        return extent
    if all(c % by == 0 for _, c in extent.terms):
        return _simplify_terms({m: c // by for m, c in extent.terms})
    # ceil(ceil(a/m)/n) = ceil(a/mn): without it, `H/2` halved and `H/4` would not compare equal.
    if extent.is_atom and isinstance(inner := extent.terms[0][0][0], Ceil):
        return ceil_div(inner.of, inner.by * by)
    # Terms divisible by the divisor leave the ceiling: ceil((a + n*by)/by) = ceil(a/by) + n.
    whole = {m: c // by for m, c in extent.terms if c % by == 0}
    rest = {m: c for m, c in extent.terms if c % by != 0}
    constant = rest.get((), 0)
    if constant:
        whole[()], rest[()] = constant // by, constant % by
    left = Dim(rest)
    if not any(m for m, _ in left.terms):
        return _simplify_terms(whole) + (1 if left.terms else 0)
    ceiling = Dim({(Ceil(left, by),): 1})
    return ceiling + _simplify_terms(whole) if any(whole.values()) else ceiling


def floor_div(extent: Extent, by: int) -> Extent:
    """Return floor(extent / by)."""
    # floor(a/n) = ceil((a - n + 1)/n), so that ceilings are the only atoms besides the symbols.
    return extent // by if isinstance(extent, int) else ceil_div(extent - (by - 1), by)


def evaluate_extent(extent: Extent, env: Mapping[str, int]) -> int:
    """Return the value of an extent, symbolic or not."""
    return extent if isinstance(extent, int) else extent.evaluate_at(env)


def evaluate_shape(shape: Shape, env: Mapping[str, int]) -> tuple[int, ...]:
    """Return the values of all extents of a shape."""
    return tuple(evaluate_extent(extent, env) for extent in shape)


def match_grid(extent: Extent) -> tuple[int, Extent, Extent] | None:
    """Return (n, h, w) if the extent is `n + h*w`, with h of `H` only and w of `W` only, otherwise None."""
    # `1 + H/14 * W/14` parses as `1 + ((H/14) * W)/14`. Both are equal where 14 divides W; elsewhere no grid has that
    # number of cells, so `_split_sides` may treat one as the other.
    if isinstance(extent, int):
        return None
    products = [(monomial, factor) for monomial, factor in extent.terms if monomial]
    if len(products) != 1 or products[0][1] != 1:
        return None
    parts = _split_sides(products[0][0])
    sides = {_find_symbol(part): part for part in parts}
    first = sum(factor for monomial, factor in extent.terms if not monomial)
    if len(parts) != 2 or set(sides) != {"H", "W"} or first < 0:
        return None
    return first, sides["H"], sides["W"]


def _split_sides(monomial: Monomial) -> list[Dim]:
    """Return the factors of a product; for `(h*W)/n`, these are `h` and `W/n`."""
    if len(monomial) == 1 and isinstance(monomial[0], Ceil):
        whole = monomial[0]
        inner = _split_sides(whole.of.terms[0][0]) if len(whole.of.terms) == 1 and whole.of.terms[0][1] == 1 else []
        plain = [side for side in inner if isinstance(side.terms[0][0][0], str)]
        if len(inner) == 2 and len(plain) == 1:
            return [side if side is not plain[0] else Dim({(Ceil(side, whole.by),): 1}) for side in inner]
    return [Dim({(atom,): 1}) for atom in monomial]


def _find_symbol(dim: Dim) -> str | None:
    """Return the symbol that an extent depends on, or None if there are several."""
    atoms = [atom for monomial, _ in dim.terms for atom in monomial]
    found = {atom if isinstance(atom, str) else _find_symbol(atom.of) for atom in atoms}
    return found.pop() if len(found) == 1 else None


def format_shape(shape: Shape) -> str:
    """Format a shape as `[B, 48, H/4, W/4]`."""
    return "[" + ", ".join(str(extent) for extent in shape) + "]"


def parse_extent(text: str) -> Extent:
    """Parse an extent from the text that ``str`` gives for it. Raises ValueError for other text."""
    tokens = re.findall(r"[A-Za-z]\w*|\d+|[-+*/()]", text)
    value, rest = _parse_sum(tokens)
    if rest:
        raise ValueError(f"not an extent: {text}")
    return value


def _parse_sum(tokens: list[str]) -> tuple[Extent, list[str]]:
    sign = -1 if tokens and tokens[0] == "-" else 1
    value, tokens = _parse_product(tokens[1:] if sign < 0 else tokens)
    value = sign * value
    while tokens and tokens[0] in "+-":
        more, rest = _parse_product(tokens[1:])
        value = value + more if tokens[0] == "+" else value - more
        tokens = rest
    return value, tokens


def _parse_product(tokens: list[str]) -> tuple[Extent, list[str]]:
    value, tokens = _parse_quotient(tokens)
    while tokens and tokens[0] == "*":
        more, tokens = _parse_quotient(tokens[1:])
        value = value * more
    return value, tokens


def _parse_quotient(tokens: list[str]) -> tuple[Extent, list[str]]:
    if not tokens:
        raise ValueError("extent is incomplete")
    head, rest = tokens[0], tokens[1:]
    if head == "(":
        value, rest = _parse_sum(rest)
        if not rest or rest[0] != ")":
            raise ValueError("extent has an unmatched `(`")
        rest = rest[1:]
    else:
        value = int(head) if head.isdigit() else make_symbol(head)
    if rest and rest[0] == "/":
        return ceil_div(value, int(rest[1])), rest[2:]
    return value, rest


def _get_terms(extent: Extent) -> tuple[tuple[Monomial, int], ...]:
    return (((), extent),) if isinstance(extent, int) else extent.terms


def _simplify_terms(terms: Mapping[Monomial, int]) -> Extent:
    dim = Dim(terms)
    if not dim.terms:
        return 0
    return dim.terms[0][1] if len(dim.terms) == 1 and not dim.terms[0][0] else dim


def _format_term(monomial: Monomial, factor: int) -> str:
    body = "*".join(str(a) for a in monomial)
    if not body:
        return str(factor)
    return body if factor == 1 else f"-{body}" if factor == -1 else f"{factor}*{body}"


def _evaluate_atom(atom: Atom, env: Mapping[str, int]) -> int:
    return env[atom] if isinstance(atom, str) else -(-atom.of.evaluate_at(env) // atom.by)


def _validate_extent(value: Any) -> Any:
    if isinstance(value, str):
        return parse_extent(value)
    if isinstance(value, (Dim, int)):
        return value
    raise ValueError("an extent must be an integer or a string such as `H/4`")
