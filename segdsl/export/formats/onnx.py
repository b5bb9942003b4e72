"""The writer of ONNX models, which are compared with PyTorch in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segdsl.diagnostics import fail
from segdsl.export.certify.certificate import CertificateRow, Form
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.convert.rewrites import ONNX_REWRITES
from segdsl.export.writer import Writer
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.extras import require_modules
from segdsl.inference.models.onnx_model import compute_onnx_digest, open_session
from segdsl.inference.preprocess import ClassMaps, Image, Mask
from segdsl.ir.program import Exporter, Program

# The first opset with layer normalization; a later one would exclude older runtimes.
OPSET = 17
LOGITS_NAME = "logits"


class OnnxWriter(Writer):
    """Writes `model.onnx`, with the same tensor names as the OpenVINO model."""

    rewrites = ONNX_REWRITES

    @staticmethod
    def check_installed(exporter: Exporter) -> None:
        require_modules(["onnx", "onnxruntime"], "an ONNX model", "onnx", "onnx-not-installed")

    def name_form(self) -> str:
        return "onnx"

    def write_forms(self) -> dict[str, Any]:
        """Write the draft, which also outputs the logits; raises SegError (`onnx-failed`)."""
        self.job.progress("writing ONNX")
        _write_graph(self.job.program, self.make_deployable(), self._draft_file)
        return {}

    def open_forms(self) -> dict[str, Form]:
        session = open_session(self._draft_file)

        def predict(normalized: Any, image: Image) -> tuple[ClassMaps, Mask]:
            model_input = {model_info.INPUT_NAME: self.select_input(normalized, image)}
            results: Any = session.run([model_info.OUTPUT_NAME, LOGITS_NAME], model_input)
            return results[1][0], self.read_ids(results[0])

        return {self.published_form: Form(predict)}

    def explain_rows(self, rows: Mapping[str, CertificateRow]) -> None:
        pass

    def write_final_file(self, file: Path, entries: Mapping[str, str]) -> None:
        """Remove the logits output, which only the comparison needs, and write the metadata."""
        import onnx

        model = onnx.load(str(self._draft_file))
        outputs = [output for output in model.graph.output if output.name != LOGITS_NAME]
        del model.graph.output[:]
        model.graph.output.extend(outputs)
        onnx.checker.check_model(model)
        onnx.save(model, str(file))
        # Hashed as it was saved, without metadata; the digest itself then goes into the metadata.
        digest = {model_info.DIGEST_KEY: compute_onnx_digest(file)}
        # Our own keys only: those of openvino-model-api describe OpenVINO models.
        ours = {key: value for key, value in entries.items() if key.startswith(model_info.KEY_PREFIX)}
        onnx.helper.set_model_props(model, {**ours, **digest})
        onnx.save(model, str(file))

    @property
    def _draft_file(self) -> Path:
        return self.draft / "draft.onnx"


def _write_graph(program: Program, deployable: DeployableModel, path: Path) -> None:
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    dynamic = {2: "height", 3: "width"} if deployable.exporter.size == "dynamic" else {}
    outputs = [model_info.OUTPUT_NAME, LOGITS_NAME]
    axes = {model_info.INPUT_NAME: dynamic, LOGITS_NAME: dynamic}
    # Class ids (N, H, W) have no class axis.
    axes[model_info.OUTPUT_NAME] = (
        {1: "height", 2: "width"} if dynamic and deployable.exporter.prediction == "hard" else dynamic
    )
    try:
        with openvino_runtime.silence_libraries(), torch.no_grad():
            torch.onnx.export(
                deployable, (image,), str(path), input_names=[model_info.INPUT_NAME], output_names=outputs,
                opset_version=OPSET, dynamic_axes=axes if dynamic else None, dynamo=False,
            )  # fmt: skip
    except OSError:
        raise
    except Exception as error:
        # The exporter raises errors of many types, and its texts speak of its internals.
        raise fail(
            "onnx-failed",
            f"torch {torch.__version__.partition('+')[0]} could not convert `{program.graph.name}` to ONNX",
            "export it with `size = static`" if dynamic else "remove `export.onnx`; the export to OpenVINO works",
        ) from error
