"""Suggestions for values that do not fit: a description of what a field takes, and the most likely intended value.

The intended value is guessed from the value alone, so that there is one rule per type and none per key.
"""

from __future__ import annotations

import re
import typing
from typing import Any, Literal

from segdsl.diagnostics import find_closest_name, find_safe_replacement, match_name
from segdsl.ir.field_type import FieldType
from segdsl.ir.values import Quantity, Range, Size, format_number, quote_string
from segdsl.ir.word import Word, find_word_family, list_choice_forms, list_words
from segdsl.syntax import tree

TYPE_EXAMPLES: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "an integer",
    float: "a number",
    str: 'a string in quotes, such as "text"',
    Size: "a size, height x width, such as `512x512`",
    Range: "a range such as `0.2..1.0`",
    Quantity: "a number with a unit",
}
MAX_KERNEL_GUESS = 11
"""A larger number in place of a kernel is probably a number of channels: `Conv(16, 32, 3)`."""
_SIZE_PATTERN = re.compile(r"\s*\(?\[?\s*(\d+)\s*[xX*, ]\s*(\d+)\s*\]?\)?\s*")
_AMOUNT_PATTERN = re.compile(r"\s*([\d.]+)\s*([A-Za-z]+)\s*")
_NUMBER_PATTERN = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_BARE_TEXT_PATTERN = re.compile(r"[\w./~:-]+")


def add_article(noun: str) -> str:
    """Return a noun with its article: `a loss`, `an optimizer`."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def format_alternatives(names: tuple[str, ...]) -> str:
    """Format names as alternatives: `iters` or `epochs`."""
    return " or ".join(f"`{n}`" for n in names)


def describe_field_type(expected: FieldType) -> str:
    """Describe what a field accepts: `an integer`, `one of …`, `a list, each element a string`."""
    if expected.base is Literal:
        return "one of " + ", ".join(f"`{form}`" for form in list_choice_forms(expected.choices))
    if expected.is_path:
        return "a path in the model, such as `backbone`"
    if expected.takes_single:
        return "a number or a range such as `0..127`"
    if expected.units:
        return _describe_quantity(expected)
    if expected.base is Range and isinstance(expected.default, Range):
        return f"a range such as `{expected.default}`"
    if expected.base is tuple:
        return f"a list, each element {describe_field_type(expected.items[0])}"
    if expected.family is not None:
        return add_article(expected.family.kind)
    return TYPE_EXAMPLES.get(expected.base, "another value")


def _describe_quantity(expected: FieldType) -> str:
    unit, noun = expected.units[0], "range" if expected.base is Range else "number"
    example = f"-10 {unit}..10 {unit}" if expected.base is Range else f"100 {unit}"
    return f"a {noun} in {format_alternatives(expected.units)}, such as `{example}`"


def suggest_value(value: Any, expected: FieldType) -> str:
    """Return the source of the value that was probably meant by one of the wrong type, or ""."""
    if expected.is_optional and value is False and expected.base is not bool:
        return "none"
    if expected.is_optional and isinstance(value, str) and re.fullmatch(r"(?i)none|null", value):
        return "none"
    guess = _GUESSES.get(expected.base)
    return guess(value, expected) if guess else ""


def _guess_size(value: Any, expected: FieldType) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "" if expected.name == "kernel" and value > MAX_KERNEL_GUESS else f"{value}x{value}"
    if isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value):
        return f"{value[0]}x{value[1]}"
    if isinstance(value, str):
        sides = _SIZE_PATTERN.fullmatch(value)
        return f"{sides[1]}x{sides[2]}" if sides else f"{value}x{value}" if value.isdigit() else ""
    return ""


def _guess_integer(value: Any, expected: FieldType) -> str:
    plain = _extract_number(value, expected)
    return format_number(int(plain)) if plain is not None and plain == int(plain) else ""


def _guess_float(value: Any, expected: FieldType) -> str:
    plain = _extract_number(value, expected)
    return "" if plain is None else format_number(plain)


def _extract_number(value: Any, expected: FieldType) -> float | None:
    # `epochs = 10 epochs` repeats its unit and is clearly a number; `batch = 10 epochs` is not.
    if isinstance(value, Quantity):
        return value.value if value.unit == expected.name else None
    if isinstance(value, str) and is_number_literal(value.strip()):
        return float(value)
    return value if isinstance(value, float) else None


def is_number_literal(text: str) -> bool:
    """Return whether a string is a number literal of the language."""
    return bool(_NUMBER_PATTERN.fullmatch(text))


def _guess_bool(value: Any, expected: FieldType) -> str:
    if isinstance(value, str):
        return match_name(value, ("true", "false")) or ""
    return {"0": "false", "1": "true"}.get(format_number(value), "") if isinstance(value, (int, float)) else ""


def _guess_string(value: Any, expected: FieldType) -> str:
    return f'"{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _guess_range(value: Any, expected: FieldType) -> str:
    units, default = expected.units, expected.default
    unit = units[0] if units else None
    if isinstance(value, Quantity) and value.unit in units:
        value = value.value
    if isinstance(value, tuple) and len(value) == 2 and all(type(end) in (int, float) for end in value):
        value = Range(min(value), max(value))
    if isinstance(value, Range):
        return str(Range(value.low, value.high, unit))
    # `Rotate(30)` means -30..30, but `RandomResizedCrop(0.5)` has no such obvious counterpart.
    around_zero = isinstance(default, Range) and default.low == -default.high
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value and around_zero:
        return str(Range(-abs(value), abs(value), unit))
    return ""


def _guess_quantity(value: Any, expected: FieldType) -> str:
    match = _AMOUNT_PATTERN.fullmatch(value) if isinstance(value, str) else None
    unit = find_closest_name(match[2], expected.units) if match else None
    return f"{match[1]} {unit}" if match and unit else ""


_GUESSES = {
    Size: _guess_size,
    int: _guess_integer,
    float: _guess_float,
    bool: _guess_bool,
    str: _guess_string,
    Range: _guess_range,
    Quantity: _guess_quantity,
}
"""Expected type -> guess of the intended value."""


def suggest_list(value: Any, item: FieldType) -> str:
    """Return the list that a single value probably stands for, or "" if it cannot be an element."""
    inner = item.base
    if isinstance(value, str) and inner is str:
        return "[" + ", ".join(quote_string(part.strip()) for part in value.split(",")) + "]"
    if isinstance(value, bool):
        return ""
    if isinstance(value, (int, float)):
        return f"[{format_number(value)}]" if inner is float or (inner is int and isinstance(value, int)) else ""
    return f"[{value}]" if isinstance(inner, type) and isinstance(value, inner) else ""


def suggest_literal(text: str, expected: FieldType) -> str:
    """Return the literal that was probably meant by an expression without a value, or ""."""
    if expected.base is str and _BARE_TEXT_PATTERN.fullmatch(text):
        return f'"{text}"'
    if expected.base is bool:
        return match_name(text, ("true", "false")) or ""
    return ""


def suggest_size_for_product(expr: tree.Expr) -> str:
    """Return the size that `128 * 128` was probably meant to be, or "" for any other expression."""
    if not (isinstance(expr, tree.Binary) and expr.op == "*"):
        return ""
    sides = [e.value for e in (expr.left, expr.right) if isinstance(e, tree.Constant) and type(e.value) is int]
    return f"{sides[0]}x{sides[1]}" if len(sides) == 2 else ""


def suggest_combination(expr: tree.Expr, family: type[Word], text: str) -> str:
    """Return a list or sum of words as a call of the word that combines several: `WeightedSum([Dice(), Focal()])`.

    ``text`` is the source of the expression. Returns "" if it is neither list nor sum, or no word combines several.
    """
    takes = next((n for n, w in list_words(family).items() if _takes_word_list(w, family)), "")
    parts = [(factor, _rename_call(word, family)) for factor, word in _iterate_terms(expr, expr.span.start, text)]
    if not takes or len(parts) < 2 or not all(word for _, word in parts):
        return ""
    listing = ", ".join(word for _, word in parts)
    weights = ", ".join(factor or "1.0" for factor, _ in parts)
    return f"{takes}([{listing}]" + (f", weights = [{weights}])" if any(factor for factor, _ in parts) else ")")


def _rename_call(call: str, family: type[Word]) -> str:
    """Return a call with a foreign name replaced, `DiceLoss()` as `Dice()`, or "" if no word is meant."""
    name, paren, rest = call.partition("(")
    near = find_safe_replacement(name.strip().rpartition(".")[2], list_words(family))
    return f"{near}{paren}{rest}" if near else ""


def _takes_word_list(word: type[Word], family: type[Word]) -> bool:
    first = next(iter(word.model_fields.values()), None)
    return (
        first is not None
        and typing.get_origin(first.annotation) is tuple
        and find_word_family(first.annotation) is family
    )


def _iterate_terms(expr: tree.Expr, start: int, text: str) -> typing.Iterator[tuple[str, str]]:
    """Yield the factor and the source of each word in a list or sum; "" for terms of any other kind."""
    if isinstance(expr, tree.Binary) and expr.op == "*":
        yield from _iterate_weighted_terms(expr, start, text)
        return
    parts = _list_terms(expr)
    if parts is None:
        yield "", text[expr.span.start - start : expr.span.end - start] if isinstance(expr, tree.Call) else ""
    for part in parts or ():
        yield from _iterate_terms(part, start, text)


def _list_terms(expr: tree.Expr) -> tuple[tree.Expr, ...] | None:
    """Return the terms of a list, chain or sum, or None for any other expression."""
    if isinstance(expr, tree.ListExpr):
        return expr.items
    if isinstance(expr, tree.Flow) and all(step.name is step.repeat is None for step in expr.steps):
        return (expr.source, *(step.component for step in expr.steps))
    return (expr.left, expr.right) if isinstance(expr, tree.Binary) and expr.op == "+" else None


def _iterate_weighted_terms(expr: tree.Binary, start: int, text: str) -> typing.Iterator[tuple[str, str]]:
    factor, rest = (expr.left, expr.right) if isinstance(expr.left, tree.Constant) else (expr.right, expr.left)
    weight = text[factor.span.start - start : factor.span.end - start] if isinstance(factor, tree.Constant) else ""
    # A factor of a factor would have to be multiplied out; give up on the term instead.
    for inner, word in _iterate_terms(rest, start, text):
        yield weight, word if weight and not inner else ""


def suggest_chain(expr: tree.Expr, text: str) -> str:
    """Return words joined by other operators as a chain, `Warmup(5 epochs) -> Poly()`, or ""."""
    start = expr.span.start

    def split_parts(part: tree.Expr) -> typing.Iterator[str]:
        if isinstance(part, tree.Binary) and part.op in (">", ">=", "+", "and", "or", "-", "*"):
            yield from split_parts(part.left)
            yield from split_parts(part.right)
        else:
            yield text[part.span.start - start : part.span.end - start] if isinstance(part, tree.Call) else ""

    found = list(split_parts(expr))
    return " -> ".join(found) if len(found) > 1 and all(found) else ""


def suggest_word(
    expr: tree.Expr, family: type[Word], text: str, *, optional: bool = False, in_chain: bool = False
) -> str:
    """Return the word that was probably meant by an expression of another kind, or "".

    ``optional`` allows `none`; ``in_chain`` means that other words follow in a chain.
    """
    known = list_words(family)
    if isinstance(expr, tree.Constant) and isinstance(expr.value, bool):
        if not expr.value:
            return "none" if optional else ""
        return next(iter(known.values())).write_usual_form() if len(known) == 1 else ""
    if isinstance(expr, tree.Constant) and isinstance(expr.value, (int, float)):
        return next(iter(known.values())).write_number_form(expr.value) if len(known) == 1 else ""
    name = expr.name if isinstance(expr, tree.Name) else expr.value if isinstance(expr, tree.Constant) else None
    if isinstance(name, str):
        near = find_safe_replacement(name, known)
        if not near:
            return ""
        return known[near].write_chain_form() if in_chain else known[near].write_usual_form()
    if isinstance(expr, tree.Call):
        return _suggest_from_dict_call(expr, known, text)
    return suggest_combination(expr, family, text)


def _suggest_from_dict_call(call: tree.Call, family: dict[str, type[Word]], text: str) -> str:
    # `dict(type = "AdamW", lr = 1e-3)` is how mmsegmentation configures a component.
    named = {a.name.name: a.value for a in call.args if a.name is not None}
    kind = named.pop("type", named.pop("name", None))
    near = (
        find_safe_replacement(kind.value, family)
        if isinstance(kind, tree.Constant) and isinstance(kind.value, str)
        else None
    )
    if near is None:
        return ""
    start, names = call.span.start, family[near].model_fields
    given = [
        f"{match_name(name, names) or name} = {text[value.span.start - start : value.span.end - start]}"
        for name, value in named.items()
    ]
    return f"{near}({', '.join(given)})"
