"""Datumaro's importers, run on one folder: they may read what is in it, and do nothing else.

An importer opens whatever paths it finds in the files of a dataset. While one runs, an audit hook of Python refuses
files outside the dataset, writing, other processes, and the network.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from segdsl.diagnostics import SegError, fail

FORBIDDEN_EVENTS = frozenset({
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket.connect",
    "socket.getaddrinfo", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
    "pickle.find_class",
})  # fmt: skip
"""Audit events of what no reader of a dataset has to do."""
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Guard:
    """Decides what may be opened while an importer runs on ``root``, and remembers what was refused."""

    def __init__(self, root: Path) -> None:
        trusted = {sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)}
        self.root = os.path.realpath(root)
        self.trusted = tuple({os.path.realpath(folder) for folder in trusted})
        self.refused = ""

    def check_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Raise PermissionError for a forbidden event."""
        if event in FORBIDDEN_EVENTS:
            self._refuse(event)
        elif event == "open" and isinstance(args[0], (str, bytes)):
            path, flags = os.path.realpath(os.fsdecode(args[0])), args[2]
            is_ours = _is_inside(path, self.root) and not (isinstance(flags, int) and flags & WRITE_FLAGS)
            # Modules that are imported late, with their data and compiled files.
            if not is_ours and path != os.devnull and not any(_is_inside(path, place) for place in self.trusted):
                self._refuse(path)

    def _refuse(self, what: str) -> None:
        self.refused = self.refused or what
        raise PermissionError(f"{what} is outside the dataset")


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


_GUARD: ContextVar[_Guard | None] = ContextVar("_GUARD", default=None)
_INSTALLED: list[bool] = []


def _audit_event(event: str, args: tuple[Any, ...]) -> None:
    guard = _GUARD.get()
    if guard is not None:
        guard.check_event(event, args)


class _Recorder(logging.Handler):
    """Keeps the warnings that are logged; Datumaro logs what it leaves out of a dataset."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(" ".join(record.getMessage().split()))


@contextlib.contextmanager
def _record_logging() -> Iterator[list[str]]:
    """Collect the warnings of all loggers instead of printing them."""
    recorder, handlers = _Recorder(), logging.root.handlers
    logging.root.handlers = [recorder]
    try:
        yield recorder.messages
    finally:
        logging.root.handlers = handlers


@contextlib.contextmanager
def guard_import(root: Path, name: str) -> Iterator[list[str]]:
    """Run a part of Datumaro on a dataset in the format ``name``: guarded, and with its errors as diagnostics.

    Yield the list of the warnings that Datumaro logs. Raise :class:`SegError` for whatever Datumaro raises, and for
    what the guard refused.
    """
    if not _INSTALLED:
        # Python has no way to remove a hook again. It costs a lookup per event when no importer runs.
        sys.addaudithook(_audit_event)
        _INSTALLED.append(True)
    guard = _Guard(root)
    token = _GUARD.set(guard)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _record_logging() as messages:
            warnings.simplefilter("ignore")
            yield messages
    except SegError:
        raise
    # Importers raise anything on data that they do not like.
    except Exception as error:
        raise _make_import_error(root, name, error) if not guard.refused else _make_refusal(root, guard) from error
    finally:
        _GUARD.reset(token)
    if guard.refused:
        raise _make_refusal(root, guard)


def _make_refusal(root: Path, guard: _Guard) -> SegError:
    message = f"the dataset refers to `{guard.refused}`, which is not part of it"
    help = "copy the file into the dataset, and correct the path in its annotations"
    return fail("import-outside", message, help, path=str(root))


def _make_import_error(root: Path, name: str, error: BaseException) -> SegError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = " ".join(str(cause).split()).replace(f"{root}{os.sep}", "") or "no reason given"
    reason = reason if len(reason) <= 200 else f"{reason[:197]}…"
    message = f"Datumaro cannot read this as `{name}`: {type(cause).__name__}: {reason}"
    help = "check that the folder is complete and in this format; the language reference describes its files"
    return fail("import-failed", message, help, path=str(root))


TAKES_IMAGE_SIZES = frozenset({"open_images"})
"""Importers that leave out masks unless they are told the sizes of the images."""


def import_dataset(root: Path, name: str, image_sizes: Mapping[str, tuple[int, int]]) -> tuple[Any, list[str]]:
    """Import a dataset with Datumaro's importer ``name``. Return it, and the warnings that Datumaro logged.

    ``image_sizes`` are the (height, width) of the images by file name without suffix. Raise :class:`SegError` if the
    import fails.
    """
    # Loaded before the guard is up: importing modules reads and writes files all over the disk.
    from datumaro.components.dataset import Dataset
    from datumaro.components.environment import Environment

    options: dict[str, Any] = {"image_meta": dict(image_sizes)} if name in TAKES_IMAGE_SIZES else {}
    with guard_import(root, name) as messages:
        if name not in Environment().importers:
            raise ValueError("this version of Datumaro has no such importer")
        dataset = Dataset.import_from(str(root), name, **options)
        dataset.init_cache()
        # Without the folder, so that a copy of the dataset has the same warnings.
        return dataset, [text.replace(f"{root}{os.sep}", "") for text in dict.fromkeys(messages)]
