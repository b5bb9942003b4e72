"""What is refused before the first step, with nothing written; and what ends a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl.diagnostics import SegError
from segdsl.lang.program import load
from segdsl.run.engine import machine_faults
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.train import train_file

Slugs = Callable[[Callable[[], object]], list[str]]


@pytest.mark.parametrize(
    ("overrides", "slug"),
    [
        (["drop train.loss"], "train-incomplete"),
        (["drop train.optimizer"], "train-incomplete"),
        (["drop data.root"], "data-root-unset"),
        (["train.loss=CrossEntropy(ignore=254)"], "ignore-differs"),
        (["train.loss=Dice(ignore=254)"], "ignore-differs"),
        (["train.loss=CrossEntropy(class_weights=[1.0, 2.0])"], "class-weights-count"),
        (["train.freeze=[stem, bn, classifier]"], "nothing-to-train"),
        (['data.classes=["ground", "blue", "red"]'], "classes-differ"),
        (['data.root="nowhere"'], "data-root-missing"),
        (['data.val.subset="test"'], "subset-missing"),
    ],
)
def test_a_fault_is_found_before_anything_is_written(
    project: Path, slugs: Slugs, overrides: list[str], slug: str
) -> None:
    assert slugs(lambda: train_file("tiny.seg", overrides, quiet=True)) == [slug]
    assert not (project / "runs").exists()


def test_a_subset_of_void_is_refused(project: Path, slugs: Slugs) -> None:
    for mask in (project / "set/val/masks").iterdir():
        Image.fromarray(np.full((24, 32), 255, dtype=np.uint8)).save(mask)
    assert "subset-all-void" in slugs(lambda: train_file("tiny.seg", quiet=True))
    assert not (project / "runs").exists()


def test_a_broken_image_is_refused_by_name(project: Path) -> None:
    image = project / "set/train/images/1-3.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", quiet=True)
    assert [Path(d.path or "").name for d in caught.value.diagnostics] == ["1-3.png"]


def test_a_program_without_the_names_of_its_classes_is_refused(project: Path, slugs: Slugs) -> None:
    assert slugs(lambda: prepare_run(compile_start_model(load("tiny.seg")))) == ["classes-unknown"]

    def prepare(*classes: str) -> Setup:
        return prepare_run(compile_start_model(load("tiny.seg", classes=classes)))

    assert slugs(lambda: prepare("a", "b", "c")) == ["classes-differ"]
    assert prepare("ground", "red", "blue").horizon.epochs == 2


def test_an_output_folder_is_not_shared(project: Path, slugs: Slugs) -> None:
    train_file("tiny.seg", ["train.epochs=1"], out="mine", quiet=True)
    before = (project / "mine/metrics.csv").read_text(encoding="utf-8")
    assert slugs(lambda: train_file("tiny.seg", out="mine", quiet=True)) == ["out-taken"]
    assert (project / "mine/metrics.csv").read_text(encoding="utf-8") == before
    assert slugs(lambda: train_file("tiny.seg", out="set", quiet=True)) == ["out-taken"]
    assert slugs(lambda: train_file("tiny.seg", out="tiny.seg", quiet=True)) == ["out-not-a-folder"]
    assert slugs(lambda: train_file("tiny.seg", out="tiny.seg/deeper", quiet=True)) == ["out-not-writable"]
    (project / "empty").mkdir()
    assert train_file("tiny.seg", ["train.epochs=1"], out="empty", quiet=True).run == Path("empty")


def test_a_loss_that_is_not_finite_ends_the_run(project: Path) -> None:
    overrides = ["train.optimizer=SGD(lr=1e30)", "drop train.schedule"]
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", overrides, out="spoilt", quiet=True)
    (found,) = caught.value.diagnostics
    assert found.slug == "loss-not-finite"
    assert "at step 2 (epoch 1)" in found.message
    assert found.message.count(".png") == 4
    for name in ("program.seg", "lock.json", "metrics.csv"):
        assert (project / "spoilt" / name).stat().st_size > 0
    assert list((project / "spoilt/tensorboard").iterdir())


def test_no_run_to_open(project: Path, slugs: Slugs) -> None:
    assert slugs(lambda: open_run("set")) == ["run-not-found"]
    run = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    (run / "checkpoints/best.safetensors").unlink()
    assert open_run(run).weights.stem == "last"
    shutil.rmtree(run / "checkpoints")
    assert slugs(lambda: open_run(run)) == ["run-without-weights"]


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (OSError(24, "Too many open files"), "too-many-open-files"),
    ],
)
def test_faults_of_the_machine_are_explained(slugs: Slugs, error: Exception, slug: str) -> None:
    def work() -> None:
        with machine_faults.diagnose_machine_faults():
            raise error

    assert slugs(work) == [slug]


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), machine_faults.diagnose_machine_faults():
        raise RuntimeError("something else")
