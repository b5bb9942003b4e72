"""Samples by position: decoded, augmented, uint8. Nothing here imports torch."""

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
    """Which sample of a run: its epoch, its position in the subset, and how often that epoch has used it before."""

    epoch: int
    position: int
    draw: int = 0


class TrainDataset:
    """The training samples of a subset: image and mask, cut and changed by the steps of `data.train.augment`.

    ``memory`` may keep what was decoded; samples are the same with it and without. ``repeats`` says how often an epoch
    uses each image on average (see `sampling`); without it, once.
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
        """uint8 (H, W, C) and uint8 ids (H, W) at the input size. Raises :class:`SegError` naming a bad file."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return augment(self.steps, self.opened(key.position), rng, self.setting, self.other)

    @property
    def epoch_length(self) -> int:
        """How many samples an epoch has."""
        return len(self) if self.repeats is None else epoch_length(self.repeats)

    def keys(self, batch: int, epoch: int) -> EpochKeys:
        """The batches of one epoch, in an order that depends on seed and epoch alone.

        All batches are full: what the last one lacks is taken from the start of the order and drawn anew, so that no
        step has a handful of images to take batch statistics from.
        """
        rng = counter_rng(self.seed, epoch, 0, stream=SHUFFLE_STREAM)
        order = rng.permutation(len(self)) if self.repeats is None else epoch_order(self.repeats, rng)
        return EpochKeys(order, batch, epoch)

    def stages(self, key: Key) -> Iterator[Sample]:
        """What this gives for ``key``, on its way: as it is decoded, after each step, and as the network gets it."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return stages(self.steps, self.opened(key.position), rng, self.setting, self.other)

    def opened(self, position: int) -> Sample | Pending:
        """The pair at ``position``, not decoded yet where a part of it may be enough."""
        return self.pairs.open(position)

    def other(self, rng: Rng) -> Sample | Pending:
        """Another pair, to be mixed in."""
        return self.opened(int(rng.integers(len(self.subset))))


def train_dataset(
    program: Program, index: Index, memory: DecodedCache = NOTHING, shown: np.ndarray | None = None
) -> TrainDataset:
    """The training samples of a program; ``shown`` (see `sampling`) is needed where it has a sampler."""
    data, sampler = program.data, program.data.train.sampler
    size = (data.input_size.height, data.input_size.width)
    often = None if sampler is None or shown is None else repeats(sampler, shown, len(index.classes))
    steps = data.train.augment.values()
    return TrainDataset(index, data.train.subset, size, steps, program.train.seed, memory, often)


class EvalDataset:
    """The samples of a subset as they are; with ``size`` stretched to (height, width), image linear, mask nearest, and
    kept by ``memory``."""

    def __init__(
        self, index: Index, subset: str, size: tuple[int, int] | None = None, memory: DecodedCache = NOTHING
    ) -> None:
        self.subset = index.subset(subset)
        self.index, self.size, self.memory = index, size, memory

    def __len__(self) -> int:
        return len(self.subset)

    def path(self, position: int) -> Path:
        """The image file at ``position``."""
        return self.subset.image(position)

    def __getitem__(self, position: int) -> Sample:
        """uint8 (H, W, C) and uint8 ids (H, W). Raises :class:`SegError` naming a bad file."""
        image, mask = self.memory.get(position, WHOLE), self.memory.get(position, MASK)
        if image is not None and mask is not None:
            return Sample(image, from_run_lengths(mask, self.size or image.shape[:2]))
        sample = read_sample(self.index, self.subset, position)
        if self.size is None:
            return sample
        sample = fit(sample, self.size)
        self.memory.put(position, WHOLE, sample.image)
        self.memory.put(position, MASK, run_lengths(sample.mask))
        return sample


class EpochKeys(Sequence[list[Key]]):
    """The batches of one epoch, made when they are asked for: a list of all keys of a million images is 200 MB."""

    def __init__(self, order: np.ndarray, batch: int, epoch: int) -> None:
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
        taken = slice(first, first + self._batch)
        drawn = zip(self._order[taken].tolist(), self._draws[taken].tolist(), strict=True)
        return [Key(self._epoch, position, draw) for position, draw in drawn]


__all__ = [
    "EpochKeys",
    "EvalDataset",
    "Key",
    "TrainDataset",
    "train_dataset",
]
