"""Recursion deeper than Python's limit.

The limit is one number for all threads of a process, so a library must not change it. Each thread counts its own depth,
though: what is nested too deeply for one thread goes on in another.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

USED_SHARE = 0.4
"""Share of a thread's stack after which a computation moves to a new thread. The rest is for what does not move."""
MAX_THREADS = 64
"""Threads that may wait for each other, which bounds the memory of their stacks."""


def call_deeply(function: Callable[[], T]) -> T:
    """Call ``function``, which may lead to another such call, and so on for thousands of levels.

    Raises RecursionError if there are too many, and whatever the function raises.
    """
    return _call_in_thread(function) if _is_stack_used() else function()


def _is_stack_used() -> bool:
    try:
        sys._getframe(int(sys.getrecursionlimit() * USED_SHARE))
    except ValueError:
        # There are not so many frames.
        return False
    return True


class _Continuation(threading.Thread):
    """A thread in which a computation goes on; ``level`` is the number of threads that wait for it."""

    def __init__(self, function: Callable[[], object], level: int) -> None:
        super().__init__(daemon=True)
        self.function, self.level = function, level
        self.result: object = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error


def _call_in_thread(function: Callable[[], T]) -> T:
    level = getattr(threading.current_thread(), "level", 0) + 1
    if level > MAX_THREADS:
        raise RecursionError("the computation is nested too deeply")
    thread = _Continuation(function, level)
    thread.start()
    thread.join()
    if thread.error is not None:
        raise thread.error
    return thread.result  # pyright: ignore[reportReturnType]
