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

from segdsl.storage.atomic import write_text_atomically
from segdsl.version import __version__

# Seconds without a byte after which a connection counts as dead.
TIMEOUT = 30.0
# Consecutive failures after which a download is given up.
MAX_FAILURES = 4
# Seconds before the first retry, doubled for each further one (exponential backoff) up to a maximum.
PAUSE = 0.5
MAX_PAUSE = 30.0
CHUNK_BYTES = 1 << 18
# An attempt that received at least this many bytes resets the count of failures: on a bad line a large file arrives
# in pieces, and giving up is right only when nothing arrives any more.
PROGRESS_BYTES = 1 << 20
# No weights file is larger than 32 GiB; a server that sends more is broken or hostile, and would fill the disk.
MAX_FILE_BYTES = 1 << 35
# HTTP statuses of temporary errors.
RETRYABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504}
URL_SAFE_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"
STATUS_REASONS = {401: "login required", 403: "access denied", 404: "file not found", 410: "the file was removed"}

# Called with the number of bytes received and the total, or None if the server does not send it.
DownloadProgress = Callable[[int, int | None], None]


class DownloadError(Exception):
    """The file cannot be downloaded; the message gives the reason. ``status`` is the HTTP status, 0 without one."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class DiskWriteError(Exception):
    """The file cannot be written to the disk; the message gives the reason."""


class _RetryableError(Exception):
    """A temporary error; ``retry_after`` is the delay in seconds that the server requests."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def download_file(url: str, part: Path, report: DownloadProgress) -> None:
    """Download ``url`` into the file ``part``, and resume from its end if it exists.

    Raises :class:`DownloadError` and :class:`DiskWriteError`. After a :class:`DownloadError`, ``part`` contains the
    bytes received so far, so that a later call resumes from there.
    """
    failures = 0
    while True:
        before = _get_size(part)
        try:
            return _attempt_download(url, part, report)
        except _RetryableError as fault:
            failures = 1 if _get_size(part) - before >= PROGRESS_BYTES else failures + 1
            if failures >= MAX_FAILURES:
                raise DownloadError(str(fault)) from fault
            time.sleep(min(max(fault.retry_after, PAUSE * 2 ** (failures - 1)), MAX_PAUSE))


def remove_partial_file(part: Path) -> None:
    """Remove a partial download and its version tag."""
    part.unlink(missing_ok=True)
    _build_tag_path(part).unlink(missing_ok=True)


def _attempt_download(url: str, part: Path, report: DownloadProgress) -> None:
    # Without `identity` a proxy may compress the content, and its length and ranges would be those of the archive.
    request = Request(
        quote(url, safe=URL_SAFE_CHARACTERS),
        headers={"User-Agent": f"segdsl/{__version__}", "Accept-Encoding": "identity"},
    )
    have, tag = _get_size(part), _read_tag(part)
    # Without a version tag the two halves could come from different files, so that the download starts over.
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with (
        _translate_http_errors(part, urlsplit(url).hostname or url),
        build_opener(_SecureRedirectHandler).open(request, timeout=TIMEOUT) as answer,
    ):
        start, total = _parse_extent(answer, have)
        if total is not None and total > MAX_FILE_BYTES:
            raise DownloadError(f"the server announces {total / 2**30:.0f} GiB, too large for a weights file")
        _reject_web_page(answer)
        _require_disk_space(part, total)
        _copy_body(answer, part, start, total, report)
    # http.client reports a connection that ends early as an ordinary end of the body.
    size = _get_size(part)
    if total is not None and size != total:
        raise _RetryableError(f"the connection was closed after {size:,} of {total:,} bytes")


def _copy_body(answer: Any, part: Path, done: int, total: int | None, report: DownloadProgress) -> None:
    # Only the calls that touch the disk are wrapped: an OSError from reading the socket is a connection error.
    with _translate_disk_errors(part):
        # The name is known in advance, so that a later call finds the file: a link that was planted there is an error.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with open(handle, "ab", buffering=0) as file:
        with _translate_disk_errors(part):
            file.truncate(done)
            _write_tag(part, answer)
        report(done, total)
        while chunk := answer.read1(CHUNK_BYTES):
            done += len(chunk)
            if done > MAX_FILE_BYTES:
                raise DownloadError("the server sends too much data for a weights file")
            # An unbuffered file may write fewer bytes than it is given.
            rest = memoryview(chunk)
            while rest:
                with _translate_disk_errors(part):
                    rest = rest[file.write(rest) :]
            report(done, total)
        with _translate_disk_errors(part):
            os.fsync(file.fileno())


def _parse_extent(answer: Any, resume_offset: int) -> tuple[int, int | None]:
    """Return the offset at which the response begins and the size of the whole file, or None if it is unknown.

    The digits are limited because Python refuses to convert very long numbers.
    """
    if answer.status == 206:
        content_range = re.fullmatch(
            r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", answer.headers.get("Content-Range", "").strip()
        )
        if content_range is None or int(content_range[1]) != resume_offset:
            raise _RetryableError("the server resumed at a different position than requested")
        return resume_offset, None if content_range[2] == "*" else int(content_range[2])
    length = answer.headers.get("Content-Length", "")
    if length and not re.fullmatch(r"[0-9]{1,15}", length.strip()):
        raise DownloadError("the server sent an invalid `Content-Length`")
    return 0, int(length) if length else None


def _reject_web_page(answer: Any) -> None:
    # Login pages, error pages and "download" pages are served with status 200.
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise DownloadError("the server sent a web page instead of the file", 200)


class _SecureRedirectHandler(HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted URL to an unencrypted one or to another protocol."""

    def redirect_request(self, req: Request, *response: Any) -> Request | None:
        code, new_url = response[1], response[-1]
        old, new = urlsplit(req.full_url), urlsplit(new_url)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise DownloadError("the server redirects to a URL that is not encrypted", code)
        return super().redirect_request(req, *response)


@contextmanager
def _translate_http_errors(part: Path, host: str) -> Iterator[None]:
    """Translate errors of the connection into temporary and permanent ones."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _classify_status(error, part) from error
    except URLError as error:
        raise _classify_connection_error(error.reason, host) from error
    except ValueError as error:  # from urlsplit, for a redirect such as `http://[::1`
        raise DownloadError("the server redirects to an invalid URL") from error
    except (http.client.HTTPException, OSError, EOFError) as error:
        raise _classify_connection_error(error, host) from error


def _classify_status(error: HTTPError, part: Path) -> Exception:
    # Range not satisfiable: the file on the server is now shorter than the partial download.
    if error.code == 416:
        remove_partial_file(part)
        return _RetryableError("the server cannot resume the download")
    if 300 <= error.code < 400:
        return DownloadError("the server redirects in a loop or to an invalid URL", error.code)
    stated = (error.reason or "no reason given").lower()
    reason = f"the server answered {error.code}: {STATUS_REASONS.get(error.code, stated)}"
    if error.code in RETRYABLE_STATUSES:
        # `Retry-After` may also be a date; those are rare, and the usual pause does.
        wait = error.headers.get("Retry-After", "") if error.headers else ""
        return _RetryableError(reason, float(wait) if wait.isdecimal() else 0.0)
    return DownloadError(reason, error.code)


def _classify_connection_error(reason: object, host: str) -> Exception:
    if isinstance(reason, socket.gaierror):
        return DownloadError(f"the host `{host}` was not found: no network connection, or a wrong host name")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"the certificate of `{host}` is not trusted")
    if isinstance(reason, http.client.InvalidURL):
        return DownloadError("the URL is invalid")
    if isinstance(reason, TimeoutError):
        return _RetryableError(f"`{host}` did not respond in time")
    if isinstance(reason, ConnectionRefusedError):
        return _RetryableError(f"`{host}` refused the connection")
    return _RetryableError(f"the connection to `{host}` was lost")


def _require_disk_space(part: Path, total: int | None) -> None:
    """Fail before anything is written if the size is known and the disk is too small."""
    missing = (total or 0) - _get_size(part)
    if missing > 0 and (free := _get_free_bytes(part.parent)) < missing:
        raise DiskWriteError(f"{missing / 2**20:,.0f} MiB are needed, but only {free / 2**20:,.0f} MiB are free")


@contextmanager
def _translate_disk_errors(part: Path) -> Iterator[None]:
    """Translate errors of the disk into :class:`DiskWriteError`."""
    try:
        yield
    except OSError as error:
        # The partial file itself may be what fills the disk.
        with suppress(OSError):
            remove_partial_file(part)
        raise DiskWriteError((error.strerror or "the file cannot be written").lower()) from error


def _get_free_bytes(folder: Path) -> int:
    # Some network file systems do not report their free space: then the download is simply tried.
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return MAX_FILE_BYTES


def _get_size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _build_tag_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _read_tag(part: Path) -> str:
    """Read the version tag (ETag or date) under which the server sent the file ``part``; empty if there is none."""
    try:
        tag = _build_tag_path(part).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    # The tag becomes a request header: a line break in it could add headers.
    return tag if re.fullmatch(r"[ -~]{1,500}", tag) else ""


def _write_tag(part: Path, answer: Any) -> None:
    # `If-Range` accepts strong tags only, and a weak one begins with `W/`.
    entity = answer.headers.get("ETag", "")
    tag = entity if entity.startswith('"') else answer.headers.get("Last-Modified", "")
    write_text_atomically(_build_tag_path(part), tag.encode("latin-1", "replace").decode("latin-1"))
