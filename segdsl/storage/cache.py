"""Where segdsl keeps what it need not fetch or work out again, and what it holds a fetched file to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_NAME = 120
"""Characters of a name in the cache; a longer one is cut, and told apart by a digest."""
RECORD = ".trust.json"
"""The end of a record's name."""
DIGEST = re.compile(r"[0-9a-f]{64}")


def cache_folder() -> Path:
    """`$SEGDSL_CACHE`, else `$XDG_CACHE_HOME/segdsl`, else `~/.cache/segdsl`; the folder need not exist."""
    if explicit := os.environ.get("SEGDSL_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "segdsl" if base else Path.home() / ".cache" / "segdsl"


def place_of(url: str) -> Path:
    """Where the file at an address lies once it is fetched, or once somebody has put it there: host and path of it."""
    parts = urlsplit(url)
    host = (parts.hostname or "unknown") + (f"+{parts.port}" if parts.port else "")
    host = host if parts.scheme == "https" else f"{parts.scheme}+{host}"
    names = [_plain(unquote(name)) for name in parts.path.split("/")[1:]] or [_plain("")]
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return cache_folder().joinpath("weights", _plain(host), *names)


def _plain(name: str) -> str:
    """A name that every file system takes, that stays in its folder, and that no other name has."""
    safe = re.sub(r"[^\w.+@-]", "_", name.strip(". "))
    if safe and safe == name and len(safe) <= MAX_NAME and not safe.endswith(RECORD):
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{digest}-{safe[-MAX_NAME:].removesuffix(RECORD)}"


@dataclass(frozen=True, slots=True)
class Record:
    """What was fetched from an address the first time; every later file of it is held to ``sha256``."""

    url: str
    sha256: str
    size: int


def record_path(place: Path) -> Path:
    """Where the record of a cached file lies: beside it."""
    return place.with_name(f"{place.name}{RECORD}")


def read_record(place: Path) -> Record | None:
    """The record of a cached file; None where there is none, or none that can be read."""
    try:
        found = json.loads(record_path(place).read_text(encoding="utf-8"))
        record = Record(str(found["url"]), str(found["sha256"]), int(found["size"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return record if DIGEST.fullmatch(record.sha256) else None


def write_record(place: Path, record: Record) -> None:
    """Writes a record, whole or not at all. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file, indent=1)
        Path(name).replace(record_path(place))
    finally:
        Path(name).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
