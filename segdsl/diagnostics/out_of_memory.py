"""Recognition of errors that mean exhausted memory or threads, rather than bad input."""

from __future__ import annotations

import errno

# The libraries raise plain RuntimeErrors and ImportErrors here, so only the text of the message tells them apart. The
# first letter of some is missing because its case varies ("Unable to allocate memory", "cannot allocate memory").
MEMORY_SIGNS = (
    "llocate memory", "not enough memory", "out of memory", "nsufficient memory", "failed to map segment",
    "could not create a primitive",
)  # fmt: skip
"""Messages about memory from Python, torch, OpenCV, the dynamic linker and oneDNN."""
THREAD_SIGNS = ("can't start new thread", "Resource temporarily unavailable")
"""Messages about threads and processes from Python and the operating system."""


def describe_shortage(error: BaseException) -> str:
    """Return "out of memory" or the like if ``error`` means that a resource is exhausted, otherwise ""."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in MEMORY_SIGNS):
        return "out of memory"
    if (isinstance(error, OSError) and error.errno == errno.EAGAIN) or any(sign in text for sign in THREAD_SIGNS):
        return "the limit of threads or processes is reached"
    return ""
