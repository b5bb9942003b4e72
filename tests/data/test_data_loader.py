"""Batches: the same for any number of workers, full in training, and clear when a file or a worker fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from segdsl.data.dataset import EvalDataset, Key, TrainDataset, epoch_keys
from segdsl.data.index import Index, open_index
from segdsl.data.layout import Request
from segdsl.data.loader import EvalLoader, TrainLoader, normalizer
from segdsl.diagnostics import SegError
from segdsl.words.augmentations import HorizontalFlip, PhotometricDistortion, RandomResizedCrop

STEPS = (RandomResizedCrop(), PhotometricDistortion(), HorizontalFlip())
SIZE = (16, 20)


@pytest.fixture
def index(tree: Path) -> Index:
    return open_index(tree, "common_semantic_segmentation", Request(["train", "val"]))


def loader(index: Index, batch: int = 2, workers: int = 0, seed: int = 0) -> TrainLoader:
    return TrainLoader(TrainDataset(index, "train", SIZE, STEPS, seed), batch, workers)


def contents(batches: TrainLoader, epoch: int) -> list[bytes]:
    return [b.images.numpy().tobytes() + b.target.numpy().tobytes() for b in batches.epoch(epoch)]


def test_a_batch_is_uint8_with_channels_last_in_memory(index: Index) -> None:
    batch = next(loader(index).epoch(0))
    assert batch.images.shape == (2, 3, *SIZE) and batch.images.dtype == torch.uint8
    assert batch.target.shape == (2, *SIZE) and batch.target.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_workers_and_epochs_before_do_not_change_what_a_batch_holds(index: Index) -> None:
    alone, shared = loader(index, workers=0), loader(index, workers=2)
    first, third = contents(alone, 0), contents(alone, 2)
    assert contents(shared, 2) == third
    assert contents(shared, 0) == first
    assert first != third and contents(loader(index, seed=1), 0) != first


def test_every_image_is_seen_in_every_epoch_and_all_batches_are_full() -> None:
    for length, batch in ((10, 4), (3, 8), (8, 4), (1, 1)):
        batches = epoch_keys(length, batch, seed=3, epoch=5)
        assert len(batches) == -(-length // batch) and {len(b) for b in batches} == {batch}
        keys = [k for b in batches for k in b]
        assert {k.position for k in keys[:length]} == set(range(length))
        assert len(set(keys)) == len(keys)
        assert batches[-1] == list(batches)[-1] and batches[:2] == list(batches)[:2]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [k.position for b in epoch_keys(50, 5, seed, epoch) for k in b]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_an_image_drawn_twice_in_an_epoch_looks_different(index: Index) -> None:
    dataset = TrainDataset(index, "train", SIZE, STEPS)
    assert (dataset[Key(0, 1, 0)].image == dataset[Key(0, 1, 0)].image).all()
    assert (dataset[Key(0, 1, 0)].image != dataset[Key(0, 1, 1)].image).any()


def test_the_evaluation_loader_keeps_the_order_and_a_smaller_last_batch(index: Index) -> None:
    dataset = EvalDataset(index, "train", SIZE)
    batches = list(EvalLoader(dataset, 2, 0))
    assert [len(b.target) for b in batches] == [2, 1] and len(EvalLoader(dataset, 2, 0)) == 2
    for position in range(3):
        batch = batches[position // 2]
        assert (batch.target[position % 2].numpy() == dataset[position].mask).all()
        assert (batch.images[position % 2].permute(1, 2, 0).numpy() == dataset[position].image).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_went_bad_is_named_from_any_worker(index: Index, workers: int) -> None:
    path = index.subset("train").image(1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SegError) as caught:
        list(loader(index, workers=workers).epoch(0))
    (found,) = caught.value.diagnostics
    assert (found.slug, found.path) == ("image-truncated", str(path))


def test_a_mask_value_that_appeared_after_the_check_is_named(index: Index) -> None:
    from PIL import Image

    path = index.subset("val").mask(0)
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(path)
    with pytest.raises(SegError, match="mask-value-out-of-range: the mask holds the value 7"):
        EvalDataset(index, "val")[0]


def test_a_worker_that_is_killed_is_reported_with_what_it_was_reading(index: Index) -> None:
    batches = loader(index, workers=1)
    original = batches._batches.read

    def killed(key: Key) -> object:
        if key.position == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(key)

    batches._batches.read = killed  # type: ignore[assignment]
    with pytest.raises(SegError) as caught:
        list(batches.epoch(0))
    (found,) = caught.value.diagnostics
    assert found.slug == "worker-died" and str(index.subset("train").image(1)) in found.message


def test_the_normalizer_takes_out_mean_and_deviation() -> None:
    grey = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    expected = [(128 - m) / s for m, s in ((123.675, 58.395), (116.28, 57.12), (103.53, 57.375))]
    assert torch.allclose(normalizer("imagenet")(grey)[0, :, 0, 0], torch.tensor(expected), atol=1e-6)
    assert torch.allclose(normalizer("none")(grey), torch.tensor(128 / 255))
    assert normalizer("imagenet").state_dict() == {}
