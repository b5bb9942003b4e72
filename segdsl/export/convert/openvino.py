"""Conversion of a deployable model to OpenVINO."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segdsl.diagnostics import SegError, fail
from segdsl.export.convert.deployable import DeployableModel, TapModel
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.tensor_names import find_logits_name, name_by_paths, name_remaining_nodes
from segdsl.ir.program import Program
from segdsl.lower.failure import explain_failure


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


def _get_openvino_version() -> str:
    return str(openvino_runtime.import_openvino().__version__).partition("-")[0]
