"""What an exported model is: its tensors, what it says about itself, and that nothing half made is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl.diagnostics import SegError
from segdsl.export.certify import certificate
from segdsl.export.certify.trial_images import generate_noise_images, open_trials
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.export import export_model, export_run, resolve_exporters
from segdsl.export.formats import openvino as exporting
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model_info import format_label, make_labels
from segdsl.inference.models.opener import open_model
from segdsl.run.folder.checkpoint import Run, open_run
from segdsl.version import __version__

NAMES = ["background", "rust spot", "Öl, naß", "a_b"]


def entries(xml: Path) -> dict[str, str]:
    info = openvino_runtime.read_model(xml).get_rt_info(["model_info"]).value
    return {key: str(value.value if hasattr(value, "value") else value) for key, value in info.items()}


def opened(run: Path) -> Run:
    return open_run(run)


def test_tensors_have_the_names_and_the_size_of_the_contract(fp32: Path) -> None:
    model = openvino_runtime.read_model(fp32)
    (image,), (scores,) = model.inputs, model.outputs
    assert (image.get_names(), list(image.shape)) == ({"image"}, [1, 3, 45, 64])
    assert (scores.get_names(), list(scores.shape)) == ({"output1"}, [1, 4, 45, 64])
    assert {image.element_type.to_string(), scores.element_type.to_string()} == {"f32"}
    assert scores.get_node().input_value(0).get_node().get_type_name() == "Softmax"


def test_sizes_are_numbers_in_the_file(fp32: Path) -> None:
    kinds = Counter(node.get_type_name() for node in openvino_runtime.read_model(fp32).get_ops())
    assert not {"ShapeOf", "Gather", "BatchNormInference"} & set(kinds)
    assert kinds["Convolution"] == 4


def test_the_model_says_what_the_contract_asks_for(fp32: Path, run: Path) -> None:
    found = entries(fp32)
    program = opened(run).program
    assert found.pop("segdsl_program") == program.resolved
    assert len(found.pop("segdsl_weights")) == 64
    assert (found.pop("segdsl_logits"), found.pop("segdsl_exporter")) == ("logits", "openvino")
    assert json.loads(found.pop("segdsl_certificate"))["precision"] == "fp32"
    assert (found.pop("segdsl_lock"), found.pop("segdsl_metrics")) == ("{}", "{}")
    assert json.loads(found.pop("label_info")) == {
        "label_names": NAMES,
        "label_ids": ["0", "1", "2", "3"],
        "label_groups": [NAMES],
        "ignore_index": 255,
    }
    assert json.loads(found.pop("segdsl_classes")) == NAMES
    assert found == {
        "model_type": "Segmentation",
        "task_type": "segmentation",
        "model_name": "Small",
        "labels": "rust_spot Öl,_naß a_b",
        "label_ids": "1 2 3",
        "mean_values": "123.675 116.28 103.53",
        "scale_values": "58.395 57.12 57.375",
        "resize_type": "standard",
        "pad_value": "0",
        "reverse_input_channels": "False",
        "return_soft_prediction": "True",
        "soft_threshold": "0.5",
        "blur_strength": "-1",
        "segdsl_version": __version__,
        "segdsl_ignore": "255",
        "segdsl_precision": "fp32",
        "segdsl_shift": "0",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a b", "a_b"), ("a\u00a0b\tc", "a_b_c"), ("a\x07b", "a_b"), ("道路", "道路"), ("", "_"), ("a,b", "a,b")],
)
def test_a_label_survives_a_split_at_white_space(name: str, expected: str) -> None:
    assert format_label(name) == expected
    assert format_label(name).split() == [expected]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b c"], ["a", "b_c"]),
        (["a b", "a_b"], ["a_b_2", "a_b"]),
        (["a b", "a\tb", "a_b_2"], ["a_b", "a_b_3", "a_b_2"]),
    ],
)
def test_classes_stay_apart(names: list[str], expected: list[str]) -> None:
    assert make_labels(names) == expected


def test_model_api_loads_it_and_sees_what_we_see(fp32: Path, data: Path) -> None:
    from model_api.models import SegmentationModel

    model = SegmentationModel.create_model(str(fp32), device="CPU")
    assert list(model.params.labels) == ["rust_spot", "Öl,_naß", "a_b"]
    image = np.asarray(Image.open(data / "val" / "images" / "val_2.png"))
    theirs, ours = np.asarray(model(image).resultImage), open_model(fp32).predict(image)
    assert theirs.shape == ours.shape == image.shape[:2]
    assert (theirs != ours).mean() < 0.02, "it rounds the resized image to bytes, and may compute in bfloat16"


def test_halves_are_smaller_load_and_agree(fp32: Path, fp16: Path, data: Path) -> None:
    assert fp16.with_suffix(".bin").stat().st_size < 0.6 * fp32.with_suffix(".bin").stat().st_size
    assert entries(fp16)["segdsl_precision"] == "fp16"
    image = np.asarray(Image.open(data / "val" / "images" / "val_0.png"))
    full, half = open_model(fp32).predict_probabilities(image), open_model(fp16).predict_probabilities(image)
    assert 0 < np.abs(full - half).max() < 1e-2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torch_and_file_differ_in_ties_only(
    precision: str, run: Path, data: Path, request: pytest.FixtureRequest
) -> None:
    exported, trained = open_model(request.getfixturevalue(precision)), open_model(run)
    images = [np.asarray(Image.open(file)) for file in sorted((data / "val" / "images").iterdir())]
    for image in images + generate_noise_images(45, 64):
        logits, scores = trained.predict_logits(image), exported.predict_probabilities(image)
        tied = certificate.find_ties(logits, 1e-4 if precision == "fp32" else 1e-2)
        assert tied.mean() < 0.1
        assert not ((logits.argmax(0) != scores.argmax(0)) & ~tied).any()


def test_the_certificate_counts_on_validation_images(run: Path, fp32: Path) -> None:
    found = export_run(run).certificate
    assert (found["precision"], found["images"], found["source"], found["differing"]) == ("fp32", 5, "val", 0.0)
    assert 0 < found["max_error"] < 1e-4 and found["ties"] < 0.01


def test_without_data_noise_is_compared(run: Path, tmp_path: Path) -> None:
    program = opened(run).program
    lost = program.model_copy(update={"data": program.data.model_copy(update={"root": "nowhere"})})
    assert open_trials(lost, run).source == "noise"
    result = export_model(lost, opened(run).model, tmp_path, "fp32")
    assert (result.certificate["source"], result.certificate["differing"]) == ("noise", 0.0)


def test_ties_are_measured_against_the_spread() -> None:
    logits = np.zeros((3, 1, 4), np.float32)
    logits[0] = [[1.0, 1.0, 1.0, 1.0]]
    logits[1] = [[0.0, 0.9, 0.999, 1.0]]
    logits[2] = -1.0
    spread = float(logits.std())
    assert certificate.find_ties(logits, 0.002 / spread)[0].tolist() == [False, False, True, True]
    for factor in (1000, 1e-8):
        assert certificate.find_ties(factor * logits, 0.002 / spread)[0].tolist() == [False, False, True, True]
    assert certificate.find_ties(logits, 0.2 / spread)[0].tolist() == [False, True, True, True]
    assert not certificate.find_ties(logits[:1], 1.0).any()


@pytest.mark.parametrize("spoil", ["shift", "nan"])
def test_a_model_that_differs_is_not_published(
    spoil: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = exporting.convert_to_openvino

    def spoilt(shipped: DeployableModel, program: Any) -> object:
        weight = dict(shipped.named_parameters())["model.head.1.weight"]
        with torch.no_grad():
            weight.copy_(weight.flip(0) if spoil == "shift" else weight * float("nan"))
        return convert(shipped, program)

    monkeypatch.setattr(exporting, "convert_to_openvino", spoilt)
    (tmp_path / "model-fp32.xml").write_text("an older one")
    with pytest.raises(SegError) as caught:
        export_model(opened(run).program, opened(run).model, tmp_path, "fp32")
    findings = caught.value.diagnostics
    assert {finding.slug for finding in findings} == {"export-differs"}
    assert all(("finite" in finding.message) == (spoil == "nan") for finding in findings)
    assert [p.name for p in tmp_path.iterdir()] == ["model-fp32.xml"]
    assert (tmp_path / "model-fp32.xml").read_text() == "an older one"


def test_errors_of_the_conversion_are_not_shown(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("Check 'false' failed at src/frontends/pytorch/src/frontend.cpp:1")

    monkeypatch.setattr(openvino_runtime.import_openvino(), "convert_model", broken)
    with pytest.raises(SegError) as caught:
        export_model(opened(run).program, opened(run).model, tmp_path, "fp32")
    (finding,) = caught.value.diagnostics
    assert (finding.slug, "cpp" in finding.message) == ("export-failed", False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError) as caught:
        export_model(opened(run).program, opened(run).model, tmp_path / "file" / "export", "fp32")
    assert [d.slug for d in caught.value.diagnostics] == ["export-not-written"]


def test_an_export_replaces_an_older_one(run: Path, tmp_path: Path) -> None:
    for name in ("model-fp32.xml", "model-fp32.bin"):
        (tmp_path / name).write_text("old")
    result = export_model(opened(run).program, opened(run).model, tmp_path, "fp32")
    assert open_model(result.model).classes == tuple(NAMES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model-fp32.bin", "model-fp32.xml"]


def test_exporting_leaves_the_model_as_it_was(run: Path, tmp_path: Path) -> None:
    found = opened(run)
    model = found.model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_model(found.program, model, tmp_path, "fp16")
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("precision", "slug"), [("half", "precision-unknown"), ("", "precision-unknown")])
def test_other_precisions_are_refused_before_anything_is_opened(precision: str, slug: str, tmp_path: Path) -> None:
    with pytest.raises(SegError) as caught:
        export_run(tmp_path / "no run", precision)
    assert [d.slug for d in caught.value.diagnostics] == [slug]


def test_the_program_sets_the_precision(run: Path) -> None:
    from segdsl.words.exports import OpenVINO

    program = opened(run).program
    for said in ("fp32", "fp16", "int8"):
        export = program.export.model_copy(update={"openvino": OpenVINO(precision=said)})
        assert resolve_exporters(program.model_copy(update={"export": export})) == {
            "openvino": OpenVINO(precision=said)
        }
    silent = program.export.model_copy(update={"openvino": None})
    assert resolve_exporters(program.model_copy(update={"export": silent})) == {"openvino": OpenVINO()}
    assert resolve_exporters(program, "fp16") == {"openvino": OpenVINO(precision="fp16")}


def test_nothing_is_printed(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_model(opened(run).program, opened(run).model, tmp_path, "fp16")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_openvino_does_not_report_its_use(tmp_path: Path) -> None:
    code = (
        "import sys; from segdsl.inference.models import openvino_runtime as runtime;"
        "runtime.import_openvino(); runtime.get_core();"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')];"
        "from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert (done.stdout.strip(), done.returncode) == ("openvino.tools.ovc.telemetry_stub", 0), done.stderr
    assert list(tmp_path.iterdir()) == []
