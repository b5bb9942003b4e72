"""Stopping a run by a signal.

Before its first and after its last step a run stops at once, between them after the current step; a second Ctrl-C stops
it at once in any case.
"""

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
"""Signals that stop a run; SIGHUP comes when its terminal is closed, and Windows has none."""
ECHO = 0.1
"""Seconds within which a second SIGINT is the first one again: a terminal and a wrapper script both send it."""
SAID = b"\nstopping after this step; press Ctrl-C again to stop at once\n"
SHOW_CURSOR = b"\x1b[?25h"
_listening = False
"""Whether a thread of this process receives signals; forked children have no such thread."""


def _let_go() -> None:
    global _listening
    if _listening:
        signal.set_wakeup_fd(-1)  # else the parent would receive the signals of a forked child as well
    _listening = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Signals:
    """Makes SIGINT, SIGTERM and SIGHUP raise Interrupted, with ``advice``, while a run is in progress.

    Under :meth:`defer_signals` they are only recorded, and :meth:`raise_if_interrupted` raises where the state is
    complete. A second SIGINT ends the process at once with status 130. Signals that the process was started to ignore
    stay ignored, such as SIGHUP under `nohup`. Outside the main thread signals are left alone.
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
            # Python runs its handlers in the main thread only, and not while that is busy in a library. The wakeup
            # socket lets a thread see a second Ctrl-C even then.
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
        """Only record signals inside the block."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.asked:
            raise Interrupted(self.asked, self.help)

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; check for a signal before each."""
        for item in items:
            self.check()
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, self.asked or number
        # Only for the first signal: raising again would break the cleanup that the first one has started.
        if first and not self._waits:
            self.check()

    def _watch(self, heard: socket.socket) -> None:
        """Receive signals in a thread of its own."""
        announced, first = False, 0.0
        with heard:
            while numbers := heard.recv(64):
                for number in numbers:
                    if number not in HEARD:
                        continue
                    if not announced and self._waits:
                        _say(SAID)
                    announced, now = True, time.monotonic()
                    if number == signal.SIGINT and first and now - first > ECHO:
                        _end()
                    if number == signal.SIGINT:
                        first = first or now


def _say(text: bytes) -> None:
    # `print` would wait for a lock that the interrupted main thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, text)


def _end() -> None:
    """End the process and its data-loader workers at once."""
    try:
        for child in multiprocessing.active_children():
            child.kill()
        _say((SHOW_CURSOR if sys.stdout.isatty() else b"") + b"\nstopped at once\n")
    finally:
        os._exit(128 + signal.SIGINT)
