"""Small datasets, written by the tests that need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("road", "car", "sky")
COLORS = ((128, 64, 128), (0, 0, 142), (70, 130, 180))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SEGDSL_CACHE", str(folder))
    return folder


def meta(classes: tuple[str, ...] = CLASSES, colors: tuple | None = COLORS) -> dict:
    """The content of a meta file."""
    content: dict = {"label_map": {str(i): name for i, name in enumerate(classes)}}
    return content if colors is None else {**content, "segmentation_colors": [list(c) for c in colors]}


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """An RGB image of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ids(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A mask that contains every class and ignored pixels."""
    mask = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    mask[0, :3] = (0, 1, 2)
    mask[1, :4] = 255
    return mask


def write_subset(folder: Path, names: tuple[str, ...], seed: int = 0, content: dict | None = None) -> None:
    """One subset with an image and an index mask for each name."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "dataset_meta.json").write_text(json.dumps(content or meta()), encoding="utf-8")
    for position, name in enumerate(names):
        Image.fromarray(picture(seed + position)).save(folder / "images" / f"{name}.png")
        Image.fromarray(ids(seed + position)).save(folder / "masks" / f"{name}.png")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A valid dataset: `train` with a, b, c and `val` with d, e."""
    root = tmp_path / "set"
    write_subset(root / "train", ("c", "a", "b"))
    write_subset(root / "val", ("e", "d"), seed=10)
    return root


Break = Callable[[Path], object]
"""Damages a valid dataset."""
