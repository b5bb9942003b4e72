"""The cache folder, the paths of downloaded files in it, and the records that pin their digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segdsl.storage.atomic import write_text_atomically
from segdsl.text.json import parse_json

# Longer names are truncated and made unique by a digest. File systems allow 255 bytes, and suffixes are added later.
MAX_NAME_LENGTH = 120
# Suffix of the record beside a cached file.
RECORD_SUFFIX = ".trust.json"
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


def get_cache_folder() -> Path:
    """Return `$SEGDSL_CACHE`, else `$XDG_CACHE_HOME/segdsl`, else `~/.cache/segdsl`; the folder need not exist."""
    if explicit := os.environ.get("SEGDSL_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "segdsl" if base else Path.home() / ".cache" / "segdsl"


def build_cache_path(url: str) -> Path:
    """Return the path in the cache for a URL, made of its host and path.

    The path is predictable, so that a user without a network can put the file there by hand.
    """
    parts = urlsplit(url)
    # Files of one host over http and https, or from two ports, may differ: each gets a folder of its own.
    host = (parts.hostname or "unknown") + (f"+{parts.port}" if parts.port else "")
    host = host if parts.scheme == "https" else f"{parts.scheme}+{host}"
    names = [_sanitize_name(unquote(name)) for name in parts.path.split("/")[1:]] or [_sanitize_name("")]
    # A query selects the file (`?id=…`) but may contain a token, so that only its digest becomes part of the name.
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return get_cache_folder().joinpath("weights", _sanitize_name(host), *names)


def _sanitize_name(name: str) -> str:
    """Return a unique file name that is valid on every file system and cannot leave its folder."""
    safe = re.sub(r"[^\w.+@-]", "_", name.strip(". "))
    if safe and safe == name and len(safe) <= MAX_NAME_LENGTH and not safe.endswith(RECORD_SUFFIX):
        return safe
    # Two names can become equal once unsafe characters are replaced; the digest of the original keeps them apart.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{digest}-{safe[-MAX_NAME_LENGTH:].removesuffix(RECORD_SUFFIX)}"


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """The first download from a URL. Every later download must have the same ``sha256``; ``size`` is in bytes."""

    url: str
    sha256: str
    size: int


def build_record_path(cache_path: Path) -> Path:
    """Return the path of the record of a cached file, which is beside it."""
    return cache_path.with_name(f"{cache_path.name}{RECORD_SUFFIX}")


def read_record(cache_path: Path) -> FetchRecord | None:
    """Read the record of a cached file. Return None if it is missing or invalid."""
    try:
        found = parse_json(build_record_path(cache_path).read_text(encoding="utf-8"))
        record = FetchRecord(str(found["url"]), str(found["sha256"]), int(found["size"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return record if SHA256_PATTERN.fullmatch(record.sha256) else None


def write_record(cache_path: Path, record: FetchRecord) -> None:
    """Write a record atomically. Raises OSError."""
    write_text_atomically(build_record_path(cache_path), json.dumps(asdict(record), indent=1))


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
