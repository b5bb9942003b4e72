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
SNIPPETS_DISABLE_CONFIG = {"SNIPPETS_MODE": "DISABLE"}
"""CPU setting for models whose inner nodes are outputs."""

_NOISY_LOGGERS = ("torch", "openvino", "root")


@contextmanager
def silence_libraries() -> Iterator[None]:
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


def import_openvino() -> Any:
    """Import and return the module `openvino`."""
    with silence_libraries():
        import openvino

    return openvino


@lru_cache(maxsize=1)
def get_core() -> Any:
    """Return the `openvino.Core` of this process."""
    return import_openvino().Core()


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
        with silence_libraries():
            return get_core().read_model(xml, weights)
    except Exception as error:
        # A damaged file can raise anything, and the messages of OpenVINO do not help users.
        raise unreadable_model_error(xml) from error


def compile_model(model: Any, hint: Hint, xml: Path, has_inner_outputs: bool = False) -> Any:
    """Compile a model for the CPU, for one image at a time. Raises SegError (`model-unreadable`)."""
    config = {"PERFORMANCE_HINT": "LATENCY"}
    if hint == "f32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if has_inner_outputs:
        config |= SNIPPETS_DISABLE_CONFIG
    try:
        with silence_libraries():
            return get_core().compile_model(model, "CPU", config)
    except Exception as error:
        raise unreadable_model_error(xml) from error


def read_compute_precision(compiled: Any) -> str:
    """Return the number format in which a compiled model computes: `f32`, `bf16` or `f16`."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def unreadable_model_error(file: Path) -> Exception:
    """Return the error for a file that OpenVINO cannot read."""
    return fail(
        "model-unreadable",
        f"`{file.name}` and its `.bin` are not an OpenVINO model, or are damaged",
        "copy both files again, or export the run again with `segdsl export RUN`",
        path=str(file),
    )
