"""Downloading weights into the cache: once, by one process at a time, with a pinned digest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from segdsl.diagnostics import SegError, fail
from segdsl.storage.cache import Record, digest_of, place_of, read_record, record_path, write_record
from segdsl.weights.download import NoRoom, NotFetched, download, forget
from segdsl.words.published import WeightSource


class Watcher:
    """Receives the progress of a download. This base class ignores it; subclasses display it."""

    def fetching(self, name: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` bytes have been received; ``total`` is None if it is unknown."""

    def waiting(self, name: str) -> None:
        """Report that another process is downloading the file."""

    def fetched(self, name: str) -> None:
        """Report that the file is complete."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The path of a file on this machine and its SHA-256."""

    path: Path
    sha256: str


def fetch(source: WeightSource, watcher: Watcher | None = None, expected: str = "") -> Fetched:
    """Return the file of a remote source from the cache, and download it first if needed.

    The file must have the digest that the source states, the digest that was recorded at the first download, and
    ``expected_sha256``. Raises SegError (`weights-not-fetched`, `weights-unreadable`, `weights-changed`,
    `cache-not-written`); in that case the cache contains no new file.
    """
    place, watcher = place_of(source.url), watcher or Watcher()
    try:
        # With a file and its record nothing has to be written, so that no lock is taken: a read-only cache works.
        if not (place.is_file() and read_record(place)):
            with _alone(place, watcher):
                # Another process may have finished the download while this one waited for the lock.
                if not place.is_file():
                    return _bring(source, place, watcher, expected)
        return _held(source, place, expected)
    except OSError as error:
        raise _not_written(place, (error.strerror or "the file cannot be written").lower()) from error


def is_cached(source: WeightSource) -> bool:
    """Return whether the file of a source is already in the cache."""
    return place_of(source.url).is_file()


def _bring(source: WeightSource, place: Path, watcher: Watcher, expected: str) -> Fetched:
    """Download the file beside its final path, verify it, and move it there."""
    part = place.with_name(f".{place.name}.part")
    url, token = _asked(source)
    try:
        download(url, part, lambda done, total: watcher.fetching(place.name, done, total), token)
    except NotFetched as error:
        raise _not_fetched(source, place, str(error), error.status) from error
    except NoRoom as error:
        raise _not_written(place, str(error)) from error
    digest = digest_of(part)
    try:
        _require_same(source, place, digest, expected, new=True)
        _require_weights(source, place, part)
    except SegError:
        forget(part)
        raise
    # The record comes first: a kill in between leaves a record without a file, and the next download is verified
    # against it. A file without a record would be trusted as it is.
    write_record(place, Record(source.url, digest, part.stat().st_size))
    part.replace(place)
    forget(part)
    watcher.fetched(place.name)
    return Fetched(place, digest)


def _held(source: WeightSource, place: Path, expected: str) -> Fetched:
    """Verify a cached file. If it has no record because it was put there by hand, check and record it."""
    try:
        digest = digest_of(place)
    except OSError as error:
        reason = (error.strerror or "permission denied").lower()
        message = f"cannot read the cached file: {reason}"
        raise fail("weights-unreadable", message, "check its permissions or delete it", path=str(place)) from error
    _require_same(source, place, digest, expected, new=False)
    if read_record(place) is None:
        _require_weights(source, place, place)
        # In a read-only cache there is nowhere to record the digest; the file is checked again at the next use.
        with suppress(OSError):
            write_record(place, Record(source.url, digest, place.stat().st_size))
    return Fetched(place, digest)


def _require_same(source: WeightSource, place: Path, digest: str, expected: str, *, new: bool) -> None:
    """Compare the digest of a cached or new file with all known digests, and fail with `weights-changed`."""
    record = read_record(place)
    recorded = record.sha256 if record else ""
    again = f"delete `{place}` to download it again"
    check_source = "check the URL and the digest"
    restore = f"restore the old file at `{place}`, or train the program that the run was made from"
    trust = f"if you trust the new file, delete `{record_path(place)}`"
    # The order decides which remedy is shown: what the user wrote comes before what segdsl recorded.
    known = [
        (source.sha256, "stated in the source", check_source if new or digest == recorded else again),
        (expected, "in the run's `lock.json`", restore),
        (recorded, "recorded at the first download", trust if new else again),
    ]
    for wanted, origin, remedy in known:
        # A source may state only the beginning of a digest.
        if wanted and not digest.startswith(wanted):
            subject = "the downloaded file" if new else "the cached file"
            message = f"`{source.text}`: {subject} has SHA-256 {digest[:12]}…, expected {wanted[:12]}… ({origin})"
            raise fail("weights-changed", message, remedy)


def _require_weights(source: WeightSource, place: Path, file: Path) -> None:
    """Read a file completely before it is trusted, so that a truncated or unrelated file is never recorded."""
    # Imported here because it imports torch, which a command that finds everything in the cache does not need.
    from segdsl.weights.files import OBJECTS, open_weights

    try:
        open_weights(file)
    except SegError as error:
        (found,) = error.diagnostics
        # A file with Python objects is what its author published, any other unreadable download is a server's error.
        if file != place and OBJECTS not in found.message:
            raise _not_fetched(source, place, f"the server sent a different file; {found.message}", 404) from error
        subject = f"`{source.text}`" if file != place else f"`{source.text}`, cached as `{file}`"
        raise fail("weights-unreadable", f"{subject}: {found.message}", found.help) from error


@contextmanager
def _alone(place: Path, watcher: Watcher) -> Iterator[None]:
    """Hold the lock for downloading one file. Raises OSError if the lock cannot be written and the file is missing."""
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            watcher.waiting(place.name)
            lock.acquire(poll_interval=0.1)
    except OSError:
        # A read-only cache that has the file needs no lock.
        if not place.is_file():
            raise
    try:
        yield
    finally:
        lock.release()


def _asked(source: WeightSource) -> tuple[str, str]:
    """Return the URL to request, which may be that of a mirror, and the token for it."""
    if source.kind == "published" and (mirror := os.environ.get("SEGDSL_MIRROR", "")):
        return f"{_server('SEGDSL_MIRROR', mirror)}/{source.url.rpartition('/')[2]}", ""
    if source.kind == "hub":
        token = os.environ.get("HF_TOKEN", "").strip()
        # The message must not contain the token, not even an invalid one: it may be a secret with a typo.
        if not re.fullmatch(r"[!-~]*", token):
            message = "`HF_TOKEN` is not a valid token: it contains spaces, line breaks or other invalid characters"
            raise fail("weights-not-fetched", message, "set it again or unset it")
        if mirror := os.environ.get("HF_ENDPOINT", ""):
            return _server("HF_ENDPOINT", mirror) + urlunsplit(("", "", urlsplit(source.url).path, "", "")), token
        return source.url, token
    return source.url, ""


def _server(variable: str, value: str) -> str:
    if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-~]*)?", value):
        raise fail(
            "weights-not-fetched", f"`{variable}` is not a valid URL: `{value}`", "set it to `https://…` or unset it"
        )
    return value.rstrip("/")


def _not_fetched(source: WeightSource, place: Path, why: str, status: int) -> SegError:
    # The path has a line of its own, so that it can be copied.
    steps = [f"download {source.url} manually and save it as", str(place), "or train without it: `--weights none`"]
    if status in (404, 410):
        steps[0] = f"check the URL: {source.url}; or save the file as"
    if status in (401, 403) and source.kind == "hub":
        steps.insert(0, "set `HF_TOKEN` to a token with read access and accept the license on the model's page; or")
    return fail("weights-not-fetched", f"cannot download `{source.text}`: {why}", "\n".join(steps))


def _not_written(place: Path, why: str) -> SegError:
    message = f"cannot write `{place.name}` to the cache: {why}"
    remedy = "check the folder, or set the environment variable `SEGDSL_CACHE` to another one"
    return fail("cache-not-written", message, remedy, path=str(place.parent))
