"""The certificate of an export, from the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from segdsl.export.certify import certificate
from segdsl.export.certify.certificate import DEVICE, Look
from segdsl.export.certify.divergence import PARTED, first_parting
from segdsl.export.certify.interface import interface_of
from segdsl.export.certify.trial_images import Trials
from segdsl.export.convert.deployable import Shipped
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import form_of
from segdsl.inference.models.tensor_names import with_outputs
from segdsl.inference.preprocess import Image, Maps, Mask, prepare, raw
from segdsl.ir.program import Program
from segdsl.lower.inference_rewrites import for_inference


class Proof:
    """Collects the forms of a model, and compares all of them with torch at once.

    ``model`` is the trained one, ``shipped`` what was converted, ``logits`` their name in it.
    """

    def __init__(self, program: Program, model: Any, shipped: Shipped, logits: str, trials: Trials) -> None:
        self.program, self.shipped, self.logits, self.trials = program, shipped, logits, trials
        self.trained: fx.GraphModule = for_inference(model, {})
        self.files: dict[str, Path] = {}
        self.facts: dict[str, Any] = {"interface": interface_of(program, form_of(program), shipped.unnamed)}

    def add(self, name: str, xml: Path, facts: Mapping[str, Any] | None = None) -> None:
        """A form of the model: its file, and what else the certificate tells of it."""
        self.files[name] = xml
        self.facts.update(facts or {})

    def certificate(self, precision: str) -> dict[str, Any]:
        """The certificate of the form ``precision``, which is within the limits.

        Raises SegError (`export-differs`) where it is not.
        """
        forms: dict[str, tuple[Path, openvino_runtime.Hint]] = {name: (xml, "f32") for name, xml in self.files.items()}
        forms[DEVICE] = (self.files[precision], "device")
        compiled = {name: self._compiled(xml, hint) for name, (xml, hint) in forms.items()}
        looks = {name: self._look(run) for name, run in compiled.items()}
        rows = certificate.measure(self.program, self.trained, looks, self.trials)
        rows[DEVICE].facts["computes_in"] = openvino_runtime.computes_in(compiled[DEVICE])
        del compiled, looks
        for name, (xml, hint) in forms.items():
            rows[name].facts["parts_at"] = self._parts_at(rows[name], xml, hint)
        tolerance = self.program.export.tolerance
        found = certificate.certificate_of(precision, rows, self.trials, tolerance, self.facts)
        certificate.check(found, tolerance)
        return found

    def _compiled(self, xml: Path, hint: openvino_runtime.Hint) -> Any:
        return openvino_runtime.compile_model(with_outputs(openvino_runtime.read_model(xml), [self.logits]), hint, xml)

    def _look(self, compiled: Any) -> Look:
        """How a compiled model looks at an image."""
        form, shift = form_of(self.program), int(self.shipped.unnamed)

        def look(normalized: npt.NDArray[np.float32], image: Image) -> tuple[Maps, Mask]:
            said = compiled(self._fed(normalized, image))
            ids = said[0][0] if form.prediction == "hard" else said[0][0][shift:].argmax(0)
            return said[1][0], ids.astype(np.uint8)

        return look

    def _fed(self, normalized: npt.NDArray[np.float32], image: Image) -> npt.NDArray[np.float32]:
        return raw(image, self.program.data.input_size) if form_of(self.program).normalize else normalized

    def _parts_at(self, row: certificate.Row, xml: Path, hint: openvino_runtime.Hint) -> str | None:
        """The first node where a form parts from torch, on the first image; None where even the logits agree."""
        if row.relative <= PARTED:
            return None
        image = next(iter(self.trials)).image
        normalized = prepare(image, self.program.data.input_size, self.program.data.normalize)
        model = openvino_runtime.read_model(xml)
        fed = self._fed(normalized, image)
        # None before the logits parts by as much: then they do themselves.
        return first_parting(self.shipped.model, model, hint, xml, normalized, fed) or self.logits
