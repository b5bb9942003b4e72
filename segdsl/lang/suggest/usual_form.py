"""How a word is written of which only the name is said, or only a number: with what it needs, and by name."""

from __future__ import annotations

from segdsl.ir.values import number

_BEGUN = {
    "Warmup": "Warmup(5 epochs) -> Poly()",
    "Step": "Step(every = 30 epochs)",
    "WeightedSum": "WeightedSum([CrossEntropy(), Dice()])",
    "Merge": 'Merge(["a", "b"], into = "c")',
    "Clip": "Clip(0..1)",
}
"""Words that cannot be called without arguments, in their usual form."""
_OF_A_NUMBER = {
    "EarlyStopping": "EarlyStopping(patience = {} epochs)",
    "Checkpoints": "Checkpoints({})",
    "EMA": "EMA({})",
}
"""What a number alone means in the place of a word: seldom its first argument."""


def begun(word: str) -> str:
    """The usual form of a word: `Dice()`, `Warmup(5 epochs) -> Poly()`."""
    return _BEGUN.get(word, f"{word}()")


def linked(word: str) -> str:
    """The usual form of a word inside of a chain, where others follow it."""
    return begun(word).partition(" -> ")[0]


def of_number(word: str, value: float) -> str:
    """The word that a number alone stands for; "" where it could be several arguments of it."""
    form = _OF_A_NUMBER.get(word, "")
    return form.format(number(value)) if form else ""
