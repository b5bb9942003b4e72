"""Weights in several files with an index, one of several files alone, and files that Git LFS has not fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from segdsl.data.decode.images import read_image
from segdsl.diagnostics import SegError
from segdsl.weights.files import read_weights
from segdsl.weights.load import load_weights
from segdsl.weights.sources import compute_weights_sha256

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def write_shards(folder: Path, suffix: str = "safetensors") -> tuple[Path, dict[str, torch.Tensor]]:
    tensors = {key: torch.arange(4.0) + i for i, key in enumerate(("a.weight", "a.bias", "b.weight"))}
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    parts = {f"{stem}-00001-of-00002.{suffix}": ["a.weight"], f"{stem}-00002-of-00002.{suffix}": ["a.bias", "b.weight"]}
    for name, keys in parts.items():
        part = {key: tensors[key] for key in keys}
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, keys in parts.items() for key in keys}}))
    return index, tensors


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_all_parts_are_read(tmp_path: Path, suffix: str) -> None:
    index, tensors = write_shards(tmp_path, suffix)
    content, _ = read_weights(index)
    assert content.keys() == tensors.keys()
    assert all(torch.equal(content[key], tensors[key]) for key in tensors)


def test_the_digest_covers_all_parts(tmp_path: Path) -> None:
    index, _ = write_shards(tmp_path)
    before = compute_weights_sha256(index)
    save_file({"a.weight": torch.zeros(4)}, tmp_path / "model-00001-of-00002.safetensors")
    assert compute_weights_sha256(index) != before


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (lambda index: (index.parent / "model-00002-of-00002.safetensors").unlink(), "weights-missing"),
        (lambda index: index.write_text("{"), "weights-unreadable"),
        (lambda index: index.write_text('{"weight_map": {}}'), "weights-unreadable"),
        (lambda index: index.write_text('{"weight_map": {"a": 3}}'), "weights-unreadable"),
        (lambda index: index.write_text('{"weight_map": {"a": "../a.safetensors"}}'), "weights-unreadable"),
        (lambda index: index.write_text('{"weight_map": ' + "[" * 100_000), "weights-unreadable"),
        (lambda index: index.write_text('{"weight_map": {"a": "' + index.name + '"}}'), "weights-unreadable"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, change: Callable[[Path], object], slug: str) -> None:
    index, _ = write_shards(tmp_path)
    change(index)
    with pytest.raises(SegError) as caught:
        read_weights(index)
    assert [d.slug for d in caught.value.diagnostics] == [slug]


def test_one_part_alone_is_named_as_such(tmp_path: Path) -> None:
    write_shards(tmp_path)
    model = torch.nn.ModuleDict({"a": torch.nn.LayerNorm(4), "b": torch.nn.LayerNorm(4, bias=False)})
    with pytest.raises(SegError) as caught:
        load_weights(model, tmp_path / "model-00001-of-00002.safetensors")
    assert "one of 2 parts" in caught.value.diagnostics[0].help
    assert "`model.safetensors.index.json`" in caught.value.diagnostics[0].help


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    for name, read in (("w.safetensors", read_weights), ("i.png", read_image)):
        (tmp_path / name).write_bytes(POINTER)
        with pytest.raises(SegError) as caught:
            read(tmp_path / name)
        assert "git lfs pull" in caught.value.diagnostics[0].help
    Image.new("RGB", (2, 2)).save(tmp_path / "i.png")
    assert read_image(tmp_path / "i.png").shape == (2, 2, 3)
