"""Pointers that Git LFS leaves in place of files that it has not fetched."""

from __future__ import annotations

HEAD = b"version https://git-lfs.github.com/spec/"
MESSAGE = "the file is a Git LFS pointer: its content has not been fetched"
HELP = "run `git lfs pull` in its repository"


def is_pointer(data: bytes) -> bool:
    """Return whether a file that begins with ``data`` is a pointer."""
    return data.startswith(HEAD)
