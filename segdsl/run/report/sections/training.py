"""How a run learns, in words: what of its program a reader has to know to judge its curves."""

from __future__ import annotations

from collections.abc import Iterator

from segdsl.ir.program import Loss
from segdsl.ir.word import Word
from segdsl.lang.resolve import spell_field
from segdsl.run.report.markup import Html, tag
from segdsl.run.report.run_data import Material
from segdsl.words.losses import asks_for_weights

NAMED = 12
"""Classes whose weights are told."""
FORMATS = {
    "fp32": "single precision (fp32)",
    "bf16": "steps in bf16; weights, loss and validation in single precision",
    "fp16": "steps in fp16; weights, loss and validation in single precision",
    "auto": "steps in the half precision that the device is made for, on a CPU in single precision (auto)",
}


def training(material: Material) -> Html:
    """Names and what stands for them in the program, each in a sentence."""
    rows = [tag("div", tag("dt", name), tag("dd", text)) for name, text in _facts(material) if text]
    return tag("dl", *rows, class_="about")


def _facts(material: Material) -> Iterator[tuple[str, str]]:
    train, data = material.program.train, material.program.data
    yield "loss", short(train.loss) if train.loss else ""
    yield "class weights", _class_weights(material, train.loss)
    yield "optimizer", short(train.optimizer) if train.optimizer else ""
    yield "schedule", " -> ".join(map(short, train.schedule))
    together = f", {train.accumulate} batches to a step" if train.accumulate > 1 else ""
    yield "batch", f"{data.train.batch} images{together}"
    yield "sampler", f"{short(data.train.sampler)} draws the images of an epoch" if data.train.sampler else ""
    averaged = "the average of the weights is what is validated, kept and shipped"
    yield "averaged weights", f"{short(train.ema)}: {averaged}" if train.ema else ""
    yield "precision", FORMATS[train.precision]
    yield "frozen", ", ".join(train.freeze)
    yield "watched", train.monitor + (f", by {short(train.stop)}" if train.stop else "")


def short(word: Word) -> str:
    """A word with the arguments that are not as they would be without a word."""
    fields = type(word).model_fields.items()
    given = {n: getattr(word, n) for n, i in fields if getattr(word, n) != i.get_default(call_default_factory=True)}
    texts = {name: _value(word, name, value) for name, value in given.items()}
    return f"{type(word).__name__}({', '.join(f'{name} = {text}' for name, text in texts.items())})"


def _value(word: Word, name: str, value: object) -> str:
    words = value if isinstance(value, tuple) and value and all(isinstance(v, Word) for v in value) else ()
    if words:
        return f"[{', '.join(short(one) for one in words if isinstance(one, Word))}]"
    return short(value) if isinstance(value, Word) else spell_field(type(word), name, value)


def _class_weights(material: Material, loss: Loss | None) -> str:
    """Those that the loss counted, the heaviest first; those that the program gives stand in the loss."""
    if not asks_for_weights(loss):
        return ""
    weights = sorted(material.class_weights.items(), key=lambda pair: -pair[1])
    if not weights:
        return "counted in the training subset; lock.json does not have them"
    texts = "; ".join(f"{name}: {weight:.3g}" for name, weight in weights[:NAMED])
    rest = f" and {len(weights) - NAMED} more in lock.json" if len(weights) > NAMED else ""
    return f"counted in the training subset: {texts}{rest}"
