"""The stages between the graph of a program and an exported file, each a table of rewrites in order.

A stage continues where the one before ends; the stages of formats all continue where `export` ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from segdsl.export.convert.deployable import optimize_for_export
from segdsl.export.convert.rewrites import EXPORT_REWRITES
from segdsl.export.writer import load_writer
from segdsl.ir.program import Program
from segdsl.lower.compiled import compile_program
from segdsl.lower.inference_rewrites import INFERENCE_REWRITES, optimize_for_inference
from segdsl.lower.rewriting import apply_rewrites
from segdsl.passes import PASSES
from segdsl.words.exports import get_format_name, list_formats, name_exporters

IR_STAGE, INFERENCE_STAGE, EXPORT_STAGE = "ir", "inference", "export"


def list_stages() -> dict[str, Mapping[str, Any]]:
    """Return the tables of rewrites by stage: passes over the IR, then those over the fx graph."""
    formats = {get_format_name(word): load_writer(word).rewrites for word in list_formats()}
    return {
        IR_STAGE: PASSES,
        INFERENCE_STAGE: INFERENCE_REWRITES,
        EXPORT_STAGE: EXPORT_REWRITES,
        **{name: rewrites for name, rewrites in formats.items() if rewrites},
    }


def find_stage(rewrite: str) -> str | None:
    """Return the stage of the rewrite of this name, or None."""
    return next((stage for stage, rewrites in list_stages().items() if rewrite in rewrites), None)


def rewrite_until(program: Program, stage: str, rewrite: str) -> fx.GraphModule:
    """Build the model of ``program`` with random weights and rewrite it up to ``rewrite`` of a ``stage`` after the IR.

    The model is rewritten as its own exporter of that format, or the default one, would do.
    """
    model = compile_program(program, weights="none").model
    if stage == INFERENCE_STAGE:
        return optimize_for_inference(model, INFERENCE_REWRITES, rewrite)
    exporters = [*name_exporters(program.export).values(), *(word() for word in list_formats())]
    names = [get_format_name(type(exporter)) for exporter in exporters]
    exporter = exporters[names.index(stage) if stage in names else 0]
    if stage == EXPORT_STAGE:
        return optimize_for_export(model, exporter, rewrite)
    rewritten = optimize_for_export(model, exporter)
    apply_rewrites(rewritten, load_writer(type(exporter)).rewrites, rewrite)
    return rewritten
