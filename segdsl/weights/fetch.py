"""Published files in the cache: fetched once, by one process at a time, and held to what they were the first time."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from segdsl.diagnostics import SegError, fail
from segdsl.weights.cache import Record, digest_of, place_of, read_record, record_path, write_record
from segdsl.weights.download import NoRoom, NotFetched, download, forget
from segdsl.words.published import WeightSource


class Watcher:
    """Is told what a fetch is doing; this one shows nothing."""

    def fetching(self, name: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes of a file are here."""

    def waiting(self, name: str) -> None:
        """Another process fetches the file, and is waited for."""

    def fetched(self, name: str) -> None:
        """The file is here, whole."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of this machine, and its SHA-256."""

    path: Path
    sha256: str


def fetch(source: WeightSource, watcher: Watcher | None = None, expected: str = "") -> Fetched:
    """The file at a source's address, from the cache or else from there.

    It is held to the digest that the source states, to the one that was recorded when it was first fetched, and to
    ``expected``. Raises SegError (`weights-not-fetched`, `weights-changed`, `cache-not-written`); the cache then holds
    nothing under its name.
    """
    place, watcher = place_of(source.url), watcher or Watcher()
    if not (place.is_file() and read_record(place)):
        with _alone(place, watcher):
            if not place.is_file():
                return _bring(source, place, watcher, expected)
    return _held(source, place, expected)


def is_cached(source: WeightSource) -> bool:
    """Whether the file of a source need not be fetched."""
    return place_of(source.url).is_file()


def _bring(source: WeightSource, place: Path, watcher: Watcher, expected: str) -> Fetched:
    """Fetches the file beside its place, and moves it there once it is known to be the right one."""
    part = place.with_name(f".{place.name}.part")
    url, token = _asked(source)
    try:
        download(url, part, lambda done, total: watcher.fetching(place.name, done, total), token)
        _require_whole(part)
        digest = digest_of(part)
        _require_same(source, place, digest, expected, part)
        write_record(place, Record(source.url, digest, part.stat().st_size))
        part.replace(place)
        forget(part)
    except NotFetched as error:
        raise _not_fetched(source, place, str(error), error.status) from error
    except NoRoom as error:
        raise _not_written(place, str(error)) from error
    except OSError as error:
        raise _not_written(place, (error.strerror or "the system refuses it").lower()) from error
    watcher.fetched(place.name)
    return Fetched(place, digest)


def _held(source: WeightSource, place: Path, expected: str) -> Fetched:
    """The cached file if it is what it must be; one that somebody put there is trusted from now on."""
    try:
        digest = digest_of(place)
    except OSError as error:
        why = (error.strerror or "it is not readable").lower()
        message = f"the cached file cannot be read: {why}"
        raise fail("weights-unreadable", message, "check its permissions, or delete it", path=str(place)) from error
    _require_same(source, place, digest, expected, None)
    if read_record(place) is None:
        with suppress(OSError):  # a cache that is only read keeps no records
            write_record(place, Record(source.url, digest, place.stat().st_size))
    return Fetched(place, digest)


def _require_same(source: WeightSource, place: Path, digest: str, expected: str, part: Path | None) -> None:
    """Holds a digest to all that is known; ``part`` is the new file, removed if it is another one."""
    record = read_record(place)
    known = [
        (source.sha256, "is stated", "see that the address is right, and that the digest is"),
        (expected, "the run was made with (`lock.json`)", "fetch the old file, or train the program it was made from"),
        (record.sha256 if record else "", "it had when it was first fetched", f"delete `{record_path(place)}`"),
    ]
    for wanted, where, remedy in known:
        if wanted and not digest.startswith(wanted):
            what = "what the server sends" if part else "the cached file"
            if part is not None:
                forget(part)
            message = f"`{source.text}`: {what} has the SHA-256 {digest[:12]}…, not the {wanted[:12]}… that {where}"
            if part is None:
                remedy = f"delete `{place}`, to fetch it again"
            elif wanted == (record.sha256 if record else None) and not source.sha256:
                remedy += ", if the new file is to be trusted"
            raise fail("weights-changed", message, remedy)


def _require_whole(part: Path) -> None:
    """Refuses what is no file of weights, or only the beginning of one; what can be told without reading it all."""
    size = part.stat().st_size
    with open(part, "rb") as file:
        head = file.read(9)
    if head[:2] == b"PK":
        good = zipfile.is_zipfile(part)
    elif head[8:9] == b"{":
        good = int.from_bytes(head[:8], "little") + 8 <= size
    else:
        good = head[:1] == b"\x80"
    if not good:
        forget(part)
        text = "the beginning of a file" if head[:2] == b"PK" else "something that is no file of weights"
        raise NotFetched(f"the server sends {text if size else 'nothing'}", 200)


@contextmanager
def _alone(place: Path, watcher: Watcher) -> Iterator[None]:
    """While no other process fetches the same file."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_name(f".{place.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            watcher.waiting(place.name)
            lock.acquire(poll_interval=0.1)
    except OSError as error:
        if place.is_file():
            yield
            return
        raise _not_written(place, (error.strerror or "the system refuses it").lower()) from error
    try:
        yield
    finally:
        lock.release()


def _asked(source: WeightSource) -> tuple[str, str]:
    """The address that is asked, which a mirror may stand in for, and the token for it."""
    if source.kind == "published" and (mirror := os.environ.get("SEGDSL_MIRROR", "")):
        return f"{_server('SEGDSL_MIRROR', mirror)}/{source.url.rpartition('/')[2]}", ""
    if source.kind == "hub":
        token = os.environ.get("HF_TOKEN", "").strip()
        if mirror := os.environ.get("HF_ENDPOINT", ""):
            return _server("HF_ENDPOINT", mirror) + urlunsplit(("", "", urlsplit(source.url).path, "", "")), token
        return source.url, token
    return source.url, ""


def _server(variable: str, value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        raise fail(
            "weights-not-fetched", f"`{variable}` is no address: `{value}`", "set it to `https://…`, or unset it"
        )
    return value.rstrip("/")


def _not_fetched(source: WeightSource, place: Path, why: str, status: int) -> SegError:
    remedy = f"fetch {source.url} by hand and put it at\n{place}\nor start without: `--weights none`"
    if status in (401, 403) and source.kind == "hub":
        remedy = "set `HF_TOKEN` to a token that may read it, and accept its licence on its page\n" + remedy
    return fail("weights-not-fetched", f"`{source.text}` cannot be fetched: {why}", remedy)


def _not_written(place: Path, why: str) -> SegError:
    message = f"the cache cannot take `{place.name}`: {why}"
    remedy = "make room, or name another folder in the environment variable `SEGDSL_CACHE`"
    return fail("cache-not-written", message, remedy, path=str(place.parent))
