"""Published files in the cache: fetched once, by one process at a time, and held to what they were the first time."""

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
    ``expected``. Raises SegError (`weights-not-fetched`, `weights-unreadable`, `weights-changed`, `cache-not-written`);
    the cache then holds nothing new under its name.
    """
    place, watcher = place_of(source.url), watcher or Watcher()
    try:
        if not (place.is_file() and read_record(place)):
            with _alone(place, watcher):
                if not place.is_file():
                    return _bring(source, place, watcher, expected)
        return _held(source, place, expected)
    except OSError as error:
        raise _not_written(place, (error.strerror or "the system refuses it").lower()) from error


def is_cached(source: WeightSource) -> bool:
    """Whether the file of a source need not be fetched."""
    return place_of(source.url).is_file()


def _bring(source: WeightSource, place: Path, watcher: Watcher, expected: str) -> Fetched:
    """Fetches the file beside its place, and moves it there once it is known to be the right one."""
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
    write_record(place, Record(source.url, digest, part.stat().st_size))
    part.replace(place)
    forget(part)
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
    _require_same(source, place, digest, expected, new=False)
    if read_record(place) is None:
        _require_weights(source, place, place)
        with suppress(OSError):  # a cache that is only read keeps no records
            write_record(place, Record(source.url, digest, place.stat().st_size))
    return Fetched(place, digest)


def _require_same(source: WeightSource, place: Path, digest: str, expected: str, *, new: bool) -> None:
    """Holds the digest of a file, the cached or the ``new`` one, to all that is known (`weights-changed`)."""
    record = read_record(place)
    recorded = record.sha256 if record else ""
    again = f"delete `{place}`, to fetch it again"
    stated = "see that the address is right, and that the digest is"
    locked = f"put the old file at `{place}`, or train the program that the run was made from"
    first = f"if the new file is to be trusted, delete `{record_path(place)}`"
    known = [
        (source.sha256, "is stated", stated if new or digest == recorded else again),
        (expected, "the run was made with (`lock.json`)", locked),
        (recorded, "it had when it was first fetched", first if new else again),
    ]
    for wanted, where, remedy in known:
        if wanted and not digest.startswith(wanted):
            what = "what the server sends" if new else "the cached file"
            message = f"`{source.text}`: {what} has the SHA-256 {digest[:12]}…, not the {wanted[:12]}… that {where}"
            raise fail("weights-changed", message, remedy)


def _require_weights(source: WeightSource, place: Path, file: Path) -> None:
    """Reads a file before it is trusted, so that one that is cut off, or none of weights, never is."""
    from segdsl.weights.files import OBJECTS, open_weights  # a run that fetches nothing needs no torch for it

    try:
        open_weights(file)
    except SegError as error:
        (found,) = error.diagnostics
        if file != place and OBJECTS not in found.message:
            raise _not_fetched(source, place, f"the server sends something else; {found.message}", 404) from error
        what = f"`{source.text}`" if file != place else f"`{source.text}`, cached as `{file}`"
        raise fail("weights-unreadable", f"{what}: {found.message}", found.help) from error


@contextmanager
def _alone(place: Path, watcher: Watcher) -> Iterator[None]:
    """While no other process fetches the same file. Raises OSError where nothing can be written, unless the file is
    there."""
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            watcher.waiting(place.name)
            lock.acquire(poll_interval=0.1)
    except OSError:
        if not place.is_file():
            raise
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
        if not re.fullmatch(r"[!-~]*", token):  # which is not to be printed, not even where it is wrong
            message = "`HF_TOKEN` is no token: it has blanks, line breaks or other characters that none has"
            raise fail("weights-not-fetched", message, "set it anew, or unset it")
        if mirror := os.environ.get("HF_ENDPOINT", ""):
            return _server("HF_ENDPOINT", mirror) + urlunsplit(("", "", urlsplit(source.url).path, "", "")), token
        return source.url, token
    return source.url, ""


def _server(variable: str, value: str) -> str:
    if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-~]*)?", value):
        raise fail(
            "weights-not-fetched", f"`{variable}` is no address: `{value}`", "set it to `https://…`, or unset it"
        )
    return value.rstrip("/")


def _not_fetched(source: WeightSource, place: Path, why: str, status: int) -> SegError:
    steps = [f"fetch {source.url} by hand and put it at", str(place), "or train without: `--weights none`"]
    if status in (404, 410):
        steps[0] = f"see that the address is right: {source.url}; or put the file at"
    if status in (401, 403) and source.kind == "hub":
        steps.insert(0, "set `HF_TOKEN` to a token that may read it, and accept its licence on its page; or")
    return fail("weights-not-fetched", f"`{source.text}` cannot be fetched: {why}", "\n".join(steps))


def _not_written(place: Path, why: str) -> SegError:
    message = f"the cache cannot take `{place.name}`: {why}"
    remedy = "see to the folder, or name another one in the environment variable `SEGDSL_CACHE`"
    return fail("cache-not-written", message, remedy, path=str(place.parent))
