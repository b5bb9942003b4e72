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
from segdsl.data.decode.decoded_cache import PixelCache, resolve_cache_budget
from segdsl.data.decode.images import get_normalization
from segdsl.data.loading.dataset import EpochKeys, EvalDataset, Sample, SampleKey, TrainDataset, make_train_dataset
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


def make_normalizer(normalize: str, channels: int = 3) -> Normalizer:
    """Return the module for a value of `data.normalize` and the number of channels of the model."""
    return Normalizer(*get_normalization(normalize, channels))


class _WorkerFailure(NamedTuple):
    """What a worker sends instead of a batch if a file is bad: an exception would lose its diagnostics between
    processes."""

    diagnostics: tuple[Diagnostic, ...]


class _BatchDataset(Dataset):
    """Makes whole batches, so that a bad file in a worker arrives as diagnostics; records what each worker is
    reading."""

    # A dead worker is found by an error of torch that names neither the loader nor the file; weak references, so
    # that loaders can be freed.
    instances: ClassVar[weakref.WeakSet[_BatchDataset]] = weakref.WeakSet()

    def __init__(self, read_sample: Callable[[Any], Sample], get_path: Callable[[int], Path], workers: int) -> None:
        self.read_sample, self.get_path = read_sample, get_path
        # In shared memory: it can still be read after a worker was killed.
        self.active_positions = torch.full((max(workers, 1),), -1, dtype=torch.int64).share_memory_()
        self.instances.add(self)

    def __getitem__(self, keys: list[Any]) -> Batch | _WorkerFailure:
        info = get_worker_info()
        samples = []
        for key in keys:
            if info is not None:
                self.active_positions[info.id] = _get_position(key)
            try:
                samples.append(self.read_sample(key))
            except SegError as error:
                return _WorkerFailure(error.diagnostics)
        if info is not None:
            self.active_positions[info.id] = -1
        images = torch.from_numpy(np.stack([s.image for s in samples]))
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(np.stack([s.mask for s in samples])))


def _get_position(key: Any) -> int:
    return key.position if isinstance(key, SampleKey) else key


class _BatchOrder(Sampler):
    """Returns the lists of keys that the loader sets before each pass."""

    def __init__(self) -> None:
        self.batches: Sequence[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


MALLOC_OPTIONS = ((-3, 32 << 20), (-1, 64 << 20))
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
        for option, size in MALLOC_OPTIONS:
            mallopt(option, size)


def init_worker(worker: int) -> None:
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


def _can_pin_memory() -> bool:
    """Return whether batches go to pinned memory, from which a device copies while it computes."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found is not None and found.type in ("cuda", "xpu")


class _BaseLoader:
    def __init__(self, read_sample: Callable[[Any], Sample], get_path: Callable[[int], Path], workers: int) -> None:
        self.wait_seconds = 0.0
        """Seconds that the caller has waited for batches."""
        self._order = _BatchOrder()
        self._batches = _BatchDataset(read_sample, get_path, workers)
        self._loader = DataLoader(
            self._batches,
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=init_worker,
            persistent_workers=workers > 0,
            pin_memory=_can_pin_memory(),
            prefetch_factor=2 if workers > 0 else None,
        )

    def _start_pass(self, batches: Sequence[list[Any]]) -> Iterator[Batch | _WorkerFailure]:
        """Start the workers on these batches."""
        self._order.batches = batches
        with _preserve_sigchld_handler():
            try:
                return iter(self._loader)
            except LOST_WORKER_ERRORS as error:
                # A worker of the previous pass has died since.
                raise _diagnose_lost_batch(error) or error from None

    def _iterate_batches(self, batches: Iterator[Batch | _WorkerFailure]) -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches, None)
            except LOST_WORKER_ERRORS as error:
                raise _diagnose_lost_batch(error) or error from None
            self.wait_seconds += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, _WorkerFailure):
                raise SegError(batch.diagnostics)
            yield batch


LOST_WORKER_ERRORS = (RuntimeError, ConnectionError, EOFError)
"""Errors raised for a dead worker: by torch, or by the connection if it died while sending a batch."""


@contextmanager
def _preserve_sigchld_handler() -> Iterator[None]:
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


def diagnose_worker_death(error: BaseException) -> SegError | None:
    """Return the diagnostic for a worker that was killed, or None for any other error."""
    if not re.search(r"DataLoader worker .*(exited unexpectedly|killed)", str(error)):
        return None
    return _make_worker_death_error()


def _diagnose_lost_batch(error: BaseException) -> SegError | None:
    """Return the same diagnostic for an error raised while waiting for a batch."""
    return (
        _make_worker_death_error() if isinstance(error, (ConnectionError, EOFError)) else diagnose_worker_death(error)
    )


def _make_worker_death_error() -> SegError:
    names = {str(b.get_path(p)) for b in list(_BatchDataset.instances) for p in b.active_positions.tolist() if p >= 0}
    message = "a data-loader worker died unexpectedly"
    message += f" while reading {', '.join(sorted(names))}" if names else ""
    help = "usually it ran out of memory: lower `data.train.workers`, `data.train.batch` or `data.cache`"
    return fail("worker-died", message, help + (", or check these files" if names else ""))


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
        super().__init__(dataset.__getitem__, dataset.subset.get_image_path, workers)
        self.dataset, self.batch, self.share, self.workers = dataset, batch, share, workers
        self._next_epoch: tuple[int, Iterator[Batch | _WorkerFailure]] | None = None

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
        super().__init__(dataset.__getitem__, dataset.get_image_path, workers)
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
