"""Downloads: dead, slow, misbehaving and redirecting servers, full disks, and resumed downloads.

Whatever happens, the cache never contains an incomplete file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from segdsl.storage.cache import build_cache_path, build_record_path, read_record
from segdsl.weights import download
from segdsl.weights.fetch import Watcher, fetch_weights_file
from segdsl.words.published import parse_source


class Seen(Watcher):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int | None]] = []
        self.told: list[str] = []

    def on_progress(self, name: str, done: int, total: int | None) -> None:
        self.steps.append((done, total))

    def on_wait(self, name: str) -> None:
        self.told.append(f"waiting {name}")

    def on_finish(self, name: str) -> None:
        self.told.append(f"fetched {name}")


def test_a_file_is_downloaded_once_with_progress(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    seen, wanted = Seen(), server.source()
    first = fetch_weights_file(wanted, seen)
    assert first.path == build_cache_path(wanted.url) and first.path.read_bytes() == weights_file
    assert first.sha256 == hashlib.sha256(weights_file).hexdigest()
    done = [step[0] for step in seen.steps]
    assert done == sorted(done) and done[-1] == len(weights_file) and {t for _, t in seen.steps} == {len(weights_file)}
    assert len(done) > 3 and seen.told == ["fetched w.pth"]
    assert fetch_weights_file(wanted) == first and len(server.asked) == 1
    assert not cache.leftovers()


def test_a_file_of_unknown_length_is_downloaded(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.send(weights_file, length=-1))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file


def test_a_broken_connection_is_resumed(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file, most=500_000))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file
    begins = [headers.get("Range") for _, headers in server.asked]
    assert begins == [None, "bytes=500000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_resumes_the_download(server: Any, cache: Any, weights_file: bytes) -> None:
    sent = iter([300_000, 0, 0, 0])
    server.answers(lambda h: h.serve(weights_file, most=next(sent)))
    found = cache.refused(server.source())
    assert (found.slug, "300,000" in found.message) == ("weights-not-fetched", True)
    assert cache.whole_files() == [] and cache.leftovers() == [".w.pth.part", ".w.pth.part.tag"]
    server.answers(lambda h: h.serve(weights_file))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file
    assert server.asked[-1][1]["Range"] == "bytes=300000-" and not cache.leftovers()


def test_a_file_that_changed_is_downloaded_again(server: Any, cache: Any, weights_file: bytes) -> None:
    sent = iter([300_000, 0, 0, 0])
    server.answers(lambda h: h.serve(weights_file[::-1], most=next(sent)))
    cache.refused(server.source())
    server.answers(lambda h: h.serve(weights_file, ETag='"2"'))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file


def test_a_file_without_a_version_tag_is_downloaded_again(server: Any, cache: Any, weights_file: bytes) -> None:
    sent = iter([300_000, 0, 0, 0])
    server.answers(lambda h: h.send(weights_file[: next(sent)], length=len(weights_file)))
    cache.refused(server.source())
    server.answers(lambda h: h.send(weights_file))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file
    assert not any("Range" in headers for _, headers in server.asked)


def test_a_partial_file_longer_than_the_file_is_downloaded_again(server: Any, cache: Any, weights_file: bytes) -> None:
    place = build_cache_path(server.source().url)
    place.parent.mkdir(parents=True)
    place.with_name(".w.pth.part").write_bytes(bytes(len(weights_file) + 5))
    place.with_name(".w.pth.part.tag").write_text('"1"')
    server.answers(lambda h: h.send(b"", 416) if h.headers.get("Range") else h.serve(weights_file))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file


def test_a_busy_server_is_retried(server: Any, cache: Any, weights_file: bytes) -> None:
    answers = iter([503, 429, 200])

    def answer(handler: Any) -> None:
        status = next(answers)
        handler.send(weights_file if status == 200 else b"", status, Retry_After="0")

    server.answers(answer)
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file


def stall(handler: Any) -> None:
    handler.send(b"\x80\x02", length=1000)
    time.sleep(1.5)


def loop(handler: Any) -> None:
    handler.send(b"", 302, Location=f"/{len(handler.server.asked)}")


PAGE = b"<!DOCTYPE html><title>Log in</title>"
FAULTS = {
    "closed connection": (lambda h, w: h.connection.close(), 4),
    "silent": (lambda h, w: time.sleep(1.5), 4),
    "stalling": (lambda h, w: stall(h), 4),
    "truncated": (lambda h, w: h.send(w[:-9], length=len(w)), 4),
    "internal error": (lambda h, w: h.send(b"", 500), 4),
    "not found": (lambda h, w: h.send(b"", 404), 1),
    "forbidden": (lambda h, w: h.send(b"", 403), 1),
    "web page": (lambda h, w: h.send(PAGE, Content_Type="text/html; charset=utf-8"), 1),
    "web page as data": (lambda h, w: h.send(PAGE), 1),
    "other file": (lambda h, w: h.send(b"{}"), 1),
    "empty file": (lambda h, w: h.send(b""), 1),
    "half a file": (lambda h, w: h.send(w[: len(w) // 2]), 1),
    "excessive length": (lambda h, w: h.send(w, length=1 << 40), 1),
    "wrong range": (lambda h, w: h.send(w[5:], 206, Content_Range=f"bytes 5-9/{len(w)}"), 4),
    "redirect loop": (lambda h, w: loop(h), 1),
    "redirect to a local file": (lambda h, w: h.send(b"", 302, Location="file:///etc/passwd"), 1),
    "redirect without a host": (lambda h, w: h.send(b"", 302, Location="http://"), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_server_leaves_nothing_in_the_cache(
    server: Any, cache: Any, weights_file: bytes, kind: str, wording: Any
) -> None:
    answer, attempts = FAULTS[kind]
    server.answers(lambda handler: answer(handler, weights_file))
    found = cache.refused(server.source())
    assert found.slug == "weights-not-fetched"
    # The size of a file that torch writes differs between versions.
    text = re.sub(r"\d{1,3}(,\d{3})+", "<size>", f"{found.message}\n{found.help}".replace(server.url, "<server>"))
    wording(text.replace(f"+{server.http.server_port}", "+<port>"))
    assert server.source().url in found.help and str(build_cache_path(server.source().url)) in found.help
    assert "--weights none" in found.help
    assert cache.whole_files() == [] and not list(cache.rglob("*.trust.json"))
    if attempts:
        assert len({path for path, _ in server.asked}) > 1 or len(server.asked) == attempts


def test_a_missing_network_is_reported_at_once(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parse_source("https://weights.invalid/a/w.pth")
    started = time.monotonic()
    found = cache.refused(wanted)
    assert time.monotonic() - started < 10
    assert "`weights.invalid`" in found.message
    place = build_cache_path(wanted.url)
    assert place == cache / "weights" / "weights.invalid" / "a" / "w.pth" and str(place) in found.help


def test_a_closed_port_is_reported(server: Any, cache: Any) -> None:
    server.http.shutdown()
    server.http.server_close()
    found = cache.refused(server.source())
    assert found.slug == "weights-not-fetched" and "`127.0.0.1`" in found.message


def test_redirects_are_followed(server: Any, cache: Any, weights_file: bytes) -> None:
    def answer(handler: Any) -> None:
        if handler.path == "/w.pth":
            handler.send(b"", 302, Location="/elsewhere/x?y=z")
        else:
            handler.serve(weights_file)

    server.answers(answer)
    fetched = fetch_weights_file(server.source())
    assert fetched.path.name == "w.pth" and fetched.path.read_bytes() == weights_file


def test_a_redirect_to_an_unencrypted_url_is_rejected() -> None:
    from urllib.request import Request

    handler = download._SecureRedirectHandler()
    request = Request("https://host/w.pth")
    with pytest.raises(download.DownloadError):
        handler.redirect_request(request, None, 302, "", {}, "http://host/w.pth")
    assert handler.redirect_request(request, None, 302, "", {}, "https://other/w.pth")


def test_a_token_is_sent_only_to_the_hub(server: Any, cache: Any, weights_file: bytes, monkeypatch) -> None:
    def answer(handler: Any) -> None:
        if handler.path.startswith("/org/"):
            cdn = f"http://localhost:{handler.server.server_port}/cdn"
            handler.send(b"", 302, Location=cdn, X_Linked_Size=str(len(weights_file)), X_Linked_ETag='"1"')
        else:
            handler.serve(weights_file)

    server.answers(answer)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    wanted = parse_source("hf://org/repo@v1/sub/model.safetensors")
    assert fetch_weights_file(wanted).path == cache / "weights/huggingface.co/org/repo/resolve/v1/sub/model.safetensors"
    assert not cache.leftovers() and not list(cache.rglob(".part-*"))
    # The library asks for the facts of the file at first.
    tokens = [(path, headers.get("authorization")) for path, headers in server.asked]
    assert tokens == [("/org/repo/resolve/v1/sub/model.safetensors", "Bearer secret"), ("/cdn", None)]
    assert "torch" not in server.asked[0][1]["user-agent"]


def test_a_hub_that_requires_a_login_suggests_a_token(server: Any, cache: Any, monkeypatch) -> None:
    server.answers(lambda h: h.send(b"", 401))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert "HF_TOKEN" in cache.refused(parse_source("hf://org/repo/w.pth")).help


HUB_FAULTS = {
    "not found": lambda h, w: h.send(b"", 404),
    "forbidden": lambda h, w: h.send(b"", 403),
    "another server": lambda h, w: h.send(w),
    "web page": lambda h, w: h.send(PAGE, ETag='"1"', Content_Type="text/html"),
    "half a file": lambda h, w: h.send(w[: len(w) // 2], ETag='"1"'),
}


@pytest.mark.parametrize("kind", HUB_FAULTS)
def test_a_hub_that_fails_leaves_nothing_in_the_cache(
    server: Any, cache: Any, weights_file: bytes, kind: str, wording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(lambda handler: HUB_FAULTS[kind](handler, weights_file))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    found = cache.refused(parse_source("hf://org/repo/w.pth"))
    assert found.slug == "weights-not-fetched"
    wording(f"{found.message}\n{found.help}".replace(str(cache), "<cache>"))
    assert cache.whole_files() == [] and not cache.leftovers() and not list(cache.rglob("*.trust.json"))


def test_a_planted_link_is_not_written_through(server: Any, cache: Any, weights_file: bytes, tmp_path: Path) -> None:
    server.answers(lambda h: h.serve(weights_file))
    place = build_cache_path(server.source().url)
    place.parent.mkdir(parents=True)
    (tmp_path / "victim").write_bytes(b"old")
    place.with_name(".w.pth.part").symlink_to(tmp_path / "victim")
    assert cache.refused(server.source()).slug == "cache-not-written"
    assert (tmp_path / "victim").read_bytes() == b"old"


@pytest.mark.parametrize("digits", [8, 64])
def test_the_digest_in_a_source_is_verified(server: Any, cache: Any, weights_file: bytes, digits: int) -> None:
    server.answers(lambda h: h.serve(weights_file))
    digest = hashlib.sha256(weights_file).hexdigest()
    found = cache.refused(server.source(digest="0" * digits))
    assert found.slug == "weights-changed" and digest[:12] in found.message
    assert cache.whole_files() == [] and not cache.leftovers()
    assert fetch_weights_file(server.source(digest=digest[:digits])).sha256 == digest
    assert cache.refused(server.source(digest="0" * digits)).slug == "weights-changed", (
        "the cached file is held to it too"
    )


def test_a_later_download_must_equal_the_first(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    wanted = server.source()
    place = fetch_weights_file(wanted).path
    record = read_record(place)
    assert record and (record.url, record.size) == (wanted.url, len(weights_file))
    place.unlink()
    other = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, other)
    server.answers(lambda h: h.serve(other.getvalue()))
    found = cache.refused(wanted)
    assert found.slug == "weights-changed" and str(build_record_path(place)) in found.help
    assert not place.exists() and not cache.leftovers()
    build_record_path(place).unlink()
    assert fetch_weights_file(wanted).path == place


def test_a_modified_file_in_the_cache_is_rejected(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    place = fetch_weights_file(server.source()).path
    place.write_bytes(weights_file[:-1] + b"x")
    found = cache.refused(server.source())
    assert found.slug == "weights-changed" and f"delete `{place}`" in found.help
    place.unlink()
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file


def test_the_digest_in_a_lock_is_verified(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    found = cache.refused(server.source(), expected="f" * 64)
    assert found.slug == "weights-changed" and "lock.json" in found.message


def test_a_file_put_into_the_cache_by_hand_is_used(cache: Any, weights_file: bytes) -> None:
    wanted = parse_source("https://weights.invalid/a/w.pth")
    place = build_cache_path(wanted.url)
    place.parent.mkdir(parents=True)
    place.write_bytes(weights_file)
    assert fetch_weights_file(wanted).path == place
    place.write_bytes(weights_file + b"x")
    assert cache.refused(wanted).slug == "weights-changed"


def test_a_read_only_cache_works(cache: Any, weights_file: bytes, monkeypatch) -> None:
    wanted = parse_source("https://weights.invalid/a/w.pth")
    place = build_cache_path(wanted.url)
    place.parent.mkdir(parents=True)
    place.write_bytes(weights_file)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("segdsl.storage.lock.FileLock.acquire", refuse)
    monkeypatch.setattr("segdsl.weights.fetch.write_record", refuse)
    assert fetch_weights_file(wanted).path == place and not build_record_path(place).exists()


def test_a_cache_that_cannot_be_created_is_reported(server: Any, tmp_path: Path, cache: Any) -> None:
    cache.write_text("a file")
    found = cache.refused(server.source())
    assert found.slug == "cache-not-written" and "SEGDSL_CACHE" in found.help and not server.asked


def test_a_disk_that_is_too_small_is_reported_before_the_download(
    server: Any, cache: Any, weights_file: bytes, monkeypatch
) -> None:
    server.answers(lambda h: h.serve(weights_file))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    found = cache.refused(server.source())
    assert found.slug == "cache-not-written" and " MiB" in found.message
    assert cache.whole_files() == [] and not cache.leftovers()


HOSTILE_PATHS = ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/x", "/a/..%2f..%2fx", "/" + "n" * 400, "/a//b", "/ü/x.pth",
                 "/x.pth?token=1", "/CON.", "/a%00b", "/.hidden"]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_every_url_has_a_path_inside_the_cache(cache: Any, path: str) -> None:
    place = build_cache_path(f"https://host.org{path}")
    inside = place.relative_to(cache / "weights" / "host.org")
    assert ".." not in inside.parts and all(len(part) < 200 and not part.startswith(".") for part in inside.parts)


def test_every_url_has_its_own_path(cache: Any) -> None:
    paths = ["a", "b", "a?x=1", "a?x=2", "a_b", "a%20b", "a%2Fb", "a/b", "a//b", "x/../a", "w.pth", "w.pth.trust.json"]
    hosts = ["http://h.org", "https://h.org", "https://i.org", "https://h.org:8000"]
    addresses = [f"{host}/{path}" for host in hosts for path in paths]
    assert len({build_cache_path(address) for address in addresses}) == len(addresses)
