"""`data stats`: every number against a slow count, and what it says of data that is at fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segdsl.data.check.facts
from segdsl.cli.invoke import run_cli
from segdsl.data.stats.representative import pick_images
from segdsl.data.stats.survey import MAX_EXAMPLES, Spread, Survey, compute_spread, survey_dataset
from segdsl.text.columns import measure_char

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
NAMES = [f"class_{k}" for k in range(9)]


def write_pair(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    meta = {"label_map": {str(k): name for k, name in enumerate(NAMES)}}
    (folder / "dataset_meta.json").write_text(json.dumps(meta), encoding="utf-8")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Images of several sizes and modes; class k occurs in every k + 1st image alone, class 8 never, void in some."""
    root, rng = tmp_path / "mixed", np.random.default_rng(0)
    for subset, count in (("train", 24), ("val", 3)):
        for number in range(count):
            height, width = int(rng.integers(8, 14)), int(rng.integers(8, 14))
            channels = [(), (3,), (4,)][number % 3]
            image = rng.integers(0, 256, (height, width, *channels), np.uint8)
            here = [k for k in range(8) if number % (k + 1) == 0] + [255] * (number % 2)
            write_pair(root / subset, f"{number:02d}", image, rng.choice(here, (height, width)).astype(np.uint8))
    return root


def counted(folder: Path) -> dict[str, Any]:
    """The same numbers, the obvious way."""
    images = [Image.open(p) for p in sorted((folder / "images").iterdir())]
    masks = {p.name: np.array(Image.open(p)) for p in sorted((folder / "masks").iterdir())}
    whole = sum(m.size for m in masks.values())
    facts: dict[str, Any] = {
        "images": len(images),
        "pixels": whole,
        "sizes": Counter((i.height, i.width) for i in images),
        "modes": Counter(i.mode for i in images),
    }
    for value in (*range(len(NAMES)), 255):
        shows = {name: int((m == value).sum()) for name, m in masks.items() if (m == value).any()}
        best = sorted(shows, key=lambda name: (-shows[name] / masks[name].size, name))
        facts[str(value)] = {
            "pixels": sum(shows.values()),
            "share": sum(shows.values()) / whole,
            "images": len(shows),
            "image_share": len(shows) / len(images),
            "examples": best[:MAX_EXAMPLES],
        }
    return facts


def answer(capsys: pytest.CaptureFixture[str], *args: str | Path, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run_cli(["data", "stats", *map(str, args), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_numbers_are_those_of_a_slow_count(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, mixed)
    assert found["classes"] == NAMES and found["images"] == 27 and found["sheet"] is None
    for name in ("train", "val"):
        expected, subset = counted(mixed / name), found["subsets"][name]
        assert (subset["images"], subset["pixels"]) == (expected["images"], expected["pixels"])
        assert Counter({(s["height"], s["width"]): s["images"] for s in subset["sizes"]}) == expected["sizes"]
        assert subset["modes"] == expected["modes"]
        for value, label in enumerate(NAMES):
            assert subset["classes"][label] == expected[str(value)], label
        assert subset["void"] == expected["255"]
        heights = sorted(h for h, _ in expected["sizes"].elements())
        assert subset["height"] == {"min": heights[0], "median": heights[(len(heights) - 1) // 2], "max": heights[-1]}


def test_the_object_has_these_keys(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, mixed, "--subset", "val")
    assert set(found) == {"root", "format", "images", "classes", "ignore", "subsets", "sheet", "warnings"}
    assert list(found["subsets"]) == ["val"]
    assert set(found["subsets"]["val"]) == {
        "images", "pixels", "sizes", "height", "width", "aspect", "modes", "classes", "void", "seen_least",
    }  # fmt: skip
    assert {w["slug"] for w in found["warnings"]} == {"class-absent", "image-modes-mixed"}


def test_classes_seen_least_come_first_without_those_that_are_everywhere(mixed: Path) -> None:
    stats = survey_dataset(mixed, "auto").subsets["train"]
    # of 24 images class 7 is in 3, class 6 in 4, class 5 in 4 as well; class 8 is in none, class 0 in all
    least = stats.list_rarest_classes(len(NAMES))
    assert (
        least[0] == 7 and set(least[1:]) == {3, 4, 5, 6} and {stats.get_class(k).images for k in least} == {3, 4, 5, 6}
    )


def test_more_classes_are_told_of_where_more_are_rare(tmp_path: Path) -> None:
    for number in range(40):
        mask = np.zeros((8, 8), np.uint8)
        mask[0, 0] = number % 9 if number < 9 else 0
        write_pair(tmp_path / "train", f"{number:02d}", np.zeros((8, 8), np.uint8) + number, mask)
    stats = survey_dataset(tmp_path, "auto").subsets["train"]
    assert stats.list_rarest_classes(9) == list(range(1, 9))


def test_lines_are_short_and_complete(
    mixed: Path, capsys: pytest.CaptureFixture[str], wording: Callable[..., None]
) -> None:
    assert run_cli(["data", "stats", str(mixed)]) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    wording(out)
    expected = counted(mixed / "train")["2"]
    row = next(line for line in out.splitlines() if line.startswith("  class_2 "))
    assert row.split() == ["class_2", f"{100 * expected['share']:.2f}", "%", "33.3", "%", "8"]
    assert err.startswith("warning[class-absent]")


def test_long_names_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"{__name__}.NAMES", ["a" * 90, "\u6f22" * 60, "c"])
    for number, name in enumerate(("x" * 120, "y")):
        mask = np.full((8, 8), number, np.uint8)
        mask[0] = 2
        write_pair(tmp_path / "set" / "train", name, np.full((8, 8), number, np.uint8), mask)
    assert run_cli(["data", "stats", str(tmp_path / "set")]) == 0
    out = capsys.readouterr().out
    assert max(sum(map(measure_char, line)) for line in out.splitlines()) <= 80 and "a…a" in out and "x…x" in out


def test_files_are_decoded_once(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    decode = segdsl.data.check.facts.decode_image
    monkeypatch.setattr(
        segdsl.data.check.facts, "decode_image", lambda data, path, how: read.append(path) or decode(data, path, how)
    )
    survey_dataset(mixed, "auto")
    assert len(read) == 27
    survey_dataset(mixed, "auto")
    assert len(read) == 27


def test_an_error_of_the_check_is_one_here(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mixed / "val" / "masks" / "00.png").unlink()
    found = answer(capsys, mixed, status=1)
    assert [e["slug"] for e in found["errors"]] == ["mask-missing"] and "subsets" not in found
    assert run_cli(["data", "stats", str(mixed)]) == 1
    out, err = capsys.readouterr()
    assert not out and "error[mask-missing]" in err


def test_plain_folders_take_the_names_of_classes(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subset in ("train", "val"):
        (mixed / subset / "dataset_meta.json").unlink()
    assert answer(capsys, mixed, status=1)["errors"][0]["slug"] == "meta-missing"
    names = [part for k in range(9) for part in ("--class", f"k{k}")]
    assert answer(capsys, mixed, *names, "--ignore", "254", status=1)["errors"][0]["slug"] == "mask-value-out-of-range"
    assert answer(capsys, mixed, *names)["classes"][3] == "k3"


def test_nothing_heavy_is_imported(mixed: Path) -> None:
    import subprocess
    import sys

    code = (
        f"import sys\nfrom segdsl.cli.invoke import run_cli\nassert run_cli(['data', 'stats', {str(mixed)!r}]) == 0\n"
        "assert not {'torch', 'datumaro', 'openvino'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_spread_has_its_middle() -> None:
    assert compute_spread([(3, 1), (1, 1), (2, 1)]) == Spread(1, 2, 3)
    assert compute_spread([(9, 2), (1, 3)]) == Spread(1, 1, 9)
    assert compute_spread([(9, 2), (1, 2)]).median == 1


def shown(found: Survey, least: int) -> tuple[list[tuple[str, int]], set[int]]:
    picks = pick_images(found, least)
    values = {
        v
        for p in picks
        for v in np.unique(np.array(Image.open(found.subsets[p.subset].subset.get_mask_path(p.position))))
    }
    return [(p.subset, p.position) for p in picks], values


@pytest.mark.parametrize("least", [0, 6, 26, 27, 99])
def test_picked_images_show_every_class(mixed: Path, least: int) -> None:
    found = survey_dataset(mixed, "auto")
    places, values = shown(found, least)
    assert {*range(8)} <= values and len(set(places)) == len(places)
    assert min(least, 27) <= len(places) <= max(least, 8) and places == shown(found, least)[0]
    first = pick_images(found, least)[0]
    assert first.class_shares[0][0] == 7  # the rarest


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets of ../shared are not there")
@pytest.mark.parametrize(
    ("name", "mode", "shares"),
    [
        ("camvid_small", "RGB", {"sky": 18.364, "bicyclist": 0.096}),
        ("crackforest", "RGB", {"background": 97.656, "crack": 1.608}),
        ("nuclei", "L", {"background": 83.57, "nucleus": 16.43}),
    ],
)
def test_real_sets_have_the_shares_that_their_notes_state(
    name: str, mode: str, shares: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    train = answer(capsys, SHARED / name)["subsets"]["train"]
    assert {k: 100 * train["classes"][k]["share"] for k in shares} == pytest.approx(shares, abs=6e-3)
    assert next(iter(train["modes"])) == mode
