"""Downloading one file over HTTP: resumes partial downloads and retries temporary errors."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from segdsl.version import __version__

# Seconds without a byte after which a connection counts as dead.
TIMEOUT = 30.0
# Consecutive failures after which a download is given up.
ATTEMPTS = 4
# Seconds before the first retry, doubled for each further one (exponential backoff) up to a maximum.
PAUSE = 0.5
LONGEST_PAUSE = 30.0
CHUNK = 1 << 18
# An attempt that received at least this many bytes resets the count of failures: on a bad line a large file arrives
# in pieces, and giving up is right only when nothing arrives any more.
ENOUGH = 1 << 20
# No weights file is larger than 32 GiB; a server that sends more is broken or hostile, and would fill the disk.
LARGEST = 1 << 35
# HTTP statuses of temporary errors.
PASSING = {408, 425, 429, 500, 502, 503, 504}
IN_ADDRESSES = "%/:=&?~#+!$,;'@()*[]"
WORDS = {401: "login required", 403: "access denied", 404: "file not found", 410: "the file was removed"}

# Called with the number of bytes received and the total, or None if the server does not send it.
Report = Callable[[int, int | None], None]


class NotFetched(Exception):
    """The file cannot be downloaded; the message gives the reason. ``status`` is the HTTP status, 0 without one."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class NoRoom(Exception):
    """The file cannot be written to the disk; the message gives the reason."""


class _Passing(Exception):
    """A temporary error; ``retry_after`` is the delay in seconds that the server requests."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def download(url: str, part: Path, report: Report, token: str = "") -> None:
    """Download ``url`` into the file ``part``, and resume from its end if it exists.

    ``token`` is sent only to the host of ``url``, not to hosts it redirects to. Raises :class:`DownloadError` and
    :class:`DiskWriteError`. After a :class:`DownloadError`, ``part`` contains the bytes received so far, so that a
    later call resumes from there.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(url, part, report, token)
        except _Passing as fault:
            failures = 1 if _size(part) - before >= ENOUGH else failures + 1
            if failures >= ATTEMPTS:
                raise NotFetched(str(fault)) from fault
            time.sleep(min(max(fault.wait, PAUSE * 2 ** (failures - 1)), LONGEST_PAUSE))


def forget(part: Path) -> None:
    """Remove a partial download and its version tag."""
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, report: Report, token: str) -> None:
    # Without `identity` a proxy may compress the content, and its length and ranges would be those of the archive.
    request = Request(
        quote(url, safe=IN_ADDRESSES), headers={"User-Agent": f"segdsl/{__version__}", "Accept-Encoding": "identity"}
    )
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    have, tag = _size(part), _read_tag(part)
    # Without a version tag the two halves could come from different files, so that the download starts over.
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with (
        _faults(part, urlsplit(url).hostname or url),
        build_opener(_Redirects).open(request, timeout=TIMEOUT) as answer,
    ):
        start, total = _extent(answer, have)
        if total is not None and total > LARGEST:
            raise NotFetched(f"the server announces {total / 2**30:.0f} GiB, too large for a weights file")
        _require_weights(answer)
        _require_room(part, total)
        _copy(answer, part, start, total, report)
    # http.client reports a connection that ends early as an ordinary end of the body.
    size = _size(part)
    if total is not None and size != total:
        raise _Passing(f"the connection was closed after {size:,} of {total:,} bytes")


def _copy(answer: Any, part: Path, done: int, total: int | None, report: Report) -> None:
    # Only the calls that touch the disk are wrapped: an OSError from reading the socket is a connection error.
    with _writing(part):
        file = open(part, "ab" if done else "wb", buffering=0)  # noqa: SIM115
    with file:
        with _writing(part):
            file.truncate(done)
            _write_tag(part, answer)
        report(done, total)
        while chunk := answer.read1(CHUNK):
            done += len(chunk)
            if done > LARGEST:
                raise NotFetched("the server sends too much data for a weights file")
            # An unbuffered file may write fewer bytes than it is given.
            rest = memoryview(chunk)
            while rest:
                with _writing(part):
                    rest = rest[file.write(rest) :]
            report(done, total)
        with _writing(part):
            os.fsync(file.fileno())


def _extent(answer: Any, have: int) -> tuple[int, int | None]:
    """Return the offset at which the response begins and the size of the whole file, or None if it is unknown.

    The digits are limited because Python refuses to convert very long numbers.
    """
    if answer.status == 206:
        content_range = re.fullmatch(
            r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", answer.headers.get("Content-Range", "").strip()
        )
        if content_range is None or int(content_range[1]) != have:
            raise _Passing("the server resumed at a different position than requested")
        return have, None if content_range[2] == "*" else int(content_range[2])
    length = answer.headers.get("Content-Length", "")
    if length and not re.fullmatch(r"[0-9]{1,15}", length.strip()):
        raise NotFetched("the server sent an invalid `Content-Length`")
    return 0, int(length) if length else None


def _require_weights(answer: Any) -> None:
    # Login pages, error pages and "download" pages are served with status 200.
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise NotFetched("the server sent a web page instead of the file", 200)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted URL to an unencrypted one or to another protocol."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise NotFetched("the server redirects to a URL that is not encrypted", code)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        # urllib drops unredirected headers on every redirect; a redirect within one server still needs the token.
        token = req.unredirected_hdrs.get("Authorization")
        if request is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request


@contextmanager
def _faults(part: Path, host: str) -> Iterator[None]:
    """Translate errors of the connection into temporary and permanent ones."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _of_status(error, part) from error
    except URLError as error:
        raise _of_connection(error.reason, host) from error
    except ValueError as error:  # from urlsplit, for a redirect such as `http://[::1`
        raise NotFetched("the server redirects to an invalid URL") from error
    except (http.client.HTTPException, OSError, EOFError) as error:
        raise _of_connection(error, host) from error


def _of_status(error: HTTPError, part: Path) -> Exception:
    # Range not satisfiable: the file on the server is now shorter than the partial download.
    if error.code == 416:
        forget(part)
        return _Passing("the server cannot resume the download")
    if 300 <= error.code < 400:
        return NotFetched("the server redirects in a loop or to an invalid URL", error.code)
    reason = f"the server answered {error.code}: {WORDS.get(error.code, (error.reason or 'no reason given').lower())}"
    if error.code in PASSING:
        # `Retry-After` may also be a date; those are rare, and the usual pause does.
        wait = error.headers.get("Retry-After", "") if error.headers else ""
        return _Passing(reason, float(wait) if wait.isdecimal() else 0.0)
    return NotFetched(reason, error.code)


def _of_connection(reason: object, host: str) -> Exception:
    if isinstance(reason, socket.gaierror):
        return NotFetched(f"the host `{host}` was not found: no network connection, or a wrong host name")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return NotFetched(f"the certificate of `{host}` is not trusted")
    if isinstance(reason, http.client.InvalidURL):
        return NotFetched("the URL is invalid")
    if isinstance(reason, TimeoutError):
        return _Passing(f"`{host}` did not respond in time")
    if isinstance(reason, ConnectionRefusedError):
        return _Passing(f"`{host}` refused the connection")
    return _Passing(f"the connection to `{host}` was lost")


def _require_room(part: Path, total: int | None) -> None:
    """Fail before anything is written if the size is known and the disk is too small."""
    missing = (total or 0) - _size(part)
    if missing > 0 and (free := _free(part.parent)) < missing:
        raise NoRoom(f"{missing / 2**20:,.0f} MiB are needed, but only {free / 2**20:,.0f} MiB are free")


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Translate errors of the disk into :class:`DiskWriteError`."""
    try:
        yield
    except OSError as error:
        # The partial file itself may be what fills the disk.
        with suppress(OSError):
            forget(part)
        raise NoRoom((error.strerror or "the file cannot be written").lower()) from error


def _free(folder: Path) -> int:
    # Some network file systems do not report their free space: then the download is simply tried.
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return LARGEST


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _read_tag(part: Path) -> str:
    """Read the version tag (ETag or date) under which the server sent the file ``part``; empty if there is none."""
    try:
        tag = _tag(part).read_text(encoding="latin-1").strip()
    except OSError:
        return ""
    # The tag becomes a request header: a line break in it could add headers.
    return tag if re.fullmatch(r"[ -~]{1,500}", tag) else ""


def _write_tag(part: Path, answer: Any) -> None:
    # `If-Range` accepts strong tags only, and a weak one begins with `W/`.
    entity = answer.headers.get("ETag", "")
    tag = entity if entity.startswith('"') else answer.headers.get("Last-Modified", "")
    _tag(part).write_text(tag, encoding="latin-1", errors="replace")
