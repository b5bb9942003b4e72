"""The training settings of a run that a reader needs to judge its curves."""

from __future__ import annotations

from collections.abc import Iterator

from segdsl.ir.program import Loss
from segdsl.ir.word import Word
from segdsl.lang.resolve import render_field
from segdsl.run.report.run_data import RunData
from segdsl.text.listing import join_names
from segdsl.text.plural import format_count

MAX_WEIGHTS = 12
"""Number of classes whose weights are listed."""
PRECISION_TEXTS = {
    "fp32": "single precision (fp32)",
    "bf16": "steps in bf16; weights, loss and validation in single precision",
    "fp16": "steps in fp16; weights, loss and validation in single precision",
    "auto": "steps in the half precision that the device supports best; single precision on a CPU (auto)",
}


def list_training_settings(run: RunData) -> list[tuple[str, str]]:
    """Return the settings that the program has, as names and values."""
    return [(name, text) for name, text in _list_settings(run) if text]


def _list_settings(run: RunData) -> Iterator[tuple[str, str]]:
    train, data = run.program.train, run.program.data
    yield "loss", format_word(train.loss) if train.loss else ""
    yield "class weights", _describe_class_weights(run, train.loss)
    yield "optimizer", format_word(train.optimizer) if train.optimizer else ""
    yield "schedule", " -> ".join(map(format_word, train.schedule))
    accumulation = f", {train.accumulate} batches per step" if train.accumulate > 1 else ""
    yield "batch", f"{format_count(data.train.batch, 'image')}{accumulation}"
    yield "sampler", f"{format_word(data.train.sampler)} selects the images of an epoch" if data.train.sampler else ""
    usage = "validation, checkpoints and exports use the averaged weights"
    yield "averaged weights", f"{format_word(train.ema)}: {usage}" if train.ema else ""
    yield "precision", PRECISION_TEXTS[train.precision]
    yield "frozen", ", ".join(train.freeze)
    yield "monitored", train.monitor + (f", by {format_word(train.stop)}" if train.stop else "")


def format_word(word: Word) -> str:
    """Format a word with those arguments that differ from their defaults."""
    fields = type(word).model_fields.items()
    values = {n: getattr(word, n) for n, i in fields if getattr(word, n) != i.get_default(call_default_factory=True)}
    texts = {name: _format_argument(word, name, value) for name, value in values.items()}
    return f"{type(word).__name__}({', '.join(f'{name} = {text}' for name, text in texts.items())})"


def _format_argument(word: Word, name: str, value: object) -> str:
    words = value if isinstance(value, tuple) and value and all(isinstance(v, Word) for v in value) else ()
    if words:
        return f"[{', '.join(format_word(one) for one in words if isinstance(one, Word))}]"
    return format_word(value) if isinstance(value, Word) else render_field(type(word), name, value)


def _describe_class_weights(run: RunData, loss: Loss | None) -> str:
    """Describe the class weights that the loss derived from the dataset, heaviest first."""
    # Weights that the program sets are already part of the loss.
    if loss is None or not loss.needs_class_weights():
        return ""
    weights = sorted(run.class_weights.items(), key=lambda pair: -pair[1])
    if not weights:
        return "computed from the training subset; not recorded in lock.json"
    texts = join_names([f"{name}: {weight:.3g}" for name, weight in weights], MAX_WEIGHTS, separator="; ")
    return f"computed from the training subset: {texts}{' in lock.json' if len(weights) > MAX_WEIGHTS else ''}"
