"""The job of a writer: which model to write as which exporter, and what to compare it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.export.certify.trial_images import TrialSet
from segdsl.ir.program import Exporter, Program

ProgressCallback = Callable[[str], None]
"""Called with a short text before each step."""


def ignore_progress(text: str) -> None:
    """Ignore progress messages."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One file to write: the trained ``model`` of ``program`` in the format of ``exporter``.

    The file is compared with the model on ``trials``; a relative `data.root` starts from ``base_folder``.
    """

    program: Program
    exporter: Exporter
    model: Any
    base_folder: Path
    trials: TrialSet
    progress: ProgressCallback = ignore_progress
