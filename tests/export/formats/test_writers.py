"""Formats: a new exporter is a word and its realisation; several files of one format; numbered names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdsl import verbs
from segdsl.cli.certificate_view import format_certificate
from segdsl.diagnostics import SegError
from segdsl.export.certify.trial_images import generate_noise_images
from segdsl.export.export import ExportResult, export_model
from segdsl.export.writer import load_writer
from segdsl.inference.models.opener import open_model
from segdsl.run.folder.checkpoint import open_run
from segdsl.words.exports import list_formats

# Another process: a word is registered for good, and would be missing in the reference that other tests compare.
NEW_FORMAT = """
import json, sys
from pathlib import Path

import npz_format
from segdsl import SegError, verbs
from segdsl.cli.certificate_view import format_certificate
from segdsl.cli.invoke import run_cli
from segdsl.editor.highlight import collect_words
from segdsl.editor.reference import build_reference
from segdsl.lang.program import load

run, image, out = sys.argv[1:]

def refuse(word):
    try:
        load(f"{run}/program.seg", [f"export.also=[{word}]"])
    except SegError as error:
        return error.diagnostics[0].help

result = verbs.export(run, overrides=["export.also=[Npz(normalize = true, packed = true)]"])
file = str(result.files["npz"])
print(json.dumps({
    "files": {name: path.name for name, path in result.files.items()},
    "row": result.certificate["npz"],
    "text": format_certificate(result.certificate),
    "misspelled": refuse("Npx()"),
    "unknown argument": refuse("Npz(pack = true)"),
    "reference": build_reference(),
    "highlighted": [word for words in collect_words().values() for word in words],
    "origin": verbs.origin(file)["certificate"]["rows"]["npz"],
    "predicted": verbs.predict(file, [image], out),
    "scores": verbs.evaluate(file)["images"],
    "shown": run_cli(["show", file, "--json"]),
}))
"""


@pytest.fixture
def facts(copied: Path, tmp_path: Path) -> dict[str, Any]:
    """What a process with a new format reports about it."""
    Image.fromarray(generate_noise_images(30, 40)[0]).save(tmp_path / "a.png")
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    command = [sys.executable, "-c", NEW_FORMAT, str(copied), str(tmp_path / "a.png"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_new_format_is_found_everywhere(facts: dict[str, Any], tmp_path: Path) -> None:
    assert facts["files"] == {"openvino": "model-fp32.xml", "npz": "model.npz"}
    assert (facts["row"]["differing"], facts["row"]["kept_in"]) == (0.0, "an archive")
    assert "RGB, 0 to 255" in facts["row"]["interface"]["takes"]
    assert "npz takes" in facts["text"]
    assert "Npz" in facts["misspelled"] and "packed" in facts["unknown argument"]
    assert "#### `Npz`" in facts["reference"] and "Compress the archive." in facts["reference"]
    assert "Npz" in facts["highlighted"]
    assert facts["origin"]["differing"] == 0.0 and facts["scores"] == 5 and facts["shown"] == 0
    assert facts["predicted"]["images"] == 1
    assert np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png")).shape == (30, 40)


def export_with(run: Path, tmp_path: Path, *overrides: str) -> ExportResult:
    file = tmp_path / "program.seg"
    file.write_text((run / "program.seg").read_text(encoding="utf-8"), encoding="utf-8")
    return export_model(verbs.check(file, overrides), open_run(run).model, tmp_path / "export")


def test_a_format_is_exported_twice(run: Path, tmp_path: Path) -> None:
    further = "export.also=[ONNX(prediction = hard, normalize = true), OpenVINO(precision = fp16, prediction = hard)]"
    result = export_with(run, tmp_path, "export.onnx=ONNX()", further)
    names = {name: file.name for name, file in result.files.items()}
    assert names == {
        "openvino": "model-fp32.xml",
        "onnx": "model.onnx",
        "onnx_2": "model_2.onnx",
        "openvino_2": "model-fp16_2.xml",
    }
    assert result.certificate["also"] == ["onnx", "onnx_2", "openvino_2"]
    assert "onnx_2" in format_certificate(result.certificate)
    image = generate_noise_images(50, 77)[0]
    expected = open_model(run).predict(image)
    for name, file in result.files.items():
        model: Any = open_model(file)
        assert (model.exporter.prediction == "hard") == name.endswith("_2"), "each file opens as its own exporter"
        assert (model.predict(image) != expected).mean() < 1e-2


def test_a_file_that_names_another_exporter_is_damaged(run: Path, tmp_path: Path) -> None:
    import onnx

    file = export_with(run, tmp_path, "export.onnx=ONNX()").files["onnx"]
    model = onnx.load(str(file))
    (entry,) = (entry for entry in model.metadata_props if entry.key == "segdsl_exporter")
    for name in ("openvino", "onnx_2"):
        entry.value = name
        onnx.save(model, str(file))
        with pytest.raises(SegError) as caught:
            open_model(file)
        assert caught.value.diagnostics[0].slug == "model-info-damaged"
    model.metadata_props.remove(entry)
    onnx.save(model, str(file))
    assert open_model(file).classes == open_model(run).classes, "files of earlier versions do not name their exporter"


def test_each_format_has_a_writer_and_an_extension_of_its_own() -> None:
    words = list_formats()
    assert len({word.suffix for word in words}) == len(words)
    for word in words:
        assert load_writer(word).__name__.endswith("Writer")
