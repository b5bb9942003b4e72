"""ONNX: what is written is what torch sees, and the file is opened, scored and shown like every other model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdsl import verbs
from segdsl.cli.invoke import run_cli as segdsl
from segdsl.diagnostics import SegError
from segdsl.export.certify.trial_images import generate_noise_images
from segdsl.export.export import export_model
from segdsl.inference import bench as benchmark
from segdsl.inference.models import extras
from segdsl.inference.models.onnx_model import OnnxModel
from segdsl.inference.models.opener import open_model
from segdsl.ir.values import Size
from segdsl.run.folder.checkpoint import open_run


def refusal(call: Callable[[], object]) -> Any:
    with pytest.raises(SegError) as caught:
        call()
    (finding,) = caught.value.diagnostics
    return finding


@pytest.fixture(scope="module")
def exported(home: Path, build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The `.onnx` of a run, with its data beside it."""

    def fill(folder: Path) -> None:
        shutil.copytree(home / "data", folder / "data")
        shutil.copytree(home / "run", folder / "run", ignore=shutil.ignore_patterns("export"))
        verbs.export(folder / "run", overrides=["export.onnx=ONNX()"])

    (file,) = build_once("onnx", fill).glob("run/**/*.onnx")
    return file


def test_the_file_is_opened_like_any_other(exported: Path, run: Path) -> None:
    model, trained = open_model(exported), open_model(run)
    assert (model.classes, model.ignore) == (trained.classes, trained.ignore)
    assert isinstance(model, OnnxModel)
    assert (model.input_size, model.base_folder) == (Size(45, 64), exported.parent.parent)
    image = generate_noise_images(50, 77)[0]
    assert np.abs(model.predict_probabilities(image) - trained.predict_probabilities(image)).max() < 1e-5
    assert (model.predict(image) != trained.predict(image)).mean() < 1e-3
    logits = model.predict_logits(image)
    assert np.abs(np.exp(logits) / np.exp(logits).sum(0) - trained.predict_probabilities(image)).max() < 1e-5


def test_it_is_scored_measured_and_predicts(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    theirs, ours = verbs.evaluate(exported), verbs.evaluate(exported.parent.parent)
    assert theirs["images"] == 5 and theirs["dice"] == pytest.approx(ours["dice"], abs=1e-4)
    assert benchmark.measure_speed(exported)["iter_ms"] is None
    image = tmp_path / "a.png"
    Image.fromarray(generate_noise_images(30, 40)[0]).save(image)
    assert verbs.predict(exported, [image], tmp_path / "seen")["images"] == 1
    assert Image.open(tmp_path / "seen" / "masks" / "a.png").size == (40, 30)


def test_it_knows_its_origin(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verbs.origin(exported)
    assert (found["precision"], found["certificate"]["source"], found["certificate"]["images"]) == ("onnx", "val", 5)
    assert set(found["certificate"]["rows"]) == {"torch", "onnx"}
    assert found["certificate"]["rows"]["onnx"]["differing"] == 0.0
    again = exported.parent.parent / "again.seg"
    assert segdsl(["rebuild", str(exported), "--out", str(again)]) == 0
    assert again.read_text(encoding="utf-8") == found["program"]
    capsys.readouterr()
    assert segdsl(["show", str(exported)]) == 0
    assert "5 validation images" in capsys.readouterr().out


def _drop_info(file: Path) -> None:
    import onnx

    model = onnx.load(str(file))
    del model.metadata_props[:]
    onnx.save(model, str(file))


def _other_size(file: Path) -> None:
    import onnx

    model = onnx.load(str(file))
    for entry in model.metadata_props:
        entry.value = entry.value.replace("45x64", "64x64")
    onnx.save(model, str(file))


def _no_weight(file: Path) -> None:
    import onnx

    model = onnx.load(str(file))
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, str(file))


def _other_class(file: Path) -> None:
    _edit(file, "segdsl_program", '"rust spot"', '"rust spots"')


def _empty_channel(file: Path) -> None:
    _edit(file, "segdsl_shift", "0", "1")


def _edit(file: Path, key: str, old: str, new: str) -> None:
    import onnx

    model = onnx.load(str(file))
    (entry,) = (entry for entry in model.metadata_props if entry.key == key)
    assert old in entry.value
    entry.value = entry.value.replace(old, new)
    onnx.save(model, str(file))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "model-unreadable"),
    "empty": (lambda file: file.write_bytes(b""), "model-unreadable"),
    "a text": (lambda file: file.write_text("no model"), "model-unreadable"),
    "nothing said": (_drop_info, "model-foreign"),
    "another size": (_other_size, "model-info-damaged"),
    "a class renamed": (_other_class, "model-info-damaged"),
    "an empty channel": (_empty_channel, "model-info-damaged"),
    "a weight of nothing": (_no_weight, "model-damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, exported: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(exported, tmp_path / "model.onnx"))
    damage, slug = DAMAGES[name]
    damage(file)
    finding = refusal(lambda: open_model(file))
    assert (finding.slug, finding.path) == (slug, str(file))
    assert "RUNTIME" not in finding.message and ".bin" not in finding.message
    assert refusal(lambda: verbs.origin(file)) == finding


def test_what_only_saves_a_file_again_does_not_damage_it(exported: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(exported))
    model.metadata_props.add(key="served_by", value="us")
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert open_model(tmp_path / "model.onnx").classes == open_model(exported).classes


def test_without_the_runtime_it_is_said_what_to_install(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    finding = refusal(lambda: open_model(exported))
    assert finding.slug == "onnx-not-installed" and "segdsl[onnx]" in finding.help


def test_what_onnx_cannot_say_is_a_finding_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    """Adaptive pooling to a size that only an image tells."""
    (tmp_path / "program.seg").write_text((run / "program.seg").read_text(encoding="utf-8"), encoding="utf-8")
    program = verbs.check(tmp_path / "program.seg", ["export.onnx=ONNX(size = dynamic)"])
    finding = refusal(lambda: export_model(program, open_run(run).model, tmp_path / "export", "fp32"))
    assert finding.slug == "onnx-failed" and "static" in finding.help
    assert list((tmp_path / "export").iterdir()) == []


def test_what_differs_in_onnx_alone_is_called_so(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segdsl.export.formats import onnx

    write = onnx._write_graph

    def spoilt(program: Any, shipped: Any, path: Path) -> None:
        dict(shipped.named_parameters())["model.low.conv.weight"].data.mul_(-1)
        write(program, shipped, path)

    monkeypatch.setattr(onnx, "_write_graph", spoilt)
    (tmp_path / "program.seg").write_text((run / "program.seg").read_text(encoding="utf-8"), encoding="utf-8")
    program = verbs.check(tmp_path / "program.seg", ["export.onnx=ONNX()"])
    finding = refusal(lambda: export_model(program, open_run(run).model, tmp_path / "export", "fp32"))
    assert finding.slug == "export-differs" and finding.message.startswith("the onnx model")
    assert list((tmp_path / "export").iterdir()) == []
