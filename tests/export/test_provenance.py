"""What an exported model knows of the run that it is from, and how that is shown, written back, and found damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segdsl import verbs
from segdsl.cli.certificate_view import UNREADABLE_CERTIFICATE, format_certificate
from segdsl.cli.invoke import run_cli as segdsl
from segdsl.diagnostics import SegError
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.opener import open_model
from segdsl.run.program_data import get_data_root
from segdsl.text.columns import measure_width
from segdsl.text.table import TERMINAL_WIDTH, render_table
from segdsl.weights.files import save_weights


def slug_of(call: Callable[[], object]) -> str:
    with pytest.raises(SegError) as caught:
        call()
    (finding,) = caught.value.diagnostics
    return finding.slug


def test_the_file_knows_its_origin(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "lock.json").write_text(json.dumps({"program": "abc", "classes": ["ö"]}), encoding="utf-8")
    (copied / "metrics.csv").write_text("epoch,step,seconds,val.dice\n1,2,3.0,0.25\n2,4,6.0,0.5\n", encoding="utf-8")
    xml = Path(verbs.export(copied).model)
    found = verbs.origin(xml)
    assert found["lock"] == {"program": "abc", "classes": ["ö"]}
    assert (found["metrics"]["epoch"], found["metrics"]["val.dice"]) == (2, 0.5)
    assert found["certificate"]["precision"] == "fp32"
    assert segdsl(["rebuild", str(xml), "--out", str(copied / "again.seg")]) == 0
    assert (copied / "again.seg").read_text(encoding="utf-8") == (copied / "program.seg").read_text(encoding="utf-8")
    capsys.readouterr()
    assert segdsl(["show", str(xml)]) == 0
    shown = capsys.readouterr().out
    assert "ChannelShuffle" in shown and "compared with torch" in shown and "abc" in shown
    assert segdsl(["rebuild", str(xml), "--out", str(copied / "again.seg"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["slug"] == "rebuild-would-overwrite"


def test_the_scores_are_those_of_the_epoch_of_the_weights(copied: Path) -> None:
    """A rule may keep other weights than those of the best epoch in the log."""
    model: Any = open_model(copied)
    save_weights(model.model, copied / "checkpoints" / "best.safetensors", {"epoch": "1"})
    (copied / "metrics.csv").write_text("epoch,step,val.dice\n1,2,0.25\n2,4,0.5\n", encoding="utf-8")
    found = verbs.origin(verbs.export(copied).model)["metrics"]
    assert found == {"epoch": 1, "step": 2, "val.dice": 0.25}


@pytest.mark.parametrize("text", ["", "[]", *(pytest.param(text, marks=pytest.mark.slow) for text in ("{", "\x00"))])
def test_a_run_whose_lock_or_log_is_damaged_is_exported(text: str, copied: Path) -> None:
    for name in ("lock.json", "metrics.csv"):
        (copied / name).write_text(text, encoding="utf-8")
    found = verbs.origin(verbs.export(copied).model)
    assert (found["lock"], found["metrics"]) == ({}, {})


def test_a_program_written_back_names_the_same_places(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = copied / "program.seg"
    text = program.read_text(encoding="utf-8")
    weights = 'weights {\n  stem = "../w.safetensors"\n  low = "https://x.org/a.pth"\n}\n'
    program.write_text(text + weights, encoding="utf-8")
    xml = verbs.export(copied).model
    monkeypatch.chdir(xml.parent)
    for model, out in ((xml, None), (xml, copied.parent / "again.seg"), (Path(xml.name), Path("deep", "b.seg"))):
        written = verbs.rebuild(model, out)
        found = verbs.check(written)
        stem, low = found.weights["stem"], found.weights["low"]
        assert get_data_root(found).resolve() == copied.parent / "data"
        assert ((written.parent / stem).resolve(), low) == (copied.parent / "w.safetensors", "https://x.org/a.pth")


def test_beside_a_model_that_left_its_run_paths_start_from_there(copy: Path) -> None:
    verbs.rebuild(copy, copy.parent / "below" / "a.seg")
    assert verbs.check(copy.parent / "below" / "a.seg").data.root == "../../data"
    assert verbs.rebuild(copy).read_text(encoding="utf-8") == verbs.origin(copy)["program"]


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    for ending in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(ending), tmp_path / f"model{ending}")
    return tmp_path / "model.xml"


def test_a_folder_with_one_model_stands_for_it(copy: Path) -> None:
    assert verbs.origin(copy.parent)["precision"] == "fp32"
    assert verbs.rebuild(copy.parent) == copy.with_suffix(".seg")
    assert slug_of(lambda: verbs.rebuild(copy.parent)) == "rebuild-would-overwrite"


def test_what_is_no_exported_model_has_no_origin(copy: Path, run: Path) -> None:
    for path, slug in (
        (copy.with_name("gone.xml"), "model-not-found"), (copy.with_suffix(".bin"), "model-kind-unknown"),
        (run / "checkpoints", "model-not-found"), (run / "program.seg", "model-kind-unknown"),
    ):  # fmt: skip
        assert slug_of(lambda path=path: verbs.rebuild(path)) == slug
        assert slug_of(lambda path=path: verbs.origin(path)) == slug


EDITS = [
    ("segdsl_shift", "one"), ("segdsl_shift", "9"), ("segdsl_shift", "1"), ("segdsl_shift", "-1"),
    ("segdsl_lock", "{"), ("segdsl_metrics", "[]"), ("segdsl_certificate", "3"), ("segdsl_ignore", "0"),
    ("segdsl_lock", '{"a":' * 500 + "1" + "}" * 500), ("segdsl_certificate", '{"a":' * 99_999 + "1" + "}" * 99_999),
    ("segdsl_classes", '["background", "rust", "Öl, naß", "a_b"]'), ("segdsl_classes", "4"),
    ("segdsl_logits", "nowhere"), ("segdsl_logits", ""),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), EDITS, ids=[f"{key}-{value[:9]}" for key, value in EDITS])
def test_an_edited_entry_is_found(key: str, value: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = openvino_runtime.read_model(copy)
    model.set_rt_info(value, [model_info.INFO_SECTION, key])
    edited = copy.with_name("edited.xml")
    openvino_runtime.import_openvino().save_model(model, edited, compress_to_fp16=False)
    assert slug_of(lambda: open_model(edited)) == "model-info-damaged"
    assert segdsl(["show", str(edited), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["slug"] == "model-info-damaged"


def test_a_certificate_of_another_version_hides_nothing_else(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = copy.read_text(encoding="utf-8").replace("&quot;rows&quot;", "&quot;lines&quot;")
    copy.write_text(text, encoding="utf-8")
    assert segdsl(["show", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "ChannelShuffle" in shown and UNREADABLE_CERTIFICATE in shown
    assert segdsl(["show", str(copy), "--json"]) == 0
    assert "lines" in json.loads(capsys.readouterr().out)["certificate"]


def test_a_program_of_another_size_does_not_fit_the_graph(copy: Path) -> None:
    copy.write_text(copy.read_text(encoding="utf-8").replace("45x64", "64x64"), encoding="utf-8")
    assert slug_of(lambda: open_model(copy)) == "model-info-damaged"


def test_a_class_renamed_in_the_program_is_not_that_of_the_export(copy: Path) -> None:
    model = openvino_runtime.read_model(copy)
    program = model_info.read_entries(model)["segdsl_program"]
    assert '"a_b"' in program
    model.set_rt_info(program.replace('"a_b"', '"a_c"'), [model_info.INFO_SECTION, "segdsl_program"])
    edited = copy.with_name("edited.xml")
    openvino_runtime.import_openvino().save_model(model, edited, compress_to_fp16=False)
    for call in (open_model, verbs.origin):
        assert slug_of(lambda call=call: call(edited)) == "model-info-damaged"


def test_weights_that_are_not_those_of_the_export_have_no_certificate(copy: Path) -> None:
    weights = copy.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for call in (open_model, verbs.origin, verbs.rebuild):
        assert slug_of(lambda call=call: call(copy)) == "model-damaged"


@pytest.mark.parametrize("version", [model_info.__version__, "9.9.9"])
def test_a_program_that_this_version_rejects(version: str, copy: Path) -> None:
    model = openvino_runtime.read_model(copy)
    model.set_rt_info("seg 1", [model_info.INFO_SECTION, "segdsl_program"])
    model.set_rt_info(version, [model_info.INFO_SECTION, "segdsl_version"])
    edited = copy.with_name("edited.xml")
    openvino_runtime.import_openvino().save_model(model, edited, compress_to_fp16=False)
    with pytest.raises(SegError) as caught:
        open_model(edited)
    (finding,) = caught.value.diagnostics
    assert finding.slug == "model-program-refused"
    other = version != model_info.__version__
    assert (f"use segdsl {version}" in finding.help, f"segdsl {version}" in finding.message[20:]) == (other, other)


def test_a_model_without_metadata_is_foreign(copy: Path) -> None:
    model = openvino_runtime.read_model(copy)
    bare = openvino_runtime.import_openvino().Model(model.outputs, model.get_parameters())
    openvino_runtime.import_openvino().save_model(bare, copy.with_name("bare.xml"), compress_to_fp16=False)
    for call in (open_model, verbs.origin, verbs.rebuild, verbs.evaluate):
        assert slug_of(lambda call=call: call(copy.with_name("bare.xml"))) == "model-foreign"


def certificate(names: list[str], path: str) -> dict[str, Any]:
    """One of 8 bits, with everything that may be in it."""
    row = {
        "pixels": 1.0, "dice": 0.5, "dice_change": -0.0123, "max_logit_error": 123.4, "parts_at": path,
        "per_class": {name: {"dice": 0.5, "change": 0.0} for name in names},
    }  # fmt: skip
    part = {"part": path, "layers": 120, "error": 0.5, "dice_change": -0.1, "computes_in": "float"}
    rows = dict.fromkeys(("torch", "fp32", "fp16", "int8"), row)
    return {
        "precision": "int8", "images": 1, "source": "val", "rows": {**rows, "device": {**row, "computes_in": "bf16"}},
        "int8": {
            "size_mb": {"fp32": 1234.5, "int8": 345.6}, "latency_ms": {"fp32": 1234.5, "int8": 345.6}, "speed_up": 3.5,
            "layers": 1200, "layers_in_float": 120, "calibration_images": 2, "calibration_asked": 64,
            "dice_fp32": 0.5, "dice_all_int8": 0.1, "lost_all_int8": 0.5, "parts": [part] * 20,
        },
    }  # fmt: skip


def test_a_certificate_fits_a_terminal() -> None:
    path = "backbone." + ".".join(f"stage{k}.branches" for k in range(8)) + ".fuse"
    text = format_certificate(certificate(["道路" * 30, "a" * 90, "x\x1b[31m"], path))
    assert max(map(measure_width, text.splitlines())) <= TERMINAL_WIDTH
    assert "\x1b" not in text and ".fuse" in text and text.count("a") > 90
    for fact in ("1 validation image\n", "3.50", "120 ", "2 of 64", "8 more"):
        assert fact in text


def test_short_cells_are_not_cut() -> None:
    assert render_table(("a", "bb"), [("longer", "c")]) == ["a       bb", "longer   c"]
