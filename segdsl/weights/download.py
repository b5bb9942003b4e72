"""One file over HTTP: resumed where it stopped, tried again when the fault may pass, and whole or not at all."""

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

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as dead."""
ATTEMPTS = 4
"""Failures in a row, without a MiB between them, after which it is given up."""
PAUSE = 0.5
"""Seconds before the second attempt; each further one waits twice as long."""
LONGEST_PAUSE = 30.0
CHUNK = 1 << 18
ENOUGH = 1 << 20
"""Bytes in an attempt that make it count as a success so far."""
LARGEST = 1 << 35
"""Bytes after which no file of weights goes on."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be another one soon."""
IN_ADDRESSES = "%/:=&?~#+!$,;'@()*[]"
WORDS = {401: "it asks for a login", 403: "it does not allow it", 404: "it has no such file", 410: "the file is gone"}

Report = Callable[[int, int | None], None]
"""Is told the bytes that are here, and how many there will be if the server says so."""


class NotFetched(Exception):
    """The file cannot be had; the text says why. ``status`` is the server's answer, 0 where there was none."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class NoRoom(Exception):
    """The disk refuses the file; the text says why."""


class _Passing(Exception):
    """A fault that may pass; ``wait`` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def download(url: str, part: Path, report: Report, token: str = "") -> None:
    """Fetches ``url`` into the file ``part``, going on where it ends.

    ``token`` is sent to the host of ``url`` alone. Raises :class:`NotFetched`, :class:`NoRoom`; then ``part`` holds
    what has come, to go on from.
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
    """Removes what was fetched so far."""
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, report: Report, token: str) -> None:
    request = Request(
        quote(url, safe=IN_ADDRESSES), headers={"User-Agent": f"segdsl/{__version__}", "Accept-Encoding": "identity"}
    )
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    have, tag = _size(part), _read_tag(part)
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with (
        _faults(part, urlsplit(url).hostname or url),
        build_opener(_Redirects).open(request, timeout=TIMEOUT) as answer,
    ):
        start, total = _extent(answer, have)
        if total is not None and total > LARGEST:
            raise NotFetched(f"the server offers {total / 2**30:.0f} GiB, which is no file of weights")
        _require_weights(answer)
        _require_room(part, total)
        _copy(answer, part, start, total, report)
    size = _size(part)
    if total is not None and size != total:
        raise _Passing(f"the connection ended after {size:,} of {total:,} bytes")


def _copy(answer: Any, part: Path, done: int, total: int | None, report: Report) -> None:
    with _writing(part):
        file = open(part, "ab" if done else "wb", buffering=0)  # noqa: SIM115 - reading may fail for other reasons than the disk
    with file:
        with _writing(part):
            file.truncate(done)
            _write_tag(part, answer)
        report(done, total)
        while chunk := answer.read1(CHUNK):
            done += len(chunk)
            if done > LARGEST:
                raise NotFetched("the server sends without end")
            rest = memoryview(chunk)
            while rest:
                with _writing(part):
                    rest = rest[file.write(rest) :]
            report(done, total)
        with _writing(part):
            os.fsync(file.fileno())


def _extent(answer: Any, have: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the whole is, None where the server does not say."""
    if answer.status == 206:
        said = re.fullmatch(
            r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", answer.headers.get("Content-Range", "").strip()
        )
        if said is None or int(said[1]) != have:
            raise _Passing("the server went on in another place than asked for")
        return have, None if said[2] == "*" else int(said[2])
    length = answer.headers.get("Content-Length", "")
    if length and not re.fullmatch(r"[0-9]{1,15}", length.strip()):
        raise NotFetched("the server says nothing sensible of the length of the file")
    return 0, int(length) if length else None


def _require_weights(answer: Any) -> None:
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise NotFetched("the server sends a web page in place of the file", 200)


class _Redirects(HTTPRedirectHandler):
    """Follows a server to another place, but never to one that anybody on the way can read or change."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise NotFetched("the server leads on to an address that is not encrypted", code)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if request is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request


@contextmanager
def _faults(part: Path, host: str) -> Iterator[None]:
    """Turns what goes wrong on the way into faults that pass and faults that do not."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _of_status(error, part) from error
    except URLError as error:
        raise _of_connection(error.reason, host) from error
    except ValueError as error:
        raise NotFetched("the server leads on to what is no address") from error
    except (http.client.HTTPException, OSError, EOFError) as error:
        raise _of_connection(error, host) from error


def _of_status(error: HTTPError, part: Path) -> Exception:
    if error.code == 416:  # the file has changed, and is shorter now than what we have
        forget(part)
        return _Passing("the server does not go on where the file ends")
    if 300 <= error.code < 400:
        return NotFetched("the server leads on without end, or to no address", error.code)
    why = f"the server answers {error.code}: {WORDS.get(error.code, (error.reason or 'no reason given').lower())}"
    if error.code in PASSING:
        wait = error.headers.get("Retry-After", "") if error.headers else ""
        return _Passing(why, float(wait) if wait.isdecimal() else 0.0)
    return NotFetched(why, error.code)


def _of_connection(reason: object, host: str) -> Exception:
    if isinstance(reason, socket.gaierror):
        return NotFetched(f"`{host}` is not known here: there is no network, or no such host")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return NotFetched(f"`{host}` shows no certificate that can be trusted")
    if isinstance(reason, http.client.InvalidURL):
        return NotFetched("the address cannot be asked for")
    if isinstance(reason, TimeoutError):
        return _Passing(f"`{host}` sends nothing")
    if isinstance(reason, ConnectionRefusedError):
        return _Passing(f"`{host}` takes no connection")
    return _Passing(f"the connection to `{host}` breaks off")


def _require_room(part: Path, total: int | None) -> None:
    """Says before anything is written that the disk is too small, where the size is known."""
    missing = (total or 0) - _size(part)
    if missing > 0 and (free := _free(part.parent)) < missing:
        raise NoRoom(f"{missing / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free")


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Turns what the disk refuses into :class:`NoRoom`."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            forget(part)  # the disk may be full of it
        raise NoRoom((error.strerror or "the disk refuses it").lower()) from error


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return LARGEST


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _read_tag(part: Path) -> str:
    """What the server called the version of the file that ``part`` is the beginning of."""
    try:
        tag = _tag(part).read_text(encoding="latin-1").strip()
    except OSError:
        return ""
    return tag if re.fullmatch(r"[ -~]{1,500}", tag) else ""


def _write_tag(part: Path, answer: Any) -> None:
    entity = answer.headers.get("ETag", "")
    tag = entity if entity.startswith('"') else answer.headers.get("Last-Modified", "")
    _tag(part).write_text(tag, encoding="latin-1", errors="replace")
