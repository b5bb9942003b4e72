"""The metadata of an exported model, in `rt_info/model_info`: the keys of openvino-model-api and our own.

The first group is read by openvino-model-api and written by OpenVINO Training Extensions 2.6 for a segmentation model,
so that everything that runs their models runs ours. Keys that begin with ``segdsl_`` are our own.

openvino-model-api treats the value 0 of a result as background and names the value v `labels[v - 1]`. OpenVINO Training
Extensions list all channels of a model that was trained on masks, so that each name there is off by one. Here `labels`
omits a class 0 called `background`; a class 0 of any other name becomes the value 1, by an empty channel before it that
never wins.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import statistics
from segdsl.data.pictures.palette import is_background
from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import AnyExporter, Program
from segdsl.lang.program import load
from segdsl.version import __version__
from segdsl.words.exports import OpenVINO

FOLDER = "export"
"""The folder for exported models inside a run folder."""
ONNX_NAME = "model.onnx"
"""Name of the ONNX file in that folder."""
SECTION = "model_info"
INPUT, OUTPUT = "image", "output1"
"""Names of the input and output tensors."""
DIGEST = "segdsl_weights"
"""Key of the SHA-256 of the `.bin`, or of an `.onnx` without its metadata."""
LOGITS = "segdsl_logits"
"""Key of the name of the logits tensor."""
LOCK, METRICS, CERTIFICATE = "segdsl_lock", "segdsl_metrics", "segdsl_certificate"
"""Keys of the run's `lock.json`, of the scores of its weights, and of the certificate; all are JSON."""
CLASSES, IGNORE, SHIFT = "segdsl_classes", "segdsl_ignore", "segdsl_shift"
"""Keys of the class names (JSON), of the ignore value, and of the number of empty channels before the first class."""
# Deeper JSON comes from no run, and would exhaust the stack of whoever walks it.
DEEPEST = 100
OURS = "segdsl_"
KEYS = (
    "segdsl_program",
    "segdsl_version",
    "segdsl_precision",
    CLASSES,
    IGNORE,
    SHIFT,
    DIGEST,
    LOGITS,
    LOCK,
    METRICS,
    CERTIFICATE,
)
"""Our keys that are required to open a model."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Our part of a model's metadata; ``digest`` is the SHA-256 of its weights.

    ``program_text`` is the source of ``program``, ``channel_offset`` the number of empty channels before the first
    class, ``logits_name`` the name of the logits tensor, ``provenance`` the information about the run, by key.
    """

    program: Program
    text: str
    precision: str
    digest: str
    shift: int
    logits: str
    origin: dict[str, Any]


def form_of(program: Program) -> AnyExporter:
    """Return the OpenVINO exporter of the program, or the default one."""
    return program.export.openvino or OpenVINO()


def needs_empty_channel(program: Program) -> bool:
    """Return whether an empty channel is needed before the first class, because that is not the background."""
    return not is_background(program.classes[0]) and form_of(program).prediction == "soft"


def describe(program: Program, precision: str) -> dict[str, str]:
    """Return the entries of `model_info`, except for weights digest, provenance and name of the logits."""
    mean, scale = statistics(program.data.normalize, program.channels)
    form = form_of(program)
    names = list(program.classes)
    ids = [str(k) for k in range(len(names))]
    first = 1 if is_background(names[0]) else 0
    # openvino-model-api would normalize once more if a model that does so itself listed these values.
    built_in = ("mean_values", "scale_values") if form.normalize else ()
    label_info = {
        "label_names": names,
        "label_ids": ids,
        "label_groups": [names],
        "ignore_index": program.void,
    }
    entries = {
        "model_type": "Segmentation",
        "task_type": "segmentation",
        "model_name": program.graph.name,
        "labels": " ".join(label(name) for name in names[first:]),
        "label_ids": " ".join(ids[first:]),
        "label_info": json.dumps(label_info),
        "mean_values": _numbers(mean),
        "scale_values": _numbers(scale),
        "resize_type": "standard",
        "pad_value": "0",
        "reverse_input_channels": "False",
        "return_soft_prediction": str(form.prediction == "soft"),
        "soft_threshold": "0.5",
        "blur_strength": "-1",
        "segdsl_version": __version__,
        "segdsl_program": program.resolved,
        CLASSES: json.dumps(names),
        IGNORE: str(program.void),
        "segdsl_precision": precision,
        SHIFT: str(int(needs_empty_channel(program))),
    }
    return {key: value for key, value in entries.items() if key not in built_in}


def label(name: str) -> str:
    """Return a class name without white space or unprintable characters, at which `labels` would be split."""
    return "".join("_" if c.isspace() or not c.isprintable() else c for c in name) or "_"


def as_text(facts: Mapping[str, Any] | list[str]) -> str:
    """Return ``facts`` as one line of JSON, the format of structured entries in `model_info`."""
    return json.dumps(facts)


def write_info(model: Any, info: Mapping[str, str]) -> None:
    """Write the entries into an `openvino.Model`."""
    for key, value in info.items():
        model.set_rt_info(value, [SECTION, key])


def entries_of(model: Any) -> dict[str, str]:
    """Return those of our entries that an `openvino.Model` has."""
    found = model.get_rt_info([SECTION]).value if model.has_rt_info([SECTION]) else {}
    names = [key for key in found if key.startswith(OURS)] if isinstance(found, dict) else []
    return {key: str(model.get_rt_info([SECTION, key]).value) for key in names}


def read_info(entries: Mapping[str, str], file: Path, may_pad: bool = True) -> ModelInfo:
    """Parse the metadata ``entries`` of the model in ``file``.

    ``allows_padding`` is False for formats without an empty channel, even if the program needs one. Raises SegError
    (`model-foreign`, `model-info-damaged`, `model-program-refused`).
    """
    if any(key not in entries for key in KEYS):
        raise _foreign(file)
    try:
        origin = {key: _object(entries[key]) for key in (LOCK, METRICS, CERTIFICATE)}
        classes = json.loads(entries[CLASSES])
    except (ValueError, RecursionError) as error:
        raise info_damaged(file) from error
    text = entries["segdsl_program"]
    program = _load_text(text, entries["segdsl_version"], file)
    shift = int(may_pad and needs_empty_channel(program))
    # The program decides; the other entries repeat it for other tools, so a difference means that someone edited one.
    stated = (classes, entries[IGNORE], entries[SHIFT])
    if stated != (list(program.classes), str(program.void), str(shift)):
        raise info_damaged(file)
    return ModelInfo(program, text, entries["segdsl_precision"], entries[DIGEST], shift, entries[LOGITS], origin)


def _object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError and RecursionError."""
    value = json.loads(text)
    if not isinstance(value, dict) or _depth(value) > DEEPEST:
        raise ValueError
    return value


def _depth(found: Any) -> int:
    children = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return 1 + max(map(_depth, children), default=0)


def info_damaged(file: Path) -> SegError:
    """Return the error for a file whose metadata was changed after the export."""
    return fail(
        "model-info-damaged",
        f"the metadata of `{file.name}` is damaged or was edited",
        "copy the model again, or export the run again",
        path=str(file),
    )


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _foreign(xml: Path) -> SegError:
    return fail(
        "model-foreign",
        f"`{xml.name}` was not exported by segdsl: it does not contain its program",
        "pass a model written by `segdsl export`, or a run folder",
        path=str(xml),
    )


def _load_text(text: str, version: str, xml: Path) -> Program:
    with tempfile.TemporaryDirectory(prefix="segdsl-") as folder:
        file = Path(folder, "program.seg")
        file.write_text(text, encoding="utf-8")
        try:
            return load(file)
        except SegError as error:
            # The full diagnostics would point into a temporary file that is gone, so only the slug is passed on.
            raise _program_refused(xml, version, error.diagnostics[0].slug) from error


def _program_refused(file: Path, version: str, slug: str) -> SegError:
    message = f"segdsl {__version__} rejects the program embedded in `{file.name}` ({slug})"
    help = "the program was edited: copy the model again, or export the run again"
    if version != __version__:
        message += f", which was written by segdsl {version}"
        help = f"use segdsl {version}, or export the run again with this version"
    return fail("model-program-refused", message, help, path=str(file))


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
