"""INT8: the search for layers that stay in float; a crash of a library is a diagnostic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdsl.diagnostics import SegError
from segdsl.export.certify.trial_images import open_trials, read_calibration_images
from segdsl.export.export import export_model, export_run
from segdsl.export.int8 import quantize as quantizing
from segdsl.export.int8.job import QuantizationJob
from segdsl.export.int8.layer_cost import (
    MAX_MEASUREMENTS,
    list_int8_layers,
    rank_costly_parts,
    restore_float_layers,
    split_into_parts,
)
from segdsl.export.int8.worker import Score
from segdsl.export.job import ExportJob
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.opener import open_model
from segdsl.run.folder.checkpoint import open_run
from segdsl.words.exports import OpenVINO


def refusal(call: Any) -> Any:
    with pytest.raises(SegError) as caught:
        call()
    return caught.value.diagnostics[0]


@pytest.mark.slow
def test_one_command_exports_an_8_bit_model_with_its_certificate(run: Path, fp32: Path) -> None:
    found = export_run(run, "int8")
    kinds = {node.get_type_name() for node in openvino_runtime.read_model(found.model).get_ops()}
    assert "FakeQuantize" in kinds
    types = {
        str(n.get_element_type().to_string())
        for n in openvino_runtime.read_model(found.model).get_ops()
        if _is_constant(n)
    }
    assert types & {"i8", "u8"}
    told = found.certificate["int8"]
    assert (told["calibration_images"], told["calibration_asked"]) == (2, 64), "all there are"
    assert told["layers"] > 0 and set(told["size_mb"]) == set(told["latency_ms"]) == {"fp32", "int8"}
    assert set(found.certificate["rows"]) == {"torch", "fp32", "fp16", "int8", "device"}
    row = found.certificate["rows"]["int8"]
    assert row["max_logit_error"] > found.certificate["rows"]["fp16"]["max_logit_error"] > 0
    assert row["parts_at"] in {node.get_friendly_name() for node in openvino_runtime.read_model(found.model).get_ops()}
    assert open_model(found.model).classes == open_model(fp32).classes


def _is_constant(node: Any) -> bool:
    return node.get_type_name() == "Constant"


def test_the_program_sets_the_number_of_calibration_images(run: Path, data: Path) -> None:
    program = open_run(run).program
    whole = list(read_calibration_images(program, run, 64))
    assert [image.shape for image in whole] == [(45, 64, 3)] * 2
    assert len(list(read_calibration_images(program, run, 1))) == 1
    folder = data.parent / "prepared" / "int8"
    folder.mkdir(parents=True)
    export = ExportJob(program, OpenVINO(calibration=1), None, run, open_trials(program, run))
    job = quantizing._prepare_job(export, folder, 1, "logits")
    assert np.load(job.calibration).shape == (1, 45, 64, 3)
    assert np.load(job.masks).shape == (5, 45, 64)
    assert (job.channel_offset, job.is_hard, job.normalize, job.has_attention) == (0, False, "imagenet", False)


def test_int8_without_training_images_is_refused(run: Path, tmp_path: Path) -> None:
    opened = open_run(run)
    data = opened.program.data.model_copy(update={"root": "nowhere"})
    program = opened.program.model_copy(update={"data": data})
    trials = replace(open_trials(opened.program, run), program=program)
    finding = refusal(lambda: export_model(program, opened.model, tmp_path / "export", "int8", trials))
    assert finding.slug == "int8-without-data" and "training images" in finding.message
    assert list((tmp_path / "export").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("1/0", "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 40)", "signal 40"),
        ("", "without a result"),
        ("raise SystemExit(3)", "status 3"),
        ("raise MemoryError", "MemoryError"),
    ],
)
def test_a_crash_of_the_worker_is_a_diagnostic(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(quantizing, "WORKER_MODULE", "crashing")
    job = QuantizationJob(
        "m.xml", "o.xml", "c.npy", "t.npy", "k.npy", ("a",), 255, "none", False, 0, "logits", 0.01, False
    )
    finding = refusal(lambda: quantizing._run_worker(job, tmp_path))
    assert finding.slug == "quantization-failed" and told in finding.message
    assert ("memory" in finding.help) == ("signal" in code or "kill" in code or "Memory" in code)


def test_a_job_survives_json() -> None:
    job = QuantizationJob(
        "m.xml", "o.xml", "c.npy", "t.npy", "k.npy", ("a", "ö"), 255, None, True, 1, "logits", 0.01, True
    )
    assert QuantizationJob.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_the_error_is_measured_against_the_spread() -> None:
    base = [np.array([[[0.0, 2.0]]], np.float32)]
    other = [np.array([[[1.0, 3.0]]], np.float32)]
    assert scored([0.5], base).compute_logit_error(scored([0.5], other)) == pytest.approx(1.0)


def scored(by_class: list[float], logits: list[Any] | None = None) -> Score:
    return Score(float(np.nanmean(by_class)), np.array(by_class), logits or [])


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ([0.5, 0.5], [0.4, 0.5], 0.05), ([0.5, 0.5], [0.3, 0.7], 0.1), ([0.5, 0.5], [0.9, 0.9], 0.0),
        ([0.5, float("nan")], [0.5, float("nan")], 0.0), ([0.5, float("nan")], [0.5, 0.0], 0.5),
        ([0.5, 0.0], [0.5, float("nan")], 0.0),
    ],
)  # fmt: skip
def test_gains_of_a_class_do_not_offset_losses(before: list[float], after: list[float], lost: float) -> None:
    assert scored(before).compute_dice_loss(scored(after)) == pytest.approx(lost)


def rounded_chain() -> Any:
    """x -> round -> relu "a.one" -> round -> sigmoid "a.two" -> tanh "b", which takes nothing rounded."""
    ops = openvino_runtime.import_openvino().opset13
    image = ops.parameter([1, 4], name="image")
    ends = [np.float32(v) for v in (-1, 1, -1, 1)]
    first = ops.relu(ops.fake_quantize(image, *ends, 3), name="a.one")
    second = ops.sigmoid(ops.fake_quantize(first, *ends, 3), name="a.two/Sigmoid")
    return openvino_runtime.import_openvino().Model([ops.tanh(second, name="b")], [image], "chain")


def test_a_float_layer_reads_its_input_before_quantization() -> None:
    model = rounded_chain()
    assert list_int8_layers(model) == ["a.one", "a.two/Sigmoid"]
    x = np.array([[0.2, 0.4, 0.6, 0.8]], np.float32)
    freed = restore_float_layers(model, ["a.one"])
    assert list_int8_layers(freed) == ["a.two/Sigmoid"] and list_int8_layers(model) == ["a.one", "a.two/Sigmoid"]
    both = restore_float_layers(model, ["a.one", "a.two/Sigmoid"])
    compiled = openvino_runtime.compile_model(both, "f32", Path("x.xml"))
    assert np.allclose(compiled(x)[0], np.tanh(1 / (1 + np.exp(-x))), atol=1e-6)
    assert not np.allclose(openvino_runtime.compile_model(freed, "f32", Path("x.xml"))(x)[0], compiled(x)[0], atol=1e-3)


def test_parts_split_along_paths() -> None:
    names = ["net.a.x/Convolution", "net.a.y", "net.b", "net.b/Add"]
    assert split_into_parts("", names) == {"net.a": names[:2], "net.b": names[2:]}
    assert split_into_parts("net.a", names[:2]) == {"net.a.x": names[:1], "net.a.y": names[1:2]}
    assert split_into_parts("net.b", names[2:]) == {}


def test_the_costliest_part_is_split_first() -> None:
    names = [f"p{k}.l{i}" for k in range(4) for i in range(30)]
    asked: list[int] = []

    def cost(inside: Any) -> tuple[float, float]:
        asked.append(len(inside))
        return float(sum(name.startswith("p2") for name in inside)), 0.0

    parts = list(rank_costly_parts(names, cost))
    assert asked == [30] * 4 + [1] * 30 and len(asked) <= MAX_MEASUREMENTS + 30
    assert {path for path, _, _ in parts} == {"p0", "p1", "p3", *(f"p2.l{i}" for i in range(30))}
    assert sorted(name for _, inside, _ in parts for name in inside) == sorted(names)
