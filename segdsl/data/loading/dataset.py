"""Decoded and augmented samples by position, in uint8. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from segdsl.data.augment.lazy import LazySample, PairReader, read_sample
from segdsl.data.augment.pipeline import apply_augmentations, iterate_stages
from segdsl.data.augment.sample import SHUFFLE_STREAM, AugmentContext, Rng, Sample, counter_rng, fit_sample
from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import (
    IMAGE_KIND,
    MASK_KIND,
    NO_CACHE,
    PixelCache,
    decode_run_lengths,
    encode_run_lengths,
)
from segdsl.data.stats.samplers import compute_epoch_length, compute_repeats, count_occurrences, draw_epoch_order
from segdsl.ir.program import Augmentation, Program


class SampleKey(NamedTuple):
    """One sample of a run: its epoch, its position in the subset, and how often the epoch has used it before."""

    epoch: int
    position: int
    draw: int = 0


@dataclass(eq=False)
class TrainDataset:
    """The training samples of the subset ``name``: image and mask after the steps of `data.train.augment`.

    ``cache`` may hold decoded pixels; samples are the same with and without it. ``repeats`` is how often an epoch uses
    each image on average (see :mod:`segdsl.data.stats.samplers`); by default once.
    """

    index: InitVar[Index]
    name: InitVar[str]
    size: InitVar[tuple[int, int]]
    augmentations: Sequence[Augmentation] = ()
    seed: int = 0
    cache: InitVar[PixelCache] = NO_CACHE
    repeats: np.ndarray | None = None

    def __post_init__(self, index: Index, name: str, size: tuple[int, int], cache: PixelCache) -> None:
        self.subset = index.get_subset(name)
        self.pair_reader = PairReader(index, self.subset, cache)
        self.context = AugmentContext(size, index.ignore, index.classes)
        self.sample_bytes = count_sample_bytes(index, size)

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return uint8 (H, W, C) and uint8 ids (H, W) at the input size. Raises :class:`SegError` for a bad file."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return apply_augmentations(
            self.augmentations, self.open_pair(key.position), rng, self.context, self.open_random_pair
        )

    @property
    def epoch_length(self) -> int:
        """The number of samples of an epoch."""
        return len(self) if self.repeats is None else compute_epoch_length(self.repeats)

    def make_epoch_keys(self, batch_size: int, epoch: int) -> EpochKeys:
        """Return the batches of an epoch, in an order that depends on seed and epoch only.

        All batches are full: the last one is filled up from the start of the order, with new random numbers.
        """
        # A separate stream, so that shuffling does not consume random numbers of the samples. Filling up the last
        # batch keeps batch statistics from being computed on a handful of images.
        rng = counter_rng(self.seed, epoch, 0, stream=SHUFFLE_STREAM)
        order = rng.permutation(len(self)) if self.repeats is None else draw_epoch_order(self.repeats, rng)
        return EpochKeys(order, batch_size, epoch)

    def iterate_stages(self, key: SampleKey) -> Iterator[Sample]:
        """Yield the sample of ``key`` as decoded, after each step, and at the input size."""
        rng = counter_rng(self.seed, key.epoch, key.position, key.draw)
        return iterate_stages(
            self.augmentations, self.open_pair(key.position), rng, self.context, self.open_random_pair
        )

    def open_pair(self, position: int) -> Sample | LazySample:
        """Open the pair at ``position``; the image is not decoded yet if a part of it may suffice."""
        return self.pair_reader.open_pair(position)

    def open_random_pair(self, rng: Rng) -> Sample | LazySample:
        """Open a random pair to mix in."""
        return self.open_pair(int(rng.integers(len(self.subset))))


def make_train_dataset(
    program: Program, index: Index, cache: PixelCache = NO_CACHE, class_presence: np.ndarray | None = None
) -> TrainDataset:
    """Return the training samples of a program; ``class_presence`` is required if the program has a sampler."""
    data, sampler = program.data, program.data.train.sampler
    size = (data.input_size.height, data.input_size.width)
    average_uses = (
        None
        if sampler is None or class_presence is None
        else compute_repeats(sampler, class_presence, len(index.classes))
    )
    steps = tuple(data.train.augment.values())
    return TrainDataset(index, data.train.subset, size, steps, program.train.seed, cache, average_uses)


def count_sample_bytes(index: Index, size: tuple[int, int]) -> int:
    """Return the bytes of an image and its mask at a (height, width)."""
    return size[0] * size[1] * ((index.read_options.channels or 3) + 1)


class EvalDataset:
    """The samples of a subset without augmentation.

    With ``size``, a (height, width), images are resized linearly and masks by nearest neighbor, and ``cache`` holds the
    result.
    """

    def __init__(
        self, index: Index, subset: str, size: tuple[int, int] | None = None, cache: PixelCache = NO_CACHE
    ) -> None:
        self.subset = index.get_subset(subset)
        self.index, self.size, self.cache = index, size, cache
        self.sample_bytes = 0 if size is None else count_sample_bytes(index, size)

    def __len__(self) -> int:
        return len(self.subset)

    def get_image_path(self, position: int) -> Path:
        """Return the image file at ``position``."""
        return self.subset.get_image_path(position)

    def __getitem__(self, position: int) -> Sample:
        """Return uint8 (H, W, C) and uint8 ids (H, W). Raises :class:`SegError` for a bad file."""
        image, mask = self.cache.get_array(position, IMAGE_KIND), self.cache.get_array(position, MASK_KIND)
        if image is not None and mask is not None:
            return Sample(image, decode_run_lengths(mask, self.size or image.shape[:2]))
        sample = read_sample(self.index, self.subset, position)
        if self.size is None:
            return sample
        sample = fit_sample(sample, self.size)
        # Cached after resizing: every pass over the validation subset uses the same size.
        self.cache.put_array(position, IMAGE_KIND, sample.image)
        self.cache.put_array(position, MASK_KIND, encode_run_lengths(sample.mask))
        return sample


class EpochKeys(Sequence[list[SampleKey]]):
    """The batches of an epoch, created on access: a list of the keys of a million images would take 200 MB."""

    def __init__(self, order: np.ndarray, batch_size: int, epoch: int) -> None:
        # np.resize repeats the order from its start until all batches are full.
        self._order = np.resize(order, -(-len(order) // batch_size) * batch_size)
        self._draws, self._batch, self._epoch = count_occurrences(self._order), batch_size, epoch

    def __len__(self) -> int:
        return len(self._order) // self._batch

    @overload
    def __getitem__(self, place: int) -> list[SampleKey]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[SampleKey]]: ...
    def __getitem__(self, place: int | slice) -> list[SampleKey] | list[list[SampleKey]]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        first = range(len(self))[place] * self._batch
        batch = slice(first, first + self._batch)
        samples = zip(self._order[batch].tolist(), self._draws[batch].tolist(), strict=True)
        return [SampleKey(self._epoch, position, draw) for position, draw in samples]


__all__ = [
    "EpochKeys",
    "EvalDataset",
    "SampleKey",
    "TrainDataset",
    "make_train_dataset",
]
