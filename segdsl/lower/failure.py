"""Translation of exceptions inside a built model to diagnostics on the `.seg` program."""

from __future__ import annotations

import linecache
import re
import traceback
from types import FrameType

import torch
from torch import Tensor, fx

from segdsl.diagnostics import Diagnostic


def explain_failure(model: fx.GraphModule, exception: BaseException) -> Diagnostic:
    """Return the diagnostic `graph-failed` for an exception that running ``model`` raised.

    It names the failing node with its operands and span; without a span if the traceback has no generated code.
    """
    node, frame = _find_failing_node(model, exception)
    remedy = "use images of size `data.input_size`, or make the sizes equal with `ResizeTo` before joining tensors"
    # Not only CUDA's error class: on the CPU, torch raises a RuntimeError with "memory" in its text.
    if isinstance(exception, torch.OutOfMemoryError) or "memory" in str(exception).lower():
        remedy = "out of memory: reduce `data.train.batch` or `data.input_size`"
    if node is None or frame is None:
        return Diagnostic("graph-failed", "the model failed on this input", remedy)
    operands = ", ".join(_describe_value(frame.f_locals.get(operand.name)) for operand in node.all_input_nodes)
    message = f"`{node.meta.get('path', node.name)}` failed" + (f" on operands {operands}" if operands else "")
    return Diagnostic("graph-failed", message, remedy, span=node.meta.get("span"))


def _find_failing_node(model: fx.GraphModule, exception: BaseException) -> tuple[fx.Node | None, FrameType | None]:
    """Return the node whose line of generated code is in the traceback, and the frame with its operands."""
    nodes = {node.name: node for node in model.graph.nodes}
    for frame, line in traceback.walk_tb(exception.__traceback__):
        code = frame.f_code
        # fx compiles its code under such a file name; other `forward` frames belong to modules.
        if code.co_name != "forward" or "eval_with_key" not in code.co_filename:
            continue
        # Each line of generated code assigns to a variable with the name of its node.
        target = re.match(r"\s*(\w+)\b", linecache.getline(code.co_filename, line))
        if target and target[1] in nodes:
            return nodes[target[1]], frame
    return None, None


def _describe_value(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return "a list of tensors" if isinstance(value, (list, tuple)) else "a tensor"
