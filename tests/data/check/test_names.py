"""Arrays of file names against naive implementations, and datasets with many files."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdsl.data.check import index
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.findings import Findings
from segdsl.data.formats.layout import Request, SubsetFolders
from segdsl.data.formats.pairing import pair_files
from segdsl.diagnostics import SegError
from segdsl.ir.data_format import DEFAULT_FORMAT
from segdsl.storage import file_states
from segdsl.storage.fact_cache import FactCache, read_stamp
from segdsl.storage.file_states import (
    encode_names,
    find_odd_stems,
    iterate_blocks,
    read_stamps,
    sort_image_names,
    split_name,
)

BOTH = Request(["train", "val"])
NAMES = st.builds(lambda stem, end: stem + end, st.sampled_from(["a", "b", "a-b", "a.b", "é", "c."]), st.sampled_from(
    [".png", ".PNG", ".jpg", ".txt", "", "."]))  # fmt: skip
FOLDERS = st.sets(NAMES, max_size=6)


@given(st.text(st.sampled_from("ab."), min_size=1, max_size=6).filter(lambda name: name.strip(".")))
def test_names_are_split_as_by_pathlib(name: str) -> None:
    assert split_name(name.encode()) == (Path(name).stem.encode(), Path(name).suffix.encode())


@given(FOLDERS, FOLDERS)
def test_pairs_match_a_naive_implementation(
    tmp_path_factory: pytest.TempPathFactory, images: set[str], masks: set[str]
) -> None:
    root = tmp_path_factory.mktemp("set")
    for folder, files in (("images", images), ("masks", masks)):
        (root / folder).mkdir()
        for name in files:
            (root / folder / name).touch()
    found: Findings = []
    subset = pair_files("train", SubsetFolders(root, root / "images", root / "masks"), root, found)
    files = [[n for n in some if Path(n).suffix.lower() in (".png", ".jpg")] for some in (images, masks)]
    stems = [[Path(n).stem for n in some] for some in files]
    good = {s for s in stems[0] if stems[0].count(s) == stems[1].count(s) == 1}
    good -= {Path(n).stem for n in files[1] if not n.lower().endswith(".png")}
    assert subset.list_item_ids() == sorted(good, key=os.fsencode)
    assert [Path(os.fsdecode(n)).stem for n in subset.images.tolist()] == subset.list_item_ids()
    wrong = {s for some in stems for s in some} - good
    assert bool(wrong) <= bool(found), "what is left out is told"


def test_odd_stems_are_found() -> None:
    left = sort_image_names((name, split_name(name)[0]) for name in (b"b.png", b"a.png", b"a.jpg", b"d.png", b"e.png"))
    right = sort_image_names((name, split_name(name)[0]) for name in (b"a.png", b"b.png", b"c.png", b"e.jpg"))
    assert find_odd_stems(left, right, {b".png"}).tolist() == [b"a", b"c", b"d", b"e"]
    assert left.get_names(b"a") == ["a.jpg", "a.png"] and left.get_names(b"c") is None
    less = left.drop_dead_links([b"b.png", b"a.png"])
    assert less.get_names(b"b") == [] and less.get_names(b"a") == ["a.jpg"] and less.list_all_stems()[1] == b"b"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_arrays_are_built_in_blocks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_states, "BLOCK_NAMES", 3)
    texts = [f"{'x' * k}.png" for k in range(count)]
    assert [os.fsdecode(n) for n in encode_names(texts).tolist()] == texts and encode_names(texts).dtype.kind == "S"
    pieces = [piece.tolist() for (piece,) in iterate_blocks(np.arange(count), length=3)]
    assert [k for piece in pieces for k in piece] == list(range(count)) and all(len(p) <= 3 for p in pieces)


def test_stamps_match_os_stat(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "deep/b.png"):
        (tmp_path / name).write_bytes(b"x" * len(name))
    rows = read_stamps(tmp_path, encode_names(["a.png", "deep/b.png", "c.png"])).tolist()
    assert [tuple(row) for row in rows] == [
        read_stamp(tmp_path / "a.png"),
        read_stamp(tmp_path / "deep/b.png"),
        (-1, -1),
    ]
    assert read_stamps(tmp_path, encode_names([])).shape == (0, 2)


def test_digest_matches_earlier_versions(tree: Path) -> None:
    """A changed digest would make every earlier run report different data."""
    total = hashlib.sha256()
    for subset in ("train", "val"):
        total.update(b"dataset_meta.json\0" + (tree / subset / "dataset_meta.json").read_bytes())
    for subset in ("train", "val"):
        total.update(subset.encode() + b"\0")
        for image in sorted((tree / subset / "images").iterdir()):
            for path in (image, tree / subset / "masks" / image.name):
                total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    assert open_index(tree, DEFAULT_FORMAT, BOTH).digest == total.hexdigest()


def test_masks_of_large_subsets_are_not_decoded_in_advance(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "train" / "masks" / "a.png").write_bytes(b"")
    with pytest.raises(SegError, match="data-file-empty"):
        open_index(tree, DEFAULT_FORMAT, BOTH)
    monkeypatch.setattr(index, "MAX_VERIFIED_ITEMS", 2)
    assert len(open_index(tree, DEFAULT_FORMAT, BOTH).get_subset("train")) == 3


def test_facts_are_queried_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.storage.fact_cache.NAMES_PER_QUERY", 2)
    with FactCache(tmp_path) as cache:
        for k in range(5):
            cache.put(f"n{k}", (k, k), [k])
        assert cache.get_all([f"n{k}" for k in range(7)], [(k, 3) for k in range(7)]) == [None] * 3 + [[3]] + [None] * 3
        assert cache.get_all([], []) == [] and cache.get("n4", (4, 4)) == [4] and cache.get("n4", (4, 5)) is None


def test_second_check_decodes_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = check_data(tree)
    monkeypatch.setattr("segdsl.data.check.facts.decode_image", None)
    monkeypatch.setattr("segdsl.data.check.facts.decode_mask", None)
    again = check_data(tree)
    assert (again.digest, again.errors, again.items) == (first.digest, [], 5) and first.digest
    assert all(np.array_equal(again.pixels[name], first.pixels[name]) for name in first.pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_undecodable_names_are_supported(tree: Path) -> None:
    for part in ("images", "masks"):
        folder = tree / "train" / part
        os.rename(os.fsencode(folder / "a.png"), os.fsencode(folder) + b"/\xff.png")  # noqa: PTH104 - bytes
    for _ in range(2):
        report = check_data(tree)
        assert not report.errors and report.digest and report.items == 5
    assert open_index(tree, DEFAULT_FORMAT, BOTH).get_subset("train").list_item_ids()[-1] == "\udcff"
