"""One face for a trained run and for an exported model: images in, class ids out. Exported ones need no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from segdsl.data.images import Reading
from segdsl.diagnostics import fail
from segdsl.export import runtime
from segdsl.export.contract import FOLDER, ModelInfo, digest_of, form_of, read_info
from segdsl.export.naming import with_outputs
from segdsl.export.pixels import Image, Maps, Mask, prepare, raw, restore
from segdsl.ir.program import Program
from segdsl.ir.values import Size

EXPECTED = "name a run folder, or an exported `.xml`"


class Model(ABC):
    """A model that is ready to use: ``path`` is where it was opened, ``program`` all that made it."""

    kind: ClassVar[Literal["torch", "openvino"]]

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


class OpenVINOModel(Model):
    """An exported model, on the CPU."""

    kind = "openvino"

    def __init__(self, path: Path, info: ModelInfo, model: Any, hint: runtime.Hint) -> None:
        super().__init__(path, info.program)
        self.model, self.info = model, info
        self.form = form_of(info.program)
        self.hint: runtime.Hint = hint
        self._compiled = runtime.compile_model(model, hint, path)

    @property
    def base(self) -> Path:
        folder = self.path.parent
        return folder.parent if folder.name == FOLDER else folder

    def scores(self, image: Image) -> Maps:
        said = self._compiled(self._prepared(image))[0][0]
        if self.form.prediction == "soft":
            return said[self.info.shift :]
        return (np.arange(len(self.classes))[:, None, None] == said).astype(np.float32)

    def classify(self, image: Image) -> Mask:
        if self.form.prediction == "soft":
            return super().classify(image)
        return self._compiled(self._prepared(image))[0][0].astype(np.uint8)

    def logits(self, image: Image) -> Maps:
        return self._with_logits(self._prepared(image))[1][0]

    def _prepared(self, image: Image) -> Any:
        return raw(image, self.input_size) if self.form.normalize else super()._prepared(image)

    @cached_property
    def _with_logits(self) -> Any:
        """A second compilation that gives the logits too, for those who ask for them."""
        return runtime.compile_model(with_outputs(self.model, [self.info.logits])[0], self.hint, self.path)


def open_model(path: str | Path, hint: runtime.Hint = "f32", device: str = "auto") -> Model:
    """A run folder, an exported `.xml` or a folder that holds a single one, ready to predict.

    ``device`` is where a run computes (`auto`, `cpu`, `cuda`, …); an exported model knows the CPU alone.
    ``hint`` = "device" lets an exported model compute in what the device prefers: faster, and no longer equal to torch.
    Raises SegError (`model-not-found`, `model-kind-unknown`, `model-ambiguous`, `model-without-bin`,
    `model-unreadable`, `model-foreign`, `model-damaged`, `model-program-refused`, `device-not-here`, and whatever
    opening a run is at fault for).
    """
    path = Path(path)
    if path.is_dir() and not (path / "program.seg").exists() and any(path.glob("*.xml")):
        path = _exported_in(path)
    if path.is_dir():
        from segdsl.export.trained import open_trained

        return open_trained(path, device)
    if not path.exists():
        raise fail("model-not-found", f"`{path}` does not exist", EXPECTED, path=str(path))
    if path.suffix.lower() != ".xml":
        message = f"`{path.name}` is no model that can be opened"
        raise fail("model-kind-unknown", message, _other_file(path), path=str(path))
    if device not in ("auto", "cpu"):
        message = f"an exported model runs on the processor, not on `{device}`"
        raise fail("device-not-here", message, "leave `--device` out, or name the run folder", path=str(path))
    return _open_xml(path, hint)


def _exported_in(folder: Path) -> Path:
    """The one exported model in a folder that is no run's, as `RUN/export` is none."""
    found = sorted(folder.glob("*.xml"))
    if len(found) > 1:
        names = ", ".join(f"`{p.name}`" for p in found)
        message = f"`{folder}` holds {len(found)} exported models: {names}"
        raise fail("model-ambiguous", message, f"name one of them, such as `{found[0]}`", path=str(folder))
    return found[0]


def _open_xml(path: Path, hint: runtime.Hint) -> OpenVINOModel:
    model = runtime.read_model(path)
    info = read_info(model, path)
    if digest_of(path.with_suffix(".bin")) != info.digest:
        raise fail(
            "model-damaged",
            f"`{path.with_suffix('.bin').name}` is not the file that was exported with `{path.name}`",
            "copy both files again, or export the run again",
            path=str(path),
        )
    return OpenVINOModel(path, info, model, hint)


def _other_file(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"name the `.xml` beside it: `{path.with_suffix('.xml')}`"
    if path.suffix == ".safetensors":
        return "name the run folder that it lies in"
    if path.suffix == ".seg":
        return f"train it, `segdsl train {path}`; then name the run folder that this makes"
    return EXPECTED
