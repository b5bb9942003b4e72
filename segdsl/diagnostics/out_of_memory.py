"""What Python and libraries say when the machine has no more of something: no fault of what they were given."""

from __future__ import annotations

import errno

MEMORY = (
    "llocate memory", "not enough memory", "out of memory", "nsufficient memory", "failed to map segment",
    "could not create a primitive",
)  # fmt: skip
"""Of memory: Python, torch, OpenCV, the loader of libraries, oneDNN."""
THREADS = ("can't start new thread", "Resource temporarily unavailable")
"""Of threads and processes: Python, the system."""


def shortage(error: BaseException) -> str:
    """What is lacking, as a sentence, where an error says that something is; else empty."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in MEMORY):
        return "the memory is full"
    if (isinstance(error, OSError) and error.errno == errno.EAGAIN) or any(sign in text for sign in THREADS):
        return "the system gives this process no more threads or processes"
    return ""
