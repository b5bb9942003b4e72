"""A common interface to trained runs and exported models: images in, class ids out. Exported models need no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from segdsl.data.decode.images import ReadOptions
from segdsl.diagnostics import fail
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import (
    EXPORT_FOLDER,
    ModelInfo,
    hash_file,
    info_damaged_error,
    parse_entries,
    read_entries,
    resolve_exporter,
)
from segdsl.inference.models.tensor_names import add_outputs, map_tensors_by_name
from segdsl.inference.preprocess import ClassMaps, Image, Mask, preprocess_image, preprocess_raw, restore_mask_size
from segdsl.ir.program import AnyExporter, Program
from segdsl.ir.values import Size

MODEL_PATH_HELP = "pass a run folder, or an exported `.xml` or `.onnx` file"
XML_SUFFIX, ONNX_SUFFIX = ".xml", ".onnx"
"""File name extensions of exported models."""


class Model(ABC):
    """A model that is ready to use, opened from ``path``; ``program`` is the one it was made from."""

    kind: ClassVar[Literal["torch", "openvino", "onnx"]]

    def __init__(self, path: Path, program: Program) -> None:
        self.path, self.program = path, program

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of their ids."""
        return self.program.classes

    @property
    def ignore(self) -> int:
        """The mask value of ignored pixels."""
        return self.program.void

    @property
    def input_size(self) -> Size:
        """The size (height, width) at which the network processes images."""
        return self.program.data.input_size

    @property
    def read_options(self) -> ReadOptions:
        """How images are read for this model: channels and value range."""
        return ReadOptions(self.program.channels, self.program.data.levels)

    @property
    @abstractmethod
    def base_folder(self) -> Path:
        """The folder that a relative `data.root` starts from."""

    @abstractmethod
    def predict_logits(self, image: Image) -> ClassMaps:
        """Return the logits (K, h, w) at ``input_size`` of an image (H, W, C) of any size."""

    @abstractmethod
    def predict_probabilities(self, image: Image) -> ClassMaps:
        """Return the class probabilities (K, h, w) at ``input_size`` of an image (H, W, C) of any size."""

    def predict_input_mask(self, image: Image) -> Mask:
        """Return the class ids (h, w) at ``input_size`` of an image (H, W, C) of any size."""
        return self.predict_probabilities(image).argmax(0).astype(np.uint8)

    def predict(self, image: Image) -> Mask:
        """Return the class ids (H, W) of an image (H, W, C), at its size."""
        return restore_mask_size(self.predict_input_mask(image), image.shape[0], image.shape[1])

    def _make_input(self, image: Image) -> Any:
        return preprocess_image(image, self.input_size, self.program.data.normalize)


class RuntimeModel(Model):
    """An exported model on the CPU; ``exporter`` holds the settings that define its input and output."""

    def __init__(self, path: Path, info: ModelInfo, exporter: AnyExporter) -> None:
        super().__init__(path, info.program)
        self.info, self.exporter = info, exporter

    @property
    def base_folder(self) -> Path:
        return find_base_folder(self.path)

    def predict_probabilities(self, image: Image) -> ClassMaps:
        output = self._run_network(self._make_input(image))
        if self.exporter.prediction == "soft":
            return output[self.info.channel_offset :]
        # A hard model returns class ids only: one-hot probabilities.
        return (np.arange(len(self.classes))[:, None, None] == output).astype(np.float32)

    def predict_input_mask(self, image: Image) -> Mask:
        if self.exporter.prediction == "soft":
            return super().predict_input_mask(image)
        return self._run_network(self._make_input(image)).astype(np.uint8)

    def _make_input(self, image: Image) -> Any:
        return preprocess_raw(image, self.input_size) if self.exporter.normalize else super()._make_input(image)

    @abstractmethod
    def _run_network(self, model_input: Any) -> Any:
        """Run the file on its input (1, C, h, w) and return its output without the batch axis."""


class OpenVINOModel(RuntimeModel):
    """An exported OpenVINO model."""

    kind = "openvino"

    def __init__(self, path: Path, info: ModelInfo, model: Any, hint: openvino_runtime.Hint) -> None:
        super().__init__(path, info, resolve_exporter(info.program))
        self.model = model
        self.hint: openvino_runtime.Hint = hint
        self._network = openvino_runtime.compile_model(model, hint, path)

    def predict_logits(self, image: Image) -> ClassMaps:
        return self._logits_network(self._make_input(image))[1][0]

    def _run_network(self, model_input: Any) -> Any:
        return self._network(model_input)[0][0]

    @cached_property
    def _logits_network(self) -> Any:
        """A second compilation of the model that also outputs the logits."""
        # Compiled on demand: few callers need logits, and compilation takes seconds.
        return openvino_runtime.compile_model(add_outputs(self.model, [self.info.logits_name]), self.hint, self.path)


def open_model(path: str | Path, hint: openvino_runtime.Hint = "f32", device: str = "auto") -> Model:
    """Open a run folder, an exported `.xml` or `.onnx`, or a folder with a single `.xml`.

    ``device`` is the device for a run (`auto`, `cpu`, `cuda`, …); exported models run on the CPU only. With ``hint`` =
    "device", an OpenVINO model computes in the precision that the device prefers: faster, but no longer equal to
    PyTorch. Raises SegError (`device-not-here`, and the errors of finding and opening the file or the run).
    """
    path = Path(path)
    if path.is_dir() and ((path / "program.seg").exists() or not any(path.glob(f"*{XML_SUFFIX}"))):
        # Imported late: exported models must open without torch.
        from segdsl.inference.models.torch_model import open_run_model

        return open_run_model(path, device)
    file = find_exported_file(path)
    if device not in ("auto", "cpu"):
        message = f"exported models run on the CPU only, not on `{device}`"
        raise fail("device-not-here", message, "remove `--device`, or pass the run folder", path=str(path))
    if file.suffix.lower() == ONNX_SUFFIX:
        from segdsl.inference.models.onnx_model import open_onnx

        return open_onnx(file)
    model, info = read_xml(file)
    return OpenVINOModel(file, info, model, hint)


def find_exported_file(path: Path) -> Path:
    """Return the exported model at ``path``: that file, or the only `.xml` in that folder (such as `RUN/export`).

    Raises SegError (`model-not-found`, `model-kind-unknown`, `model-ambiguous`).
    """
    if not path.exists():
        raise fail("model-not-found", f"`{path}` does not exist", MODEL_PATH_HELP, path=str(path))
    if path.is_dir():
        return _find_exported_in(path)
    if path.suffix.lower() not in (XML_SUFFIX, ONNX_SUFFIX):
        message = f"`{path.name}` is not a model that segdsl can open"
        raise fail("model-kind-unknown", message, _suggest_model_path(path), path=str(path))
    return path


def find_base_folder(file: Path) -> Path:
    """Return the folder from which relative paths in the program of an exported model start: its run, or its own."""
    # A bare file name has the parent `.`, whose own name and parent are empty.
    folder = file.parent if file.parent.name else file.absolute().parent
    return folder.parent if folder.name == EXPORT_FOLDER else folder


def _find_exported_in(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{XML_SUFFIX}"))
    if not found:
        below = sorted((folder / EXPORT_FOLDER).glob(f"*{XML_SUFFIX}"))
        help = f"pass a model file, such as `{below[0]}`" if below else "write one with `segdsl export RUN`"
        raise fail("model-not-found", f"`{folder}` contains no exported model", help, path=str(folder))
    if len(found) > 1:
        names = ", ".join(f"`{p.name}`" for p in found)
        message = f"`{folder}` contains {len(found)} exported models: {names}"
        raise fail("model-ambiguous", message, f"pass one of them, such as `{found[0]}`", path=str(folder))
    return found[0]


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


def matches_input_shape(shape: Any, program: Program) -> bool:
    """Return whether a model input of this shape fits the program; dynamic axes fit any length."""
    size = program.data.input_size
    expected = (1, program.channels, size.height, size.width)
    lengths = [_read_axis_length(axis) for axis in shape]
    return len(lengths) == len(expected) and all(a in (None, b) for a, b in zip(lengths, expected, strict=True))


def _read_axis_length(axis: Any) -> int | None:
    # ONNX Runtime gives integers or names of dynamic axes, OpenVINO objects of its own.
    if isinstance(axis, int):
        return axis
    return axis.get_length() if getattr(axis, "is_static", False) else None


def _suggest_model_path(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"pass the `.xml` file next to it: `{path.with_suffix('.xml')}`"
    if path.suffix == ".safetensors":
        return "pass the run folder that contains it"
    if path.suffix == ".seg":
        return f"train it with `segdsl train {path}`, then pass the new run folder"
    return MODEL_PATH_HELP
