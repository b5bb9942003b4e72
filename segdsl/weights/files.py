"""Reading and writing weights files. Only tensors are read; no code in a file is ever run."""

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
from segdsl.diagnostics.out_of_memory import describe_shortage
from segdsl.storage import git_lfs
from segdsl.storage.atomic import replace_atomically
from segdsl.text.listing import quote_names
from segdsl.weights.local_files import is_shard_index, list_shards, require_weights_file
from segdsl.weights.pickles import CorruptFileError, ForeignObjectsError, read_pytorch_file

# At most this many object names appear in an error message.
MAX_OBJECT_NAMES = 3
PYTHON_OBJECTS_MESSAGE = "the file contains Python objects besides tensors"
# The metadata key of the content digest in files that segdsl writes.
DIGEST_KEY = "content_sha256"
WRITE_AGAIN_HELP = "download or save the file again"
FORMATS_HELP = "segdsl reads `.safetensors` files and PyTorch files that contain only tensors"


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a weights file and return its content, nested as in the file, and its metadata.

    The tensors are on the CPU. The metadata of PyTorch files is empty. Raises SegError (`weights-missing`,
    `weights-unreadable`) and MemoryError.
    """
    require_weights_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise _build_unreadable_error(path, "cannot open the file", "check its permissions") from error
    # The format is detected by content, because published files have any suffix. A safetensors file begins with the
    # length of its JSON header; a zip archive and a pickle (of PyTorch before 1.6) have magic bytes.
    if is_shard_index(path, head):
        return _read_shards(path)
    if git_lfs.is_pointer(head):
        raise _build_unreadable_error(path, git_lfs.MESSAGE, git_lfs.HELP)
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return _read_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _read_pytorch_weights(path), {}
    if head.lstrip()[:1] == b"<":
        raise _build_unreadable_error(
            path, "the file is a web page: the page was saved instead of the weights", FORMATS_HELP
        )
    raise _build_unreadable_error(path, "the file is not a weights file" if head else "the file is empty", FORMATS_HELP)


def _read_shards(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read all files of an index as one."""
    content: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for part in list_shards(path):
        tensors, facts = read_weights(part)
        content.update(tensors)
        metadata.update(facts)
    return content, metadata


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of ``model`` atomically as a safetensors file.

    Raises SegError (`weights-not-written`) if the file cannot be written.
    """
    path = Path(path)
    try:
        write_tensors(path, model.state_dict(), metadata or {})
    except OSError as error:
        message = f"cannot write the weights: {error.strerror or 'the disk may be full'}"
        remedy = "choose another folder or free disk space"
        raise fail("weights-not-written", message, remedy, path=str(path)) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], previous: Path | None = None
) -> None:
    """Write a safetensors file atomically, with a digest of its content that is verified when the file is read.

    If ``previous`` is passed, an existing file is renamed to it. Raises OSError.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    facts = {**metadata, DIGEST_KEY: compute_content_digest(plain, metadata)}
    try:
        with replace_atomically(path, previous) as draft:
            save_file(plain, str(draft), facts)
    except safetensors.SafetensorError as error:
        # safetensors reports a full disk by its own exception, with the system's error number in the text only.
        found = re.search(r"\b(?:os error|code:) (\d+)", str(error))
        number = int(found[1]) if found else 0
        raise OSError(number, os.strerror(number) if number else "the disk may be full") from error


def compute_content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of metadata and tensors, independent of their layout in a file.

    It covers the name and value of each metadata entry, then the name, dtype, shape and bytes of each tensor, both in
    the order of their names.
    """
    total = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        total.update(f"{name}\0{text}\0".encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        # Out of memory is no sign of a damaged file.
        if describe_shortage(error):
            raise MemoryError(f"`{path.name}` does not fit into memory") from error
        raise _build_damage_error(path, "safetensors") from error
    # Only files that segdsl wrote have a digest. It detects bits that flipped on the disk or in a copy.
    digest = metadata.pop(DIGEST_KEY, None)
    if digest is not None and digest != compute_content_digest(tensors, metadata):
        raise _build_unreadable_error(
            path, "the file is damaged: its content differs from what was written", WRITE_AGAIN_HELP
        )
    return tensors, metadata


def _read_pytorch_weights(path: Path) -> dict[str, Any]:
    try:
        content = read_pytorch_file(path)
    except ForeignObjectsError as error:
        # Names come from the file and may be of any length.
        names = quote_names([name[:60] for name in error.names], MAX_OBJECT_NAMES)
        message = f"{PYTHON_OBJECTS_MESSAGE}, which could run code: {names}"
        remedy = "segdsl does not run code from a file; if you trust the file, save only its `state_dict`"
        raise _build_unreadable_error(path, message, remedy) from error
    except CorruptFileError as error:
        if str(error):
            raise _build_unreadable_error(path, f"cannot read the file: {error}", FORMATS_HELP) from error
        raise _build_damage_error(path, "PyTorch") from error
    if not isinstance(content, dict):
        message = (
            f"the PyTorch file contains an object of type `{_describe_type(content)}`, not a dictionary of tensors"
        )
        raise _build_unreadable_error(path, message, FORMATS_HELP)
    # `dict.items`, not the method of the object: an unpickled dictionary can have an attribute in its place.
    return {str(key): value for key, value in dict.items(content)}


def _describe_type(content: object) -> str:
    return "Tensor" if isinstance(content, Tensor) else type(content).__name__


def _build_unreadable_error(path: Path, message: str, help: str) -> SegError:
    return fail("weights-unreadable", message, help, path=str(path))


def _build_damage_error(path: Path, file_format: str) -> SegError:
    return _build_unreadable_error(
        path, f"the file is damaged, truncated, or not a {file_format} file", WRITE_AGAIN_HELP
    )
