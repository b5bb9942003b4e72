"""Ending a run by a signal: at once before its first step and after its last, between them after the step that is being
made; by a second Ctrl-C at once, whatever it is doing."""

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
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, TypeVar

from segdsl.diagnostics import Interrupted

T = TypeVar("T")
HEARD = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a run; SIGHUP comes when its terminal is closed, and Windows has none."""
ECHO = 0.1
"""Seconds in which a second SIGINT is the first one again: a terminal and a wrapper both send it."""
SAID = b"\nstopping after this step; Ctrl-C once more stops at once\n"
SHOW_CURSOR = b"\x1b[?25h"
_listening = False
"""Whether this process has a thread that hears signals; those that it forks have none."""


def _let_go() -> None:
    global _listening
    if _listening:
        signal.set_wakeup_fd(-1)  # else what a child hears is heard here once more
    _listening = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Signals:
    """While a run goes on, SIGINT, SIGTERM and SIGHUP raise Interrupted, with ``help``; under :meth:`waiting` they only
    leave a word, and :meth:`check` raises where the state is whole.

    A second SIGINT ends the process at once, with the status 130, also while it waits for a library: a thread sees to
    that. What the process was started to ignore stays ignored, as SIGHUP under `nohup`. Outside of the main thread
    signals stay as they are.
    """

    def __init__(self) -> None:
        self.asked = 0
        """The first signal, 0 before there is one."""
        self.help = "start it again"
        """What a person can do who has ended the run."""
        self._waits = False
        self._before: dict[int, Any] = {}
        self._wakeup = -1
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Signals:
        global _listening
        if threading.current_thread() is threading.main_thread():
            heard, written = self._pair = socket.socketpair()
            written.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
            _listening = True
            threading.Thread(target=self._watch, args=(heard,), daemon=True).start()
            heeded = [number for number in HEARD if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _listening
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._pair is not None:
            signal.set_wakeup_fd(self._wakeup)
            _listening = False
            self._pair[1].close()  # which ends the thread
        self._before, self._pair = {}, None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a signal only leaves a word."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def check(self) -> None:
        """Raises Interrupted when a signal came."""
        if self.asked:
            raise Interrupted(self.asked, self.help)

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """The items; before each, :meth:`check`."""
        for item in items:
            self.check()
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, self.asked or number
        if first and not self._waits:  # a second one would end the tidying up that the first has begun
            self.check()

    def _watch(self, heard: socket.socket) -> None:
        """Sees signals while the main thread is busy in a library, where no handler of Python runs."""
        said, first = False, 0.0
        with heard:
            while numbers := heard.recv(64):
                for number in numbers:
                    if number not in HEARD:
                        continue
                    if not said and self._waits:
                        _say(SAID)
                    said, now = True, time.monotonic()
                    if number == signal.SIGINT and first and now - first > ECHO:
                        _end()
                    if number == signal.SIGINT:
                        first = first or now


def _say(text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text)


def _end() -> None:
    """Ends the process now, and those that load for it."""
    try:
        for child in multiprocessing.active_children():
            child.kill()
        _say((SHOW_CURSOR if sys.stdout.isatty() else b"") + b"\nstopped at once\n")
    finally:
        os._exit(128 + signal.SIGINT)
