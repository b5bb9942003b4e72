"""From a trained model to an OpenVINO file of fixed size, compared with torch before it gets its name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segdsl.diagnostics import SegError, fail
from segdsl.export import contract, runtime
from segdsl.export.certificate import certify, trial_images
from segdsl.export.pixels import Image
from segdsl.export.shipped import Shipped
from segdsl.ir.program import Program
from segdsl.lower.failure import explain_failure
from segdsl.run.checkpoint import open_run
from segdsl.words.exports import OpenVINO

Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """An exported model: its `.xml` (the `.bin` lies beside it), and how far it was from torch when both were tried."""

    model: Path
    certificate: dict[str, Any]


def export_run(run: Path, precision: str | None = None) -> ExportResult:
    """Writes the best weights of a run as `export/model-fp32.xml` or `model-fp16.xml`; an older one is replaced.

    ``precision`` stands in for what the program says. Raises SegError (`precision-unknown`, `precision-later`,
    `export-failed`, `export-differs`, `export-not-written`, and whatever opening the run is at fault for).
    """
    chosen = None if precision is None else check_precision(precision)
    opened = open_run(run)
    chosen = chosen or said_precision(opened.program)
    images = trial_images(opened.program, opened.folder)
    return export_model(opened.program, opened.model, opened.folder / contract.FOLDER, chosen, images)


def export_model(
    program: Program, model: nn.Module, folder: Path, precision: Precision, images: Sequence[Image] = ()
) -> ExportResult:
    """Converts ``model`` and writes it into ``folder``, whole or not at all.

    It is compared with torch on ``images``, on seeded noise where there are none. Raises SegError as
    :func:`export_run` does.
    """
    network = Shipped(model)
    shipped = convert(network, program)
    name = f"model-{precision}"
    with _draft(folder) as draft:
        xml = draft / f"{name}.xml"
        _save(shipped, xml, precision, contract.describe(program, precision))
        certificate = certify(program, network, xml, precision, images)
        _publish(draft, folder, name)
    return ExportResult(folder / xml.name, certificate)


def check_precision(precision: str) -> Precision:
    """``precision``, if it is one. Raises SegError (`precision-unknown`, `precision-later`)."""
    if precision == "int8":
        raise fail("precision-later", "8-bit models come with a later version of segdsl", "export fp32 or fp16")
    if precision == "fp32" or precision == "fp16":
        return precision
    raise fail("precision-unknown", f"there is no precision `{precision}`", 'use "fp32" or "fp16"')


def said_precision(program: Program) -> Precision:
    """What the program says about the precision of its OpenVINO model; fp32 where it says nothing."""
    word = program.export.openvino
    return word.precision if isinstance(word, OpenVINO) else "fp32"


def convert(network: nn.Module, program: Program) -> Any:
    """The `openvino.Model` of ``network`` for one image of the program's size, with tensors named by the contract.

    Raises SegError (`graph-failed`, `export-failed`).
    """
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    _try(network, image, program)
    try:
        with runtime.quiet(), torch.no_grad():
            # torch's own comparison of trace and model takes half of the time; ours, of file and model, comes later.
            traced = torch.jit.trace(network, image, check_trace=False)
            model = runtime.openvino().convert_model(traced, input=[list(image.shape)])
            _fold_shapes(model)
    except Exception as error:
        raise fail(
            "export-failed",
            f"OpenVINO {_version()} could not convert `{program.graph.name}`",
            "train and evaluate work; for the export, replace the op of the model that you added last",
        ) from error
    model.inputs[0].get_tensor().set_names({contract.INPUT})
    model.inputs[0].get_node().set_friendly_name(contract.INPUT)
    model.outputs[0].get_tensor().set_names({contract.OUTPUT})
    return model


def _try(network: nn.Module, image: Tensor, program: Program) -> None:
    try:
        with torch.inference_mode():
            network(image)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        sources = {name: source.text for name, source in program.sources.items()}
        raise SegError([explain_failure(network.model, error)], sources) from error  # type: ignore[arg-type]


def _fold_shapes(model: Any) -> None:
    """Replaces sizes that are read when the model runs by numbers: the input has one size."""
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


def _save(model: Any, xml: Path, precision: Precision, info: dict[str, str]) -> None:
    """Writes both files; the digest of the second, which is known only then, goes into the first by writing twice."""
    contract.write_info(model, info)
    save = runtime.openvino().save_model
    try:
        with runtime.quiet():
            save(model, xml, compress_to_fp16=precision == "fp16")
            contract.write_info(model, {contract.DIGEST: contract.digest_of(xml.with_suffix(".bin"))})
            save(model, xml, compress_to_fp16=precision == "fp16")
    except (OSError, RuntimeError) as error:
        raise _not_written(xml.parent.parent) from error


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder inside of ``folder`` that is gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as draft:
            yield Path(draft)
    except OSError as error:
        raise _not_written(folder) from error


def _publish(draft: Path, folder: Path, name: str) -> None:
    """Gives both files their names, the `.xml` last: without it there is no model."""
    for ending in (".bin", ".xml"):
        with (draft / f"{name}{ending}").open("rb") as file:
            os.fsync(file.fileno())
    (folder / f"{name}.xml").unlink(missing_ok=True)
    for ending in (".bin", ".xml"):
        (draft / f"{name}{ending}").replace(folder / f"{name}{ending}")


def _not_written(folder: Path) -> SegError:
    return fail(
        "export-not-written",
        f"the model could not be written into `{folder}`",
        "see that the disk has room and that the run folder may be written",
        path=str(folder),
    )


def _version() -> str:
    return str(runtime.openvino().__version__).partition("-")[0]
