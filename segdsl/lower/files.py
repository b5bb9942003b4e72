"""Reading and writing weight files. Nothing in a file is ever executed: tensors only."""

from __future__ import annotations

import os
import pickle
import re
import struct
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segdsl.diagnostics import SegError, fail

FORMATS = "segdsl reads `.safetensors` files and PyTorch files that hold tensors only"


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by key, on the CPU, and its metadata (empty for PyTorch files).

    Of a PyTorch file with nested dictionaries the keys are joined by dots. Raises SegError (`weights-missing`,
    `weights-unreadable`).
    """
    content, metadata = open_weights(Path(path))
    found: dict[str, Tensor] = {}
    _flatten("", content, found)
    return found, metadata


def open_weights(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a file as it is nested there, and its metadata. Raises as :func:`read_weights` does."""
    if not path.is_file():
        where = "is a folder" if path.is_dir() else "does not exist"
        best = path / "checkpoints" / "best.safetensors"
        remedy = f"name the file in this run: `{best}`" if best.is_file() else "check the path"
        raise fail("weights-missing", f"the weights file {where}", remedy, path=str(path))
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise _unreadable(path, "the file cannot be opened", "check its permissions") from error
    if len(head) == 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return _open_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _open_torch(path), {}
    raise _unreadable(path, "the file holds no weights" if head else "the file is empty", FORMATS)


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the state of ``model`` as safetensors, whole or not at all: the file appears under its name when complete.

    Raises SegError (`weights-not-written`) where the folder cannot be written.
    """
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            save_file(tensors, name, dict(metadata or {}))
            _settle(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        why = getattr(error, "strerror", None) or "the disk may be full"
        message = f"the weights could not be written: {why}"
        raise fail("weights-not-written", message, "choose another folder or make room", path=str(path)) from error


def _settle(written: Path, path: Path) -> None:
    """Moves a complete file to its name, with the permissions that a new file gets."""
    with open(written, "rb+") as file:
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    written.chmod(0o666 & ~mask)
    written.replace(path)


def _open_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, "safetensors") from error


def _open_torch(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error:")[2]
        if not re.search(r"global|reduce|class|function", reason, re.IGNORECASE):
            raise _damaged(path, "PyTorch") from error
        remedy = "save its `state_dict` alone, or as safetensors; segdsl never runs what a file contains"
        raise _unreadable(path, "the PyTorch file holds Python objects beside tensors", remedy) from error
    except Exception as error:  # what a damaged or hostile file raises is open, and its text is not ours
        raise _damaged(path, "PyTorch") from error
    if not isinstance(content, Mapping):
        raise _unreadable(path, f"the PyTorch file holds a {_kind(content)}, not a dictionary of tensors", FORMATS)
    return {str(key): value for key, value in content.items()}


def _kind(content: object) -> str:
    return "single tensor" if isinstance(content, Tensor) else type(content).__name__


def _flatten(prefix: str, content: Mapping[str, Any], found: dict[str, Tensor]) -> None:
    for key, value in content.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping):
            _flatten(f"{prefix}{key}.", value, found)


def _unreadable(path: Path, message: str, help: str) -> SegError:
    return fail("weights-unreadable", message, help, path=str(path))


def _damaged(path: Path, kind: str) -> SegError:
    return _unreadable(path, f"the {kind} file is damaged, cut off, or none at all", "fetch or write it again")
