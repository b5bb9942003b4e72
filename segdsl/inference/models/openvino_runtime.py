"""All access to OpenVINO: without its telemetry and log output, and with errors as SegError."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from segdsl.diagnostics import fail

Hint = Literal["f32", "device"]
"""Compute precision: single precision, or the one that the device prefers (bfloat16 on some processors)."""

# OpenVINO 2026.4 crashes when it compiles SegNeXt with inner nodes as outputs, unless snippets are disabled.
WITHOUT_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
"""CPU setting for models whose inner nodes are outputs."""

_NOISY_LOGGERS = ("torch", "openvino", "root")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and log output of torch and OpenVINO, and OpenVINO's telemetry."""
    module = "openvino_telemetry"
    absent = module not in sys.modules
    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    if absent:
        # OpenVINO reports every import and conversion over the network unless this module cannot be imported.
        sys.modules[module] = None  # type: ignore[assignment]
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if absent:
            sys.modules.pop(module, None)


def openvino() -> Any:
    """Import and return the module `openvino`."""
    with quiet():
        import openvino

    return openvino


@lru_cache(maxsize=1)
def core() -> Any:
    """Return the `openvino.Core` of this process."""
    return openvino().Core()


def read_model(xml: Path) -> Any:
    """Read the `openvino.Model` in ``xml`` and the `.bin` next to it.

    Raises SegError (`model-without-bin`, `model-unreadable`).
    """
    weights = xml.with_suffix(".bin")
    if not weights.is_file():
        raise fail(
            "model-without-bin",
            f"`{weights.name}` is missing: it contains the weights of `{xml.name}`",
            "copy both files together",
            path=str(xml),
        )
    try:
        with quiet():
            return core().read_model(xml, weights)
    except Exception as error:
        # A damaged file can raise anything, and the messages of OpenVINO do not help users.
        raise unreadable(xml) from error


def compile_model(model: Any, hint: Hint, xml: Path, inside: bool = False) -> Any:
    """Compile a model for the CPU, for one image at a time. Raises SegError (`model-unreadable`)."""
    config = {"PERFORMANCE_HINT": "LATENCY"}
    if hint == "f32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if inside:
        config |= WITHOUT_SNIPPETS
    try:
        with quiet():
            return core().compile_model(model, "CPU", config)
    except Exception as error:
        raise unreadable(xml) from error


def computes_in(compiled: Any) -> str:
    """Return the number format in which a compiled model computes: `f32`, `bf16` or `f16`."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def unreadable(xml: Path) -> Exception:
    """Return the error for a file that OpenVINO (ONNX Runtime for an `.onnx`) cannot read."""
    onnx = xml.suffix.lower() == ".onnx"
    return fail(
        "model-unreadable",
        f"`{xml.name}` is not an ONNX model, or is damaged"
        if onnx
        else f"`{xml.name}` and its `.bin` are not an OpenVINO model, or are damaged",
        f"copy {'the file' if onnx else 'both files'} again, or export the run again with `segdsl export RUN`",
        path=str(xml),
    )
