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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import get_normalization
from segdsl.data.pictures.palette import is_background
from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Exporter, Program
from segdsl.lang.program import load_text
from segdsl.text.json import parse_json
from segdsl.version import __version__
from segdsl.words.exports import find_format, name_exporters

EXPORT_FOLDER = "export"
"""The folder for exported models inside a run folder."""
INFO_SECTION = "model_info"
INPUT_NAME, OUTPUT_NAME = "image", "output1"
"""Names of the input and output tensors."""
DIGEST_KEY = "segdsl_weights"
"""Key of the SHA-256 of the `.bin`, or of an `.onnx` without its metadata."""
LOGITS_KEY = "segdsl_logits"
"""Key of the name of the logits tensor."""
LOCK_KEY, METRICS_KEY, CERTIFICATE_KEY = "segdsl_lock", "segdsl_metrics", "segdsl_certificate"
"""Keys of the run's `lock.json`, of the scores of its weights, and of the certificate; all are JSON."""
EXPORTER_KEY = "segdsl_exporter"
"""Key of the name of the exporter in the program that wrote the file, see `words.exports.name_exporters`."""
CLASSES_KEY, IGNORE_KEY, OFFSET_KEY = "segdsl_classes", "segdsl_ignore", "segdsl_shift"
"""Keys of the class names (JSON), of the ignore value, and of the number of empty channels before the first class."""
# Deeper JSON comes from no run, and would exhaust the stack of whoever walks it.
MAX_NESTING = 100
KEY_PREFIX = "segdsl_"
REQUIRED_KEYS = (
    "segdsl_program",
    "segdsl_version",
    "segdsl_precision",
    CLASSES_KEY,
    IGNORE_KEY,
    OFFSET_KEY,
    DIGEST_KEY,
    LOGITS_KEY,
    LOCK_KEY,
    METRICS_KEY,
    CERTIFICATE_KEY,
)
"""Our keys that are required to open a model."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Our part of a model's metadata; ``digest`` is the SHA-256 of its weights.

    ``program_text`` is the source of ``program``, ``exporter`` the one of its exporters that wrote the file,
    ``channel_offset`` the number of empty channels before the first class, ``logits_name`` the name of the logits
    tensor, ``provenance`` the information about the run, by key.
    """

    program: Program
    exporter: Exporter
    program_text: str
    precision: str
    digest: str
    channel_offset: int
    logits_name: str
    provenance: dict[str, Any]


def needs_empty_channel(program: Program, exporter: Exporter) -> bool:
    """Return whether an empty channel is needed before the first class, because that is not the background."""
    return exporter.needs_background and exporter.prediction == "soft" and not is_background(program.classes[0])


def build_model_info(program: Program, exporter_name: str, precision: str) -> dict[str, str]:
    """Return the entries of `model_info`, except for weights digest and provenance; the name of the logits is empty.

    ``exporter_name`` is the name of an exporter of the program, ``precision`` that of the form in the file.
    """
    mean, scale = get_normalization(program.data.normalize, program.channels)
    exporter = name_exporters(program.export)[exporter_name]
    names = list(program.classes)
    ids = [str(k) for k in range(len(names))]
    first = 1 if is_background(names[0]) else 0
    # openvino-model-api would normalize once more if a model that does so itself listed these values.
    built_in = ("mean_values", "scale_values") if exporter.normalize else ()
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
        "labels": " ".join(make_labels(names)[first:]),
        "label_ids": " ".join(ids[first:]),
        "label_info": json.dumps(label_info),
        "mean_values": _format_numbers(mean),
        "scale_values": _format_numbers(scale),
        "resize_type": "standard",
        "pad_value": "0",
        "reverse_input_channels": "False",
        "return_soft_prediction": str(exporter.prediction == "soft"),
        "soft_threshold": "0.5",
        "blur_strength": "-1",
        "segdsl_version": __version__,
        "segdsl_program": program.resolved,
        CLASSES_KEY: json.dumps(names),
        IGNORE_KEY: str(program.void),
        "segdsl_precision": precision,
        EXPORTER_KEY: exporter_name,
        LOGITS_KEY: "",
        OFFSET_KEY: str(int(needs_empty_channel(program, exporter))),
    }
    return {key: value for key, value in entries.items() if key not in built_in}


def make_labels(names: Sequence[str]) -> list[str]:
    """Return the names of classes as openvino-model-api reads them: one word each, and all different."""
    words = [format_label(name) for name in names]
    taken: set[str] = {word for name, word in zip(names, words, strict=True) if name == word}
    labels: list[str] = []
    for name, word in zip(names, words, strict=True):
        label, number = word, 1
        # A name that needs no change keeps it; another one that would become the same gets a number.
        while label != name and label in taken:
            number += 1
            label = f"{word}_{number}"
        taken.add(label)
        labels.append(label)
    return labels


def format_label(name: str) -> str:
    """Return a class name without white space or unprintable characters, at which `labels` would be split."""
    return "".join("_" if c.isspace() or not c.isprintable() else c for c in name) or "_"


def dump_json(facts: Mapping[str, Any] | list[str]) -> str:
    """Return ``facts`` as one line of JSON, the format of structured entries in `model_info`."""
    return json.dumps(facts)


def write_entries(model: Any, info: Mapping[str, str]) -> None:
    """Write the entries into an `openvino.Model`."""
    for key, value in info.items():
        model.set_rt_info(value, [INFO_SECTION, key])


def read_entries(model: Any) -> dict[str, str]:
    """Return those of our entries that an `openvino.Model` has."""
    found = model.get_rt_info([INFO_SECTION]).value if model.has_rt_info([INFO_SECTION]) else {}
    names = [key for key in found if key.startswith(KEY_PREFIX)] if isinstance(found, dict) else []
    return {key: str(model.get_rt_info([INFO_SECTION, key]).value) for key in names}


def parse_entries(entries: Mapping[str, str], file: Path) -> ModelInfo:
    """Parse the metadata ``entries`` of the model in ``file``.

    Raises SegError (`model-foreign`, `model-info-damaged`, `model-program-refused`).
    """
    if any(key not in entries for key in REQUIRED_KEYS):
        raise _foreign_model_error(file)
    try:
        origin = {key: _parse_object(entries[key]) for key in (LOCK_KEY, METRICS_KEY, CERTIFICATE_KEY)}
        classes = parse_json(entries[CLASSES_KEY])
    except ValueError as error:
        raise info_damaged_error(file) from error
    text = entries["segdsl_program"]
    program = _load_program_text(text, entries["segdsl_version"], file)
    exporter = _find_exporter(program, entries.get(EXPORTER_KEY), file)
    shift = int(needs_empty_channel(program, exporter))
    # The program decides; the other entries repeat it for other tools, so a difference means that someone edited one.
    stated = (classes, entries[IGNORE_KEY], entries[OFFSET_KEY])
    if stated != (list(program.classes), str(program.void), str(shift)):
        raise info_damaged_error(file)
    precision, digest = entries["segdsl_precision"], entries[DIGEST_KEY]
    return ModelInfo(program, exporter, text, precision, digest, shift, entries[LOGITS_KEY], origin)


def _find_exporter(program: Program, name: str | None, file: Path) -> Exporter:
    """Return the exporter of this name; without one, the first for files of this kind, or the default of their word."""
    named, word = name_exporters(program.export), find_format(file.suffix)
    assert word is not None
    if name is None:
        return next((exporter for exporter in named.values() if isinstance(exporter, word)), word())
    if not isinstance(named.get(name), word):
        raise info_damaged_error(file)
    return named[name]


def _parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError."""
    value = parse_json(text)
    if not isinstance(value, dict) or _measure_nesting(value) > MAX_NESTING:
        raise ValueError
    return value


def _measure_nesting(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [v.values() if isinstance(v, dict) else v if isinstance(v, list) else () for v in level]
        level = [child for children in inner for child in children]
    return depth


def info_damaged_error(file: Path) -> SegError:
    """Return the error for a file whose metadata was changed after the export."""
    return fail(
        "model-info-damaged",
        f"the metadata of `{file.name}` is damaged or was edited",
        "copy the model again, or export the run again",
        path=str(file),
    )


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _foreign_model_error(file: Path) -> SegError:
    return fail(
        "model-foreign",
        f"`{file.name}` was not exported by segdsl: it does not contain its program",
        "pass a model written by `segdsl export`, or a run folder",
        path=str(file),
    )


def _load_program_text(text: str, version: str, model_file: Path) -> Program:
    try:
        return load_text(text, model_file / "program.seg")
    except SegError as error:
        # The diagnostics point into a text that the user has never seen, so only the slug is passed on.
        raise _program_rejected_error(model_file, version, error.diagnostics[0].slug) from error


def _program_rejected_error(file: Path, version: str, slug: str) -> SegError:
    message = f"segdsl {__version__} rejects the program embedded in `{file.name}` ({slug})"
    help = "the program was edited: copy the model again, or export the run again"
    if version != __version__:
        message += f", which was written by segdsl {version}"
        help = f"use segdsl {version}, or export the run again with this version"
    return fail("model-program-refused", message, help, path=str(file))


def _format_numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
