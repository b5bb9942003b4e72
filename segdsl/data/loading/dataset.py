"""Decoded and augmented samples by position, in uint8. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from segdsl.data.augment.lazy import Pairs, Pending, read_sample
from segdsl.data.augment.pipeline import augment, stages
from segdsl.data.augment.sample import SHUFFLE_STREAM, Rng, Sample, Setting, counter_rng, fit
from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import MASK, NOTHING, WHOLE, DecodedCache, from_run_lengths, run_lengths
from segdsl.data.stats.samplers import epoch_length, epoch_order, occurrences, repeats
from segdsl.ir.program import Augmentation, Program


class Key(NamedTuple):
    """One sample of a run: its epoch, its position in the subset, and how often the epoch has used it before."""

    epoch: int
    position: int
    draw: int = 0


class TrainDataset:
    """The training samples of a subset: image and mask after the steps of `data.train.augment`.

    ``cache`` may hold decoded pixels; samples are the same with and without it. ``repeats`` is how often an epoch uses
    each image on average (see :mod:`segdsl.data.stats.samplers`); by default once.
    """

    def __init__(
        self,
        index: Index,
        subset: str,
        size: tuple[int, int],
        steps: Iterable[Augmentation] = (),
        seed: int = 0,
        memory: DecodedCache = NOTHING,
        repeats: np.ndarray | None = None,
    ) -> None:
        self.subset = index.subset(subset)
        self.repeats = repeats
        self.pairs, self.seed = Pairs(index, self.subset, memory), seed
        self.steps = tuple(steps)
        self.setting = Setting(size, index.ignore, index.classes)

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, key: Key) -> Sample:
        """Return uint8 (H, W, C) and uint8 ids (H, W) at the input size. Raises :class:`SegError` for a bad file."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return augment(self.steps, self.opened(key.position), rng, self.setting, self.other)

    @property
    def epoch_length(self) -> int:
        """The number of samples of an epoch."""
        return len(self) if self.repeats is None else epoch_length(self.repeats)

    def keys(self, batch: int, epoch: int) -> EpochKeys:
        """Return the batches of an epoch, in an order that depends on seed and epoch only.

        All batches are full: the last one is filled up from the start of the order, with new random numbers.
        """
        # A separate stream, so that shuffling does not consume random numbers of the samples. Filling up the last
        # batch keeps batch statistics from being computed on a handful of images.
        rng = counter_rng(self.seed, epoch, 0, stream=SHUFFLE_STREAM)
        order = rng.permutation(len(self)) if self.repeats is None else epoch_order(self.repeats, rng)
        return EpochKeys(order, batch, epoch)

    def stages(self, key: Key) -> Iterator[Sample]:
        """Yield the sample of ``key`` as decoded, after each step, and at the input size."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return stages(self.steps, self.opened(key.position), rng, self.setting, self.other)

    def opened(self, position: int) -> Sample | Pending:
        """Open the pair at ``position``; the image is not decoded yet if a part of it may suffice."""
        return self.pairs.open(position)

    def other(self, rng: Rng) -> Sample | Pending:
        """Open a random pair to mix in."""
        return self.opened(int(rng.integers(len(self.subset))))


def train_dataset(
    program: Program, index: Index, memory: DecodedCache = NOTHING, shown: np.ndarray | None = None
) -> TrainDataset:
    """Return the training samples of a program; ``class_presence`` is required if the program has a sampler."""
    data, sampler = program.data, program.data.train.sampler
    size = (data.input_size.height, data.input_size.width)
    average_uses = None if sampler is None or shown is None else repeats(sampler, shown, len(index.classes))
    steps = data.train.augment.values()
    return TrainDataset(index, data.train.subset, size, steps, program.train.seed, memory, average_uses)


class EvalDataset:
    """The samples of a subset without augmentation.

    With ``size``, a (height, width), images are resized linearly and masks by nearest neighbor, and ``cache`` holds the
    result.
    """

    def __init__(
        self, index: Index, subset: str, size: tuple[int, int] | None = None, memory: DecodedCache = NOTHING
    ) -> None:
        self.subset = index.subset(subset)
        self.index, self.size, self.memory = index, size, memory

    def __len__(self) -> int:
        return len(self.subset)

    def path(self, position: int) -> Path:
        """Return the image file at ``position``."""
        return self.subset.image(position)

    def __getitem__(self, position: int) -> Sample:
        """Return uint8 (H, W, C) and uint8 ids (H, W). Raises :class:`SegError` for a bad file."""
        image, mask = self.memory.get(position, WHOLE), self.memory.get(position, MASK)
        if image is not None and mask is not None:
            return Sample(image, from_run_lengths(mask, self.size or image.shape[:2]))
        sample = read_sample(self.index, self.subset, position)
        if self.size is None:
            return sample
        sample = fit(sample, self.size)
        # Cached after resizing: every pass over the validation subset uses the same size.
        self.memory.put(position, WHOLE, sample.image)
        self.memory.put(position, MASK, run_lengths(sample.mask))
        return sample


class EpochKeys(Sequence[list[Key]]):
    """The batches of an epoch, created on access: a list of the keys of a million images would take 200 MB."""

    def __init__(self, order: np.ndarray, batch: int, epoch: int) -> None:
        # np.resize repeats the order from its start until all batches are full.
        self._order = np.resize(order, -(-len(order) // batch) * batch)
        self._draws, self._batch, self._epoch = occurrences(self._order), batch, epoch

    def __len__(self) -> int:
        return len(self._order) // self._batch

    @overload
    def __getitem__(self, place: int) -> list[Key]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[Key]]: ...
    def __getitem__(self, place: int | slice) -> list[Key] | list[list[Key]]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        first = range(len(self))[place] * self._batch
        batch = slice(first, first + self._batch)
        samples = zip(self._order[batch].tolist(), self._draws[batch].tolist(), strict=True)
        return [Key(self._epoch, position, draw) for position, draw in samples]


__all__ = [
    "EpochKeys",
    "EvalDataset",
    "Key",
    "TrainDataset",
    "train_dataset",
]
