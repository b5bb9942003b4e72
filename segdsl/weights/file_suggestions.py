"""Suggestions for a weights file that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from segdsl.diagnostics import fail, find_closest_name
from segdsl.words.published import PUBLIC_WEIGHTS

BEST_CHECKPOINT, WEIGHT_SUFFIXES = "best.safetensors", (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


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
