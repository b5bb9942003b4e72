"""What an exported model says about itself, in `rt_info/model_info`: the keys of openvino-model-api, and our own.

The first group is what openvino-model-api reads and what OpenVINO Training Extensions 2.6 write for a segmentation
model, so that everything that runs theirs runs ours. Keys that begin with ``segdsl_`` are ours alone.

openvino-model-api takes the value 0 of its result for the background, and calls the value v `labels[v - 1]`. OpenVINO
Training Extensions name all channels of a model that was trained on masks, so that there each name is that of the
class before. Here `labels` leaves a class 0 out that is called `background`, and a class 0 of any other name becomes
the value 1: an empty channel, which is never the best, stands before it.
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
"""The folder in a run folder that holds its exported models."""
ONNX_NAME = "model.onnx"
"""The ONNX file beside the others."""
SECTION = "model_info"
INPUT, OUTPUT = "image", "output1"
"""Names of the tensors."""
DIGEST = "segdsl_weights"
"""Key of the SHA-256 of the `.bin`, or of all of an `.onnx` but what it says about itself."""
LOGITS = "segdsl_logits"
"""Key of the name of the logits."""
LOCK, METRICS, CERTIFICATE = "segdsl_lock", "segdsl_metrics", "segdsl_certificate"
"""Keys of the run's `lock.json`, of the scores of its weights, and of the certificate, JSON all of them."""
CLASSES, IGNORE, SHIFT = "segdsl_classes", "segdsl_ignore", "segdsl_shift"
"""Keys of the class names, as JSON, of the value that is not scored, and of the number of empty channels."""
DEEPEST = 100
"""So deep at most may what is known of a run be nested."""
OURS = "segdsl_"
"""How our own keys begin."""
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
"""Those of them that reading a model needs."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Our part of what a model says about itself; ``digest`` is the SHA-256 of its weights.

    ``text`` is the program as it is written, ``shift`` the number of empty channels before the first class, ``logits``
    their name, ``origin`` what is known of the run, by its key in `model_info`.
    """

    program: Program
    text: str
    precision: str
    digest: str
    shift: int
    logits: str
    origin: dict[str, Any]


def form_of(program: Program) -> AnyExporter:
    """How the program wants its OpenVINO model; by default where it says nothing."""
    return program.export.openvino or OpenVINO()


def needs_empty_channel(program: Program) -> bool:
    """Whether an empty channel stands before the first class: where that is not the background."""
    return not is_background(program.classes[0]) and form_of(program).prediction == "soft"


def describe(program: Program, precision: str) -> dict[str, str]:
    """The entries of `model_info` but for the digest of the weights, the origin, and the name of the logits."""
    mean, scale = statistics(program.data.normalize, program.channels)
    form = form_of(program)
    names = list(program.classes)
    ids = [str(k) for k in range(len(names))]
    first = 1 if is_background(names[0]) else 0
    inside = ("mean_values", "scale_values") if form.normalize else ()
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
    return {key: value for key, value in entries.items() if key not in inside}


def label(name: str) -> str:
    """A class name as `labels` takes it, which is split at white space: whatever is blank or unprintable is a `_`."""
    return "".join("_" if c.isspace() or not c.isprintable() else c for c in name) or "_"


def as_text(facts: Mapping[str, Any] | list[str]) -> str:
    """Facts as `model_info` holds them: one line of JSON."""
    return json.dumps(facts)


def write_info(model: Any, info: Mapping[str, str]) -> None:
    """Puts the entries into an `openvino.Model`."""
    for key, value in info.items():
        model.set_rt_info(value, [SECTION, key])


def entries_of(model: Any) -> dict[str, str]:
    """Our entries in an `openvino.Model`, as far as they are there."""
    found = model.get_rt_info([SECTION]).value if model.has_rt_info([SECTION]) else {}
    names = [key for key in found if key.startswith(OURS)] if isinstance(found, dict) else []
    return {key: str(model.get_rt_info([SECTION, key]).value) for key in names}


def read_info(entries: Mapping[str, str], file: Path, may_pad: bool = True) -> ModelInfo:
    """What we wrote into the model in ``file``, from the ``entries`` there.

    ``may_pad`` says whether an empty channel stands before the first class where the program needs one. Raises SegError
    (`model-foreign`, `model-info-damaged`, `model-program-refused`).
    """
    lacking = [key for key in KEYS if key not in entries]
    if lacking:
        raise _foreign(file)
    try:
        origin = {key: _object(entries[key]) for key in (LOCK, METRICS, CERTIFICATE)}
        classes = json.loads(entries[CLASSES])
    except (ValueError, RecursionError) as error:
        raise info_damaged(file) from error
    text = entries["segdsl_program"]
    program = _load_text(text, entries["segdsl_version"], file)
    shift = int(may_pad and needs_empty_channel(program))
    said, meant = (classes, entries[IGNORE], entries[SHIFT]), (list(program.classes), str(program.void), str(shift))
    if said != meant:
        raise info_damaged(file)
    return ModelInfo(program, text, entries["segdsl_precision"], entries[DIGEST], shift, entries[LOGITS], origin)


def _object(text: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError and RecursionError."""
    found = json.loads(text)
    if not isinstance(found, dict) or _depth(found) > DEEPEST:
        raise ValueError
    return found


def _depth(found: Any) -> int:
    inside = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def info_damaged(file: Path) -> SegError:
    """The fault of a file whose entries are not as they were written."""
    return fail(
        "model-info-damaged",
        f"what `{file.name}` says about itself is damaged, or was edited",
        "copy the model again, or export the run again",
        path=str(file),
    )


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
            raise _program_refused(xml, version, error.diagnostics[0].slug) from error


def _program_refused(file: Path, version: str, slug: str) -> SegError:
    message = f"segdsl {__version__} finds fault with the program inside `{file.name}` ({slug})"
    help = "its text was edited: copy the model again, or export the run again"
    if version != __version__:
        message += f", which segdsl {version} wrote"
        help = f"use segdsl {version}, or export the run again with this version"
    return fail("model-program-refused", message, help, path=str(file))


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
