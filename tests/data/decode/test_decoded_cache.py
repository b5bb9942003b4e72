"""The decoded cache never changes what is read, stays within its budget, and is shared by all processes."""

from __future__ import annotations

import io
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segdsl.data.augment import lazy
from segdsl.data.check.index import Index, open_index
from segdsl.data.decode import decoded_cache
from segdsl.data.decode.decoded_cache import (
    IMAGE_KIND,
    KIND_COUNT,
    MASK_KIND,
    PixelCache,
    compute_free_share,
    decode_run_lengths,
    encode_run_lengths,
    resolve_cache_budget,
)  # fmt: skip
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset, SampleKey, TrainDataset
from segdsl.data.loading.loader import TrainLoader, make_loaders
from segdsl.diagnostics import SegError
from segdsl.ir.values import Range
from segdsl.lang.program import load
from segdsl.words.augmentations import HorizontalFlip, RandomResizedCrop, Resize

COUNT, SIZE = 5, (24, 20)
WAYS = (
    (RandomResizedCrop(scale=Range(0.2, 1.0)), HorizontalFlip()),
    (Resize(), HorizontalFlip()),
)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Upright and rotated JPEG, and PNG, in sizes at which every reduction factor is used."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    (tmp_path / "train" / "dataset_meta.json").write_text(json.dumps({"labels": ["a", "b", "c"]}))
    for number in range(COUNT):
        height, width = ((50, 61), (130, 90), (300, 240), (60, 60), (210, 200))[number]
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        name, exif = (f"{number}.png", None) if number == 3 else (f"{number}.jpg", Image.Exif())
        if number == 4 and exif is not None:
            exif[0x0112] = 3
        data = io.BytesIO()
        picture.save(data, "PNG") if exif is None else picture.save(data, "JPEG", exif=exif)
        (tmp_path / "train" / "images" / name).write_bytes(data.getvalue())
        mask = Image.fromarray(rng.integers(0, 3, (height, width), np.uint8))
        mask.save(tmp_path / "train" / "masks" / f"{number}.png")
    return open_index(tmp_path, "common_semantic_segmentation", Request(["train"]))


def samples(index: Index, steps: tuple, cache: PixelCache) -> Iterator[bytes]:
    dataset = TrainDataset(index, "train", SIZE, steps, cache=cache)
    for epoch in range(4):
        for position in range(COUNT):
            sample = dataset[SampleKey(epoch, position)]
            yield sample.image.tobytes() + sample.mask.tobytes()


@pytest.mark.parametrize("steps", WAYS)
def test_cache_returns_what_the_decoder_returned(index: Index, steps: tuple) -> None:
    plain = list(samples(index, steps, PixelCache(0, 0)))
    for budget in (1 << 22, 60_000, 1):
        cache = PixelCache(COUNT, budget)
        assert list(samples(index, steps, cache)) == plain
        assert cache.byte_count <= budget and (cache.byte_count > 0) == (budget > 1)


@pytest.mark.parametrize("steps", WAYS)
def test_no_file_is_read_twice_if_all_fit(index: Index, steps: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PixelCache(COUNT, 1 << 22)
    read: list[str] = []
    for name in ("read_image", "read_class_ids", "open_reducible_jpeg"):
        real = getattr(lazy, name)
        monkeypatch.setattr(lazy, name, lambda path, how, real=real: read.append(str(path)) or real(path, how))
    list(samples(index, steps, cache))
    assert read
    if isinstance(steps[0], Resize):
        read.clear()
        list(samples(index, steps, cache))
        assert not read
    else:  # a JPEG is decoded once at each factor, and its header is read before
        assert max(read.count(path) for path in read) <= 5


def test_a_whole_run_shares_one_budget_between_processes(index: Index, tree: Path) -> None:
    def batches(workers: int, cache: PixelCache) -> list[bytes]:
        loader = TrainLoader(TrainDataset(index, "train", SIZE, WAYS[0], cache=cache), 2, workers)
        return [
            b.images.numpy().tobytes() + b.target.numpy().tobytes() for e in range(3) for b in loader.iterate_epoch(e)
        ]

    plain = batches(0, PixelCache(0, 0))
    shared = PixelCache(COUNT, 200_000)
    assert batches(3, shared) == plain
    assert 0 < shared.byte_count <= 200_000, "what the workers decoded is here"
    assert sum(shared.get_array(p, MASK_KIND) is not None for p in range(COUNT)) >= 1


def test_validation_caches_resized_images(index: Index) -> None:
    cache = PixelCache(COUNT, COUNT * 24 * 20 * 8)
    dataset, plain = EvalDataset(index, "train", SIZE, cache), EvalDataset(index, "train", SIZE)
    for _ in range(2):
        for position in range(COUNT):
            assert (dataset[position].image == plain[position].image).all()
            assert (dataset[position].mask == plain[position].mask).all()
    assert all(
        cache.get_array(p, IMAGE_KIND) is not None and cache.get_array(p, MASK_KIND) is not None for p in range(COUNT)
    )


@pytest.mark.parametrize(("said", "most"), [("0 GiB", 0), ("64 KiB", 65536), ("0.5 MiB", 524288), (None, 3 << 20)])
def test_budget_comes_from_the_program(
    tree: Path, said: str | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_cache, "compute_free_share", lambda: 3 << 20)
    settings = [f"data.root={json.dumps(str(tree))}", "data.input_size=32x32"]
    program = load("specs/litehrnet_s.seg", [*settings, *([f"data.cache={said}"] if said else [])])
    opened = open_index(tree, "common_semantic_segmentation", Request(["train", "val"]))
    train, val = make_loaders(program, opened)
    assert train.dataset.pair_reader.cache.budget + val.dataset.cache.budget == most
    assert val.dataset.cache.budget <= most // 2


def test_budget_above_total_memory_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_cache, "get_total_memory", lambda: 16 << 30)
    assert resolve_cache_budget(load("specs/litehrnet_s.seg", ["data.cache=16 GiB"])) == 16 << 30
    for said in ("16.5 GiB", "1e30 GiB"):
        with pytest.raises(SegError) as caught:
            resolve_cache_budget(load("specs/litehrnet_s.seg", [f"data.cache={said}"]))
        (finding,) = caught.value.diagnostics
        assert finding.slug == "cache-too-large" and "16.0 GiB" in finding.message
        assert "`cache = 8 GiB`" in finding.help and finding.span is not None
        assert caught.value.sources[finding.span.file][finding.span.start :] == said


def test_image_changed_during_a_run_is_reported(index: Index) -> None:
    dataset = TrainDataset(index, "train", SIZE, WAYS[0], cache=PixelCache(COUNT, 1 << 22))
    dataset[SampleKey(0, 2)]
    path = index.get_subset("train").get_image_path(2)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    with pytest.raises(SegError) as caught:
        for epoch in range(40):
            dataset[SampleKey(epoch, 2)]
    (found,) = caught.value.diagnostics
    assert (found.slug, found.path) == ("data-file-changed", str(path))


@given(st.integers(1, 7), st.integers(1, 9), st.lists(st.integers(0, 255), min_size=1, max_size=63))
def test_run_lengths_round_trip(height: int, width: int, values: list[int]) -> None:
    mask = np.resize(np.array(values, np.uint8), (height, width))
    packed = encode_run_lengths(mask)
    assert packed.dtype == np.uint8 and (decode_run_lengths(packed, (height, width)) == mask).all()


def test_a_run_may_be_longer_than_two_bytes_count() -> None:
    assert len(encode_run_lengths(np.full((700, 900), 3, np.uint8))) == 1
    assert (decode_run_lengths(encode_run_lengths(np.full((700, 900), 3, np.uint8)), (700, 900)) == 3).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, KIND_COUNT - 1), st.integers(1, 9), st.integers(0, 4))))
def test_cached_arrays_round_trip(wanted: list[tuple[int, int, int, int]]) -> None:
    cache, kept = PixelCache(4, 200), {}
    for number, (position, kind, edge, channels) in enumerate(wanted):
        array = np.full((edge, 3, channels) if channels else (edge, 3), number % 256, np.uint8)
        fits = (position, kind) not in kept and cache.byte_count + array.size <= 200
        cache.put_array(position, kind, array)
        if fits:
            kept[position, kind] = array
        found = cache.get_array(position, kind)
        assert (found is None) == ((position, kind) not in kept)
    for key, array in kept.items():
        found = cache.get_array(*key)
        assert found is not None and found.shape == array.shape and (found == array).all()
        with pytest.raises(ValueError, match="read-only"):
            found[...] = 0
    assert cache.byte_count == sum(array.size for array in kept.values()) <= 200


def test_nothing_is_cached_without_fork_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    copied = pickle.loads(pickle.dumps(PixelCache(3, 1000)))
    copied.put_array(0, IMAGE_KIND, np.zeros((2, 2, 3), np.uint8))
    assert copied.get_array(0, IMAGE_KIND) is None and copied.byte_count == 0 and copied.get_image_size(0) is None
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert PixelCache(3, 1000).budget == 0
    monkeypatch.undo()
    assert PixelCache(3, 1 << 60).budget == 0, "more than an address space holds"


def test_default_budget_is_a_quarter_of_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < compute_free_share() < 1 << 50
    limit, taken = tmp_path / "max", tmp_path / "now"
    monkeypatch.setattr(decoded_cache, "CGROUP_FILES", ((limit, taken),))
    limit.write_text("max\n")
    taken.write_text("5\n")
    assert compute_free_share() > 1 << 20
    limit.write_text("4096\n")
    taken.write_text("96\n")
    assert compute_free_share() == 1000
    taken.write_text("5000\n")
    assert compute_free_share() == 0
