"""A file of weights that is not there, and which one may be meant."""

from __future__ import annotations

import re
from pathlib import Path

from segdsl.diagnostics import fail, nearest
from segdsl.words.published import PUBLISHED

BEST, SUFFIXES = "best.safetensors", (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def require_file(path: Path) -> None:
    """Refuses what is no file (`weights-missing`), and says which one may be meant."""
    if path.is_file():
        return
    where = "is a folder" if path.is_dir() else "does not exist"
    raise fail("weights-missing", f"the weights file {where}", _instead(path), path=str(path))


def _instead(path: Path) -> str:
    """What may be meant by a path at which there is no file."""
    folder = path if path.is_dir() else path.parent
    for near in (folder / "checkpoints" / BEST, folder / BEST):
        if near.is_file():
            return f"name the file in this run: `{near}`"
    text = str(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not folder.is_dir():
        return f"a file of the Hugging Face hub is named whole: `hf://{text}/model.safetensors`"
    published = nearest(path.name, PUBLISHED) if "." not in path.name else None
    if published is not None:
        return f"did you mean the published weights `otx:{published}`?"
    if path.name == "program":
        return "leave `--weights` out: what the program names is where it starts"
    if "#sha256=" in text:
        return "a digest is stated of an address; a file of this machine is held to the lock of a run"
    try:
        known = [entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES]
    except OSError:
        known = []
    found = nearest(path.name, known)
    if found is not None:
        return f"did you mean `{folder / found}`?"
    if Path(path.name).is_file() and path.parent != Path():
        return f"a path in a program is relative to the program; there is a `{path.name}` where you stand"
    return "check the path"
