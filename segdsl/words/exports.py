"""Exporter words: the file formats of an exported model.

Each names the classes that write and run its files, in ``segdsl/export/formats`` and ``segdsl/inference/models``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from segdsl.ir.program import Export, Exporter, OnnxExporter, OpenVINOExporter
from segdsl.ir.word import REGISTRY


class OpenVINO(OpenVINOExporter):
    """OpenVINO model (`.xml` and `.bin`) that openvino-model-api can load."""

    aliases = ("ir openvino_ir",)

    suffix: ClassVar[str] = ".xml"
    companions: ClassVar[tuple[str, ...]] = (".bin",)
    runtime: ClassVar[str] = "segdsl.inference.models.openvino_model:OpenVINOModel"
    writer: ClassVar[str] = "segdsl.export.formats.openvino:OpenVINOWriter"
    needs_background: ClassVar[bool] = True


class ONNX(OnnxExporter):
    """ONNX model of opset 17 in single precision, for ONNX Runtime and other ONNX tools."""

    suffix: ClassVar[str] = ".onnx"
    runtime: ClassVar[str] = "segdsl.inference.models.onnx_model:OnnxModel"
    writer: ClassVar[str] = "segdsl.export.formats.onnx:OnnxWriter"


def list_formats() -> list[type[Exporter]]:
    """Return the exporter words, in the order in which they were defined."""
    return [word for word in REGISTRY.values() if issubclass(word, Exporter)]


def find_format(suffix: str) -> type[Exporter] | None:
    """Return the exporter word whose files have this extension, in any case, or None."""
    return next((word for word in list_formats() if word.suffix == suffix.lower()), None)


def get_format_name(word: type[Exporter]) -> str:
    """Return the name of a format in certificates and metadata: the word in lower case."""
    return word.__name__.lower()


def name_exporters(export: Export) -> dict[str, Exporter]:
    """Return the exporters of a program by name, the OpenVINO model first; further ones of a format are numbered."""
    named: dict[str, Exporter] = {}
    for exporter in _iterate_exporters(export):
        base, number = get_format_name(type(exporter)), 1
        name = base
        while name in named:
            number += 1
            name = f"{base}_{number}"
        named[name] = exporter
    return named


def _iterate_exporters(export: Export) -> Iterable[Exporter]:
    yield export.openvino or OpenVINO()
    if export.onnx is not None:
        yield export.onnx
    yield from export.also
