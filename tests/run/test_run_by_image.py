"""The scores of single images: together they are those of the subset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segdsl.data.loading.loader import EvalLoader
from segdsl.lang.program import load
from segdsl.run.engine.criterion import build_criterion
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.engine.validate import score_images, score_model


@pytest.fixture
def setup(project: Path) -> Setup:
    program = load(project / "tiny.seg", ['data.classes=["ground", "red", "blue"]'])
    return prepare_run(compile_start_model(program), project / "set")


def test_images_add_up_to_the_subset(setup: Setup) -> None:
    arguments = (setup.network, setup.val_loader, setup.program.classes, setup.index.ignore, setup.criterion)
    whole, loss = score_model(*arguments)
    setup.network.train()
    found = list(score_images(*arguments))
    assert not setup.network.training
    assert sum(one.confusion.counts for one in found).tolist() == whole.counts.tolist()  # type: ignore[union-attr]
    assert [one.path.name for one in found] == ["2-0.png", "2-1.png", "2-2.png"]
    assert [one.position for one in found] == [0, 1, 2]
    assert {one.void_pixels for one in found} == {32}
    assert sum(one.loss for one in found) / 3 == pytest.approx(loss, rel=1e-5)


def test_each_image_has_its_own_scores(setup: Setup) -> None:
    classes, ignore = setup.program.classes, setup.index.ignore
    found = list(score_images(setup.network, setup.val_loader, classes, ignore))
    assert all(one.loss != one.loss for one in found)
    for one in found:
        sample = setup.val_loader.dataset[one.position]
        images = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)[None]
        prediction = setup.network(images).argmax(1)[0].numpy()
        for k, dice in enumerate(one.confusion.dice_by_class):
            ours, theirs = (prediction == k) & (sample.mask != ignore), sample.mask == k
            assert dice == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert len({one.confusion.dice for one in found}) == 3


def test_the_loss_is_that_of_the_image_alone(setup: Setup) -> None:
    assert setup.program.train.loss is not None
    criterion = build_criterion(setup.program.train.loss, 3, setup.index.ignore)
    single = EvalLoader(setup.val_loader.dataset, 1, workers=0)
    losses = [
        score_model(setup.network, [batch], setup.program.classes, setup.index.ignore, criterion)[1] for batch in single
    ]
    found = score_images(setup.network, setup.val_loader, setup.program.classes, setup.index.ignore, criterion)
    assert [one.loss for one in found] == pytest.approx(losses, rel=1e-5)
