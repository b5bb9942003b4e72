"""The protocol of an exporter: what the export of a format consists of.

A new format is a word with a class that runs its files (see :class:`segdsl.ir.program.Exporter`) and a subclass of
:class:`Writer`. Comparison with PyTorch, limits, certificate and publication are the same for all (``export.py``).
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from segdsl.export.certify.certificate import CertificateRow, Form
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.job import ExportJob
from segdsl.inference.models.model_info import needs_empty_channel
from segdsl.inference.preprocess import Image, Mask, preprocess_raw
from segdsl.ir.program import Exporter
from segdsl.lower.rewriting import Rewrite, apply_rewrites


class Writer(ABC):
    """Writes a model as ``job.exporter`` into ``draft``, an empty folder.

    The methods are called in the order in which they are defined.
    """

    rewrites: ClassVar[Mapping[str, Rewrite]] = {}
    """The rewrites for this format, which follow those for every format."""

    def __init__(self, job: ExportJob, draft: Path) -> None:
        self.job, self.draft, self.exporter = job, draft, job.exporter
        self.published_form = self.name_form()

    @staticmethod
    @abstractmethod
    def check_installed(exporter: Exporter) -> None:
        """Raise SegError if a package that the export needs is missing."""

    @abstractmethod
    def name_form(self) -> str:
        """Return the name of the form that is published, such as `fp16`."""

    @abstractmethod
    def write_forms(self) -> dict[str, Any]:
        """Convert the model and write every form of it; return further entries for the certificate."""

    @abstractmethod
    def open_forms(self) -> dict[str, Form]:
        """Open the forms that are compared with PyTorch: the published one, and others for comparison."""

    @abstractmethod
    def explain_rows(self, rows: Mapping[str, CertificateRow]) -> None:
        """Add facts to the rows of the certificate, such as where results diverge."""

    @abstractmethod
    def write_final_file(self, file: Path, entries: Mapping[str, str]) -> None:
        """Write the published form as ``file``, with the metadata ``entries`` embedded."""

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def make_deployable(self) -> DeployableModel:
        """Return the model to convert, with the input and output that the exporter sets."""
        deployable = DeployableModel(self.job.model, self.job.program, self.exporter)
        apply_rewrites(deployable.model, self.rewrites)
        return deployable

    def select_input(self, normalized: npt.NDArray[np.float32], image: Image) -> npt.NDArray[np.float32]:
        """Return the input (1, C, h, w) of the file: pixels from 0 to 255 if it normalizes them itself."""
        return preprocess_raw(image, self.job.program.data.input_size) if self.exporter.normalize else normalized

    def read_ids(self, output: Any) -> Mask:
        """Return the class ids (h, w) in an output of the file (1, …)."""
        offset = int(needs_empty_channel(self.job.program, self.exporter))
        ids = output[0] if self.exporter.prediction == "hard" else output[0][offset:].argmax(0)
        return ids.astype(np.uint8)


def load_writer(word: type[Exporter]) -> type[Writer]:
    """Return the class that writes the files of an exporter word."""
    module, name = word.writer.split(":")
    return getattr(importlib.import_module(module), name)
