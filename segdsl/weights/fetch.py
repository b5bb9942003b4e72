"""Downloading weights into the cache: once, by one process at a time, with a pinned digest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segdsl.diagnostics import SegError, fail
from segdsl.storage.cache import (
    FetchRecord,
    build_cache_path,
    build_record_path,
    compute_file_sha256,
    read_record,
    write_record,
)
from segdsl.storage.draft_folders import open_draft_folder
from segdsl.storage.lock import hold_lock
from segdsl.weights.download import (
    DiskWriteError,
    DownloadError,
    DownloadProgress,
    download_file,
    remove_partial_file,
)
from segdsl.words.published import WeightSource


class Watcher:
    """Receives the progress of a download. This base class ignores it; subclasses display it."""

    def on_progress(self, name: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` bytes have been received; ``total`` is None if it is unknown."""

    def on_wait(self, name: str) -> None:
        """Report that another process is downloading the file."""

    def on_finish(self, name: str) -> None:
        """Report that the file is complete."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """The path of a file on this machine and its SHA-256."""

    path: Path
    sha256: str


def fetch_weights_file(source: WeightSource, watcher: Watcher | None = None, expected_sha256: str = "") -> LocalFile:
    """Return the file of a remote source from the cache, and download it first if needed.

    The file must have the digest that the source states, the digest that was recorded at the first download, and
    ``expected_sha256``. Raises SegError (`weights-not-fetched`, `weights-unreadable`, `weights-changed`,
    `cache-not-written`); in that case the cache contains no new file.
    """
    place, watcher = build_cache_path(source.url), watcher or Watcher()
    try:
        # With a file and its record nothing has to be written, so that no lock is taken: a read-only cache works.
        if not (place.is_file() and read_record(place)):
            with _lock_cache_entry(place, watcher):
                # Another process may have finished the download while this one waited for the lock.
                if not place.is_file():
                    return _download_to_cache(source, place, watcher, expected_sha256)
        return _verify_cache_entry(source, place, expected_sha256)
    except OSError as error:
        raise _build_cache_write_error(place, (error.strerror or "the file cannot be written").lower()) from error


def is_cached(source: WeightSource) -> bool:
    """Return whether the file of a source is already in the cache."""
    return build_cache_path(source.url).is_file()


def _download_to_cache(source: WeightSource, cache_path: Path, watcher: Watcher, expected_sha256: str) -> LocalFile:
    """Download the file beside its final path, verify it, and move it there."""
    part = cache_path.with_name(f".{cache_path.name}.part")
    try:
        _download_source(source, part, lambda done, total: watcher.on_progress(cache_path.name, done, total))
    except DownloadError as error:
        raise _build_fetch_error(source, cache_path, str(error), error.status) from error
    except DiskWriteError as error:
        raise _build_cache_write_error(cache_path, str(error)) from error
    digest = compute_file_sha256(part)
    try:
        _require_matching_digest(source, cache_path, digest, expected_sha256, is_new=True)
        _require_readable_weights(source, cache_path, part)
    except SegError:
        remove_partial_file(part)
        raise
    # The record comes first: a kill in between leaves a record without a file, and the next download is verified
    # against it. A file without a record would be trusted as it is.
    write_record(cache_path, FetchRecord(source.url, digest, part.stat().st_size))
    part.replace(cache_path)
    remove_partial_file(part)
    watcher.on_finish(cache_path.name)
    return LocalFile(cache_path, digest)


def _verify_cache_entry(source: WeightSource, cache_path: Path, expected_sha256: str) -> LocalFile:
    """Verify a cached file. If it has no record because it was put there by hand, check and record it."""
    try:
        digest = compute_file_sha256(cache_path)
    except OSError as error:
        reason = (error.strerror or "permission denied").lower()
        message = f"cannot read the cached file: {reason}"
        raise fail("weights-unreadable", message, "check its permissions or delete it", path=str(cache_path)) from error
    _require_matching_digest(source, cache_path, digest, expected_sha256, is_new=False)
    if read_record(cache_path) is None:
        _require_readable_weights(source, cache_path, cache_path)
        # In a read-only cache there is nowhere to record the digest; the file is checked again at the next use.
        with suppress(OSError):
            write_record(cache_path, FetchRecord(source.url, digest, cache_path.stat().st_size))
    return LocalFile(cache_path, digest)


def _require_matching_digest(
    source: WeightSource, cache_path: Path, digest: str, expected_sha256: str, *, is_new: bool
) -> None:
    """Compare the digest of a cached or new file with all known digests, and fail with `weights-changed`."""
    record = read_record(cache_path)
    recorded = record.sha256 if record else ""
    again = f"delete `{cache_path}` to download it again"
    check_source = "check the URL and the digest"
    restore = f"restore the old file at `{cache_path}`, or train the program that the run was made from"
    trust = f"if you trust the new file, delete `{build_record_path(cache_path)}`"
    # The order decides which remedy is shown: what the user wrote comes before what segdsl recorded.
    known = [
        (source.sha256, "stated in the source", check_source if is_new or digest == recorded else again),
        (expected_sha256, "in the run's `lock.json`", restore),
        (recorded, "recorded at the first download", trust if is_new else again),
    ]
    for wanted, origin, remedy in known:
        # A source may state only the beginning of a digest.
        if wanted and not digest.startswith(wanted):
            subject = "the downloaded file" if is_new else "the cached file"
            message = f"`{source.text}`: {subject} has SHA-256 {digest[:12]}…, expected {wanted[:12]}… ({origin})"
            raise fail("weights-changed", message, remedy)


def _require_readable_weights(source: WeightSource, cache_path: Path, file: Path) -> None:
    """Read a file completely before it is trusted, so that a truncated or unrelated file is never recorded."""
    # Imported here because it imports torch, which a command that finds everything in the cache does not need.
    from segdsl.weights.files import PYTHON_OBJECTS_MESSAGE, read_weights

    try:
        read_weights(file)
    except SegError as error:
        (found,) = error.diagnostics
        # A file with Python objects is what its author published, any other unreadable download is a server's error.
        if file != cache_path and PYTHON_OBJECTS_MESSAGE not in found.message:
            raise _build_fetch_error(
                source, cache_path, f"the server sent a different file; {found.message}", 404
            ) from error
        subject = f"`{source.text}`" if file != cache_path else f"`{source.text}`, cached as `{file}`"
        raise fail("weights-unreadable", f"{subject}: {found.message}", found.help) from error


@contextmanager
def _lock_cache_entry(cache_path: Path, watcher: Watcher) -> Iterator[None]:
    """Hold the lock for downloading one file. Raises OSError if the lock cannot be written and the file is missing."""
    lock = hold_lock(cache_path.with_name(f".{cache_path.name}.lock"), lambda: watcher.on_wait(cache_path.name))
    with ExitStack() as stack:
        try:
            cache_path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock)
        except OSError:
            # A read-only cache that has the file needs no lock.
            if not cache_path.is_file():
                raise
        yield


def _download_source(source: WeightSource, part: Path, report: DownloadProgress) -> None:
    if source.kind == "hub":
        from segdsl.weights.hub import download_hub_file

        token = os.environ.get("HF_TOKEN", "").strip()
        # The message must not contain the token, not even an invalid one: it may be a secret with a typo.
        if not re.fullmatch(r"[!-~]*", token):
            message = "`HF_TOKEN` is not a valid token: it contains spaces, line breaks or other invalid characters"
            raise fail("weights-not-fetched", message, "set it again or unset it")
        endpoint = _read_mirror_url("HF_ENDPOINT")
        with open_draft_folder(part.parent) as folder:
            download_hub_file(source.url, folder, report, token, endpoint).replace(part)
    elif source.kind == "published" and (mirror := _read_mirror_url("SEGDSL_MIRROR")):
        download_file(f"{mirror}/{source.url.rpartition('/')[2]}", part, report)
    else:
        download_file(source.url, part, report)


def _read_mirror_url(variable: str) -> str:
    """Return the URL of a mirror from the environment, empty if none is set."""
    value = os.environ.get(variable, "")
    if value and not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-~]*)?", value):
        raise fail(
            "weights-not-fetched", f"`{variable}` is not a valid URL: `{value}`", "set it to `https://…` or unset it"
        )
    return value.rstrip("/")


def _build_fetch_error(source: WeightSource, cache_path: Path, reason: str, status: int) -> SegError:
    # The path has a line of its own, so that it can be copied.
    steps = [f"download {source.url} manually and save it as", str(cache_path), "or train without it: `--weights none`"]
    if status in (404, 410):
        steps[0] = f"check the URL: {source.url}; or save the file as"
    if status in (401, 403) and source.kind == "hub":
        steps.insert(0, "set `HF_TOKEN` to a token with read access and accept the license on the model's page; or")
    return fail("weights-not-fetched", f"cannot download `{source.text}`: {reason}", "\n".join(steps))


def _build_cache_write_error(cache_path: Path, reason: str) -> SegError:
    message = f"cannot write `{cache_path.name}` to the cache: {reason}"
    remedy = "check the folder, or set the environment variable `SEGDSL_CACHE` to another one"
    return fail("cache-not-written", message, remedy, path=str(cache_path.parent))
