"""One face for a trained run and for an exported model: images in, class ids out. Exported ones need no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from segdsl.data.decode.images import Reading
from segdsl.diagnostics import fail
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import (
    FOLDER,
    ModelInfo,
    digest_of,
    entries_of,
    form_of,
    info_damaged,
    read_info,
)
from segdsl.inference.models.tensor_names import tensors_by_name, with_outputs
from segdsl.inference.preprocess import Image, Maps, Mask, prepare, raw, restore
from segdsl.ir.program import AnyExporter, Program
from segdsl.ir.values import Size

EXPECTED = "name a run folder, or an exported `.xml` or `.onnx`"
XML, ONNX = ".xml", ".onnx"
"""What the names of exported models end in."""


class Model(ABC):
    """A model that is ready to use: ``path`` is where it was opened, ``program`` all that made it."""

    kind: ClassVar[Literal["torch", "openvino", "onnx"]]

    def __init__(self, path: Path, program: Program) -> None:
        self.path, self.program = path, program

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of their ids."""
        return self.program.classes

    @property
    def ignore(self) -> int:
        """The mask value that is not scored."""
        return self.program.void

    @property
    def input_size(self) -> Size:
        """Height x width of what the network sees."""
        return self.program.data.input_size

    @property
    def reading(self) -> Reading:
        """How its images are read."""
        return Reading(self.program.channels, self.program.data.levels)

    @property
    @abstractmethod
    def base(self) -> Path:
        """The folder that a relative `data.root` starts from."""

    @abstractmethod
    def logits(self, image: Image) -> Maps:
        """The logits of an image of any size, at ``input_size``."""

    @abstractmethod
    def scores(self, image: Image) -> Maps:
        """The softmax over the classes of an image of any size, at ``input_size``."""

    def classify(self, image: Image) -> Mask:
        """The best class of every pixel, at ``input_size``."""
        return self.scores(image).argmax(0).astype(np.uint8)

    def predict(self, image: Image) -> Mask:
        """The best class of every pixel, at the size of the image."""
        return restore(self.classify(image), image.shape[0], image.shape[1])

    def _prepared(self, image: Image) -> Any:
        return prepare(image, self.input_size, self.program.data.normalize)


class Exported(Model):
    """An exported model, on the CPU; ``form`` says what it takes and gives."""

    def __init__(self, path: Path, info: ModelInfo, form: AnyExporter) -> None:
        super().__init__(path, info.program)
        self.info, self.form = info, form

    @property
    def base(self) -> Path:
        return base_of(self.path)

    def scores(self, image: Image) -> Maps:
        said = self._said(self._prepared(image))
        if self.form.prediction == "soft":
            return said[self.info.shift :]
        return (np.arange(len(self.classes))[:, None, None] == said).astype(np.float32)

    def classify(self, image: Image) -> Mask:
        if self.form.prediction == "soft":
            return super().classify(image)
        return self._said(self._prepared(image)).astype(np.uint8)

    def _prepared(self, image: Image) -> Any:
        return raw(image, self.input_size) if self.form.normalize else super()._prepared(image)

    @abstractmethod
    def _said(self, prepared: Any) -> Any:
        """What the file says of what it takes, without the axis of the batch."""


class OpenVINOModel(Exported):
    """An exported OpenVINO model."""

    kind = "openvino"

    def __init__(self, path: Path, info: ModelInfo, model: Any, hint: openvino_runtime.Hint) -> None:
        super().__init__(path, info, form_of(info.program))
        self.model = model
        self.hint: openvino_runtime.Hint = hint
        self._compiled = openvino_runtime.compile_model(model, hint, path)

    def logits(self, image: Image) -> Maps:
        return self._with_logits(self._prepared(image))[1][0]

    def _said(self, prepared: Any) -> Any:
        return self._compiled(prepared)[0][0]

    @cached_property
    def _with_logits(self) -> Any:
        """A second compilation that gives the logits too, for those who ask for them."""
        return openvino_runtime.compile_model(with_outputs(self.model, [self.info.logits]), self.hint, self.path)


def open_model(path: str | Path, hint: openvino_runtime.Hint = "f32", device: str = "auto") -> Model:
    """A run folder, an exported `.xml` or `.onnx`, or a folder that holds a single `.xml`, ready to predict.

    ``device`` is where a run computes (`auto`, `cpu`, `cuda`, …); an exported model knows the CPU alone.
    ``hint`` = "device" lets an OpenVINO model compute in what the device prefers: faster, and no longer equal to torch.
    Raises SegError (`device-not-here`, what :func:`exported_file` and opening the file raise, and whatever opening a
    run is at fault for).
    """
    path = Path(path)
    if path.is_dir() and ((path / "program.seg").exists() or not any(path.glob(f"*{XML}"))):
        from segdsl.inference.models.torch_model import open_trained

        return open_trained(path, device)
    file = exported_file(path)
    if device not in ("auto", "cpu"):
        message = f"an exported model runs on the processor, not on `{device}`"
        raise fail("device-not-here", message, "leave `--device` out, or name the run folder", path=str(path))
    if file.suffix.lower() == ONNX:
        from segdsl.inference.models.onnx_model import open_onnx

        return open_onnx(file)
    model, info = read_xml(file)
    return OpenVINOModel(file, info, model, hint)


def exported_file(path: Path) -> Path:
    """The exported model at ``path``: that file, or the only `.xml` in that folder, as `RUN/export` is one.

    Raises SegError (`model-not-found`, `model-kind-unknown`, `model-ambiguous`).
    """
    if not path.exists():
        raise fail("model-not-found", f"`{path}` does not exist", EXPECTED, path=str(path))
    if path.is_dir():
        return _exported_in(path)
    if path.suffix.lower() not in (XML, ONNX):
        message = f"`{path.name}` is no model that can be opened"
        raise fail("model-kind-unknown", message, _other_file(path), path=str(path))
    return path


def base_of(file: Path) -> Path:
    """The folder that relative paths in the program of an exported model start from: that of its run, else its own."""
    folder = file.parent if file.parent.name else file.absolute().parent
    return folder.parent if folder.name == FOLDER else folder


def _exported_in(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{XML}"))
    if not found:
        below = sorted((folder / FOLDER).glob(f"*{XML}"))
        help = f"name one, such as `{below[0]}`" if below else "write one with `segdsl export RUN`"
        raise fail("model-not-found", f"`{folder}` holds no exported model", help, path=str(folder))
    if len(found) > 1:
        names = ", ".join(f"`{p.name}`" for p in found)
        message = f"`{folder}` holds {len(found)} exported models: {names}"
        raise fail("model-ambiguous", message, f"name one of them, such as `{found[0]}`", path=str(folder))
    return found[0]


def read_xml(path: Path) -> tuple[Any, ModelInfo]:
    """The `openvino.Model` in an exported `.xml`, and what it says about itself.

    Raises SegError (`model-without-bin`, `model-unreadable`, `model-foreign`, `model-info-damaged`, `model-damaged`,
    `model-program-refused`).
    """
    model = openvino_runtime.read_model(path)
    info = read_info(entries_of(model), path)
    if not fits(model.inputs[0].get_partial_shape(), info.program) or info.logits not in tensors_by_name(model):
        raise info_damaged(path)
    if digest_of(path.with_suffix(".bin")) != info.digest:
        raise fail(
            "model-damaged",
            f"`{path.with_suffix('.bin').name}` is not the file that was exported with `{path.name}`",
            "copy both files again, or export the run again",
            path=str(path),
        )
    return model, info


def fits(shape: Any, program: Program) -> bool:
    """Whether an input of this shape takes what the program says: numbers of another kind are free sizes."""
    size = program.data.input_size
    wanted = (1, program.channels, size.height, size.width)
    given = [_length(axis) for axis in shape]
    return len(given) == len(wanted) and all(a in (None, b) for a, b in zip(given, wanted, strict=True))


def _length(axis: Any) -> int | None:
    if isinstance(axis, int):
        return axis
    return axis.get_length() if getattr(axis, "is_static", False) else None


def _other_file(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"name the `.xml` beside it: `{path.with_suffix('.xml')}`"
    if path.suffix == ".safetensors":
        return "name the run folder that it lies in"
    if path.suffix == ".seg":
        return f"train it, `segdsl train {path}`; then name the run folder that this makes"
    return EXPECTED
