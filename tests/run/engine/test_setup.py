"""A model that is trained has one output."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdsl.diagnostics import SegError
from segdsl.lang.program import load
from segdsl.run.engine.setup import compile_start_model

PROGRAM = """seg 1

extends "std/semantic.seg"

model Two(classes: int) {
  in image: [B, 3, H, W]

  a = image -> Conv(classes)
  b = image -> Conv(classes)
  out first = a
  out second = b
}

model = Two(classes = len(data.classes))
"""


def test_two_outputs_are_refused_before_any_data_is_opened(tmp_path: Path) -> None:
    (tmp_path / "two.seg").write_text(PROGRAM)
    with pytest.raises(SegError) as caught:
        compile_start_model(load(tmp_path / "two.seg"))
    (finding,) = caught.value.diagnostics
    assert finding.slug == "train-incomplete"
    assert "`first`, `second`" in finding.message
