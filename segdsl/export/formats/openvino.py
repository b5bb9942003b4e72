"""The writer of OpenVINO models: fp32 and fp16 always, int8 on request, and the search for where they diverge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdsl.export.certify.certificate import DEVICE, CertificateRow, Form
from segdsl.export.certify.divergence import DIVERGENCE_THRESHOLD, Comparison, find_first_divergence
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.convert.openvino import convert_to_openvino
from segdsl.export.int8.quantize import quantize_to_int8
from segdsl.export.writer import Writer
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.extras import require_modules
from segdsl.inference.models.tensor_names import add_outputs
from segdsl.inference.preprocess import ClassMaps, Image, Mask, preprocess_image
from segdsl.ir.program import Exporter, OpenVINOExporter


class OpenVINOWriter(Writer):
    """Writes `model-fp32.xml`, `-fp16` or `-int8`, and the `.bin` with the weights."""

    deployable: DeployableModel
    logits_name: str

    @staticmethod
    def check_installed(exporter: Exporter) -> None:
        if _get_precision(exporter) == "int8":
            require_modules(["nncf"], "an 8-bit model", "int8", "int8-not-installed")

    def name_form(self) -> str:
        return _get_precision(self.exporter)

    def write_forms(self) -> dict[str, Any]:
        self.job.progress("converting")
        self.deployable = self.make_deployable()
        converted, self.logits_name = convert_to_openvino(self.deployable, self.job.program)
        # Both are written and compared whatever the precision, so that users see what the other one would cost.
        for form in ("fp32", "fp16"):
            _save_model(converted, self._locate_form(form), is_half=form == "fp16")
        return quantize_to_int8(self.job, self.draft, self.logits_name) if self.published_form == "int8" else {}

    def open_forms(self) -> dict[str, Form]:
        forms = {name: self._open_form(name, "f32") for name in self._list_forms()}
        return {**forms, DEVICE: self._open_form(self.published_form, "device")}

    def explain_rows(self, rows: Mapping[str, CertificateRow]) -> None:
        for name in self._list_forms():
            rows[name].facts["parts_at"] = self._find_divergence(rows[name], name, "f32")
        rows[DEVICE].facts["parts_at"] = self._find_divergence(rows[DEVICE], self.published_form, "device")

    def write_final_file(self, file: Path, entries: Mapping[str, str]) -> None:
        model = openvino_runtime.read_model(self._locate_form(self.published_form))
        model_info.write_entries(model, {**entries, model_info.LOGITS_KEY: self.logits_name})
        _save_model(model, file)
        # The digest of the weights is known only after saving; saving again writes the same weights.
        model_info.write_entries(model, {model_info.DIGEST_KEY: model_info.hash_file(file.with_suffix(".bin"))})
        _save_model(model, file)

    def _list_forms(self) -> list[str]:
        return list(dict.fromkeys(("fp32", "fp16", self.published_form)))

    def _locate_form(self, name: str) -> Path:
        return self.draft / f"{name}.xml"

    def _open_form(self, name: str, hint: openvino_runtime.Hint) -> Form:
        xml = self._locate_form(name)
        model = add_outputs(openvino_runtime.read_model(xml), [self.logits_name])
        network = openvino_runtime.compile_model(model, hint, xml)

        def predict(normalized: npt.NDArray[np.float32], image: Image) -> tuple[ClassMaps, Mask]:
            outputs = network(self.select_input(normalized, image))
            return outputs[1][0], self.read_ids(outputs[0])

        if hint == "f32":
            return Form(predict, is_single=name == "fp32")
        return Form(predict, is_single=False, facts={"computes_in": openvino_runtime.read_compute_precision(network)})

    def _find_divergence(self, row: CertificateRow, form: str, hint: openvino_runtime.Hint) -> str | None:
        """Return the first node at which a form diverges from PyTorch on the first image; None if the logits agree."""
        if row.relative_logit_error <= DIVERGENCE_THRESHOLD:
            return None
        xml, data = self._locate_form(form), self.job.program.data
        image = next(iter(self.job.trials)).image
        normalized = preprocess_image(image, data.input_size, data.normalize)
        comparison = Comparison(
            self.deployable.model,
            openvino_runtime.read_model(xml),
            hint,
            xml,
            normalized,
            self.select_input(normalized, image),
        )
        # If no node before the logits diverges by as much, the logits themselves are the first.
        return find_first_divergence(comparison) or self.logits_name


def _get_precision(exporter: Exporter) -> str:
    return exporter.precision if isinstance(exporter, OpenVINOExporter) else "fp32"


def _save_model(model: Any, xml: Path, is_half: bool = False) -> None:
    try:
        with openvino_runtime.silence_libraries():
            openvino_runtime.import_openvino().save_model(model, xml, compress_to_fp16=is_half)
    except RuntimeError as error:
        # OpenVINO reports a full disk as a RuntimeError; the caller expects what Python would raise.
        raise OSError(str(error)) from error
