"""Exported ONNX models, run in ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.diagnostics import fail
from segdsl.inference.models import model_info
from segdsl.inference.models.extras import require_modules
from segdsl.inference.models.model import RuntimeModel, matches_input_shape
from segdsl.inference.models.model_info import ModelInfo, parse_entries
from segdsl.inference.models.openvino_runtime import Hint
from segdsl.inference.preprocess import ClassMaps, Image

SILENT_LOG_LEVEL = 4
"""Log level of ONNX Runtime at which only fatal errors are printed."""
METADATA_FIELD = 14
"""Number of the field `metadata_props` in an ONNX file (onnx.proto, `ModelProto`)."""
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers (https://protobuf.dev/programming-guides/encoding)."""


class OnnxModel(RuntimeModel):
    """An exported ONNX model."""

    def __init__(self, path: Path, info: ModelInfo, session: Any) -> None:
        super().__init__(path, info)
        self._session = session

    @classmethod
    def open_file(cls, path: Path, hint: Hint) -> OnnxModel:
        session = open_session(path)
        return cls(path, _read_session_info(session, path), session)

    @classmethod
    def read_info(cls, path: Path) -> ModelInfo:
        return _read_session_info(open_session(path), path)

    def predict_logits(self, image: Image) -> ClassMaps:
        """Return log-probabilities: the logits up to an unknown constant per pixel."""
        # The file has no logits output. The smallest normal float keeps the logarithm of 0 finite.
        return np.log(np.maximum(self.predict_probabilities(image), np.finfo(np.float32).tiny))

    def _run_network(self, model_input: Any) -> Any:
        return self._session.run([model_info.OUTPUT_NAME], {model_info.INPUT_NAME: model_input})[0][0]


def open_session(path: Path) -> Any:
    """Open an `onnxruntime.InferenceSession` on the CPU. Raises SegError (`onnx-not-installed`, `model-unreadable`)."""
    require_modules(["onnxruntime"], "an ONNX model", "onnx", "onnx-not-installed")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT_LOG_LEVEL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # A damaged file can raise anything, and the messages of ONNX Runtime do not help users.
        raise fail(
            "model-unreadable",
            f"`{path.name}` is not an ONNX model, or is damaged",
            "copy the file again, or export the run again with `segdsl export RUN`",
            path=str(path),
        ) from error


def _read_session_info(session: Any, path: Path) -> ModelInfo:
    entries = dict(session.get_modelmeta().custom_metadata_map)
    info = parse_entries(entries, path)
    if not matches_input_shape(session.get_inputs()[0].shape, info.program):
        raise model_info.info_damaged_error(path)
    if compute_onnx_digest(path) != info.digest:
        raise fail(
            "model-damaged",
            f"the network or the weights in `{path.name}` were changed after the export",
            "copy the file again, or export the run again",
            path=str(path),
        )
    return info


def compute_onnx_digest(path: Path) -> str:
    """Return the SHA-256 of an ONNX file without its metadata; empty if it is not a protocol buffer."""
    # Parsed here instead of with `onnx`, so that running a model needs onnxruntime only.
    digest = hashlib.sha256()
    try:
        for number, field in _iterate_fields(path.read_bytes()):
            if number != METADATA_FIELD:
                digest.update(field)
    except (ValueError, IndexError):
        return ""
    return digest.hexdigest()


def _iterate_fields(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of the top-level fields of a protocol buffer. Raises ValueError and IndexError."""
    view, offset = memoryview(content), 0
    while offset < len(view):
        start = offset
        # A tag holds the field number and, in its lowest three bits, the wire type.
        tag, offset = _read_varint(view, offset)
        kind = tag & 7
        if kind == VARINT:
            _, offset = _read_varint(view, offset)
        elif kind == LENGTH_DELIMITED:
            length, offset = _read_varint(view, offset)
            offset += length
        elif kind in (FIXED64, FIXED32):
            offset += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(kind)
        yield tag >> 3, view[start:offset]


def _read_varint(view: memoryview, offset: int) -> tuple[int, int]:
    """Read a varint (seven bits per byte, lowest first); return the number and the offset after it."""
    number = shift = 0
    while True:
        byte = view[offset]
        number |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return number, offset
