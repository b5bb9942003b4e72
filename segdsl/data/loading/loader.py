"""Batches as torch tensors, made in worker processes; normalization runs on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import PixelCache, resolve_cache_budget
from segdsl.data.decode.images import get_normalization
from segdsl.data.loading.batch_memory import Arrays
from segdsl.data.loading.dataset import EpochKeys, EvalDataset, Sample, SampleKey, TrainDataset, make_train_dataset
from segdsl.data.loading.worker import make_batch
from segdsl.data.loading.workers import WorkerPool
from segdsl.ir.program import Program


class Batch(NamedTuple):
    """``images``: uint8 (N, C, H, W) in channels-last memory format; ``targets``: uint8 class ids (N, H, W)."""

    images: Tensor
    target: Tensor


class Normalizer(nn.Module):
    """Normalize uint8 (N, C, H, W) to float32 of the same shape and memory format, on the device of the input."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) * self.scale


def make_normalizer(normalize: str, channels: int = 3) -> Normalizer:
    """Return the module for a value of `data.normalize` and the number of channels of the model."""
    return Normalizer(*get_normalization(normalize, channels))


def _can_pin_memory() -> bool:
    """Return whether batches go to pinned memory, from which a device copies while it computes."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found is not None and found.type in ("cuda", "xpu")


class _BaseLoader:
    """Batches of the samples that ``read_sample`` returns, made by ``workers`` processes, or by this one if there are
    none; a batch has at most ``batch_bytes`` bytes."""

    def __init__(
        self, read_sample: Callable[[Any], Sample], get_path: Callable[[int], Path], batch_bytes: int, workers: int
    ) -> None:
        self.wait_seconds = 0.0
        """Seconds that the caller has waited for batches."""
        self.read_sample = read_sample
        self.pool = WorkerPool(read_sample, get_path, workers, batch_bytes) if workers else None

    def announce_delays(self, notify: Callable[[str], None]) -> None:
        """Call ``notify`` with a sentence every now and then while a batch is late."""
        if self.pool is not None:
            self.pool.notify = notify

    def close(self) -> None:
        """End the workers. The next pass starts new ones."""
        if self.pool is not None:
            self.pool.close()

    def _start_pass(self, batches: Sequence[list[Any]]) -> Iterator[Arrays]:
        """Start the workers on these batches."""
        if self.pool is not None:
            return self.pool.start_pass(batches)
        return (make_batch(self.read_sample, keys) for keys in batches)

    def _iterate_batches(self, batches: Iterator[Arrays]) -> Iterator[Batch]:
        pin_memory = _can_pin_memory()
        while True:
            start = time.perf_counter()
            arrays = next(batches, None)
            batch = None if arrays is None else _copy_batch(arrays, pin_memory)
            self.wait_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def _copy_batch(arrays: Arrays, pin_memory: bool) -> Batch:
    """Return tensors with the content of ``arrays``, whose memory workers use again."""
    images, target = (
        torch.empty(array.shape, dtype=torch.uint8, pin_memory=pin_memory).copy_(torch.from_numpy(array))
        for array in arrays
    )
    return Batch(images.permute(0, 3, 1, 2), target)


class DeviceShare(NamedTuple):
    """The share of each batch that is for one of several devices."""

    rank: int = 0
    device_count: int = 1

    def select_keys(self, keys: list[SampleKey]) -> list[SampleKey]:
        """Return the keys of a batch for this device: contiguous, and at most one more or fewer than for other
        devices."""
        return keys[len(keys) * self.rank // self.device_count : len(keys) * (self.rank + 1) // self.device_count]


SINGLE_DEVICE = DeviceShare()
"""All samples, for a single device."""


class _DeviceBatches(Sequence[list[SampleKey]]):
    """The batches of an epoch from ``first_batch`` on, each reduced to the share of one device."""

    def __init__(self, batches: EpochKeys, first_batch: int, share: DeviceShare) -> None:
        self._batches, self._first_batch, self._share = batches, first_batch, share

    def __len__(self) -> int:
        return max(len(self._batches) - self._first_batch, 0)

    def __getitem__(self, place: int) -> list[SampleKey]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._share.select_keys(self._batches[range(self._first_batch, len(self._batches))[place]])


class TrainLoader(_BaseLoader):
    """The training batches, epoch by epoch.

    Their content depends on seed and epoch only: not on the number of workers, the order of loading, the devices, or
    the batch at which an epoch is resumed.
    """

    def __init__(self, dataset: TrainDataset, batch: int, workers: int, share: DeviceShare = SINGLE_DEVICE) -> None:
        super().__init__(dataset.__getitem__, dataset.subset.get_image_path, batch * dataset.sample_bytes, workers)
        self.dataset, self.batch, self.share, self.workers = dataset, batch, share, workers
        self._next_epoch: tuple[int, Iterator[Arrays]] | None = None

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return -(-self.dataset.epoch_length // self.batch)

    def make_epoch_keys(self, epoch: int) -> EpochKeys:
        """Return the sample keys of the batches of an epoch, for all devices together."""
        return self.dataset.make_epoch_keys(self.batch, epoch)

    def iterate_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch (counted from 0) from ``first_batch`` on; all of them are full."""
        ahead, self._next_epoch = self._next_epoch, None
        begun = (
            ahead[1]
            if ahead and ahead[0] == epoch and not first_batch
            else self._start_pass(self._make_device_batches(epoch, first_batch))
        )
        yield from self._iterate_batches(begun)
        # Start on the next epoch during validation, so that it does not begin with a wait.
        if self.workers:
            self._next_epoch = epoch + 1, self._start_pass(self._make_device_batches(epoch + 1, 0))

    def _make_device_batches(self, epoch: int, first_batch: int) -> _DeviceBatches:
        return _DeviceBatches(self.make_epoch_keys(epoch), first_batch, self.share)


class EvalLoader(_BaseLoader):
    """The batches of a subset in order, at the input size; the last one may be smaller."""

    def __init__(self, dataset: EvalDataset, batch: int, workers: int) -> None:
        super().__init__(dataset.__getitem__, dataset.get_image_path, batch * dataset.sample_bytes, workers)
        self.dataset, self.batch = dataset, batch

    def __len__(self) -> int:
        """Return the number of batches of one pass."""
        return -(-len(self.dataset) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.dataset)
        batches = [list(range(i, min(i + self.batch, count))) for i in range(0, count, self.batch)]
        return self._iterate_batches(self._start_pass(batches))


def make_loaders(
    program: Program, index: Index, class_presence: np.ndarray | None = None
) -> tuple[TrainLoader, EvalLoader]:
    """Return the training batches of a program and its validation batches; both share `data.cache`.

    ``class_presence`` tells which classes each training image shows, for a sampler. Raises :class:`SegError`
    (`cache-too-large`).
    """
    data = program.data
    size = (data.input_size.height, data.input_size.width)
    budget = resolve_cache_budget(program)
    images = len(index.get_subset(data.val.subset))
    # Validation images are stored at the input size, so their need is known; training gets the rest, at least half.
    val_cache = PixelCache(images, min(images * size[0] * size[1] * (program.channels + 1), budget // 2))
    train_cache = PixelCache(len(index.get_subset(data.train.subset)), budget - val_cache.budget)
    train = TrainLoader(
        make_train_dataset(program, index, train_cache, class_presence), data.train.batch, data.train.workers
    )
    val = EvalLoader(EvalDataset(index, data.val.subset, size, val_cache), data.val.batch, data.val.workers)
    return train, val
