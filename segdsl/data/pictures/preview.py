"""A preview of the training samples: what the network gets, with every stage of the augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.augment.sample import Sample
from segdsl.data.check.index import Index
from segdsl.data.decode.images import convert_to_rgb
from segdsl.data.loading.dataset import SampleKey, TrainDataset, make_train_dataset
from segdsl.data.pictures.thumbnails import fit_box, resize_thumbnail, shrink_mask
from segdsl.ir.program import Augmentation, Program

MAX_SIDE = 480
"""Longer side of a stored stage, in pixels, so that many samples of large images fit into memory."""
FIRST_STAGE, LAST_STAGE = "image", "network"
"""Names of the first stage, the decoded image, and of the last one, the input of the network."""


class Stage(NamedTuple):
    """A sample after the step ``name`` of the program, of (height, width) ``size``.

    ``word`` is the word of the step, None for the first and the last stage. ``image`` (RGB) and ``mask`` are shrunk.
    """

    name: str
    word: str | None
    size: tuple[int, int]
    has_changed: bool
    image: np.ndarray
    mask: np.ndarray

    @property
    def is_idle(self) -> bool:
        """Whether the step changed nothing, because its probability was not met or because there was nothing to do."""
        return self.word is not None and not self.has_changed


class PreviewSample(NamedTuple):
    """A sample of a run: its key, its image file, and its stages from the decoded image to the network input."""

    key: SampleKey
    image_path: Path
    stages: tuple[Stage, ...]


class Preview(NamedTuple):
    """Samples of the training subset of a program, in the order in which ``epoch`` (from 0) uses them."""

    program: Program
    index: Index
    epoch: int
    samples: tuple[PreviewSample, ...]


def make_preview(
    program: Program, index: Index, count: int, epoch: int = 0, class_presence: np.ndarray | None = None
) -> Preview:
    """Return the first ``count`` samples of an epoch, or all if there are fewer.

    ``class_presence`` is required if the program has a sampler. Raises :class:`SegError` for a bad file.
    """
    dataset, train = make_train_dataset(program, index, class_presence=class_presence), program.data.train
    keys = chain.from_iterable(dataset.make_epoch_keys(train.batch, epoch))
    samples = tuple(_make_preview_sample(dataset, key, train.augment) for key in islice(keys, count))
    return Preview(program, index, epoch, samples)


def _make_preview_sample(dataset: TrainDataset, key: SampleKey, steps: Mapping[str, Augmentation]) -> PreviewSample:
    return PreviewSample(key, dataset.subset.get_image_path(key.position), tuple(_iterate_stages(dataset, key, steps)))


def _iterate_stages(dataset: TrainDataset, key: SampleKey, steps: Mapping[str, Augmentation]) -> Iterator[Stage]:
    names = [(FIRST_STAGE, None), *((name, type(word).__name__) for name, word in steps.items()), (LAST_STAGE, None)]
    before: Sample | None = None
    for (name, word), sample in zip(names, dataset.iterate_stages(key), strict=True):
        changed = before is None or not _is_same_sample(before, sample)
        yield Stage(name, word, sample.size, changed, *_shrink_sample(sample))
        before = sample


def _is_same_sample(one: Sample, other: Sample) -> bool:
    # Steps return the same arrays if they change nothing, so the comparison is usually free.
    return all(a is b or np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _shrink_sample(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    box = min(MAX_SIDE, max(sample.size))
    size = fit_box(*sample.size, (box, box))
    return resize_thumbnail(convert_to_rgb(sample.image), size), shrink_mask(sample.mask, size)
