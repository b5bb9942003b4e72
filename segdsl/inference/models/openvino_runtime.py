"""The one place that loads OpenVINO: without its telemetry, without noise, and with faults in our words."""

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
"""What to compute in: single precision, or what the device prefers (bfloat16 on some processors)."""

WITHOUT_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
"""Setting of the CPU for models whose inner nodes are results: with it OpenVINO 2026.4 compiles SegNeXt, which it else
crashes at."""

_NOISY_LOGGERS = ("torch", "openvino", "root")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what torch and OpenVINO warn of to themselves, and keeps OpenVINO from reporting its use to its makers."""
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
    """The module `openvino`."""
    with quiet():
        import openvino

    return openvino


@lru_cache(maxsize=1)
def core() -> Any:
    """The `openvino.Core` of this process."""
    return openvino().Core()


def read_model(xml: Path) -> Any:
    """The `openvino.Model` in ``xml`` and the `.bin` beside it.

    Raises SegError (`model-without-bin`, `model-unreadable`).
    """
    weights = xml.with_suffix(".bin")
    if not weights.is_file():
        raise fail(
            "model-without-bin",
            f"`{weights.name}` is missing: it holds the weights of `{xml.name}`",
            "copy both files, always together",
            path=str(xml),
        )
    try:
        with quiet():
            return core().read_model(xml, weights)
    except Exception as error:  # what a damaged file raises is open, and its text is not ours
        raise unreadable(xml) from error


def compile_model(model: Any, hint: Hint, xml: Path, inside: bool = False) -> Any:
    """The `openvino.CompiledModel` for one image at a time on the CPU. Raises SegError (`model-unreadable`).

    ``inside`` says that results of inner nodes are asked for.
    """
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
    """The number format that a compiled model computes in: `f32`, `bf16`, `f16`."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def unreadable(xml: Path) -> Exception:
    """The fault of a file that OpenVINO, or for an `.onnx` ONNX Runtime, does not understand."""
    onnx = xml.suffix.lower() == ".onnx"
    return fail(
        "model-unreadable",
        f"`{xml.name}` is no ONNX model, or damaged"
        if onnx
        else f"`{xml.name}` and its `.bin` are no OpenVINO model, or damaged",
        f"export the run again with `segdsl export RUN`, or copy {'the file' if onnx else 'both files'} again",
        path=str(xml),
    )
