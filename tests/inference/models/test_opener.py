"""Opening models: runs and files behave alike; other files and damaged models are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segdsl.data.decode.images import NORMALIZATION
from segdsl.diagnostics import SegError
from segdsl.export.certify.trial_images import generate_noise_images
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.model import RuntimeModel
from segdsl.inference.models.opener import open_model
from segdsl.inference.models.openvino_model import OpenVINOModel
from segdsl.inference.preprocess import preprocess_image, restore_mask_size
from segdsl.ir.values import Size

FOREIGN_WORDS = ("Exception", "Traceback", "cpp", "src/", "Check '", "openvino.", "RuntimeError", "pugixml")


def refusal(path: Path) -> tuple[str, str]:
    """Return slug and text of the only error on opening ``path``."""
    with pytest.raises(SegError) as caught:
        open_model(path)
    (finding,) = caught.value.diagnostics
    text = f"{finding.message} {finding.help}"
    assert not [word for word in FOREIGN_WORDS if word in text]
    assert finding.path == str(path)
    return finding.slug, text


def test_run_and_file_share_an_interface(run: Path, fp32: Path) -> None:
    trained, exported = open_model(run), open_model(fp32)
    assert isinstance(exported, OpenVINOModel) and not isinstance(trained, RuntimeModel)
    for model in (trained, exported):
        assert model.classes == ("background", "rust spot", "Öl, naß", "a_b")
        assert (model.ignore, model.input_size) == (255, Size(45, 64))
        assert model.base_folder == run
    assert exported.program.data == trained.program.data
    assert exported.program.train == trained.program.train
    assert exported.program.graph.collect_state() == trained.program.graph.collect_state()


@pytest.mark.parametrize("size", [(45, 64), (31, 97), (128, 128), (1, 1), (3, 500)])
def test_logits_and_scores_agree_at_every_size(size: tuple[int, int], run: Path, fp32: Path) -> None:
    trained, exported = open_model(run), open_model(fp32)
    image = generate_noise_images(*size)[0]
    logits, scores = trained.predict_logits(image), trained.predict_probabilities(image)
    assert logits.shape == scores.shape == (4, 45, 64)
    assert np.abs(exported.predict_logits(image) - logits).max() < 1e-4 * logits.std()
    assert np.abs(exported.predict_probabilities(image) - scores).max() < 1e-5
    assert np.allclose(scores.sum(0), 1, atol=1e-5)
    mask = exported.predict(image)
    assert (mask.shape, mask.dtype) == (size, np.uint8)
    assert (mask == trained.predict(image)).mean() > 0.999
    assert np.array_equal(mask, restore_mask_size(scores.argmax(0).astype(np.uint8), *size))


def test_the_device_may_choose_its_precision(fp32: Path) -> None:
    image = generate_noise_images(45, 64)[0]
    exact, fast = open_model(fp32).predict_probabilities(image), open_model(fp32, "device").predict_probabilities(image)
    assert np.abs(exact - fast).max() < 0.05


def test_pixels_are_normalized_as_the_program_sets() -> None:
    image = np.full((4, 6, 3), (200, 100, 50), np.uint8)
    for name, (mean, deviation) in NORMALIZATION.items():
        expected = [(v - m) / d for v, m, d in zip((200, 100, 50), mean, deviation, strict=True)]
        tensor = preprocess_image(image, Size(8, 5), name)
        assert (tensor.shape, tensor.dtype) == ((1, 3, 8, 5), np.float32)
        assert np.allclose(tensor.mean((0, 2, 3)), expected, atol=1e-5)


def test_a_file_can_be_moved_alone(fp32: Path, tmp_path: Path) -> None:
    for ending in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(ending), tmp_path / f"Straße model{ending}")
    moved = open_model(tmp_path / "Straße model.xml")
    assert moved.base_folder == tmp_path
    image = generate_noise_images(45, 64)[0]
    assert np.array_equal(moved.predict_probabilities(image), open_model(fp32).predict_probabilities(image))


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    for ending in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(ending), tmp_path / f"model{ending}")
    return tmp_path / "model.xml"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut xml": (lambda xml: xml.write_bytes(xml.read_bytes()[: xml.stat().st_size // 2]), "model-unreadable"),
    "empty xml": (lambda xml: xml.write_bytes(b""), "model-unreadable"),
    "binary xml": (lambda xml: xml.write_bytes(bytes(range(256)) * 8), "model-unreadable"),
    "another xml": (lambda xml: xml.write_text("<html><body>no model</body></html>"), "model-unreadable"),
    "a net of nothing": (lambda xml: xml.write_text('<net name="x" version="11"></net>'), "model-foreign"),
    "no bin": (lambda xml: xml.with_suffix(".bin").unlink(), "model-without-bin"),
    "cut bin": (lambda xml: _cut(xml.with_suffix(".bin")), "model-unreadable"),
    "empty bin": (lambda xml: xml.with_suffix(".bin").write_bytes(b""), "model-unreadable"),
    "changed bin": (lambda xml: _flip(xml.with_suffix(".bin")), "model-damaged"),
    "changed program": (lambda xml: _replace(xml, "ChannelShuffle", "ChannelShufle"), "model-program-refused"),
    "no program": (lambda xml: _replace(xml, "segdsl_program", "other_program"), "model-foreign"),
    "no digest": (lambda xml: _replace(xml, "segdsl_weights", "other_weights"), "model-foreign"),
}


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_reported_without_library_messages(name: str, copy: Path) -> None:
    damage, slug = DAMAGES[name]
    damage(copy)
    assert refusal(copy)[0] == slug


def test_a_model_of_another_tool_is_foreign(tmp_path: Path) -> None:
    openvino = openvino_runtime.import_openvino()
    image = openvino.opset13.parameter([1, 3, 8, 8], name="image")
    openvino.save_model(openvino.Model([openvino.opset13.relu(image)], [image]), tmp_path / "model.xml")
    assert refusal(tmp_path / "model.xml")[0] == "model-foreign"


@pytest.mark.parametrize("name", ["model.bin", "best.safetensors", "program.seg", "model.tflite"])
def test_other_files_are_refused_with_a_hint(name: str, copy: Path) -> None:
    if name != "model.bin":
        copy.with_name(name).write_bytes(b"x")
    slug, text = refusal(copy.with_name(name))
    assert slug == "model-kind-unknown"
    hints = {"model.bin": str(copy), "best.safetensors": "run folder", "program.seg": "train", "model.tflite": ".xml"}
    assert hints[name] in text


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.xml")[0] == "model-not-found"
