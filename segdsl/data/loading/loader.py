"""Batches as torch tensors, made in worker processes; normalization runs on the device."""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import DecodedCache, cache_budget
from segdsl.data.decode.images import statistics
from segdsl.data.loading.dataset import EpochKeys, EvalDataset, Key, Sample, TrainDataset, train_dataset
from segdsl.diagnostics import Diagnostic, SegError, fail
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


def normalizer(normalize: str, channels: int = 3) -> Normalizer:
    """Return the module for a value of `data.normalize` and the number of channels of the model."""
    return Normalizer(*statistics(normalize, channels))


class _Failure(NamedTuple):
    """What a worker sends instead of a batch if a file is bad: an exception would lose its diagnostics between
    processes."""

    diagnostics: tuple[Diagnostic, ...]


class _Batches(Dataset):
    """Makes whole batches, so that a bad file in a worker arrives as diagnostics; records what each worker is
    reading."""

    # A dead worker is found by an error of torch that names neither the loader nor the file; weak references, so
    # that loaders can be freed.
    everywhere: ClassVar[weakref.WeakSet[_Batches]] = weakref.WeakSet()

    def __init__(self, read: Callable[[Any], Sample], name: Callable[[int], Path], workers: int) -> None:
        self.read, self.name = read, name
        # In shared memory: it can still be read after a worker was killed.
        self.reading = torch.full((max(workers, 1),), -1, dtype=torch.int64).share_memory_()
        self.everywhere.add(self)

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
        if info is not None:
            self.reading[info.id] = -1
        images = torch.from_numpy(np.stack([s.image for s in samples]))
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(np.stack([s.mask for s in samples])))


def _position(key: Any) -> int:
    return key.position if isinstance(key, Key) else key


class _Order(Sampler):
    """Returns the lists of keys that the loader sets before each pass."""

    def __init__(self) -> None:
        self.batches: Sequence[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


KEPT_BY_MALLOC = ((-3, 32 << 20), (-1, 64 << 20))
"""glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD (malloc.h), in bytes."""


PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when the thread that created it ends."""


def prepare_worker(worker: int = 0) -> None:
    """Configure this process for loading: one thread, and memory of released images kept for reuse."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # By default glibc returns large blocks to the system and requests them again: 600 page faults, a fifth of the
    # time of a sample. Other C libraries have no mallopt.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in KEPT_BY_MALLOC:
            mallopt(option, size)


def begin_worker(worker: int) -> None:
    """Configure this process as a worker that ignores terminal signals and never outlives its parent."""
    prepare_worker(worker)
    # Ctrl-C in a terminal, and closing it, signals all processes; a worker that ended would lose its current batch.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    # Linux only; elsewhere a worker notices on its own that its parent is gone.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# The number of workers is set by the program, and `run` itself warns if there are more than CPU cores.
warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)


def _pins() -> bool:
    """Return whether batches go to pinned memory, from which a device copies while it computes."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found is not None and found.type in ("cuda", "xpu")


class _Loader:
    def __init__(self, read: Callable[[Any], Sample], name: Callable[[int], Path], workers: int) -> None:
        self.waited = 0.0
        """Seconds that the caller has waited for batches."""
        self._order = _Order()
        self._batches = _Batches(read, name, workers)
        self._loader = DataLoader(
            self._batches,
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=begin_worker,
            persistent_workers=workers > 0,
            pin_memory=_pins(),
            prefetch_factor=2 if workers > 0 else None,
        )

    def _begin(self, batches: Sequence[list[Any]]) -> Iterator[Batch | _Failure]:
        """Start the workers on these batches."""
        self._order.batches = batches
        with _own_handler():
            try:
                return iter(self._loader)
            except LOST as error:
                # A worker of the previous pass has died since.
                raise _lost(error) or error from None

    def _run(self, begun: Iterator[Batch | _Failure]) -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            try:
                batch = next(begun, None)
            except LOST as error:
                raise _lost(error) or error from None
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, _Failure):
                raise SegError(batch.diagnostics)
            yield batch


LOST = (RuntimeError, ConnectionError, EOFError)
"""Errors raised for a dead worker: by torch, or by the connection if it died while sending a batch."""


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keep the handler of SIGCHLD that torch would replace."""
    # Torch's handler raises wherever the main process is, even in the middle of an optimizer step. Without it a dead
    # worker is noticed within seconds, when the next batch is awaited.
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL if before is None else before)


def worker_died(error: BaseException) -> SegError | None:
    """Return the diagnostic for a worker that was killed, or None for any other error."""
    if not re.search(r"DataLoader worker .*(exited unexpectedly|killed)", str(error)):
        return None
    return _death()


def _lost(error: BaseException) -> SegError | None:
    """Return the same diagnostic for an error raised while waiting for a batch."""
    return _death() if isinstance(error, (ConnectionError, EOFError)) else worker_died(error)


def _death() -> SegError:
    names = {str(b.name(p)) for b in list(_Batches.everywhere) for p in b.reading.tolist() if p >= 0}
    message = "a data-loader worker died unexpectedly"
    message += f" while reading {', '.join(sorted(names))}" if names else ""
    help = "usually it ran out of memory: lower `data.train.workers`, `data.train.batch` or `data.cache`"
    return fail("worker-died", message, help + (", or check these files" if names else ""))


class Part(NamedTuple):
    """The share of each batch that is for one of several devices."""

    rank: int = 0
    devices: int = 1

    def of(self, keys: list[Key]) -> list[Key]:
        """Return the keys of a batch for this device: contiguous, and at most one more or fewer than for other
        devices."""
        return keys[len(keys) * self.rank // self.devices : len(keys) * (self.rank + 1) // self.devices]


ALONE = Part()
"""All samples, for a single device."""


class _Shares(Sequence[list[Key]]):
    """The batches of an epoch from ``first_batch`` on, each reduced to the share of one device."""

    def __init__(self, batches: EpochKeys, first: int, part: Part) -> None:
        self._batches, self._first, self._part = batches, first, part

    def __len__(self) -> int:
        return max(len(self._batches) - self._first, 0)

    def __getitem__(self, place: int) -> list[Key]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._part.of(self._batches[range(self._first, len(self._batches))[place]])


class TrainLoader(_Loader):
    """The training batches, epoch by epoch.

    Their content depends on seed and epoch only: not on the number of workers, the order of loading, the devices, or
    the batch at which an epoch is resumed.
    """

    def __init__(self, dataset: TrainDataset, batch: int, workers: int, part: Part = ALONE) -> None:
        super().__init__(dataset.__getitem__, dataset.subset.image, workers)
        self.dataset, self.batch, self.part, self.workers = dataset, batch, part, workers
        self._ahead: tuple[int, Iterator[Batch | _Failure]] | None = None

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return -(-self.dataset.epoch_length // self.batch)

    def keys(self, epoch: int) -> EpochKeys:
        """Return the sample keys of the batches of an epoch, for all devices together."""
        return self.dataset.keys(self.batch, epoch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch (counted from 0) from ``first_batch`` on; all of them are full."""
        ahead, self._ahead = self._ahead, None
        begun = ahead[1] if ahead and ahead[0] == epoch and not first else self._begin(self._shares(epoch, first))
        yield from self._run(begun)
        # Start on the next epoch during validation, so that it does not begin with a wait.
        if self.workers:
            self._ahead = epoch + 1, self._begin(self._shares(epoch + 1, 0))

    def _shares(self, epoch: int, first: int) -> _Shares:
        return _Shares(self.keys(epoch), first, self.part)


class EvalLoader(_Loader):
    """The batches of a subset in order, at the input size; the last one may be smaller."""

    def __init__(self, dataset: EvalDataset, batch: int, workers: int) -> None:
        super().__init__(dataset.__getitem__, dataset.path, workers)
        self.dataset, self.batch = dataset, batch

    def __len__(self) -> int:
        """Return the number of batches of one pass."""
        return -(-len(self.dataset) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.dataset)
        batches = [list(range(i, min(i + self.batch, count))) for i in range(0, count, self.batch)]
        return self._run(self._begin(batches))


def loaders(program: Program, index: Index, shown: np.ndarray | None = None) -> tuple[TrainLoader, EvalLoader]:
    """Return the training batches of a program and its validation batches; both share `data.cache`.

    ``class_presence`` tells which classes each training image shows, for a sampler. Raises :class:`SegError`
    (`cache-too-large`).
    """
    data = program.data
    size = (data.input_size.height, data.input_size.width)
    budget = cache_budget(program)
    images = len(index.subset(data.val.subset))
    # Validation images are stored at the input size, so their need is known; training gets the rest, at least half.
    val_cache = DecodedCache(images, min(images * size[0] * size[1] * (program.channels + 1), budget // 2))
    train_cache = DecodedCache(len(index.subset(data.train.subset)), budget - val_cache.budget)
    train = TrainLoader(train_dataset(program, index, train_cache, shown), data.train.batch, data.train.workers)
    val = EvalLoader(EvalDataset(index, data.val.subset, size, val_cache), data.val.batch, data.val.workers)
    return train, val
