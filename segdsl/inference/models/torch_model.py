"""Trained runs, run in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segdsl.diagnostics import SegError
from segdsl.inference.models.model import Model
from segdsl.inference.preprocess import ClassMaps, Image, Mask
from segdsl.ir.program import Program
from segdsl.lower.failure import explain_failure
from segdsl.run.engine.device import pick_device
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.folder.layout import read_json_object


class TorchModel(Model):
    """The model of a run on ``device``, by default the accelerator if there is one."""

    def __init__(self, path: Path, program: Program, model: nn.Module, device: str = "auto") -> None:
        super().__init__(path, program)
        self.device = pick_device(device)
        # In channels-last format, depthwise convolutions take a fraction of the time on a CPU.
        self.model = model.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def base_folder(self) -> Path:
        return self.path

    def find_lock(self) -> Mapping[str, Any]:
        return read_json_object(self.path / "lock.json")

    @torch.inference_mode()
    def predict_logits(self, image: Image) -> ClassMaps:
        tensor = torch.from_numpy(self._make_input(image)).to(self.device, memory_format=torch.channels_last)
        try:
            return self.model(tensor)[0].float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            sources = {name: source.text for name, source in self.program.sources.items()}
            raise SegError([explain_failure(self.model, error)], sources) from error  # type: ignore[arg-type]

    def predict_probabilities(self, image: Image) -> ClassMaps:
        return torch.from_numpy(self.predict_logits(image)).softmax(0).numpy()

    def predict_input_mask(self, image: Image) -> Mask:
        return self.predict_logits(image).argmax(0).astype(np.uint8)


def open_run_model(path: Path, device: str = "auto") -> TorchModel:
    """Open the model of the run in the folder ``path`` on ``device``. Raises SegError."""
    # Checked first: opening a run takes seconds.
    pick_device(device)
    run = open_run(path)
    return TorchModel(path, run.program, run.model, device)
