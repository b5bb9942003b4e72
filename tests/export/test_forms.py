"""The forms of an export: ONNX, sizes, normalization, ids; names for openvino-model-api; limits; provenance."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segdsl import verbs
from segdsl.cli.invoke import run_cli as segdsl
from segdsl.diagnostics import SegError
from segdsl.export.certify.certificate import check_certificate
from segdsl.export.certify.trial_images import generate_noise_images, open_trials
from segdsl.export.export import ExportResult, export_model
from segdsl.inference.models import extras, model_info, openvino_runtime
from segdsl.inference.models.opener import open_model
from segdsl.inference.preprocess import preprocess_image, preprocess_raw
from segdsl.ir.program import Program, Tolerance
from segdsl.ir.values import Size
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.run.folder.checkpoint import open_run
from segdsl.words.exports import OpenVINO


def changed(run: Path, tmp_path: Path, *overrides: str) -> Program:
    """Return the program of the run with another export."""
    file = tmp_path / "program.seg"
    file.write_text((run / "program.seg").read_text(encoding="utf-8"), encoding="utf-8")
    return load(file, overrides)


def exported(run: Path, tmp_path: Path, *overrides: str) -> ExportResult:
    program = changed(run, tmp_path, *overrides)
    return export_model(program, open_run(run).model, tmp_path / "export", "fp32", open_trials(program, run))


def test_a_normalizing_model_accepts_raw_pixels(run: Path, tmp_path: Path, fp32: Path) -> None:
    found = exported(run, tmp_path, "export.openvino=OpenVINO(normalize = true)")
    image = generate_noise_images(45, 64)[0]
    compiled = openvino_runtime.compile_model(openvino_runtime.read_model(found.model), "f32", found.model)
    ours, theirs = open_model(found.model), open_model(fp32)
    assert (
        np.abs(compiled(preprocess_raw(image, Size(45, 64)))[0][0] - theirs.predict_probabilities(image)).max() < 1e-4
    )
    assert np.abs(ours.predict_probabilities(image) - theirs.predict_probabilities(image)).max() < 1e-4
    info = openvino_runtime.read_model(found.model).get_rt_info(["model_info"]).value
    assert not {"mean_values", "scale_values"} & set(info)


def test_a_dynamic_size_accepts_any_image(run: Path, tmp_path: Path) -> None:
    found = exported(run, tmp_path, "export.openvino=OpenVINO(size = dynamic)")
    assert found.certificate["differing"] == 0.0
    model = open_run(run).model
    compiled = openvino_runtime.compile_model(openvino_runtime.read_model(found.model), "f32", found.model)
    for height, width in ((45, 64), (64, 96), (40, 40)):
        tensor = preprocess_image(generate_noise_images(height, width)[0], Size(height, width), "imagenet")
        with torch.inference_mode():
            expected = model(torch.from_numpy(tensor)).softmax(1).numpy()
        assert np.abs(compiled(tensor)[0] - expected).max() < 1e-4


def test_hard_predictions_are_ids(run: Path, tmp_path: Path, fp32: Path) -> None:
    found = exported(run, tmp_path, "export.openvino=OpenVINO(prediction = hard)")
    (output,) = openvino_runtime.read_model(found.model).outputs
    assert (list(output.shape), output.element_type.to_string()) == ([1, 45, 64], "i32")
    image = generate_noise_images(45, 64)[0]
    ours, theirs = open_model(found.model), open_model(fp32)
    assert (ours.predict(image) != theirs.predict(image)).mean() < 1e-3
    assert np.array_equal(ours.predict_probabilities(image).argmax(0), ours.predict_input_mask(image))
    assert np.abs(ours.predict_logits(image) - theirs.predict_logits(image)).max() < 1e-3


def test_position_embeddings_refuse_a_dynamic_size(root: Path, tmp_path: Path) -> None:
    overrides = ["data.input_size=70x70", "export.openvino=OpenVINO(size = dynamic)"]
    program = load(root / "specs" / "dinov2.seg", overrides, 2)
    with pytest.raises(SegError) as caught:
        export_model(program, compile_program(program, weights="none").model, tmp_path, "fp32")
    assert caught.value.diagnostics[0].slug == "size-not-free"


@pytest.mark.parametrize("form", ["ONNX()", "ONNX(normalize = true)", "ONNX(prediction = hard)"])
def test_onnx_runtime_agrees_with_torch(form: str, run: Path, tmp_path: Path) -> None:
    import onnxruntime

    found = exported(run, tmp_path, f"export.onnx={form}")
    assert found.certificate["also"] == ["onnx"] and found.certificate["onnx"]["differing"] == 0.0
    session = onnxruntime.InferenceSession(str(found.files["onnx"]), providers=["CPUExecutionProvider"])
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, output.name) == ("image", [1, 3, 45, 64], "output1")
    image = generate_noise_images(45, 64)[0]
    fed = (
        preprocess_raw(image, Size(45, 64))
        if "normalize" in form
        else preprocess_image(image, Size(45, 64), "imagenet")
    )
    results: Any = session.run(None, {"image": fed})
    said = results[0]
    ids = said[0] if "hard" in form else said[0].argmax(0)
    assert (ids != open_model(run).predict(image)).mean() < 1e-3
    props = session.get_modelmeta().custom_metadata_map
    assert props["segdsl_program"] == changed(run, tmp_path, f"export.onnx={form}").resolved


def test_missing_onnx_says_what_to_install(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SegError) as caught:
        exported(run, tmp_path, "export.onnx=ONNX()")
    assert caught.value.diagnostics[0].slug == "onnx-not-installed"
    assert not (tmp_path / "export").exists(), "before any work"


def test_a_class_0_of_another_name_has_its_own_channel(run: Path, tmp_path: Path) -> None:
    program = changed(run, tmp_path, 'data.classes=["metal", "rust", "paint", "dust"]')
    assert model_info.needs_empty_channel(program, OpenVINO())
    labels = model_info.build_model_info(program, "openvino", "fp32")["labels"]
    assert labels.split() == ["metal", "rust", "paint", "dust"]
    hard = changed(
        run, tmp_path, 'data.classes=["metal", "a", "b", "c"]', "export.openvino=OpenVINO(prediction = hard)"
    )
    assert not model_info.needs_empty_channel(hard, OpenVINO(prediction="hard"))


def test_the_certificate_has_a_row_for_each_form(run: Path, fp32: Path, data: Path) -> None:
    found = open_model(fp32).info.provenance[model_info.CERTIFICATE_KEY]  # type: ignore[attr-defined]
    assert list(found["rows"]) == ["torch", "fp32", "fp16", "device"]
    assert found["rows"]["device"]["computes_in"] in ("f32", "bf16", "f16")
    score = verbs.evaluate(run)
    assert found["rows"]["torch"]["dice"] == pytest.approx(score["dice"], abs=1e-6)
    for name, row in found["rows"]["torch"]["per_class"].items():
        assert row["dice"] == pytest.approx(score["per_class"][name]["dice"], abs=1e-6)
    half = found["rows"]["fp16"]
    assert half["max_logit_error"] > 0 and half["parts_at"] is None
    assert found["tolerance"] == {"pixels": 1e-4, "dice": 0.01, "logits": None}


def test_export_images_limits_the_trials(run: Path, tmp_path: Path) -> None:
    assert exported(run, tmp_path, "export.images=2").certificate["images"] == 2


@pytest.mark.parametrize("limit", ["export.tolerance.logits=1e-12", "export.tolerance.dice=0", "spoilt"])
def test_an_exceeded_limit_leaves_no_file(
    limit: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segdsl.export.formats import openvino

    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    settings = [] if limit == "spoilt" else ["--set", limit]
    if "logits" not in limit:
        convert = openvino.convert_to_openvino

        def spoilt(shipped: Any, program: Any) -> Any:
            with torch.no_grad():
                dict(shipped.named_parameters())["model.low.conv.weight"].mul_(-1)
            return convert(shipped, program)

        monkeypatch.setattr(openvino, "convert_to_openvino", spoilt)
        monkeypatch.setattr(openvino.OpenVINOWriter, "_find_divergence", lambda *_: "low")
    assert segdsl(["export", str(tmp_path / "run"), "--json", *settings]) == 1
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert {error["slug"] for error in errors} == {"export-differs"}
    assert list((tmp_path / "run" / "export").iterdir()) == []


def test_the_first_divergent_node_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segdsl.export.formats import openvino

    convert = openvino.convert_to_openvino

    def spoilt(shipped: Any, program: Any) -> Any:
        other = copy.deepcopy(shipped)
        with torch.no_grad():
            dict(other.named_parameters())["model.low.conv.weight"].mul_(-1)
        return convert(other, program)

    monkeypatch.setattr(openvino, "convert_to_openvino", spoilt)
    with pytest.raises(SegError) as caught:
        exported(run, tmp_path)
    assert any("diverge at `low" in finding.message for finding in caught.value.diagnostics)


def test_each_exceeded_limit_is_explained(wording: Callable[[str], None]) -> None:
    row = {"differing": 0.02, "max_error": 0.3, "max_logit_error": 1.0, "relative_logit_error": 0.2}
    bad = {**row, "dice": 0.8, "dice_change": -0.1, "parts_at": "stem.conv", "single_precision": False}
    unscored = {**row, "dice": None, "dice_change": None, "parts_at": None, "single_precision": False}
    infinite = {**bad, "max_logit_error": float("inf")}
    tolerance = Tolerance(pixels=1e-4, dice=0.01, logits=1e-3)
    tables = [
        {"precision": "fp32", "rows": {"fp32": {**bad, "single_precision": True}, "device": bad}},
        {"precision": "fp16", "rows": {"fp32": infinite, "fp16": unscored}},
        {"precision": "int8", "rows": {"int8": bad}},
    ]
    texts = []
    for table in tables:
        with pytest.raises(SegError) as caught:
            check_certificate(table, tolerance)
        texts += [f"{finding.message}\n  help: {finding.help}" for finding in caught.value.diagnostics]
        assert {finding.slug for finding in caught.value.diagnostics} == {"export-differs"}
    wording("\n".join(texts))
