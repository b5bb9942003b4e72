"""What an exported model says about itself, in `rt_info/model_info`: the keys of openvino-model-api, and our own.

The first group is what openvino-model-api reads and what OpenVINO Training Extensions 2.6 write for a segmentation
model, so that everything that runs theirs runs ours. Keys that begin with ``segdsl_`` are ours alone.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.images import statistics
from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.version import __version__

FOLDER = "export"
"""The folder in a run folder that holds its exported models."""
SECTION = "model_info"
INPUT, OUTPUT = "image", "output1"
"""Names of the tensors."""
DIGEST = "segdsl_weights"
"""Key of the SHA-256 of the `.bin`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Our part of what a model says about itself; ``digest`` is the SHA-256 of its `.bin`."""

    program: Program
    precision: str
    digest: str


def describe(program: Program, precision: str) -> dict[str, str]:
    """The entries of `model_info` but for the digest of the weights."""
    mean, scale = statistics(program.data.normalize, program.channels)
    names = list(program.classes)
    ids = [str(k) for k in range(len(names))]
    label_info = {
        "label_names": names,
        "label_ids": ids,
        "label_groups": [names],
        "ignore_index": program.void,
    }
    return {
        "model_type": "Segmentation",
        "task_type": "segmentation",
        "model_name": program.graph.name,
        "labels": " ".join(label(name) for name in names),
        "label_ids": " ".join(ids),
        "label_info": json.dumps(label_info),
        "mean_values": _numbers(mean),
        "scale_values": _numbers(scale),
        "resize_type": "standard",
        "pad_value": "0",
        "reverse_input_channels": "False",
        "return_soft_prediction": "True",
        "soft_threshold": "0.5",
        "blur_strength": "-1",
        "segdsl_version": __version__,
        "segdsl_program": program.resolved,
        "segdsl_classes": json.dumps(names),
        "segdsl_ignore": str(program.void),
        "segdsl_precision": precision,
    }


def label(name: str) -> str:
    """A class name as `labels` takes it, which is split at white space: whatever is blank or unprintable is a `_`."""
    return "".join("_" if c.isspace() or not c.isprintable() else c for c in name) or "_"


def write_info(model: Any, info: Mapping[str, str]) -> None:
    """Puts the entries into an `openvino.Model`."""
    for key, value in info.items():
        model.set_rt_info(value, [SECTION, key])


def read_info(model: Any, xml: Path) -> ModelInfo:
    """What we wrote into the model at ``xml``.

    Raises SegError (`model-foreign`, `model-program-refused`).
    """
    text, version = _entry(model, "segdsl_program", xml), _entry(model, "segdsl_version", xml)
    precision, digest = _entry(model, "segdsl_precision", xml), _entry(model, DIGEST, xml)
    return ModelInfo(_load_text(text, version, xml), precision, digest)


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(model: Any, key: str, xml: Path) -> str:
    path = [SECTION, key]
    if not model.has_rt_info(path):
        raise _foreign(xml)
    return str(model.get_rt_info(path).value)


def _foreign(xml: Path) -> SegError:
    return fail(
        "model-foreign",
        f"`{xml.name}` was not exported by segdsl: it does not carry its program",
        "give a model that `segdsl export` wrote, or the run folder",
        path=str(xml),
    )


def _load_text(text: str, version: str, xml: Path) -> Program:
    with tempfile.TemporaryDirectory(prefix="segdsl-") as folder:
        file = Path(folder, "program.seg")
        file.write_text(text, encoding="utf-8")
        try:
            return load(file)
        except SegError as error:
            raise fail(
                "model-program-refused",
                f"the program inside `{xml.name}` was written by segdsl {version}; "
                f"this is {__version__}, which finds fault with it ({error.diagnostics[0].slug})",
                f"use segdsl {version}, or export the run again with this version",
                path=str(xml),
            ) from error


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
