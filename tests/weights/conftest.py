"""A scriptable local server, and a cache for each test."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.weights.fetch import fetch_weights_file
from segdsl.words.published import WeightSource, parse_source

Answer = Callable[[Any], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's table says, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        try:
            self.server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        """Sends ``body``; ``length`` is what it says to be sending, an underscore in a name stands for a hyphen."""
        self.send_response(status)
        for name, value in {"Content_Type": "application/octet-stream", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        if length is not None:
            self.send_header("Connection", "close")
            self.close_connection = True
        # A server of the hub tells the commit; the hub's library asks for it by HEAD first.
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve(self, body: bytes, most: int | None = None, **headers: str) -> None:
        """Serves a file as a good server does, going on where it is asked to; breaks off after ``most`` bytes."""
        begin, status = 0, 200
        headers = {"ETag": '"1"', **headers}
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == headers["ETag"]:
            begin, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content_Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        rest = body[begin:]
        self.send(rest[:most], status, None if most is None or most >= len(rest) else len(rest), **headers)


@dataclass
class Server:
    """A running server: ``url`` is its address, ``asked`` what it was asked so far, as path and headers."""

    http: Any
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def source(self, path: str = "/w.pth", digest: str = "") -> WeightSource:
        """The source of a file of this server."""
        return parse_source(f"{self.url}{path}" + (f"#sha256={digest}" if digest else ""))

    def answers(self, answer: Answer) -> None:
        """Answers all that is asked from now on with ``answer(handler)``."""
        self.http.answer = answer


class Cache(type(Path())):
    """The folder of a cache, and what a test asks of it."""

    def refused(self, wanted: WeightSource, expected: str = "") -> Diagnostic:
        """The one finding with which a source is refused."""
        with pytest.raises(SegError) as caught:
            fetch_weights_file(wanted, expected_sha256=expected)
        (found,) = caught.value.diagnostics
        return found

    def whole_files(self) -> list[bytes]:
        """What lies here under the name of a file of weights."""
        files = [p for p in self.rglob("*") if p.is_file() and not p.name.startswith(".")]
        return [p.read_bytes() for p in files if not p.name.endswith(".trust.json")]

    def leftovers(self) -> list[str]:
        """What lies here beside them, without locks and records."""
        hidden = [p.name for p in self.rglob(".*") if p.is_file()]
        return sorted(name for name in hidden if not name.endswith(".lock"))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers 404 until it is told otherwise."""
    http: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Server(http)
    http.asked, http.daemon_threads = running.asked, True
    running.answers(lambda handler: handler.send(b"", 404))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    http.shutdown()
    http.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache; pauses between attempts are short."""
    folder = Cache(tmp_path / "cache")
    monkeypatch.setenv("SEGDSL_CACHE", str(folder))
    for name in ("SEGDSL_MIRROR", "HF_ENDPOINT", "HF_TOKEN", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("segdsl.weights.download.PAUSE", 0.01)
    monkeypatch.setattr("segdsl.weights.download.TIMEOUT", 0.5)
    return folder


@pytest.fixture
def weights_file() -> bytes:
    """A PyTorch file of a MB and a half."""
    buffer = io.BytesIO()
    torch.manual_seed(0)
    torch.save({"weight": torch.randn(400_000)}, buffer)
    return buffer.getvalue()
