"""The seven published models: their programs here, and the reference's numbers for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = "decode_head.conv_seg"
"""The path of the convolution that classifies, in each of the seven."""
REFERENCE = ROOT.parent / "shared" / "reference"
GOLDENS = REFERENCE / "goldens"
SPECS = {
    "lite_hrnet_s": "litehrnet_s", "lite_hrnet_18": "litehrnet_18", "lite_hrnet_x": "litehrnet_x",
    "segnext_tiny": "segnext_t", "segnext_small": "segnext_s", "segnext_base": "segnext_b",
    "dinov2-small-seg": "dinov2",
}  # fmt: skip
"""The program of each published model, by the reference's name of it."""


class Published:
    """One of the seven published models: its program here, and the reference's numbers for it.

    Programs, tensors and models in evaluation are built once for all tests; whoever changes a model asks for a
    :meth:`trainable_model`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_sized = name.startswith("dinov2")
        self.reference = REFERENCE
        self.spec = ROOT / "specs" / f"{SPECS[name]}.seg"
        self.expected = self._json(GOLDENS / "goldens.json")["models"][name]
        self.facts = self._json(REFERENCE / "facts.json")["models"][name]
        self.keys = self._json(REFERENCE / "keys" / f"{name}.json")["state_dict"]
        self.arrays = np.load(GOLDENS / f"{name}.npz")
        self.levels = [
            f"backbone.{index}" for index in range(len(next(iter(self.expected["eval"].values()))["features"]))
        ]
        self._load_once = lru_cache(maxsize=8)(lambda classes, *settings: load(self.spec, settings, classes))
        self._fill_once = lru_cache(maxsize=2)(self._fill_tensors)
        self._build_once = lru_cache(maxsize=1)(self._build_filled)

    def program(self, classes: int = 2, size: tuple[int, int] | None = None) -> Program:
        """The program for a number of classes; the CNNs take any size as they are, DINOv2 is built for one."""
        settings = [f"data.input_size={size[0]}x{size[1]}"] if size and self.is_sized else []
        return self._load_once(classes, *settings)

    @cached_property
    def fill(self) -> Any:
        """The module that makes the weights and inputs of the goldens."""
        sys.path.insert(0, str(REFERENCE))
        try:
            import fill  # pyright: ignore[reportMissingImports]
        finally:
            sys.path.remove(str(REFERENCE))
        return fill

    def tensors(self, classes: int, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """The tensors of the trained model under the published keys, as the reference fills them."""
        return dict(self._fill_once(classes, size if self.is_sized else None))

    def _fill_tensors(self, classes: int, size: tuple[int, int] | None) -> dict[str, torch.Tensor]:
        filled = {}
        for key, shape, dtype in self.keys:
            if key.startswith("decode_head.conv_seg."):
                shape = [classes, *shape[1:]]
            if size is not None and key == "backbone.pos_embed":
                shape = [1, 1 + size[0] // 14 * (size[1] // 14), shape[2]]
            filled[key] = torch.from_numpy(self.fill.fill(key, tuple(shape), self.name))
            assert str(filled[key].dtype) == f"torch.{dtype}"
        return filled

    def evaluation_model(self, classes: int, size: tuple[int, int]) -> fx.GraphModule:
        """The model with the weights of the goldens, in evaluation. Its outputs are `levels`, classifier and logits."""
        return self._build_once(classes, size if self.is_sized else None)

    def trainable_model(self, classes: int, size: tuple[int, int], outputs: tuple[str, ...] = ()) -> fx.GraphModule:
        """A model of its own with the weights of the goldens, in training mode."""
        return self._build_filled(classes, size, outputs).train()

    def _build_filled(
        self, classes: int, size: tuple[int, int] | None, outputs: tuple[str, ...] = ()
    ) -> fx.GraphModule:
        outputs = outputs or (*self.levels, CLASSIFIER, "logits")
        model = compile_program(self.program(classes, size), weights="none", outputs=outputs).model
        checksum = self.fill.load(model, self.name)
        if not self.is_sized:
            assert checksum["sum"] == pytest.approx(self.expected["fill"][f"nc{classes}"]["sum"], abs=1e-3)
        return model.eval()

    def image(self, size: tuple[int, int], batch: int = 2) -> torch.Tensor:
        return torch.from_numpy(self.fill.image(batch, size))

    def golden(self, names: str, values: str) -> dict[str, float]:
        """Two arrays of the goldens as a dictionary."""
        return dict(zip(self.arrays[names].tolist(), self.arrays[values].tolist(), strict=True))

    @staticmethod
    def _json(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))


@cache
def published_model(name: str) -> Published:
    return Published(name)


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """Compute with two threads, as the goldens were: another number changes the order of sums and their rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(SPECS))
def published(request: pytest.FixtureRequest, two_threads: None) -> Published:
    """Each of the seven published models in turn."""
    return _published_or_skip(request.param)


@pytest.fixture(scope="module")
def dinov2() -> Published:
    """The one of the seven whose goldens have a position table and a full size."""
    return _published_or_skip("dinov2-small-seg")


def _published_or_skip(name: str) -> Published:
    if not REFERENCE.is_dir():
        pytest.skip("the shared folder with the reference's numbers is not there")
    return published_model(name)
