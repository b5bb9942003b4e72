"""A format of its own, all that a new exporter needs: a word, and the classes that write and run its files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from segdsl.export.certify.certificate import CertificateRow, Form
from segdsl.export.writer import Writer
from segdsl.inference.models.model import RuntimeModel
from segdsl.inference.models.model_info import DIGEST_KEY, ModelInfo, info_damaged_error, parse_entries
from segdsl.inference.models.openvino_runtime import Hint
from segdsl.inference.preprocess import ClassMaps, Image, Mask
from segdsl.ir.program import Exporter


class Npz(Exporter):
    """NumPy archive with a traced network."""

    suffix: ClassVar[str] = ".npz"
    runtime: ClassVar[str] = "npz_format:NpzModel"
    writer: ClassVar[str] = "npz_format:NpzWriter"
    packed: bool = False
    """Compress the archive."""


class NpzWriter(Writer):
    @staticmethod
    def check_installed(exporter: Exporter) -> None:
        pass

    def name_form(self) -> str:
        return "npz"

    def write_forms(self) -> dict[str, Any]:
        size, stream = self.job.program.data.input_size, io.BytesIO()
        image = torch.zeros(1, self.job.program.channels, size.height, size.width)
        self.traced: Any = torch.jit.trace(self.make_deployable(), image, check_trace=False)
        torch.jit.save(self.traced, stream)
        self.content = stream.getvalue()
        return {}

    def open_forms(self) -> dict[str, Form]:
        def predict(normalized: Any, image: Image) -> tuple[ClassMaps, Mask]:
            output, logits = self.traced(torch.from_numpy(self.select_input(normalized, image)))
            return logits[0].detach().numpy(), self.read_ids(output.detach().numpy())

        return {"npz": Form(predict)}

    def explain_rows(self, rows: Mapping[str, CertificateRow]) -> None:
        rows["npz"].facts["kept_in"] = "an archive"

    def write_final_file(self, file: Path, entries: Mapping[str, str]) -> None:
        digest = hashlib.sha256(self.content).hexdigest()
        info = json.dumps({**entries, DIGEST_KEY: digest})
        np.savez(file, network=np.frombuffer(self.content, np.uint8), info=np.array(info))


class NpzModel(RuntimeModel):
    def __init__(self, path: Path, info: ModelInfo, network: Any) -> None:
        super().__init__(path, info)
        self.network = network

    @classmethod
    def open_file(cls, path: Path, hint: Hint) -> NpzModel:
        content = np.load(path)["network"].tobytes()
        info = cls.read_info(path)
        if hashlib.sha256(content).hexdigest() != info.digest:
            raise info_damaged_error(path)
        return cls(path, info, torch.jit.load(io.BytesIO(content)))

    @classmethod
    def read_info(cls, path: Path) -> ModelInfo:
        return parse_entries(json.loads(str(np.load(path)["info"])), path)

    def predict_logits(self, image: Image) -> ClassMaps:
        return self.network(torch.from_numpy(self._make_input(image)))[1][0].detach().numpy()

    def _run_network(self, model_input: Any) -> Any:
        return self.network(torch.from_numpy(model_input))[0][0].detach().numpy()
