"""A preview of the training samples: what the network gets, with every stage of the augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.augment.sample import Sample
from segdsl.data.check.index import Index
from segdsl.data.decode.images import visible
from segdsl.data.loading.dataset import Key, TrainDataset, train_dataset
from segdsl.data.pictures.thumbnails import fitted, shrunk, small_mask
from segdsl.ir.program import Augmentation, Program

LARGEST = 480
"""Longer side of a stored stage, in pixels, so that many samples of large images fit into memory."""
FIRST, LAST = "image", "network"
"""Names of the first stage, the decoded image, and of the last one, the input of the network."""


class Stage(NamedTuple):
    """A sample after the step ``name`` of the program, of (height, width) ``size``.

    ``word`` is the word of the step, None for the first and the last stage. ``image`` (RGB) and ``mask`` are shrunk.
    """

    name: str
    word: str | None
    size: tuple[int, int]
    changed: bool
    image: np.ndarray
    mask: np.ndarray

    @property
    def idle(self) -> bool:
        """Whether the step changed nothing, because its probability was not met or because there was nothing to do."""
        return self.word is not None and not self.changed


class Shown(NamedTuple):
    """A sample of a run: its key, its image file, and its stages from the decoded image to the network input."""

    key: Key
    file: Path
    stages: tuple[Stage, ...]


class Preview(NamedTuple):
    """Samples of the training subset of a program, in the order in which ``epoch`` (from 0) uses them."""

    program: Program
    index: Index
    epoch: int
    samples: tuple[Shown, ...]


def preview(program: Program, index: Index, count: int, epoch: int = 0, shown: np.ndarray | None = None) -> Preview:
    """Return the first ``count`` samples of an epoch, or all if there are fewer.

    ``class_presence`` is required if the program has a sampler. Raises :class:`SegError` for a bad file.
    """
    dataset, train = train_dataset(program, index, shown=shown), program.data.train
    keys = chain.from_iterable(dataset.keys(train.batch, epoch))
    samples = tuple(_shown(dataset, key, train.augment) for key in islice(keys, count))
    return Preview(program, index, epoch, samples)


def _shown(dataset: TrainDataset, key: Key, steps: Mapping[str, Augmentation]) -> Shown:
    return Shown(key, dataset.subset.image(key.position), tuple(_stages(dataset, key, steps)))


def _stages(dataset: TrainDataset, key: Key, steps: Mapping[str, Augmentation]) -> Iterator[Stage]:
    names = [(FIRST, None), *((name, type(word).__name__) for name, word in steps.items()), (LAST, None)]
    before: Sample | None = None
    for (name, word), sample in zip(names, dataset.stages(key), strict=True):
        changed = before is None or not _same(before, sample)
        yield Stage(name, word, sample.size, changed, *_reduced(sample))
        before = sample


def _same(one: Sample, other: Sample) -> bool:
    # Steps return the same arrays if they change nothing, so the comparison is usually free.
    return all(a is b or np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _reduced(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    box = min(LARGEST, max(sample.size))
    size = fitted(*sample.size, (box, box))
    return shrunk(visible(sample.image), size), small_mask(sample.mask, size, frequent(sample.mask))


def frequent(mask: np.ndarray) -> list[int]:
    """Return the values of a mask, the most frequent first."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return sorted(np.flatnonzero(counts).tolist(), key=lambda value: -counts[value])
