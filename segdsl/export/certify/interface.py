"""A description of an exported model's input and output, for those who run it without segdsl."""

from __future__ import annotations

from segdsl.data.decode.images import get_normalization
from segdsl.inference.models import model_info
from segdsl.ir.program import Exporter, Program
from segdsl.text.listing import join_names

MAX_CLASSES = 3
"""Maximum number of classes listed before the last one."""
CHANNEL_NAMES = {1: "grey", 3: "RGB"}


def describe_interface(program: Program, exporter: Exporter, has_empty_channel: bool) -> dict[str, str]:
    """Return name, shape and values of the input (`takes`) and of the output (`gives`) of an exported model.

    `names` are the classes that openvino-model-api calls something else, if there are any.
    """
    renamed = [
        f"`{name}` is `{label}`"
        for name, label in zip(program.classes, model_info.make_labels(program.classes), strict=True)
        if name != label
    ]
    names = {"names": f"openvino-model-api splits names at blanks: {join_names(renamed)}"} if renamed else {}
    dynamic = exporter.size == "dynamic"
    size = "H, W" if dynamic else f"{program.data.input_size.height}, {program.data.input_size.width}"
    channels = program.channels
    kind = CHANNEL_NAMES.get(channels, f"{channels} channels")
    takes = f"`{model_info.INPUT_NAME}` [1, {channels}, {size}], {kind}, {_describe_values(program, exporter)}"
    if exporter.prediction == "hard":
        return {
            "takes": takes,
            "gives": f"`{model_info.OUTPUT_NAME}` [1, {size}], ids: {_format_class_ids(program, 0)}",
            **names,
        }
    shape = f"[1, {len(program.classes) + has_empty_channel}, {size}]"
    empty = "0 is empty, " if has_empty_channel else ""
    values = f"probabilities: {empty}{_format_class_ids(program, int(has_empty_channel))}"
    return {"takes": takes, "gives": f"`{model_info.OUTPUT_NAME}` {shape}, {values}", **names}


def _describe_values(program: Program, exporter: Exporter) -> str:
    if exporter.normalize:
        return "0 to 255"
    if program.data.normalize == "none":
        return "0 to 1"
    mean, deviation = (list(numbers) for numbers in get_normalization(program.data.normalize, program.channels))
    return f"normalized: (v - {mean}) / {deviation} for v from 0 to 255"


def _format_class_ids(program: Program, first_id: int) -> str:
    names = [f"{first_id + k} is {name}" for k, name in enumerate(program.classes)]
    # An ellipsis that stands for a single class would save nothing.
    names = names if len(names) <= MAX_CLASSES + 1 else [*names[:MAX_CLASSES], "…", names[-1]]
    return ", ".join(names)
