"""A tiny data set that can be learnt, and a tiny program that learns it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from segdsl.run.train import RunResult

Build = Callable[[str, Callable[[Path], object]], Path]
CLASSES = ("ground", "red", "blue")
COLORS = np.array([(60, 90, 60), (220, 40, 40), (40, 40, 220)], dtype=np.uint8)

PROGRAM = """seg 1

## Two convolutions, for tests.
model Tiny(classes: int) {
  in image: [B, 3, H, W]

  stem = image -> Conv(8, 3x3, stride = 2, bias = false)
  bn   = stem -> BatchNorm()
  head = bn -> ReLU() -> Conv(classes, 1x1) as classifier
  out logits: [B, classes, H, W] = head -> ResizeTo(image, mode = bilinear, align_corners = false)
}

data {
  root       = "set"
  input_size = 24x32

  train {
    batch   = 4
    workers = 0

    augment {
      flip = HorizontalFlip(p = 0.5)
    }
  }

  val.batch   = 2
  val.workers = 0
}

model = Tiny(classes = len(data.classes))

train {
  loss      = CrossEntropy()
  optimizer = AdamW(lr = 5e-2)
  schedule  = Warmup(2 iters) -> Poly()
  keep      = Checkpoints()
  epochs    = 2
}
"""

NOISY = PROGRAM.replace("bn -> ReLU() ->", "bn -> ReLU() -> Dropout(0.5) ->")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another, or the user, has cached."""
    monkeypatch.setenv("SEGDSL_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_subset(folder: Path, count: int, seed: int) -> None:
    """Images of a red and a blue square on green ground, with a row of void."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    labels = {"label_map": {str(i): name for i, name in enumerate(CLASSES)}}
    (folder / "dataset_meta.json").write_text(json.dumps(labels), encoding="utf-8")
    for number in range(count):
        mask = np.zeros((24, 32), dtype=np.uint8)
        top, left = rng.integers(1, 12, 2)
        mask[top : top + 9, left : left + 7] = 1
        mask[top : top + 9, left + 10 : left + 17] = 2
        image = np.clip(COLORS[mask] + rng.normal(0, 12, (24, 32, 3)), 0, 255).astype(np.uint8)
        mask[0] = 255
        Image.fromarray(image).save(folder / "images" / f"{seed}-{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{seed}-{number}.png")


def write_project(folder: Path, program: str = PROGRAM) -> None:
    """`tiny.seg` and its data in `set`, 8 images to train on and 3 to validate."""
    write_subset(folder / "set" / "train", 8, seed=1)
    write_subset(folder / "set" / "val", 3, seed=2)
    (folder / "tiny.seg").write_text(program, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `tiny.seg` and its data in `set`."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def noisy(project: Path) -> Path:
    """The project with a network that draws random numbers while it learns."""
    (project / "tiny.seg").write_text(NOISY, encoding="utf-8")
    return project


@pytest.fixture(scope="session")
def copy_result(build_once: Build) -> Callable[[Path, Callable[[], object]], None]:
    """Copy into a folder what a function leaves in a working directory with a project. The function runs once."""

    def copy(folder: Path, make: Callable[[], object]) -> None:
        def fill(place: Path) -> None:
            write_project(place)
            with contextlib.chdir(place):
                make()

        built = build_once(f"{make.__module__}.{make.__qualname__}", fill)
        shutil.copytree(built, folder, dirs_exist_ok=True)

    return copy


@pytest.fixture(scope="session")
def whole_run(build_once: Build) -> Callable[..., RunResult]:
    """An uninterrupted run of the project, or of the noisy one. Each list of settings runs once."""

    def run(overrides: Sequence[str], noisy: bool = False) -> RunResult:
        from segdsl.run.train import train_file

        def fill(place: Path) -> None:
            write_project(place, NOISY if noisy else PROGRAM)
            result = train_file(place / "tiny.seg", overrides, out=place / "run", quiet=True)
            (place / "result.pickle").write_bytes(pickle.dumps(result))

        key = hashlib.sha256(repr((noisy, *overrides)).encode()).hexdigest()[:16]
        return pickle.loads((build_once(f"whole-{key}", fill) / "result.pickle").read_bytes())

    return run


@pytest.fixture
def slugs() -> Callable[[Callable[[], object]], list[str]]:
    """The slugs of the error that a call raises."""
    from segdsl.diagnostics import SegError

    def raised(call: Callable[[], object]) -> list[str]:
        with pytest.raises(SegError) as caught:
            call()
        assert all(d.message and d.help for d in caught.value.diagnostics)
        return [d.slug for d in caught.value.diagnostics]

    return raised


HOSTILE = (
    "<script>window.hacked = 1</script>",
    'red" onmouseover="window.hacked = 2',
    "</td></table>'&lt;blau&gt;\u202e",
)
"""Names of classes that a page must show and not obey."""


@pytest.fixture
def hostile(project: Path) -> Path:
    """The project with :data:`HOSTILE` in place of its classes, and a file name and a comment of that kind."""
    labels = json.dumps({"label_map": {str(i): name for i, name in enumerate(HOSTILE)}})
    for subset in ("train", "val"):
        (project / "set" / subset / "dataset_meta.json").write_text(labels, encoding="utf-8")
    for kind in ("images", "masks"):
        folder = project / "set" / "val" / kind
        (folder / "2-0.png").rename(folder / "<img src=x onerror='window.hacked = 3'>.png")
    program = (project / "tiny.seg").read_text(encoding="utf-8")
    comment = "## </code></pre><script>window.hacked = 4</script>\nmodel Tiny"
    (project / "tiny.seg").write_text(program.replace("model Tiny", comment, 1), encoding="utf-8")
    return project


TIMES = ("seconds", "images_per_second", "waiting")
"""Columns of the log that no two runs share."""


@pytest.fixture
def same_run() -> Callable[[Path, Path], None]:
    """Holds that two runs left the same: every tensor and fact of every checkpoint, and every row but for its times."""
    from safetensors import safe_open

    def content(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118
            facts = dict(file.metadata())
        del facts["content_sha256"]
        course = json.loads(facts.pop("course", "{}"))
        rows = {k: {n: v for n, v in row.items() if n not in TIMES} for k, row in course.get("rows", {}).items()}
        return tensors, {**facts, "course": repr((course.get("kept"), rows))}

    def log(run: Path) -> list[dict[str, str]]:
        with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        seconds = [float(row["seconds"]) for row in rows]
        assert seconds == sorted(seconds)
        return [{name: text for name, text in row.items() if name not in TIMES} for row in rows]

    def compare(one: Path, other: Path) -> None:
        names = [sorted(p.name for p in (run / "checkpoints").iterdir()) for run in (one, other)]
        assert names[0] == names[1]
        for name in names[0]:
            (ours, facts), (theirs, known) = (content(run / "checkpoints" / name) for run in (one, other))
            assert [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)] == [], name
            assert facts == known, name
        assert log(one) == log(other)
        assert not [p for p in one.rglob(".*") if p.is_file()]

    return compare
