"""The usual way to write a built-in component, for suggestions that know only its name or a number."""

from __future__ import annotations

from segdsl.ir.values import number

_BEGUN = {
    "Warmup": "Warmup(5 epochs) -> Poly()",
    "Step": "Step(every = 30 epochs)",
    "WeightedSum": "WeightedSum([CrossEntropy(), Dice()])",
    "Merge": 'Merge(["a", "b"], into = "c")',
    "Clip": "Clip(0..1)",
}
"""Components that need arguments, in their usual form."""
_OF_A_NUMBER = {
    "EarlyStopping": "EarlyStopping(patience = {} epochs)",
    "Checkpoints": "Checkpoints({})",
    "EMA": "EMA({})",
}
"""What a bare number means in place of a component: seldom its first argument."""


def begun(word: str) -> str:
    """Return the usual form of a component: `Dice()`, `Warmup(5 epochs) -> Poly()`."""
    return _BEGUN.get(word, f"{word}()")


def linked(word: str) -> str:
    """Return the usual form of a component within a chain, without what follows it."""
    return begun(word).partition(" -> ")[0]


def of_number(word: str, value: float) -> str:
    """Return the component that a bare number stands for; "" if the number could be any of several arguments."""
    form = _OF_A_NUMBER.get(word, "")
    return form.format(number(value)) if form else ""
