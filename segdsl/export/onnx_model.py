"""An exported ONNX model, ready to use in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segdsl.export import contract, runtime
from segdsl.export.contract import DIGEST, LOGITS, ModelInfo, digest_of, read_info
from segdsl.export.installed import require
from segdsl.export.model import Exported, fits
from segdsl.export.pixels import Image, Maps
from segdsl.words.exports import ONNX

SILENT = 4
"""The level of ONNX Runtime's log at which it says nothing."""


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
        return self._session.run([contract.OUTPUT], {contract.INPUT: prepared})[0][0]


def open_onnx(path: Path) -> OnnxModel:
    """The model in the `.onnx` at ``path``.

    Raises SegError (`onnx-not-installed`, `model-unreadable`, `model-foreign`, `model-info-damaged`,
    `model-program-refused`).
    """
    session = open_session(path)
    info = _info_of(session, path)
    if not fits(session.get_inputs()[0].shape, info.program):
        raise contract.info_damaged(path)
    return OnnxModel(path, info, session)


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
        raise runtime.unreadable(path) from error


def _info_of(session: Any, path: Path) -> ModelInfo:
    entries = dict(session.get_modelmeta().custom_metadata_map)
    return read_info({**entries, DIGEST: digest_of(path), LOGITS: ""}, path)
