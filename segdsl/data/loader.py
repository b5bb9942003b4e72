"""Batches as torch tensors, from worker processes; normalisation happens on the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from segdsl.data.dataset import EvalDataset, Key, Sample, TrainDataset, epoch_keys, train_dataset
from segdsl.data.images import statistics
from segdsl.data.index import Index
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.program import Program


class Batch(NamedTuple):
    """``images`` uint8 (N, C, H, W), laid out channels last; ``target`` uint8 class ids (N, H, W)."""

    images: Tensor
    target: Tensor


class Normalizer(nn.Module):
    """uint8 (N, C, H, W) to float32 of the same shape and layout, on the device of the input."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) * self.scale


def normalizer(normalize: str, channels: int = 3) -> Normalizer:
    """The module for a value of `data.normalize` and the channels of the model."""
    return Normalizer(*statistics(normalize, channels))


class _Failure(NamedTuple):
    """What a worker sends in place of a batch: an exception that crosses processes would lose its diagnostics."""

    diagnostics: tuple[Diagnostic, ...]


class _Batches(Dataset):
    """Makes whole batches, so that a bad file in a worker arrives as diagnostics; notes what each worker reads."""

    def __init__(self, read: Callable[[Any], Sample], name: Callable[[Any], str], workers: int) -> None:
        self.read, self.name = read, name
        self.reading = torch.full((max(workers, 1),), -1, dtype=torch.int64).share_memory_()

    def __getitem__(self, keys: list[Any]) -> Batch | _Failure:
        info = get_worker_info()
        samples = []
        for key in keys:
            if info is not None:
                self.reading[info.id] = _position(key)
            try:
                samples.append(self.read(key))
            except SegError as error:
                return _Failure(error.diagnostics)
        images = torch.from_numpy(np.stack([s.image for s in samples]))
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(np.stack([s.mask for s in samples])))


def _position(key: Any) -> int:
    return key.position if isinstance(key, Key) else key


class _Order(Sampler):
    """Hands out the lists of keys that the loader sets before each pass."""

    def __init__(self) -> None:
        self.batches: Sequence[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class _Loader:
    def __init__(self, read: Callable[[Any], Sample], name: Callable[[Any], str], workers: int) -> None:
        self._order = _Order()
        self._batches = _Batches(read, name, workers)
        self._loader = DataLoader(
            self._batches,
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_one_thread,
            persistent_workers=workers > 0,
            prefetch_factor=2 if workers > 0 else None,
        )

    def _run(self, batches: Sequence[list[Any]]) -> Iterator[Batch]:
        self._order.batches = batches
        try:
            for batch in self._loader:
                if isinstance(batch, _Failure):
                    raise SegError(batch.diagnostics)
                yield batch
        except RuntimeError as error:
            raise self._died(error) from None

    def _died(self, error: RuntimeError) -> BaseException:
        """The diagnostic of a worker that the system killed; any other error stays what it is."""
        if not re.search(r"DataLoader worker .*(exited unexpectedly|killed)", str(error)):
            return error
        names = sorted({self._batches.name(p) for p in self._batches.reading.tolist() if p >= 0})
        message = "a loading process ended without a word; the workers were reading " + ", ".join(names)
        help = "most often memory ran out: lower `data.train.workers` or `data.train.batch`, or look at these files"
        return fail("worker-died", message, help)


class TrainLoader(_Loader):
    """The training batches, epoch by epoch; what they hold depends on seed and epoch, not on workers or order."""

    def __init__(self, dataset: TrainDataset, batch: int, workers: int) -> None:
        super().__init__(dataset.__getitem__, lambda p: str(dataset.subset.image(p)), workers)
        self.dataset, self.batch = dataset, batch

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.dataset) // self.batch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of epoch ``epoch`` (from 0), all of them full."""
        return self._run(epoch_keys(len(self.dataset), self.batch, self.dataset.seed, epoch))


class EvalLoader(_Loader):
    """The batches of a subset in order, at the input size; the last may be smaller."""

    def __init__(self, dataset: EvalDataset, batch: int, workers: int) -> None:
        super().__init__(dataset.__getitem__, lambda p: str(dataset.path(p)), workers)
        self.dataset, self.batch = dataset, batch

    def __len__(self) -> int:
        """Batches of one pass."""
        return -(-len(self.dataset) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.dataset)
        return self._run([list(range(i, min(i + self.batch, count))) for i in range(0, count, self.batch)])


def train_loader(program: Program, index: Index) -> TrainLoader:
    """The training batches of a program."""
    return TrainLoader(train_dataset(program, index), program.data.train.batch, program.data.train.workers)


def eval_loader(program: Program, index: Index, subset: str | None = None) -> EvalLoader:
    """The batches on which a program is scored while it trains, `data.val.subset` unless named."""
    data = program.data
    size = (data.input_size.height, data.input_size.width)
    return EvalLoader(EvalDataset(index, subset or data.val.subset, size), data.val.batch, data.val.workers)
