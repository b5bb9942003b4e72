"""Settings that a check of the data proposes, which `segdsl new` writes into the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.recipe.create import GIVEN_REASONS, ProgramRequest, create_program
from segdsl.recipe.machine import GIB, Machine

DESK = Machine(cores=2, memory=24 * GIB)


def write_pairs(root: Path, image_name: str, mask_name: str, values: tuple[int, int], depth: int = 8) -> None:
    rng = np.random.default_rng(0)
    for subset, count in (("train", 6), ("val", 3)):
        for number in range(count):
            ids = rng.integers(0, 2, (16, 16)).repeat(4, 0).repeat(4, 1)
            image = rng.integers(900, 4000, (64, 64)).astype(np.uint16)
            save(image if depth == 16 else image.astype(np.uint8), root / image_name.format(s=subset, n=number))
            save(np.array(values, np.uint8)[ids], root / mask_name.format(s=subset, n=number))


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("image", "mask", "values", "depth", "expected"),
    [
        ("{s}/images/{n}.png", "{s}/masks/{n}_mask.png", (0, 1), 8, {"data.masks": '"{name}_mask.png"'}),
        ("{s}/images/{n}_0000.png", "{s}/masks/{n}.png", (0, 1), 8, {"data.images": '"{name}_0000.png"'}),
        ("{s}/images/{n}.png", "{s}/masks/{n}.png", (0, 255), 8, {"data.values": "[0, 255]"}),
        ("images/{s}/{n}.png", "masks/{s}/{n}.png", (0, 255), 8, {"data.values": "[0, 255]"}),
        ("{s}/images/{n}.png", "{s}/masks/{n}.png", (0, 1), 16, {"data.levels": "900.0..3999.0"}),
    ],
)
def test_what_the_check_proposes_is_written(
    tmp_path: Path, image: str, mask: str, values: tuple[int, int], depth: int, expected: dict[str, str]
) -> None:
    write_pairs(tmp_path / "set", image, mask, values, depth)
    request = ProgramRequest(tmp_path / "set", classes=("ground", "thing"))
    made = create_program(tmp_path / "my.seg", request, DESK).program
    written = {path: choice.value for path, choice in made.choices.items() if path in GIVEN_REASONS}
    written.pop("data.background", None)
    assert written == expected
    assert run_cli(["data", "check", str(tmp_path / "my.seg")]) == 0


def test_masks_of_one_class_get_a_background(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", "{s}/images/{n}.png", "{s}/masks/{n}.png", (0, 255))
    for subset in ("train", "val"):
        (tmp_path / "set" / subset / "dataset_meta.json").write_text('{"label_map": {"0": "crack"}}')
    made = create_program(tmp_path / "my.seg", ProgramRequest(tmp_path / "set"), DESK).program
    assert [made.choices[f"data.{name}"].value for name in ("format", "classes", "values")] == [
        "folders", '["background", "crack"]', "[0, 255]"
    ]  # fmt: skip
    assert run_cli(["data", "check", str(tmp_path / "my.seg")]) == 0


def test_the_command_line_says_how_to_read_a_dataset(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", "x/{s}/{n}.png", "y/{s}/{n}_m.png", (0, 9))
    options = ["--format", "folders", "--classes", "ground, thing", "--values", "0,5..9"]
    options += ["--images", "x/{subset}", "--masks", "y/{subset}/{name}_m.png"]
    assert run_cli(["data", "check", str(tmp_path / "set"), *options]) == 0
    assert run_cli(["new", str(tmp_path / "my.seg"), "--data", str(tmp_path / "set"), *options]) == 0
    text = (tmp_path / "my.seg").read_text(encoding="utf-8")
    assert all(part in text for part in ('"x/{subset}"', '"y/{subset}/{name}_m.png"', "[0, 5..9]"))
    assert run_cli(["data", "check", str(tmp_path / "my.seg")]) == 0
    for wrong in (["--values", "x"], ["--values", "300"], ["--values", "3..1"], ["--masks", "../x"]):
        assert run_cli(["data", "check", str(tmp_path / "set"), *wrong]) == 2
