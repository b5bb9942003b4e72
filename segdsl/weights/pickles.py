"""Reading tensors from PyTorch files without running code: a file with other objects is rejected before it is loaded.

A PyTorch file is a pickle, a program for a stack machine that can call any function by name. torch's weights-only
reader runs it with a short list of allowed functions that create tensors. One class is added to the list, because every
file of OTX 2 needs it.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import _weights_only_unpickler

# The largest allowed ratio of unpacked to packed size. torch stores tensors uncompressed, so that more is a zip bomb.
MAX_UNPACK_RATIO = 1.5
# Unpacked bytes that are always allowed: in tiny files the entries of the archive weigh more than the content.
MIN_UNPACK_LIMIT = 1 << 20
# A file of the old format (before PyTorch 1.6) begins with this many pickles, before the raw tensor data: two for the
# format, one for the system, then the content and the list of storages.
LEGACY_PICKLE_COUNT = 5
STRING_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
MEMO_STORE_OPCODES = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
MEMO_LOAD_OPCODES = {"GET", "BINGET", "LONG_BINGET"}


class TaskName:
    """Stand-in for OTX's enum of tasks, which its checkpoints contain besides the tensors. It holds a single string."""

    __slots__ = ("value",)

    def __init__(self, value: object = None) -> None:
        self.value = value if isinstance(value, str) else ""


# The path of the enum in OTX 2.6, and in the versions before.
STAND_INS: list[Any] = [(TaskName, "otx.types.task.OTXTaskType"), (TaskName, "otx.core.types.task.OTXTaskType")]


class ForeignObjectsError(Exception):
    """The file contains Python objects; ``names`` are the classes and functions that it would call."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class CorruptFileError(Exception):
    """The file is damaged or not a PyTorch file; the message gives the reason, or is empty if it is unknown."""


def read_pytorch_file(path: Path) -> Any:
    """Return the content of a PyTorch file without running code in it.

    Raises :class:`ForeignObjectsError` and :class:`CorruptFileError`.
    """
    _require_tensor_archive(path)
    # Checked before torch does, because its own error message takes time quadratic in the length of a name.
    if names := find_foreign_names(path):
        raise ForeignObjectsError(names)
    try:
        # torch guesses the format of a path from its suffix; an open file has none.
        with open(path, "rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    # A damaged or hostile file can raise anything, with a message that is useless to the user.
    except Exception as error:
        raise CorruptFileError("") from error


def find_foreign_names(path: Path) -> list[str]:
    """Return the classes and functions that a file names but tensors do not need, in order, without duplicates."""
    allowed = set(_weights_only_unpickler._get_allowed_globals()) | {name for _, name in STAND_INS}
    found: dict[str, None] = {}
    for name in _scan_pytorch_file(path):
        if name not in allowed:
            found[name.removeprefix("__builtin__.").removeprefix("builtins.")] = None
    return list(found)


def _scan_pytorch_file(path: Path) -> Iterator[str]:
    """Yield every class and function that the pickles in a file name. The pickles are disassembled, not run."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry == "data.pkl" or entry.endswith("/data.pkl"):
                        with archive.open(entry) as file:
                            yield from _scan_pickle(file)  # pyright: ignore[reportArgumentType]
        else:
            with open(path, "rb") as file:
                for _ in range(LEGACY_PICKLE_COUNT):
                    yield from _scan_pickle(file)
    # The rest of the file is damaged; the names before the damage still count.
    except Exception:
        return


def _scan_pickle(file: BinaryIO) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif code.name.startswith("EXT"):
            yield f"extension {argument}"
        elif code.name in STRING_OPCODES:
            strings.append(str(argument))
        elif code.name in MEMO_STORE_OPCODES and strings:
            memo[len(memo) if code.name == "MEMOIZE" else int(argument)] = strings[-1]  # pyright: ignore
        elif code.name in MEMO_LOAD_OPCODES and argument in memo:
            strings.append(memo[argument])
        # STACK_GLOBAL takes a module and a name from the stack: older strings are never needed.
        del strings[:-2]


def _require_tensor_archive(path: Path) -> None:
    """Raise :class:`CorruptFileError` for a zip file that is not a PyTorch file of tensors or is compressed."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # zipfile raises many kinds of exceptions for damaged archives.
    except Exception as error:
        raise CorruptFileError("") from error
    names = [entry.filename for entry in entries]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CorruptFileError("it is a TorchScript program, and reading it would run its code")
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        inner = next((name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors", ".zip"))), None)
        raise CorruptFileError(
            "it is a zip file" + (f" that contains `{inner}`: unpack it" if inner else " without weights")
        )
    if sum(entry.file_size for entry in entries) > max(path.stat().st_size * MAX_UNPACK_RATIO, MIN_UNPACK_LIMIT):
        raise CorruptFileError("it is compressed and would unpack to far more than its size")
