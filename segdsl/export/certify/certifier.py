"""Creation of an export's certificate from the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from segdsl.export.certify import certificate
from segdsl.export.certify.certificate import DEVICE, Predictor
from segdsl.export.certify.divergence import DIVERGENCE_THRESHOLD, find_first_divergence
from segdsl.export.certify.interface import describe_interface
from segdsl.export.certify.trial_images import TrialSet
from segdsl.export.convert.deployable import DeployableModel
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import resolve_exporter
from segdsl.inference.models.tensor_names import add_outputs
from segdsl.inference.preprocess import ClassMaps, Image, Mask, preprocess_image, preprocess_raw
from segdsl.ir.program import Program
from segdsl.lower.inference_rewrites import optimize_for_inference


class Certifier:
    """Collects the forms of an exported model and compares all of them with PyTorch.

    ``model`` is the trained model, ``deployable`` the one that was converted, ``logits_name`` the name of the logits
    tensor in the exported files.
    """

    def __init__(
        self, program: Program, model: Any, deployable: DeployableModel, logits_name: str, trials: TrialSet
    ) -> None:
        self.program, self.deployable, self.logits_name, self.trials = program, deployable, logits_name, trials
        # Without rewrites: what is compared with is the model as it was trained.
        self.torch_network: fx.GraphModule = optimize_for_inference(model, {})
        self.files: dict[str, Path] = {}
        self.facts: dict[str, Any] = {
            "interface": describe_interface(program, resolve_exporter(program), deployable.has_empty_channel)
        }

    def add_form(self, name: str, xml: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Add a form of the model: its file, and further entries for the certificate."""
        self.files[name] = xml
        self.facts.update(facts or {})

    def certify_form(self, precision: str) -> dict[str, Any]:
        """Build the certificate of the form ``precision``.

        Raises SegError (`export-differs`) if it exceeds a limit.
        """
        forms: dict[str, tuple[Path, openvino_runtime.Hint]] = {name: (xml, "f32") for name, xml in self.files.items()}
        forms[DEVICE] = (self.files[precision], "device")
        compiled = {name: self._compile_form(xml, hint) for name, (xml, hint) in forms.items()}
        predictors = {name: self._make_predictor(network) for name, network in compiled.items()}
        rows = certificate.measure_forms(self.program, self.torch_network, predictors, self.trials)
        rows[DEVICE].facts["computes_in"] = openvino_runtime.read_compute_precision(compiled[DEVICE])
        # The search for a divergence compiles models with many outputs: free the memory of these first.
        del compiled, predictors
        for name, (xml, hint) in forms.items():
            rows[name].facts["parts_at"] = self._find_divergence(rows[name], xml, hint)
        tolerance = self.program.export.tolerance
        result = certificate.build_certificate(precision, rows, self.trials, tolerance, self.facts)
        certificate.check_certificate(result, tolerance)
        return result

    def _compile_form(self, xml: Path, hint: openvino_runtime.Hint) -> Any:
        return openvino_runtime.compile_model(
            add_outputs(openvino_runtime.read_model(xml), [self.logits_name]), hint, xml
        )

    def _make_predictor(self, network: Any) -> Predictor:
        """Return a function from an image to the logits and class ids of a compiled model."""
        exporter, offset = resolve_exporter(self.program), int(self.deployable.has_empty_channel)

        def predict(normalized: npt.NDArray[np.float32], image: Image) -> tuple[ClassMaps, Mask]:
            outputs = network(self._select_input(normalized, image))
            ids = outputs[0][0] if exporter.prediction == "hard" else outputs[0][0][offset:].argmax(0)
            return outputs[1][0], ids.astype(np.uint8)

        return predict

    def _select_input(self, normalized: npt.NDArray[np.float32], image: Image) -> npt.NDArray[np.float32]:
        return (
            preprocess_raw(image, self.program.data.input_size)
            if resolve_exporter(self.program).normalize
            else normalized
        )

    def _find_divergence(self, row: certificate.CertificateRow, xml: Path, hint: openvino_runtime.Hint) -> str | None:
        """Return the first node at which a form diverges from PyTorch on the first image; None if the logits agree."""
        if row.relative_logit_error <= DIVERGENCE_THRESHOLD:
            return None
        image = next(iter(self.trials)).image
        normalized = preprocess_image(image, self.program.data.input_size, self.program.data.normalize)
        model = openvino_runtime.read_model(xml)
        model_input = self._select_input(normalized, image)
        # If no node before the logits diverges by as much, the logits themselves are the first.
        return (
            find_first_divergence(self.deployable.model, model, hint, xml, normalized, model_input) or self.logits_name
        )
