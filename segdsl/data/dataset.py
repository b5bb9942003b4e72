"""Samples by position: decoded, augmented, uint8. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from segdsl.data.augment import augment, stages
from segdsl.data.index import Index
from segdsl.data.pending import Pending, open_sample, read_sample
from segdsl.data.sample import SHUFFLE_STREAM, Rng, Sample, Setting, counter_rng, fit
from segdsl.ir.program import Augmentation, Program


class Key(NamedTuple):
    """Which sample of a run: its epoch, its position in the subset, and how often that epoch has used it before."""

    epoch: int
    position: int
    draw: int = 0


class TrainDataset:
    """The training samples of a subset: image and mask, cut and changed by the steps of `data.train.augment`."""

    def __init__(
        self,
        index: Index,
        subset: str,
        size: tuple[int, int],
        steps: Iterable[Augmentation] = (),
        seed: int = 0,
    ) -> None:
        self.subset = index.subset(subset)
        self.index, self.seed = index, seed
        self.steps = tuple(steps)
        self.setting = Setting(size, index.ignore, index.classes)

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, key: Key) -> Sample:
        """uint8 (H, W, C) and uint8 ids (H, W) at the input size. Raises :class:`SegError` naming a bad file."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return augment(self.steps, self.opened(key.position), rng, self.setting, self.other)

    def stages(self, key: Key) -> Iterator[Sample]:
        """What this gives for ``key``, on its way: as it is decoded, after each step, and as the network gets it."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return stages(self.steps, self.opened(key.position), rng, self.setting, self.other)

    def opened(self, position: int) -> Sample | Pending:
        """The pair at ``position``, not decoded yet where a part of it may be enough."""
        return open_sample(self.index, self.subset, position)

    def other(self, rng: Rng) -> Sample | Pending:
        """Another pair, to be mixed in."""
        return self.opened(int(rng.integers(len(self.subset))))


def train_dataset(program: Program, index: Index) -> TrainDataset:
    """The training samples of a program."""
    data = program.data
    size = (data.input_size.height, data.input_size.width)
    return TrainDataset(index, data.train.subset, size, data.train.augment.values(), program.train.seed)


class EvalDataset:
    """The samples of a subset as they are; with ``size`` stretched to (height, width), image linear, mask nearest."""

    def __init__(self, index: Index, subset: str, size: tuple[int, int] | None = None) -> None:
        self.subset = index.subset(subset)
        self.index, self.size = index, size

    def __len__(self) -> int:
        return len(self.subset)

    def path(self, position: int) -> Path:
        """The image file at ``position``."""
        return self.subset.image(position)

    def __getitem__(self, position: int) -> Sample:
        """uint8 (H, W, C) and uint8 ids (H, W). Raises :class:`SegError` naming a bad file."""
        sample = read_sample(self.index, self.subset, position)
        return fit(sample, self.size) if self.size else sample


class EpochKeys(Sequence[list[Key]]):
    """The batches of one epoch, made when they are asked for: a list of all keys of a million images is 200 MB."""

    def __init__(self, order: np.ndarray, batch: int, epoch: int) -> None:
        self._order, self._batch, self._epoch = order, batch, epoch

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch)

    @overload
    def __getitem__(self, place: int) -> list[Key]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[Key]]: ...
    def __getitem__(self, place: int | slice) -> list[Key] | list[list[Key]]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        first, length = range(len(self))[place] * self._batch, len(self._order)
        taken = range(first, first + self._batch)
        return [Key(self._epoch, int(self._order[i % length]), i // length) for i in taken]


def epoch_keys(length: int, batch: int, seed: int, epoch: int) -> EpochKeys:
    """The batches of one epoch, in an order that depends on seed and epoch alone.

    All batches are full: what the last one lacks is taken from the start of the order and drawn anew, so that every
    image is seen and no step has a handful of images to take batch statistics from.
    """
    return EpochKeys(counter_rng(seed, epoch, 0, stream=SHUFFLE_STREAM).permutation(length), batch, epoch)


__all__ = [
    "EpochKeys",
    "EvalDataset",
    "Key",
    "TrainDataset",
    "epoch_keys",
    "train_dataset",
]
