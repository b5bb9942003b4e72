"""Atomic writes: files are replaced as a whole or not at all."""

from __future__ import annotations

from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file and create its folders; a kill at any moment leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic only within a file system.
    draft = make_draft_path(path)
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def make_draft_path(path: Path) -> Path:
    """Return the path at which a file is written before it is renamed to ``path``."""
    return path.with_name(f".{path.name}.part")
