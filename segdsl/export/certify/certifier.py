"""Creation of an export's certificate from the files that it wrote."""

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
    """Collects the forms of an exported model and compares all of them with PyTorch.

    ``model`` is the trained model, ``deployable`` the one that was converted, ``logits_name`` the name of the logits
    tensor in the exported files.
    """

    def __init__(self, program: Program, model: Any, shipped: Shipped, logits: str, trials: Trials) -> None:
        self.program, self.shipped, self.logits, self.trials = program, shipped, logits, trials
        # Without rewrites: what is compared with is the model as it was trained.
        self.trained: fx.GraphModule = for_inference(model, {})
        self.files: dict[str, Path] = {}
        self.facts: dict[str, Any] = {"interface": interface_of(program, form_of(program), shipped.unnamed)}

    def add(self, name: str, xml: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Add a form of the model: its file, and further entries for the certificate."""
        self.files[name] = xml
        self.facts.update(facts or {})

    def certificate(self, precision: str) -> dict[str, Any]:
        """Build the certificate of the form ``precision``.

        Raises SegError (`export-differs`) if it exceeds a limit.
        """
        forms: dict[str, tuple[Path, openvino_runtime.Hint]] = {name: (xml, "f32") for name, xml in self.files.items()}
        forms[DEVICE] = (self.files[precision], "device")
        compiled = {name: self._compiled(xml, hint) for name, (xml, hint) in forms.items()}
        predictors = {name: self._look(network) for name, network in compiled.items()}
        rows = certificate.measure(self.program, self.trained, predictors, self.trials)
        rows[DEVICE].facts["computes_in"] = openvino_runtime.computes_in(compiled[DEVICE])
        # The search for a divergence compiles models with many outputs: free the memory of these first.
        del compiled, predictors
        for name, (xml, hint) in forms.items():
            rows[name].facts["parts_at"] = self._parts_at(rows[name], xml, hint)
        tolerance = self.program.export.tolerance
        result = certificate.certificate_of(precision, rows, self.trials, tolerance, self.facts)
        certificate.check(result, tolerance)
        return result

    def _compiled(self, xml: Path, hint: openvino_runtime.Hint) -> Any:
        return openvino_runtime.compile_model(with_outputs(openvino_runtime.read_model(xml), [self.logits]), hint, xml)

    def _look(self, compiled: Any) -> Look:
        """Return a function from an image to the logits and class ids of a compiled model."""
        exporter, offset = form_of(self.program), int(self.shipped.unnamed)

        def look(normalized: npt.NDArray[np.float32], image: Image) -> tuple[Maps, Mask]:
            outputs = compiled(self._fed(normalized, image))
            ids = outputs[0][0] if exporter.prediction == "hard" else outputs[0][0][offset:].argmax(0)
            return outputs[1][0], ids.astype(np.uint8)

        return look

    def _fed(self, normalized: npt.NDArray[np.float32], image: Image) -> npt.NDArray[np.float32]:
        return raw(image, self.program.data.input_size) if form_of(self.program).normalize else normalized

    def _parts_at(self, row: certificate.Row, xml: Path, hint: openvino_runtime.Hint) -> str | None:
        """Return the first node at which a form diverges from PyTorch on the first image; None if the logits agree."""
        if row.relative <= PARTED:
            return None
        image = next(iter(self.trials)).image
        normalized = prepare(image, self.program.data.input_size, self.program.data.normalize)
        model = openvino_runtime.read_model(xml)
        model_input = self._fed(normalized, image)
        # If no node before the logits diverges by as much, the logits themselves are the first.
        return first_parting(self.shipped.model, model, hint, xml, normalized, model_input) or self.logits
