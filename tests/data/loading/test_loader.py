"""Batches: the same for any number of workers, full in training, and clear when a file or a worker fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EpochKeys, EvalDataset, SampleKey, TrainDataset
from segdsl.data.loading.loader import DeviceShare, EvalLoader, TrainLoader, make_normalizer
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
    return [b.images.numpy().tobytes() + b.target.numpy().tobytes() for b in batches.iterate_epoch(epoch)]


def test_a_batch_is_uint8_with_channels_last_in_memory(index: Index) -> None:
    batch = next(loader(index).iterate_epoch(0))
    assert batch.images.shape == (2, 3, *SIZE) and batch.images.dtype == torch.uint8
    assert batch.target.shape == (2, *SIZE) and batch.target.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("repeats", [None, np.array([1.3, 4.0, 0.5])])
def test_workers_and_epochs_before_do_not_change_what_a_batch_holds(index: Index, repeats: np.ndarray | None) -> None:
    def made(workers: int, seed: int = 0) -> TrainLoader:
        return TrainLoader(TrainDataset(index, "train", SIZE, STEPS, seed, repeats=repeats), 2, workers)

    alone, shared = made(0), made(4)
    first, third = contents(alone, 0), contents(alone, 2)
    assert len(first) == len(alone) == (2 if repeats is None else 3)
    assert contents(shared, 2) == third
    assert contents(shared, 0) == first
    assert contents(shared, 1) == contents(alone, 1), "what was begun ahead"
    assert first != third and contents(made(0, seed=1), 0) != first


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_is_begun_in_its_middle_goes_on_alike(index: Index, workers: int) -> None:
    often = np.array([3.0, 2.0, 4.0])
    dataset = TrainDataset(index, "train", SIZE, STEPS, repeats=often)
    whole = contents(TrainLoader(dataset, 2, 0), 1)
    assert len(whole) == 5
    for first in range(6):
        resumed = TrainLoader(dataset, 2, workers)
        rest = [b.images.numpy().tobytes() + b.target.numpy().tobytes() for b in resumed.iterate_epoch(1, first)]
        assert rest == whole[first:]
        assert contents(resumed, 2) == contents(TrainLoader(dataset, 2, 0), 2)


@pytest.mark.parametrize(("batch", "devices"), [(4, 2), (3, 2), (4, 3)])
def test_devices_see_together_what_one_sees(index: Index, batch: int, devices: int) -> None:
    dataset = TrainDataset(index, "train", SIZE, STEPS, repeats=np.full(3, 4.0))
    parts = [TrainLoader(dataset, batch, 0, DeviceShare(rank, devices)) for rank in range(devices)]
    together = list(zip(*(part.iterate_epoch(2) for part in parts), strict=True))
    whole = list(TrainLoader(dataset, batch, 0).iterate_epoch(2))
    assert len(together) == len(whole) == len(parts[0])
    for shares, one in zip(together, whole, strict=True):
        assert torch.equal(torch.cat([s.images for s in shares]), one.images)
        assert torch.equal(torch.cat([s.target for s in shares]), one.target)
        assert {len(s.target) for s in shares} <= {batch // devices, -(-batch // devices)}


def test_it_is_known_how_long_batches_were_waited_for(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = loader(index)
    monkeypatch.setattr("segdsl.data.loading.loader.time.perf_counter", iter(range(100)).__next__)
    list(batches.iterate_epoch(0))
    assert batches.wait_seconds == 3, "two batches and the end"


def test_every_image_is_seen_in_every_epoch_and_all_batches_are_full() -> None:
    for length, batch in ((10, 4), (3, 8), (8, 4), (1, 1)):
        batches = EpochKeys(np.random.default_rng(3).permutation(length), batch, 5)
        assert len(batches) == -(-length // batch) and {len(b) for b in batches} == {batch}
        keys = [k for b in batches for k in b]
        assert {k.position for k in keys[:length]} == set(range(length))
        assert len(set(keys)) == len(keys)
        assert batches[-1] == list(batches)[-1] and batches[:2] == list(batches)[:2]


def test_the_order_depends_on_seed_and_epoch_alone(index: Index) -> None:
    often = np.full(3, 20.0)

    def order(seed: int, epoch: int) -> list[int]:
        dataset = TrainDataset(index, "train", SIZE, STEPS, seed, repeats=often)
        return [k.position for b in dataset.make_epoch_keys(5, epoch) for k in b]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_an_image_drawn_twice_in_an_epoch_looks_different(index: Index) -> None:
    dataset = TrainDataset(index, "train", SIZE, STEPS)
    assert (dataset[SampleKey(0, 1, 0)].image == dataset[SampleKey(0, 1, 0)].image).all()
    assert (dataset[SampleKey(0, 1, 0)].image != dataset[SampleKey(0, 1, 1)].image).any()


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
    path = index.get_subset("train").get_image_path(1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SegError) as caught:
        list(loader(index, workers=workers).iterate_epoch(0))
    (found,) = caught.value.diagnostics
    assert (found.slug, found.path) == ("image-truncated", str(path))


def test_a_mask_value_that_appeared_after_the_check_is_named(index: Index) -> None:
    from PIL import Image

    path = index.get_subset("val").get_mask_path(0)
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(path)
    with pytest.raises(SegError, match=r"mask-value-out-of-range: .* 7"):
        EvalDataset(index, "val")[0]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_changed_file_is_reported(index: Index, kind: str) -> None:
    """Though it can be read: what the check saw is another file. One that nobody touched is fine."""
    subset = index.get_subset("val")
    path = (subset.get_image_path if kind == "images" else subset.get_mask_path)(0)
    EvalDataset(index, "val")[0]
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SegError, match="data-file-changed"):
        EvalDataset(index, "val")[0]
    assert EvalDataset(index, "val")[1] is not None


def test_the_normalizer_takes_out_mean_and_deviation() -> None:
    grey = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    expected = [(128 - m) / s for m, s in ((123.675, 58.395), (116.28, 57.12), (103.53, 57.375))]
    assert torch.allclose(make_normalizer("imagenet")(grey)[0, :, 0, 0], torch.tensor(expected), atol=1e-6)
    assert torch.allclose(make_normalizer("none")(grey), torch.tensor(128 / 255))
    assert make_normalizer("imagenet").state_dict() == {}
