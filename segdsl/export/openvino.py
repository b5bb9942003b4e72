"""Export of a trained model to OpenVINO and ONNX: conversion, comparison with PyTorch, publication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from segdsl.diagnostics import SegError, fail
from segdsl.export.certify.certifier import Certifier
from segdsl.export.certify.trial_images import TrialSet, make_noise_trials, open_trials, replace_data_root
from segdsl.export.convert.deployable import DeployableModel, TapModel
from segdsl.export.int8.quantize import ProgressCallback, ignore_progress, quantize_to_int8
from segdsl.export.provenance import UNKNOWN_PROVENANCE, Provenance, collect_provenance
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.extras import require_modules
from segdsl.inference.models.tensor_names import find_logits_name, name_by_paths, name_remaining_nodes
from segdsl.ir.program import Program
from segdsl.lower.failure import explain_failure
from segdsl.run.folder.checkpoint import open_run
from segdsl.storage.draft_folders import open_draft_folder, publish_files
from segdsl.words.exports import OpenVINO

Precision = Literal["fp32", "fp16", "int8"]
"""Name prefix of the folders in which exports are prepared."""
"""The file in such a folder that identifies the process that writes there."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """An exported model: its `.xml` (with the `.bin` next to it), its certificate, and the ONNX file, if requested."""

    model: Path
    certificate: dict[str, Any]
    onnx: Path | None = None


def export_run(
    run: Path,
    precision: str | None = None,
    program: Program | None = None,
    data: str | None = None,
    progress: ProgressCallback = ignore_progress,
) -> ExportResult:
    """Export the best weights of a run as `export/model-fp32.xml`, `-fp16` or `-int8`; replace an older export.

    ``precision``, ``program`` and ``data`` (the dataset folder) override those of the run; ``progress`` is called with
    a short text before each step. Raises SegError (`precision-unknown`, `export-failed`, `export-differs`,
    `export-not-written`, and the errors of opening the run and of quantization).
    """
    # Checked first: opening a run takes seconds.
    chosen = None if precision is None else check_precision(precision)
    opened = open_run(run)
    program = program or opened.program
    chosen = chosen or resolve_precision(program)
    trials = open_trials(program if data is None else replace_data_root(program, data), opened.folder)
    origin = collect_provenance(opened)
    return export_model(
        program, opened.model, opened.folder / model_info.EXPORT_FOLDER, chosen, trials, origin, progress
    )


def export_model(
    program: Program,
    model: Any,
    folder: Path,
    precision: Precision,
    trials: TrialSet | None = None,
    provenance: Provenance | None = None,
    progress: ProgressCallback = ignore_progress,
) -> ExportResult:
    """Convert ``model`` and write it into ``folder``, with the ONNX file if the program exports one; all or nothing.

    The files are compared with PyTorch on ``trials``, by default seeded noise. Raises SegError as :func:`export_run`.
    """
    check_installed(program, precision)
    trials, provenance = trials or make_noise_trials(program), provenance or UNKNOWN_PROVENANCE
    progress("converting")
    shipped = DeployableModel(
        model, program, model_info.resolve_exporter(program), model_info.needs_empty_channel(program)
    )
    converted, logits = convert_to_openvino(shipped, program)
    info = {**model_info.build_model_info(program, precision), **provenance, model_info.LOGITS_KEY: logits}
    name = f"model-{precision}"
    with _open_drafts(folder) as draft:
        certifier = Certifier(program, model, shipped, logits, trials)
        # Both are written and compared whatever the precision, so that users see what the other one would cost.
        for stored in ("fp32", "fp16"):
            certifier.add_form(stored, _save_model(converted, draft / f"{stored}.xml", stored))
        if precision == "int8":
            certifier.add_form(
                "int8", draft / "int8.xml", quantize_to_int8(program, folder.parent, draft, trials, logits, progress)
            )
        progress(f"comparing with PyTorch on {trials.description}")
        certificate = certifier.certify_form(precision)
        _write_final_model(draft / f"{precision}.xml", draft / f"{name}.xml", info, certificate)
        files = [f"{name}.bin", f"{name}.xml"]
        if program.export.onnx is not None:
            from segdsl.export.convert.onnx import write_onnx

            progress("writing and comparing ONNX")
            certificate["onnx"] = write_onnx(program, model, draft / model_info.ONNX_FILE, trials, provenance)
            files.append(model_info.ONNX_FILE)
        _publish_model(draft, folder, files)
    return ExportResult(folder / f"{name}.xml", certificate, folder / model_info.ONNX_FILE if len(files) > 2 else None)


def check_installed(program: Program, precision: Precision) -> None:
    """Raise SegError (`int8-not-installed`, `onnx-not-installed`) if a library that the export needs is missing."""
    if precision == "int8":
        require_modules(["nncf"], "an 8-bit model", "int8")
    if program.export.onnx is not None:
        require_modules(["onnx", "onnxruntime"], "an ONNX model", "onnx")


def check_precision(precision: str) -> Precision:
    """Return ``precision`` if it is valid. Raises SegError (`precision-unknown`)."""
    # Spelled out, since type checkers narrow a string to a Literal by equality only.
    if precision == "fp32" or precision == "fp16" or precision == "int8":
        return precision
    raise fail("precision-unknown", f"unknown precision `{precision}`", 'use "fp32", "fp16" or "int8"')


def resolve_precision(program: Program) -> Precision:
    """Return the precision of the program's OpenVINO model, by default fp32."""
    exporter = program.export.openvino
    return exporter.precision if isinstance(exporter, OpenVINO) else "fp32"


def convert_to_openvino(deployable: DeployableModel, program: Program) -> tuple[Any, str]:
    """Convert ``deployable`` to an `openvino.Model` whose nodes are named by their paths; also return its logits' name.

    Raises SegError (`size-not-free`, `graph-failed`, `export-failed`).
    """
    size, dynamic = program.data.input_size, deployable.exporter.size == "dynamic"
    if dynamic:
        check_dynamic_size(program)
    image = torch.zeros(1, program.channels, size.height, size.width)
    network = TapModel(deployable)
    _check_forward(network, image, program)
    shape = [1, program.channels, -1, -1] if dynamic else list(image.shape)
    try:
        with openvino_runtime.silence_libraries(), torch.no_grad():
            # PyTorch's own check of the trace would take half of the time; the file is compared with the model later.
            traced = torch.jit.trace(network, image, check_trace=False)
            model = openvino_runtime.import_openvino().convert_model(traced, input=[shape])
            if not dynamic:
                _fold_shapes(model)
            # The network outputs the tensor of every node: that is how OpenVINO's nodes are matched with paths.
            nodes = [result.input_value(0).get_node() for result in model.results]
            paths = name_by_paths(nodes[1:], ["logits", *network.paths])
            model = _extract_first_output(model)
            name_remaining_nodes(model, paths)
            model.inputs[0].get_tensor().set_names({model_info.INPUT_NAME})
            model.inputs[0].get_node().set_friendly_name(model_info.INPUT_NAME)
            model.outputs[0].get_tensor().set_names({model_info.OUTPUT_NAME})
            return model, find_logits_name(model, deployable.has_empty_channel)
    except Exception as error:
        # OpenVINO raises errors of many types, whose texts are C++ traces.
        raise fail(
            "export-failed",
            f"OpenVINO {_get_openvino_version()} could not convert `{program.graph.name}`",
            "training and evaluation still work; to export, replace the op that you added most recently",
        ) from error


def check_dynamic_size(program: Program) -> None:
    """Raise SegError (`size-not-free`) if the network accepts one size only."""
    tables = program.graph.collect_tables()
    if tables:
        message = f"`{next(iter(tables))}` has one row per cell of the image, so the network accepts one size only"
        raise fail("size-not-free", message, "export it with `size = static`")


def _extract_first_output(model: Any) -> Any:
    """Return the model with its first output only, simplified as by OpenVINO's own conversion."""
    from openvino._offline_transformations import apply_moc_transformations

    # Cloned, because the old outputs still consume nodes and would prevent their fusion.
    cut = openvino_runtime.import_openvino().Model([model.results[0].input_value(0)], model.get_parameters()).clone()
    apply_moc_transformations(cut, cf=False)
    return cut


def _check_forward(network: TapModel, image: Tensor, program: Program) -> None:
    # A model that fails in PyTorch would otherwise be reported as a failed conversion.
    try:
        with torch.inference_mode():
            network.deployable(image)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        sources = {name: source.text for name, source in program.sources.items()}
        raise SegError([explain_failure(network.deployable.model, error)], sources) from error


def _fold_shapes(model: Any) -> None:
    """Replace sizes that are computed at run time by constants; valid for a static input size."""
    from openvino import opset13, passes

    for node in model.get_ordered_ops():
        if node.get_type_name() != "ShapeOf" or node.input(0).get_partial_shape().is_dynamic:
            continue
        kind = node.output(0).get_element_type().to_dtype()
        constant = opset13.constant(list(node.input(0).get_shape()), dtype=kind)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(constant.output(0))
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    model.validate_nodes_and_infer_types()


def _save_model(model: Any, xml: Path, precision: str) -> Path:
    try:
        with openvino_runtime.silence_libraries():
            openvino_runtime.import_openvino().save_model(model, xml, compress_to_fp16=precision == "fp16")
    except (OSError, RuntimeError) as error:
        raise _export_not_written_error(xml.parent.parent) from error
    return xml


def _write_final_model(draft: Path, xml: Path, info: Mapping[str, str], certificate: Mapping[str, Any]) -> None:
    """Write the model at ``draft`` as ``xml``, with its metadata."""
    model = openvino_runtime.read_model(draft)
    model_info.write_entries(model, {**info, model_info.CERTIFICATE_KEY: model_info.dump_json(certificate)})
    _save_model(model, xml, "as it is")
    # The digest of the weights is known only after saving; saving again writes the same weights.
    model_info.write_entries(model, {model_info.DIGEST_KEY: model_info.hash_file(xml.with_suffix(".bin"))})
    _save_model(model, xml, "as it is")


@contextmanager
def _open_drafts(folder: Path) -> Iterator[Path]:
    try:
        with open_draft_folder(folder) as draft:
            yield draft
    except OSError as error:
        raise _export_not_written_error(folder) from error


def _publish_model(draft: Path, folder: Path, names: list[str]) -> None:
    """Move the files to ``folder`` in the order of ``names``, where each `.bin` precedes its `.xml`."""
    # The `.xml` makes a model: the old one goes before its `.bin` is replaced, the new one comes last. A kill in
    # between leaves no model rather than a mixture of two.
    for name in names:
        if name.endswith(".xml"):
            (folder / name).unlink(missing_ok=True)
    publish_files(draft, folder, names)


def _export_not_written_error(folder: Path) -> SegError:
    return fail(
        "export-not-written",
        f"the model could not be written into `{folder}`",
        "check that the disk has free space and that the run folder is writable",
        path=str(folder),
    )


def _get_openvino_version() -> str:
    return str(openvino_runtime.import_openvino().__version__).partition("-")[0]
