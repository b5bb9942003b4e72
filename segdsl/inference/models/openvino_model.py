"""Exported OpenVINO models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from segdsl.diagnostics import fail
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model import RuntimeModel, matches_input_shape
from segdsl.inference.models.model_info import ModelInfo, hash_file, info_damaged_error, parse_entries, read_entries
from segdsl.inference.models.tensor_names import add_outputs, map_tensors_by_name
from segdsl.inference.preprocess import ClassMaps, Image


class OpenVINOModel(RuntimeModel):
    """An exported OpenVINO model."""

    def __init__(self, path: Path, info: ModelInfo, model: Any, hint: openvino_runtime.Hint) -> None:
        super().__init__(path, info)
        self.model = model
        self.hint: openvino_runtime.Hint = hint
        self._network = openvino_runtime.compile_model(model, hint, path)

    @classmethod
    def open_file(cls, path: Path, hint: openvino_runtime.Hint) -> OpenVINOModel:
        model, info = read_xml(path)
        return cls(path, info, model, hint)

    @classmethod
    def read_info(cls, path: Path) -> ModelInfo:
        return read_xml(path)[1]

    def predict_logits(self, image: Image) -> ClassMaps:
        return self._logits_network(self._make_input(image))[1][0]

    def _run_network(self, model_input: Any) -> Any:
        return self._network(model_input)[0][0]

    @cached_property
    def _logits_network(self) -> Any:
        """A second compilation of the model that also outputs the logits."""
        # Compiled on demand: few callers need logits, and compilation takes seconds.
        return openvino_runtime.compile_model(add_outputs(self.model, [self.info.logits_name]), self.hint, self.path)


def read_xml(path: Path) -> tuple[Any, ModelInfo]:
    """Read the `openvino.Model` in an exported `.xml`, and its metadata.

    Raises SegError (`model-without-bin`, `model-unreadable`, `model-foreign`, `model-info-damaged`, `model-damaged`,
    `model-program-refused`).
    """
    model = openvino_runtime.read_model(path)
    info = parse_entries(read_entries(model), path)
    if not matches_input_shape(
        model.inputs[0].get_partial_shape(), info.program
    ) or info.logits_name not in map_tensors_by_name(model):
        raise info_damaged_error(path)
    if hash_file(path.with_suffix(".bin")) != info.digest:
        raise fail(
            "model-damaged",
            f"`{path.with_suffix('.bin').name}` is not the file that was exported together with `{path.name}`",
            "copy both files again, or export the run again",
            path=str(path),
        )
    return model, info
