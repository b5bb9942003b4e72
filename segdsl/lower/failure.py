"""What an exception inside a built model means in terms of the `.seg` program."""

from __future__ import annotations

import linecache
import re
import traceback
from types import FrameType

import torch
from torch import Tensor, fx

from segdsl.diagnostics import Diagnostic


def explain_failure(model: fx.GraphModule, exception: BaseException) -> Diagnostic:
    """The finding (`graph-failed`) behind an exception that running ``model`` raised: the node, its operands, its span.

    Where the traceback does not reach into the generated code the finding has no span.
    """
    node, frame = _failing(model, exception)
    remedy = "give it images of the size that the program was checked at, or join the tensors with `ResizeTo`"
    if isinstance(exception, torch.OutOfMemoryError) or "memory" in str(exception).lower():
        remedy = "memory ran out: lower `data.train.batch` or `data.input_size`"
    if node is None or frame is None:
        return Diagnostic("graph-failed", "the model could not run on this input", remedy)
    got = ", ".join(_describe(frame.f_locals.get(operand.name)) for operand in node.all_input_nodes)
    message = f"`{node.meta.get('path', node.name)}` could not run on {got or 'nothing'}"
    return Diagnostic("graph-failed", message, remedy, span=node.meta.get("span"))


def _failing(model: fx.GraphModule, exception: BaseException) -> tuple[fx.Node | None, FrameType | None]:
    """The node whose line of generated code the traceback passes through, and the frame with its operands."""
    nodes = {node.name: node for node in model.graph.nodes}
    for frame, line in traceback.walk_tb(exception.__traceback__):
        code = frame.f_code
        if code.co_name != "forward" or "eval_with_key" not in code.co_filename:
            continue
        target = re.match(r"\s*(\w+)\b", linecache.getline(code.co_filename, line))
        if target and target[1] in nodes:
            return nodes[target[1]], frame
    return None, None


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "a list of tensors" if isinstance(value, (list, tuple)) else "a tensor"
