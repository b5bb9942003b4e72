"""Another process, forked, that is inside a context manager until it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest


@contextmanager
def _fork_inside(enter: Callable[[], AbstractContextManager[object]]) -> Iterator[Callable[[int], int]]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), enter():
            os.write(writer, b"x")
            time.sleep(600)
        os._exit(1)
    os.close(writer)
    living = [child]

    def end(number: int) -> int:
        os.kill(child, number)
        return os.WTERMSIG(os.waitpid(living.pop(), 0)[1])

    try:
        assert os.read(reader, 1) == b"x"
        yield end
    finally:
        if living:
            end(signal.SIGKILL)
        os.close(reader)


@pytest.fixture
def fork_inside() -> Callable[..., AbstractContextManager[Callable[[int], int]]]:
    """Run another process inside a context manager; the block gets a function that kills it with a signal."""
    return _fork_inside
