"""A description of an exported model's input and output, for those who run it without segdsl."""

from __future__ import annotations

from segdsl.data.decode.images import statistics
from segdsl.inference.models import model_info
from segdsl.ir.program import AnyExporter, Program

SHOWN = 3
"""Maximum number of classes listed before the last one."""
COLORS = {1: "grey", 3: "RGB"}


def interface_of(program: Program, form: AnyExporter, empty: bool) -> dict[str, str]:
    """Return name, shape and values of the input (`takes`) and of the output (`gives`) of an exported model."""
    dynamic = form.size == "dynamic"
    size = "H, W" if dynamic else f"{program.data.input_size.height}, {program.data.input_size.width}"
    channels = program.channels
    kind = COLORS.get(channels, f"{channels} channels")
    takes = f"`{model_info.INPUT}` [1, {channels}, {size}], {kind}, {_values(program, form)}"
    if form.prediction == "hard":
        return {"takes": takes, "gives": f"`{model_info.OUTPUT}` [1, {size}], ids: {_ids(program, 0)}"}
    shape = f"[1, {len(program.classes) + empty}, {size}]"
    values = f"probabilities: {'0 is empty, ' if empty else ''}{_ids(program, int(empty))}"
    return {"takes": takes, "gives": f"`{model_info.OUTPUT}` {shape}, {values}"}


def _values(program: Program, form: AnyExporter) -> str:
    if form.normalize:
        return "0 to 255"
    if program.data.normalize == "none":
        return "0 to 1"
    mean, deviation = (list(numbers) for numbers in statistics(program.data.normalize, program.channels))
    return f"normalized: (v - {mean}) / {deviation} for v from 0 to 255"


def _ids(program: Program, first: int) -> str:
    names = [f"{first + k} is {name}" for k, name in enumerate(program.classes)]
    # An ellipsis that stands for a single class would save nothing.
    names = names if len(names) <= SHOWN + 1 else [*names[:SHOWN], "…", names[-1]]
    return ", ".join(names)
