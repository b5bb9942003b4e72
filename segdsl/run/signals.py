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

from segdsl.diagnostics import SignalInterrupt

T = TypeVar("T")
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that stop a run; SIGHUP comes when its terminal is closed, and Windows has none."""
ECHO_SECONDS = 0.1
"""Seconds within which a second SIGINT is the first one again: a terminal and a wrapper script both send it."""
STOP_MESSAGE = b"\nstopping after this step; press Ctrl-C again to stop at once\n"
SHOW_CURSOR = b"\x1b[?25h"
_has_listener = False
"""Whether a thread of this process receives signals; forked children have no such thread."""


def _detach_listener() -> None:
    global _has_listener
    if _has_listener:
        signal.set_wakeup_fd(-1)  # else the parent would receive the signals of a forked child as well
    _has_listener = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_listener)


class Signals:
    """Makes SIGINT, SIGTERM and SIGHUP raise Interrupted, with ``advice``, while a run is in progress.

    Under :meth:`defer_signals` they are only recorded, and :meth:`raise_if_interrupted` raises where the state is
    complete. A second SIGINT ends the process at once with status 130. Signals that the process was started to ignore
    stay ignored, such as SIGHUP under `nohup`. Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        """The first signal, 0 before there is one."""
        self.advice = "start it again"
        """What a person can do who has ended the run."""
        self._is_deferring = False
        self._previous_handlers: dict[int, Any] = {}
        self._previous_wakeup = -1
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Signals:
        global _has_listener
        if threading.current_thread() is threading.main_thread():
            # Python runs its handlers in the main thread only, and not while that is busy in a library. The wakeup
            # socket lets a thread see a second Ctrl-C even then.
            heard, written = self._sockets = socket.socketpair()
            written.setblocking(False)
            self._previous_wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
            _has_listener = True
            threading.Thread(target=self._watch_socket, args=(heard,), daemon=True).start()
            heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._previous_handlers = {number: signal.signal(number, self._handle_signal) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _has_listener
        for number, handler in self._previous_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._sockets is not None:
            signal.set_wakeup_fd(self._previous_wakeup)
            _has_listener = False
            self._sockets[1].close()  # which ends the thread
        self._previous_handlers, self._sockets = {}, None

    @contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Only record signals inside the block."""
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False

    def raise_if_interrupted(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signal_number:
            raise SignalInterrupt(self.signal_number, self.advice)

    def iterate_interruptibly(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; check for a signal before each."""
        for item in items:
            self.raise_if_interrupted()
            yield item

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.signal_number = not self.signal_number, self.signal_number or number
        # Only for the first signal: raising again would break the cleanup that the first one has started.
        if first and not self._is_deferring:
            self.raise_if_interrupted()

    def _watch_socket(self, receiver: socket.socket) -> None:
        """Receive signals in a thread of its own."""
        announced, first = False, 0.0
        with receiver:
            while numbers := receiver.recv(64):
                for number in numbers:
                    if number not in STOP_SIGNALS:
                        continue
                    if not announced and self._is_deferring:
                        _write_stderr(STOP_MESSAGE)
                    announced, now = True, time.monotonic()
                    if number == signal.SIGINT and first and now - first > ECHO_SECONDS:
                        _exit_at_once()
                    if number == signal.SIGINT:
                        first = first or now


def _write_stderr(text: bytes) -> None:
    # `print` would wait for a lock that the interrupted main thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, text)


def _exit_at_once() -> None:
    """End the process and its data-loader workers at once."""
    try:
        for child in multiprocessing.active_children():
            child.kill()
        _write_stderr((SHOW_CURSOR if sys.stdout.isatty() else b"") + b"\nstopped at once\n")
    finally:
        os._exit(128 + signal.SIGINT)
