"""A new data format is a record and a reader; all else follows from them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segdsl
from segdsl.data.check.checker import check_data
from segdsl.data.formats.layout import Request, parse_patterns
from segdsl.data.formats.reader import READERS
from segdsl.data.formats.registry import detect_format
from segdsl.diagnostics import SegError, aliases
from segdsl.ir.data_format import DATA_FORMATS

RECORD = """
from segdsl.ir.data_format import DataFormat, register_format

PAIRS = register_format(
    DataFormat(
        name="side_by_side",
        layout="`<subset>/NAME.jpg`, `<subset>/NAME.png`",
        masks="index PNG",
        evidence="one test",
        aliases="twins",
        landmark="pairs.txt",
    )
)
"""
READER = """
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Layout, Subset, list_folders, select_subsets
from segdsl.data.formats.reader import FormatReader, register_reader
from segdsl.storage.file_states import encode_names
from toy_record import PAIRS


def read_pairs(root, request, findings):
    folders = {folder.name: folder for folder in list_folders(root)}
    subsets = {}
    for name in select_subsets(root, folders, request.subsets):
        stems = sorted(path.stem for path in folders[name].glob("*.jpg"))
        columns = [encode_names(f"{stem}{ending}" for stem in stems) for ending in (".jpg", ".png")]
        subsets[name] = Subset(name, folders[name], folders[name], folders[name], *columns)
    labels = LabelSpace(tuple((root / "pairs.txt").read_text().split()))
    return Layout(root, PAIRS, labels, subsets, (root / "pairs.txt",), class_file=root / "pairs.txt")


register_reader(PAIRS, FormatReader(read_pairs, lambda root: "`pairs.txt`" if (root / "pairs.txt").is_file() else ""))
"""
PROGRAM = """seg 1

model Tiny(classes: int) {
  in image: [B, 3, H, W]

  out logits: [B, classes, H, W] = image -> Conv(classes, 1x1) as head
}

data {
  root       = "set"
  format     = side_by_side
  input_size = 24x32

  train.workers = 0
  val.workers   = 0
}

model = Tiny(classes = len(data.classes))

train {
  loss      = CrossEntropy()
  optimizer = AdamW(lr = 5e-2)
  epochs    = 1
}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a program, a dataset in a new format, and the two files that add the format."""
    known = set(DATA_FORMATS)
    monkeypatch.setattr(aliases, "_MEANINGS", dict(aliases._MEANINGS))
    for name, text in (("toy_record", RECORD), ("toy_reader", READER)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    for subset in ("train", "val"):
        folder = tmp_path / "set" / subset
        folder.mkdir(parents=True)
        for name in "ab":
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{name}.jpg")
            Image.fromarray(rng.integers(0, 2, (24, 32), np.uint8)).save(folder / f"{name}.png")
    (tmp_path / "set" / "pairs.txt").write_text("ground tree", encoding="utf-8")
    (tmp_path / "toy.seg").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("toy_reader")
    yield tmp_path
    for name in set(DATA_FORMATS) - known:
        del DATA_FORMATS[name], READERS[name]
    for name in ("toy_record", "toy_reader"):
        sys.modules.pop(name, None)


def suggested(program: str) -> str:
    Path("toy.seg").write_text(program, encoding="utf-8")
    with pytest.raises(SegError) as caught:
        segdsl.check("toy.seg")
    (found,) = caught.value.diagnostics
    assert found.slug == "unknown-member"
    return found.fix.text if found.fix else ""


@pytest.mark.parametrize("name", ["side_by_sied", "twins"])
def test_language_knows_the_format(project: Path, name: str) -> None:
    assert segdsl.check("toy.seg").data.format == "side_by_side"
    assert suggested(PROGRAM.replace("= side_by_side", f"= {name}")) == "side_by_side"


def test_reference_and_highlighting_know_the_format(project: Path) -> None:
    from segdsl.editor.highlight import collect_choices
    from segdsl.editor.reference import build_reference

    page = build_reference()
    assert "| `side_by_side` | `<subset>/NAME.jpg`, `<subset>/NAME.png` | index PNG | one test |" in page
    assert "`folders` · `side_by_side`" in page.replace('`"datumaro:NAME"` · ', "")
    assert "side_by_side" in collect_choices()["format"]


def test_data_is_detected_checked_and_trained(project: Path, wording: Callable[..., None]) -> None:
    assert detect_format(project / "set") == "side_by_side"
    report = check_data("set", "auto", Request(None))
    assert report.errors == [] and report.format == "side_by_side" and report.classes == ("ground", "tree")
    run = segdsl.train("toy.seg", quiet=True, device="cpu", out="run")
    assert run.epochs == 1 and "side_by_side" in (project / "run" / "program.seg").read_text(encoding="utf-8")
    # Suggested where the folder is read in the default format.
    for name in ("nonsense", "common_semantic_segmentation"):
        (error,) = check_data("set", name).errors
        wording(f"{error.slug}: {error.message}\nhelp: {error.help}", name)


def test_settings_that_the_format_does_not_take_are_reported(project: Path) -> None:
    report = check_data(
        "set", "side_by_side", Request(None, background="no class", patterns=parse_patterns("im", "gt"))
    )
    assert [d.slug for d in report.errors] == ["setting-without-effect"] * 3
