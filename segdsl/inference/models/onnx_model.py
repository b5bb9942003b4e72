"""An exported ONNX model, ready to use in ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.diagnostics import fail
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.extras import require
from segdsl.inference.models.model import Exported, fits
from segdsl.inference.models.model_info import LOGITS, ModelInfo, read_info
from segdsl.inference.preprocess import Image, Maps
from segdsl.words.exports import ONNX

SILENT = 4
"""The level of ONNX Runtime's log at which it says nothing."""
METADATA = 14
"""The number of the field of an ONNX file in which it says things about itself (onnx.proto, `ModelProto`)."""
VARINT, EIGHT_BYTES, MEASURED, FOUR_BYTES = 0, 1, 2, 5
"""How long a field of a protocol buffer is: as its bytes say, or its length before it."""


class OnnxModel(Exported):
    """An exported ONNX model."""

    kind = "onnx"

    def __init__(self, path: Path, info: ModelInfo, session: Any) -> None:
        super().__init__(path, info, info.program.export.onnx or ONNX())
        self._session = session

    def logits(self, image: Image) -> Maps:
        """Those of a softmax but for a summand at each pixel, which the file does not tell."""
        return np.log(np.maximum(self.scores(image), np.finfo(np.float32).tiny))

    def _said(self, prepared: Any) -> Any:
        return self._session.run([model_info.OUTPUT], {model_info.INPUT: prepared})[0][0]


def open_onnx(path: Path) -> OnnxModel:
    """The model in the `.onnx` at ``path``.

    Raises SegError (`onnx-not-installed`, `model-unreadable`, `model-foreign`, `model-info-damaged`, `model-damaged`,
    `model-program-refused`).
    """
    session = open_session(path)
    return OnnxModel(path, _info_of(session, path), session)


def read_onnx(path: Path) -> ModelInfo:
    """What the `.onnx` at ``path`` says about itself. Raises SegError as :func:`open_onnx` does."""
    return _info_of(open_session(path), path)


def open_session(path: Path) -> Any:
    """The `onnxruntime.InferenceSession` on the CPU. Raises SegError (`onnx-not-installed`, `model-unreadable`)."""
    require(["onnxruntime"], "an ONNX model", "onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what a damaged file raises is open, and its text is not ours
        raise openvino_runtime.unreadable(path) from error


def _info_of(session: Any, path: Path) -> ModelInfo:
    entries = dict(session.get_modelmeta().custom_metadata_map)
    info = read_info({**entries, LOGITS: ""}, path, may_pad=False)
    if not fits(session.get_inputs()[0].shape, info.program):
        raise model_info.info_damaged(path)
    if seal_of(path) != info.digest:
        raise fail(
            "model-damaged",
            f"the network or the weights in `{path.name}` are not those that were exported",
            "copy the file again, or export the run again",
            path=str(path),
        )
    return info


def seal_of(path: Path) -> str:
    """The SHA-256 of all of an ONNX file but what it says about itself; empty where it is no protocol buffer."""
    digest = hashlib.sha256()
    try:
        for number, field in _fields(path.read_bytes()):
            if number != METADATA:
                digest.update(field)
    except (ValueError, IndexError):
        return ""
    return digest.hexdigest()


def _fields(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """The outermost fields of a protocol buffer, each by its number. Raises ValueError and IndexError."""
    view, at = memoryview(content), 0
    while at < len(view):
        start = at
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _varint(view, at)
        elif kind == MEASURED:
            length, at = _varint(view, at)
            at += length
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(kind)
        yield tag >> 3, view[start:at]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that begins there, of seven bits a byte, the lowest first; and where it has ended."""
    number = shift = 0
    while True:
        byte = view[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
