"""Diagnostics for expressions that a field cannot take: what was expected, what was found, and what to write instead.

The converters in `lang/convert` decide what fits; nothing here changes that decision.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from segdsl.diagnostics import Diagnostic, Fix, Span, find_closest_name, find_safe_replacement, suggest_name
from segdsl.diagnostics.aliases import describe_difference, fold_name
from segdsl.ir.field_type import FieldType, read_field_type
from segdsl.ir.values import Quantity, Size, format_number
from segdsl.ir.word import Record, Word, list_words
from segdsl.lang.convert.misfit import UNEVALUATED, BoundViolation, Misfit, Reason
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.expressions import get_dotted_parts, lookup_component
from segdsl.lang.elaborate.values import describe_value
from segdsl.lang.suggest.explain_choice import explain_choice, explain_score, explain_shadowed_choice
from segdsl.lang.suggest.foreign_settings import AUTOMATIC_STEP_HELP, PIPELINE_STEPS
from segdsl.lang.suggest.remedies import (
    add_article,
    describe_field_type,
    format_alternatives,
    suggest_chain,
    suggest_list,
    suggest_literal,
    suggest_size_for_product,
    suggest_value,
    suggest_word,
)
from segdsl.syntax import tree


def explain_misfit(misfit: Misfit, frame: Frame) -> Diagnostic:
    """Return the error for an expression that a field cannot take, with the likely intended text as its fix."""
    return _EXPLAINERS[misfit.reason](misfit, frame)


def _wrong_type(misfit: Misfit, message: str, help: str, fix: str = "") -> Diagnostic:
    replacement = Fix(misfit.span, fix) if fix else None
    return Diagnostic("wrong-type", message, help, span=misfit.span, fix=replacement)


def _explain_value(misfit: Misfit, frame: Frame) -> Diagnostic:
    value, expected = misfit.found, misfit.expected
    if expected.base is Quantity and expected.units:
        if isinstance(value, Quantity):
            message = f"expected a quantity in {format_alternatives(expected.units)}, got `{value.unit}`"
            help = f"write `{format_number(value.value)} {expected.units[0]}`"
            return Diagnostic("wrong-unit", message, help, span=misfit.span)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            offers = " or ".join(f"`{format_number(value)} {unit}`" for unit in expected.units)
            message = f"`{format_number(value)}` needs a unit"
            return Diagnostic("unit-missing", message, f"write {offers}", span=misfit.span)
    suggestion = suggest_value(value, expected)
    message = f"expected {describe_field_type(expected)}, got {describe_value(value)}"
    return _wrong_type(misfit, message, _suggest_correction(value, expected, suggestion), suggestion)


def _suggest_correction(value: Any, expected: FieldType, suggestion: str) -> str:
    if suggestion:
        return f"write {quote_code(suggestion)}"
    if expected.base is Size and expected.name == "kernel":
        # `Conv2d(3, 64, 3)` of PyTorch passes the input channels first.
        return "write the kernel as height x width, such as `3x3`; the number of input channels is inferred"
    if expected.base is int and isinstance(value, float):
        return "use `//` for integer division"
    return f"write {describe_field_type(expected)}"


def quote_code(text: str) -> str:
    """Return source text in backticks for a message; a string keeps its own quotes instead."""
    return text if text.startswith('"') else f"`{text}`"


def _explain_unresolved(misfit: Misfit, frame: Frame) -> Diagnostic:
    error, expr, expected = misfit.found, misfit.expr, misfit.expected
    # A likely spelling is a better guess than a string without quotes.
    if error.help.startswith("did you mean"):
        return error
    text = frame.get_source(expr.span)
    suggestion = suggest_literal(text, expected)
    if suggestion:
        message = f"expected {describe_field_type(expected)}, got `{text}`"
        return _wrong_type(misfit, message, f"write {quote_code(suggestion)}", suggestion)
    if isinstance(expr, tree.Binary) and expr.op == "//" and error.span == expr.right.span:
        return replace(error, help="use `#` for a comment; `//` is integer division")
    if error.span == expr.span and expected.base is not str:
        return replace(error, help=f"write {describe_field_type(expected)}")
    return error


def _explain_product(misfit: Misfit, frame: Frame) -> Diagnostic:
    product = suggest_size_for_product(misfit.expr)
    message = f"expected {describe_field_type(misfit.expected)}, got a product"
    return _wrong_type(misfit, message, f"write `{product}`", product)


def _explain_path(misfit: Misfit, frame: Frame) -> Diagnostic:
    help = 'write a path such as `backbone.stem`; quote it if a part is a number: "backbone.stage0.1"'
    return _wrong_type(misfit, "expected a path in the model", help)


def _explain_length(misfit: Misfit, frame: Frame) -> Diagnostic:
    count = len(misfit.expected.items)
    return _wrong_type(misfit, f"expected a list of {count} values, got {misfit.found}", f"write {count} values")


def _explain_missing_list(misfit: Misfit, frame: Frame) -> Diagnostic:
    suggestion = suggest_list(misfit.found, misfit.expected.items[0])
    message = f"expected {describe_field_type(misfit.expected)}, got {describe_value(misfit.found)}"
    return _wrong_type(misfit, message, f"write a list: `{suggestion or '[…]'}`", suggestion)


def _explain_single_path(misfit: Misfit, frame: Frame) -> Diagnostic:
    path = ".".join(get_dotted_parts(misfit.expr) or ())
    return _wrong_type(misfit, "expected a list of paths, got a single path", f"wrap it in brackets: `[{path}]`")


def _explain_single_word(misfit: Misfit, frame: Frame) -> Diagnostic:
    text, family = frame.get_source(misfit.expr.span), misfit.expected.items[0].base
    if isinstance(misfit.expr, tree.Call):
        help = f"wrap it in brackets: `[{text}]`"
        return _wrong_type(misfit, f"expected a list, got a single {family.kind}", help, f"[{text}]")
    chain = suggest_chain(misfit.expr, text)
    return _wrong_type(misfit, "schedules are chained with `->`", f"write `{chain}`", chain)


def _explain_chain_step(misfit: Misfit, frame: Frame) -> Diagnostic:
    message = f"{add_article(misfit.expected.base.kind)} in a chain cannot be mapped, repeated or named"
    return _wrong_type(misfit, message, "remove `each`, `*` and `as`")


def _explain_word(misfit: Misfit, frame: Frame) -> Diagnostic:
    expr, family, found = misfit.expr, misfit.expected.base, misfit.found
    known, text = list_words(family), frame.get_source(expr.span)
    suggestion = suggest_word(expr, family, text, optional=misfit.expected.is_optional, in_chain=misfit.in_chain)
    if isinstance(expr, tree.Flow):
        help = "keep one of them" + (f", or combine them: `{suggestion}`" if suggestion else "")
        return _wrong_type(misfit, f"{add_article(family.kind)} cannot be a chain", help, suggestion)
    if isinstance(expr, tree.Name) and expr.name in known:
        message, fix = f"`{expr.name}` is missing its parentheses", Fix(misfit.span, suggestion) if suggestion else None
        return Diagnostic("component-not-built", message, f"write `{suggestion}`", span=misfit.span, fix=fix)
    name, offer = "", f"write `{suggestion}`"
    if found is not UNEVALUATED:
        got = describe_value(found)
        suggestion = suggestion if isinstance(expr, tree.Constant) else ""
        name = str(expr.value) if isinstance(expr, tree.Constant) else ""
    elif isinstance(expr, tree.Name):
        got, name, offer = f"`{expr.name}`", expr.name, f"did you mean `{suggestion}`?"
    else:
        got = "a list" if isinstance(expr, tree.ListExpr) else "a sum"
    help = offer if suggestion else _explain_different_name(name, known)
    choices = ", ".join(f"`{n}(…)`" for n in known)
    message = f"expected {add_article(family.kind)}, got {got}"
    return _wrong_type(misfit, message, help or f"write one of {choices}", suggestion)


def _explain_different_name(name: str, family: Mapping[str, type[Word]]) -> str:
    """Return the help for a foreign name whose word here takes other arguments, or "" for any other name."""
    return suggest_name(name, family, "words") if describe_difference(name) and find_closest_name(name, family) else ""


def _explain_call(misfit: Misfit, frame: Frame) -> Diagnostic:
    """Return the error for a call of something that is no word of the expected family."""
    call, kind = misfit.expr, misfit.expected.base
    assert isinstance(call, tree.Call)
    component, name = lookup_component(call.func, frame), (get_dotted_parts(call.func) or ("?",))[-1]
    if component is None:
        return _explain_unknown_call(misfit, call, frame)
    what = component.kind if isinstance(component, type) and issubclass(component, Word) else "block"
    message = f"expected {add_article(kind.kind)}, but `{name}` is {add_article(what)}"
    help = "choose one of " + ", ".join(f"`{n}`" for n in list_words(kind))
    return Diagnostic("wrong-component", message, help, span=call.func.span)


def _explain_unknown_call(misfit: Misfit, call: tree.Call, frame: Frame) -> Diagnostic:
    kind = misfit.expected.base
    known, parts = list_words(kind), get_dotted_parts(call.func) or ("?",)
    name, message = parts[-1], f"unknown {kind.kind} `{'.'.join(parts)}`"
    suggestion = suggest_word(call, kind, frame.get_source(call.span))
    if suggestion:
        fix = Fix(call.span, suggestion)
        return Diagnostic("unknown-component", message, f"write `{suggestion}`", span=call.span, fix=fix)
    # The whole call is replaced only if it has no arguments that would be lost.
    near = find_safe_replacement(name, known)
    if near and not call.args and known[near].usual_form:
        form = known[near].write_chain_form() if misfit.in_chain else known[near].write_usual_form()
        fix = Fix(call.span, form)
        return Diagnostic("unknown-component", message, f"did you mean `{form}`?", span=call.span, fix=fix)
    if find_closest_name(name, known):
        help = suggest_name(name, known, "words")
    elif fold_name(name) in PIPELINE_STEPS:
        help = AUTOMATIC_STEP_HELP
    else:
        help = "choose one of " + ", ".join(f"`{n}`" for n in known)
    fix = Fix(call.func.span, near) if near else None
    return Diagnostic("unknown-component", message, help, span=call.func.span, fix=fix)


_EXPLAINERS: dict[Reason, Callable[[Misfit, Frame], Diagnostic]] = {
    "value": _explain_value,
    "unresolved": _explain_unresolved,
    "product": _explain_product,
    "path": _explain_path,
    "choice": explain_choice,
    "shadowed-choice": explain_shadowed_choice,
    "score": explain_score,
    "length": _explain_length,
    "not-a-list": _explain_missing_list,
    "single-path": _explain_single_path,
    "single-word": _explain_single_word,
    "chain-step": _explain_chain_step,
    "call": _explain_call,
    "word": _explain_word,
}
"""The reason of a misfit -> the function that writes its diagnostic."""


def describe_alternatives(expected: FieldType) -> str:
    """Return the help that lists what a field takes: each word of a family, or a description of the type."""
    family = expected.family or next((item.family for item in expected.items), None)
    if family is None:
        return f"write {describe_field_type(expected)}"
    known = [f"`{word.write_usual_form()}`" for word in list_words(family).values()]
    return f"write {'one of ' if len(known) > 1 else ''}{', '.join(known)}"


def explain_missing_argument(word: type[Word], name: str, span: Span) -> Diagnostic:
    """Return the error for a required argument that a call does not pass."""
    info = word.model_fields[name]
    kind = describe_field_type(read_field_type(info.annotation, info.metadata))
    message = f"`{word.__name__}` is missing its argument `{name}`"
    return Diagnostic("missing-argument", message, f"pass it: `{word.__name__}({name} = …)`, {kind}", span=span)


def explain_bound_violation(
    record: type[Record], values: Mapping[str, Any], violation: BoundViolation, span: Span
) -> Diagnostic:
    """Return the error for a value out of the bounds of its field."""
    name, reason, rejected = violation.field, violation.reason, violation.rejected
    help = f"use a value that is {reason.removeprefix('must be ')}" if "must be " in reason else "change the value"
    if not values and issubclass(record, Word) and record.usual_form:
        help = f"write `{record.write_usual_form()}`"
    if name and values[name] == 0 and type(None) in typing.get_args(record.model_fields[name].annotation):
        help += f", or disable it with `{name} = none`"
    limit = re.fullmatch(r"must be (?:at most|less than) ([\d.]+)", reason)
    # `BatchNorm(64)`: PyTorch takes the number of channels where segdsl takes `eps`.
    if limit and name == "eps" and rejected >= 1:
        first = next(iter(record.model_fields))
        example = f"{record.__name__}({'' if first == name else f'{first} = …'})"
        help = f"the channel count is inferred; write `{example}`"
    elif limit and rejected / 100 <= float(limit[1]) <= 1 < rejected <= 100:
        help += f"; {format_number(rejected)} % is written `{format_number(rejected / 100)}`"
    message = f"`{name}` {reason}, got {_describe_rejected(rejected)}" if name else reason
    return Diagnostic("out-of-bounds", message, help, span=span)


def _describe_rejected(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return format_number(value) if is_number else describe_value(value)
