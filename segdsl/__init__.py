"""segdsl: one `.seg` file is a whole segmentation experiment, checked like a program before anything runs.

The public verbs live in :mod:`segdsl.verbs` and load when first used, so that ``import segdsl`` imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from segdsl.version import __version__

if TYPE_CHECKING:
    from segdsl.diagnostics import SegError
    from segdsl.verbs import check, compile, evaluate, export, format, predict, rebuild, report, train

__all__ = [
    "SegError",
    "__version__",
    "check",
    "compile",
    "evaluate",
    "export",
    "format",
    "predict",
    "rebuild",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'segdsl' has no attribute {name!r}")
    return getattr(import_module("segdsl.diagnostics" if name == "SegError" else "segdsl.verbs"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
