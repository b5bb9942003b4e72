"""A small run on a small dataset, made without training: random weights with calibrated norms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl.export.export import export_run
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.weights.files import save_weights

CLASSES = ("background", "rust spot", "Öl, naß", "a_b")
"""Names with white space, a comma, and letters outside of ASCII."""
PROGRAM = """
extends "std/semantic.seg"
import "std/blocks.seg"

## Split, gates, shuffle, pooling to a runtime size, both ways of resizing, normalisation: what Lite-HRNet is made of.
model Small(classes: int) {
  in image: [B, 3, H, W]

  stem  = image -> ConvModule(8, 3x3, stride = 2)
  low   = stem -> ConvModule(16, 3x3, stride = 2)
  gates = [stem -> AdaptiveAvgPool(like = low), low] -> Concat() -> Conv(24) -> Split([8, 16])
  xs    = [stem * (gates[0] -> ResizeTo(stem, mode = nearest)), low * gates[1]]
  mixed = xs[0] -> ChannelShuffle(groups = 2) -> L2Normalize(over = space)
  up    = xs[1] -> ResizeTo(stem, mode = bilinear, align_corners = true)
  head  = [mixed, up] -> Concat() -> Conv(classes)
  out logits: [B, classes, H, W] = head -> ResizeTo(image, mode = bilinear, align_corners = true)
}

data {
  root       = "../data"
  classes    = ["background", "rust spot", "Öl, naß", "a_b"]
  input_size = 45x64
  train.batch = 2
}

model = Small(classes = len(data.classes))
export.openvino = OpenVINO(precision = fp32)
"""


def picture(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """An image with soft structure and some noise, uint8 (height, width, channels)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, channels), np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BILINEAR))
        for c in range(channels)
    ]
    noisy = np.stack(planes, axis=2) + generator.normal(0, 6, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def write_data(root: Path) -> None:
    """Write two subsets with a few images of several sizes and ignored pixels."""
    for subset, count in (("train", 2), ("val", 5)):
        for name in ("images", "masks"):
            (root / subset / name).mkdir(parents=True)
        labels = {str(k): name for k, name in enumerate(CLASSES)}
        (root / subset / "dataset_meta.json").write_text(json.dumps({"label_map": labels}), encoding="utf-8")
        for k in range(count):
            image = picture(k, 60 + 7 * k, 80 - 9 * k)
            mask = image.argmax(2).astype(np.uint8)
            mask[:4] = 255
            Image.fromarray(image).save(root / subset / "images" / f"{subset}_{k}.png")
            Image.fromarray(mask).save(root / subset / "masks" / f"{subset}_{k}.png")


Build = Callable[[str, Callable[[Path], object]], Path]
Filled = Callable[[Any], None]


def write_run(folder: Path, text: str, filled: Filled) -> Path:
    """Write the folder of a run of the program ``text``, with the weights that ``filled`` sets."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "program.seg").write_text(f"seg 1\n{text}", encoding="utf-8")
    program = load(folder / "program.seg")
    (folder / "program.seg").write_text(program.resolved, encoding="utf-8")
    torch.manual_seed(3)
    model = compile_program(program, weights="none").model
    with torch.no_grad():
        filled(model)
    save_weights(model, folder / "checkpoints" / "best.safetensors")
    return folder


@pytest.fixture(scope="session")
def made_run() -> Callable[[Path, str, Filled], Path]:
    """Make the folder of a run: see :func:`write_run`."""
    return write_run


def looked_around(model: Any) -> None:
    """Calibrate the norms of the small program on some images."""
    for _ in range(20):
        model.train()(torch.randn(4, 3, 45, 64))


@pytest.fixture(scope="session")
def home(build_once: Build) -> Path:
    """A folder with `data` and `run`."""

    def fill(home: Path) -> None:
        write_data(home / "data")
        write_run(home / "run", PROGRAM, looked_around)

    return build_once("export", fill)


@pytest.fixture(scope="session")
def run(home: Path) -> Path:
    """The run folder; tests do not change it."""
    return home / "run"


@pytest.fixture(scope="session")
def data(home: Path) -> Path:
    return home / "data"


@pytest.fixture(scope="session")
def fp32(run: Path, build_once: Build) -> Path:
    """The exported model, `.xml`."""
    return _export_once(run, build_once, "fp32")


@pytest.fixture(scope="session")
def fp16(run: Path, build_once: Build) -> Path:
    return _export_once(run, build_once, "fp16")


def _export_once(run: Path, build_once: Build, precision: str) -> Path:
    def fill(folder: Path) -> None:
        (folder / "model").write_text(str(export_run(run, precision).model), encoding="utf-8")

    return Path((build_once(f"export-{precision}", fill) / "model").read_text(encoding="utf-8"))


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, with the dataset next to it, that tests may change; nothing is exported yet."""
    shutil.copytree(home / "data", tmp_path / "data")
    return Path(shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("export")))
