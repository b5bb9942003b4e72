"""PyTorch's own files, read as tensors only: what would run code is refused and named, before anything is made of it.

A PyTorch file is a pickle, a program for a small machine that may call any function it names. torch's reader runs it
with a short list of functions that make tensors; one class is added to them, which every file of OTX 2 needs.
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

MAX_SWELL = 1.5
"""How many times its size a file may unfold to; torch stores tensors as they are."""
SMALL = 1 << 20
"""Bytes that any file may unfold to."""
OLD_PICKLES = 5
"""Pickles that a file of the old form begins with, before the numbers: two of them tell the form, one the machine, then
content and storages."""
STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
KEEPS = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
RECALLS = {"GET", "BINGET", "LONG_BINGET"}


class TaskName:
    """Stands in for OTX's enum of tasks, which its checkpoints name beside the tensors: one string and nothing else."""

    __slots__ = ("value",)

    def __init__(self, value: object = None) -> None:
        self.value = value if isinstance(value, str) else ""


STAND_INS: list[Any] = [(TaskName, "otx.types.task.OTXTaskType"), (TaskName, "otx.core.types.task.OTXTaskType")]
"""The enum in OTX 2.6, and where it lay in the versions before."""


class Refused(Exception):
    """The file holds objects; ``names`` are the classes and functions that it wants called, the first ones."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class Damaged(Exception):
    """The file is cut off, or no PyTorch file at all; the text says what is known of it."""


def read_pickled(path: Path) -> Any:
    """The content of a PyTorch file. Nothing in it is run. Raises :class:`Refused` and :class:`Damaged`."""
    _require_archive(path)
    # First, because the words of torch's own refusal take it time that grows with the square of a name's length.
    if names := foreign_names(path):
        raise Refused(names)
    try:
        # An open file has no name by which torch could take it for one of another kind.
        with open(path, "rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or hostile file raises is open, and its text is not ours
        raise Damaged("") from error


def foreign_names(path: Path) -> list[str]:
    """The classes and functions that a file names and that no tensor needs, in their order, each once."""
    allowed = set(_weights_only_unpickler._get_allowed_globals()) | {name for _, name in STAND_INS}
    found: dict[str, None] = {}
    for name in _names(path):
        if name not in allowed:
            found[name.removeprefix("__builtin__.").removeprefix("builtins.")] = None
    return list(found)


def _names(path: Path) -> Iterator[str]:
    """Every class and function that the pickles of a file name. They are taken apart and not run."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry == "data.pkl" or entry.endswith("/data.pkl"):
                        with archive.open(entry) as file:
                            yield from _names_in(file)  # pyright: ignore[reportArgumentType]
        else:
            with open(path, "rb") as file:
                for _ in range(OLD_PICKLES):
                    yield from _names_in(file)
    except Exception:  # from here on the file is damaged, in whatever way; what came before counts
        return


def _names_in(file: BinaryIO) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif code.name.startswith("EXT"):
            yield f"extension {argument}"
        elif code.name in STRINGS:
            strings.append(str(argument))
        elif code.name in KEEPS and strings:
            memo[len(memo) if code.name == "MEMOIZE" else int(argument)] = strings[-1]  # pyright: ignore
        elif code.name in RECALLS and argument in memo:
            strings.append(memo[argument])
        del strings[:-2]


def _require_archive(path: Path) -> None:
    """Refuses zip files that are no PyTorch file of tensors, or that unfold to much more than they are."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile has an exception of its own for each way to be broken
        raise Damaged("") from error
    names = [entry.filename for entry in entries]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise Damaged("it is a TorchScript program, and its code would have to be run")
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        inner = next((name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors", ".zip"))), None)
        raise Damaged("it is a zip file" + (f" with `{inner}` in it: unpack that" if inner else " of something else"))
    if sum(entry.file_size for entry in entries) > max(path.stat().st_size * MAX_SWELL, SMALL):
        raise Damaged("it is compressed, and would unfold to far more than its size")
