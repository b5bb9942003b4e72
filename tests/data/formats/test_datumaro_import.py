"""Importers of Datumaro read the dataset, and do nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.datumaro_import import guard_import
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """A dataset of one image in the layout of CamVid."""
    root = tmp_path / "set"
    save(root / "train" / "a.png", np.zeros((24, 32, 3), np.uint8))
    save(root / "trainannot" / "a.png", np.zeros((24, 32, 3), np.uint8))
    (root / "train.txt").write_text("/train/a.png trainannot/a.png\n", encoding="utf-8")
    (root / "label_colors.txt").write_text("0 0 0 background\n200 10 10 crack\n", encoding="utf-8")
    return root


def opened(root: Path) -> Index:
    return open_index(root, "datumaro:camvid", Request(["train"]))


def raised_slugs(call: Callable[[], object]) -> list[str]:
    with pytest.raises(SegError) as caught:
        call()
    return [d.slug for d in caught.value.diagnostics]


def test_dataset_without_links_is_read(camvid: Path) -> None:
    assert opened(camvid).classes == ("background", "crack")


@pytest.mark.parametrize("is_folder", [False, True])
def test_links_to_the_outside_are_not_followed(camvid: Path, tmp_path: Path, is_folder: bool) -> None:
    outside = tmp_path / "outside"
    save(outside / "a.png", np.zeros((24, 32, 3), np.uint8))
    (camvid / "more").symlink_to(outside if is_folder else outside / "a.png")
    assert raised_slugs(lambda: opened(camvid)) == ["import-outside"]


def test_paths_to_the_outside_are_not_opened(camvid: Path, tmp_path: Path) -> None:
    save(tmp_path / "secret.png", np.zeros((24, 32, 3), np.uint8))
    (camvid / "train.txt").write_text("/train/a.png ../secret.png\n", encoding="utf-8")
    assert raised_slugs(lambda: opened(camvid)) in (["import-failed"], ["import-outside"])


FORBIDDEN: dict[str, Callable[[Path], object]] = {
    "reads another file": lambda root: (root.parent / "secret.txt").read_text(),
    "writes into the dataset": lambda root: (root / "new.txt").write_text(""),
    "removes a file": lambda root: (root / "train.txt").unlink(),
    "starts a process": lambda root: subprocess.run(["true"], check=False),
    "runs a command": lambda root: os.system("true"),
}


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_importers_only_read_the_dataset(camvid: Path, deed: str) -> None:
    (camvid.parent / "secret.txt").write_text("", encoding="utf-8")

    def run_importer() -> None:
        # Also if the importer hides the error.
        with guard_import(camvid, "camvid"):
            try:
                FORBIDDEN[deed](camvid)
            except PermissionError:
                return

    assert raised_slugs(run_importer) == ["import-outside"]
    assert (camvid / "train.txt").exists() and not (camvid / "new.txt").exists()
    assert (camvid.parent / "secret.txt").read_text(encoding="utf-8") == "", "outside of an import all is allowed"
