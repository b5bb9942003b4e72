"""Reading and writing weight files. Nothing in a file is ever executed: tensors only."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segdsl.diagnostics import SegError, fail
from segdsl.diagnostics.out_of_memory import shortage
from segdsl.storage.atomic import replacing
from segdsl.weights.file_suggestions import require_file
from segdsl.weights.pickles import Damaged, Refused, read_pickled

SHOWN = 3
"""Names of objects that a refusal spells out."""
OBJECTS = "the file holds Python objects beside tensors"
DIGEST = "content_sha256"
"""The name in the metadata of our files under which their digest stands."""
WRITE_AGAIN = "fetch or write it again"
FORMATS = "segdsl reads `.safetensors` files and PyTorch files that hold tensors only"


def open_weights(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a file as it is nested there, its tensors on the CPU, and its metadata (none of PyTorch files).

    Raises SegError (`weights-missing`, `weights-unreadable`) and MemoryError.
    """
    require_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise _unreadable(path, "the file cannot be opened", "check its permissions") from error
    if len(head) == 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return _open_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _open_torch(path), {}
    if head.lstrip()[:1] == b"<":
        raise _unreadable(path, "the file is a web page: what was saved is not the file but a page about it", FORMATS)
    raise _unreadable(path, "the file holds no weights" if head else "the file is empty", FORMATS)


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the state of ``model`` as safetensors, whole or not at all: the file appears under its name when complete.

    Raises SegError (`weights-not-written`) where the folder cannot be written.
    """
    path = Path(path)
    try:
        write_tensors(path, model.state_dict(), metadata or {})
    except OSError as error:
        message = f"the weights could not be written: {error.strerror or 'the disk may be full'}"
        raise fail("weights-not-written", message, "choose another folder or make room", path=str(path)) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], previous: Path | None = None
) -> None:
    """Writes a safetensors file, whole or not at all, with a digest of its content that reading holds it to.

    The file that was there becomes ``previous`` where that is given. Raises OSError.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    facts = {**metadata, DIGEST: digest_of_content(plain, metadata)}
    try:
        with replacing(path, previous) as draft:
            save_file(plain, str(draft), facts)
    except safetensors.SafetensorError as error:  # what it says of a disk that refuses
        found = re.search(r"\b(?:os error|code:) (\d+)", str(error))
        number = int(found[1]) if found else 0
        raise OSError(number, os.strerror(number) if number else "the disk may be full") from error


def digest_of_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The SHA-256 over metadata and tensors in the order of their names: of a name and text each, then of a name, type,
    shape and bytes each. However they are laid out in a file, it is the same."""
    total = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        total.update(f"{name}\0{text}\0".encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _open_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        if shortage(error):  # which says nothing of the file
            raise MemoryError(f"`{path.name}` does not fit into memory") from error
        raise _damaged(path, "safetensors") from error
    stated = metadata.pop(DIGEST, None)
    if stated is not None and stated != digest_of_content(tensors, metadata):
        raise _unreadable(path, "the file is damaged: it does not hold what was written into it", WRITE_AGAIN)
    return tensors, metadata


def _open_torch(path: Path) -> dict[str, Any]:
    try:
        content = read_pickled(path)
    except Refused as error:
        shown = ", ".join(f"`{name[:60]}`" for name in error.names[:SHOWN])
        more = f" and {len(error.names) - SHOWN} more" if len(error.names) > SHOWN else ""
        message = f"{OBJECTS}, which could run code: {shown}{more}"
        remedy = "segdsl runs nothing that a file contains: where you trust it, save its `state_dict` alone"
        raise _unreadable(path, message, remedy) from error
    except Damaged as error:
        if str(error):
            raise _unreadable(path, f"the file cannot be read: {error}", FORMATS) from error
        raise _damaged(path, "PyTorch") from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"the PyTorch file holds a {_kind(content)}, not a dictionary of tensors", FORMATS)
    return {str(key): value for key, value in dict.items(content)}


def _kind(content: object) -> str:
    return "single tensor" if isinstance(content, Tensor) else type(content).__name__


def _unreadable(path: Path, message: str, help: str) -> SegError:
    return fail("weights-unreadable", message, help, path=str(path))


def _damaged(path: Path, kind: str) -> SegError:
    return _unreadable(path, f"the {kind} file is damaged, cut off, or none at all", WRITE_AGAIN)
