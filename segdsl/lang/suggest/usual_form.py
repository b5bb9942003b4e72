"""The usual way to write a built-in component, for suggestions that know only its name or a number."""

from __future__ import annotations

from segdsl.ir.values import format_number

_USUAL_FORMS = {
    "Warmup": "Warmup(5 epochs) -> Poly()",
    "Step": "Step(every = 30 epochs)",
    "WeightedSum": "WeightedSum([CrossEntropy(), Dice()])",
    "Merge": 'Merge(["a", "b"], into = "c")',
    "Clip": "Clip(0..1)",
}
"""Components that need arguments, in their usual form."""
_NUMBER_FORMS = {
    "EarlyStopping": "EarlyStopping(patience = {} epochs)",
    "Checkpoints": "Checkpoints({})",
    "EMA": "EMA({})",
}
"""What a bare number means in place of a component: seldom its first argument."""


def usual_form(word: str) -> str:
    """Return the usual form of a component: `Dice()`, `Warmup(5 epochs) -> Poly()`."""
    return _USUAL_FORMS.get(word, f"{word}()")


def chain_form(word: str) -> str:
    """Return the usual form of a component within a chain, without what follows it."""
    return usual_form(word).partition(" -> ")[0]


def suggest_from_number(word: str, value: float) -> str:
    """Return the component that a bare number stands for; "" if the number could be any of several arguments."""
    form = _NUMBER_FORMS.get(word, "")
    return form.format(format_number(value)) if form else ""
