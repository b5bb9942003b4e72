"""A common interface to trained runs and exported models: images in, class ids out. Exported models need no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from segdsl.data.decode.images import ReadOptions
from segdsl.data.pictures.palette import Color, parse_colors
from segdsl.inference.models.model_info import EXPORT_FOLDER, LOCK_KEY, ModelInfo
from segdsl.inference.models.openvino_runtime import Hint
from segdsl.inference.preprocess import ClassMaps, Image, Mask, preprocess_image, preprocess_raw, restore_mask_size
from segdsl.ir.program import Program
from segdsl.ir.values import Size


class Model(ABC):
    """A model that is ready to use, opened from ``path``; ``program`` is the one it was made from."""

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
    def colors(self) -> list[Color]:
        """The colors of the classes: those of the dataset, or of the palette."""
        return parse_colors(self.find_lock().get("colors"), self.classes)

    def find_lock(self) -> Mapping[str, Any]:
        """Return what is recorded of the run that the model comes from; empty if there is nothing."""
        return {}

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
    """An exported model on the CPU; ``exporter`` holds the settings that define its input and output.

    :attr:`segdsl.ir.program.Exporter.runtime` names the subclass for the files of each format.
    """

    def __init__(self, path: Path, info: ModelInfo) -> None:
        super().__init__(path, info.program)
        self.info, self.exporter = info, info.exporter

    def find_lock(self) -> Mapping[str, Any]:
        return self.info.provenance[LOCK_KEY]

    @classmethod
    @abstractmethod
    def open_file(cls, path: Path, hint: Hint) -> Self:
        """Open the model at ``path``; ``hint`` is the precision to compute in, if the runtime has a choice.

        Raises SegError: an optional package is missing, or the file is damaged or foreign.
        """

    @classmethod
    @abstractmethod
    def read_info(cls, path: Path) -> ModelInfo:
        """Read the metadata of the model at ``path``. Raises SegError as :meth:`open_file` does."""

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


def find_base_folder(file: Path) -> Path:
    """Return the folder from which relative paths in the program of an exported model start: its run, or its own."""
    # A bare file name has the parent `.`, whose own name and parent are empty.
    folder = file.parent if file.parent.name else file.absolute().parent
    return folder.parent if folder.name == EXPORT_FOLDER else folder


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
