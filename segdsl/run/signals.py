"""Ending a run by a signal: after the step that is being made, and by a second Ctrl-C at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from segdsl.diagnostics import Interrupted

T = TypeVar("T")
HEARD = (signal.SIGINT, signal.SIGTERM)
ECHO = 0.1
"""Seconds in which a second SIGINT is the first one again: a terminal and a wrapper both send it."""
SAID = b"\nstopping after this step; Ctrl-C once more stops at once\n"
SHOW_CURSOR = b"\x1b[?25h"


class Signals:
    """While a run goes on, SIGINT and SIGTERM only leave a word; :meth:`check` raises where the state is whole.

    A second SIGINT ends the process at once, with the status 130, also while it waits for a library: a thread sees to
    that. Outside of the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.asked = 0
        """The first signal, 0 before there is one."""
        self._before: dict[int, Any] = {}
        self._wakeup = -1
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            heard, written = self._pair = socket.socketpair()
            written.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._note) for number in HEARD}
            threading.Thread(target=self._watch, args=(heard,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._pair is not None:
            signal.set_wakeup_fd(self._wakeup)
            self._pair[1].close()  # which ends the thread
        self._before, self._pair = {}, None

    def check(self) -> None:
        """Raises Interrupted when a signal came."""
        if self.asked:
            raise Interrupted(self.asked)

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """The items; before each, :meth:`check`."""
        for item in items:
            self.check()
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number

    def _watch(self, heard: socket.socket) -> None:
        """Sees signals while the main thread is busy in a library, where no handler of Python runs."""
        first = 0.0
        with heard:
            while numbers := heard.recv(64):
                for number in numbers:
                    if number not in HEARD:
                        continue
                    if not first:
                        first = time.monotonic()
                        _say(SAID)
                    elif number == signal.SIGINT and time.monotonic() - first > ECHO:
                        _end()


def _say(text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text)


def _end() -> None:
    """Ends the process now, and those that load for it."""
    for child in multiprocessing.active_children():
        child.kill()
    _say((SHOW_CURSOR if sys.stdout.isatty() else b"") + b"\nstopped at once\n")
    os._exit(128 + signal.SIGINT)
