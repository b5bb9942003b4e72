"""Weights files on this machine: one that does not exist, and weights in several files with an index.

An index, `model.safetensors.index.json`, says which tensor is in which file.
"""

from __future__ import annotations

import re
from pathlib import Path

from segdsl.diagnostics import fail, find_closest_name
from segdsl.text.json import parse_json
from segdsl.words.published import PUBLIC_WEIGHTS

BEST_CHECKPOINT, WEIGHT_SUFFIXES = "best.safetensors", (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
MAX_INDEX_BYTES = 64 * 2**20
"""Size of an index that is read; one of a model with a million tensors has a few dozen megabytes."""
PART_NAME = re.compile(r"^(?P<start>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)$")


def require_weights_file(path: Path) -> None:
    """Raise SegError (`weights-missing`) with a suggestion if ``path`` is not a file."""
    if path.is_file():
        return
    message = "the path is a folder, not a weights file" if path.is_dir() else "the weights file does not exist"
    raise fail("weights-missing", message, _suggest_weights_file(path), path=str(path))


def _suggest_weights_file(path: Path) -> str:
    """Return a suggestion for a path at which there is no file."""
    # From the most specific mistake to the most general one; the first that applies is suggested.
    folder = path if path.is_dir() else path.parent
    for near in (folder / "checkpoints" / BEST_CHECKPOINT, folder / BEST_CHECKPOINT):
        if near.is_file():
            return f"use the checkpoint of this run: `{near}`"
    text = str(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not folder.is_dir():
        return f"for a file on the Hugging Face hub, write `hf://{text}/model.safetensors`"
    published = find_closest_name(path.name, PUBLIC_WEIGHTS) if "." not in path.name else None
    if published is not None:
        return f"did you mean the published weights `otx:{published}`?"
    if path.name == "program":
        return "omit `--weights`: the weights in the program are used by default"
    if "#sha256=" in text:
        return "remove `#sha256=…`: only a URL can state a digest"
    try:
        known = [entry.name for entry in folder.iterdir() if entry.suffix in WEIGHT_SUFFIXES]
    except OSError:
        known = []
    found = find_closest_name(path.name, known)
    if found is not None:
        return f"did you mean `{folder / found}`?"
    if Path(path.name).is_file() and path.parent != Path():
        return f"paths in a program are relative to the program, but `{path.name}` is in the current folder"
    return "check the path"


def is_shard_index(path: Path, head: bytes) -> bool:
    """Return whether a file is the index of several weights files; ``head`` is how it begins."""
    return path.name.endswith(".index.json") and head.lstrip()[:1] == b"{"


def list_shards(path: Path) -> list[Path]:
    """Return the files that an index names, all in its own folder.

    Raises SegError (`weights-unreadable`, `weights-missing`).
    """
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError("it is too large")
        names = sorted(set(parse_json(path.read_bytes())["weight_map"].values()))
        if not names or any(Path(name).name != name or name.endswith(".json") for name in names):
            raise ValueError("`weight_map` must name files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = "the file is an index of several weights files, but it is malformed"
        help = "download it again; `weight_map` in it names the file of each tensor"
        raise fail("weights-unreadable", message, help, path=str(path)) from error
    files = [path.with_name(name) for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        message = f"the file is an index of {len(files)} files, but `{missing[0]}` is not beside it"
        raise fail("weights-missing", message, "download all of its files into one folder", path=str(path))
    return files


def list_weights_files(path: Path) -> list[Path]:
    """Return the file, and with it all others if it is the index of several."""
    with open(path, "rb") as file:
        head = file.read(64)
    return [path, *list_shards(path)] if is_shard_index(path, head) else [path]


def describe_part(path: Path) -> str:
    """Return what to do about one of several weights files, or an empty string for a file of its own."""
    found = PART_NAME.match(path.name)
    if found is None:
        return ""
    index = f"{found['start']}{found['suffix']}.index.json"
    count = int(found["count"])
    return (
        f"the file is one of {count} parts: load them all by their index, `{index}`, which must be in the same folder"
    )
