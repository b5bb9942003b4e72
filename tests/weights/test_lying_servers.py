"""Lying servers, invalid environment variables, and a cache that was modified by hand."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
import safetensors.torch
import torch

from segdsl.storage.cache import build_cache_path, build_record_path, read_record
from segdsl.weights.fetch import fetch_weights_file
from segdsl.words.published import parse_source

LIES = {
    "a length beyond reason": lambda h, w: h.send(w, Content_Length="9" * 5000),
    "a length that is no number": lambda h, w: h.send(w, length=-1, Content_Length="-5"),
    "a range beyond reason": lambda h, w: h.send(w, 206, Content_Range=f"bytes 0-1/{'9' * 5000}"),
    "no address": lambda h, w: h.send(b"", 302, Location="http://[::1"),
    "another protocol": lambda h, w: h.send(b"", 302, Location="ftp://127.0.0.1/w.pth"),
    "half, and no length": lambda h, w: h.send(w[: len(w) // 2], length=-1),
    "half safetensors, and no length": lambda h, w: h.send(safetensors_bytes()[:-9], length=-1),
    "half of the old form, and no length": lambda h, w: h.send(old_form()[:-9], length=-1),
}  # fmt: skip


def safetensors_bytes() -> bytes:
    return safetensors.torch.save({"weight": torch.ones(99)})


def old_form() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(99)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", LIES)
def test_a_lying_server_is_reported_and_leaves_nothing(server: Any, cache: Any, weights_file: bytes, kind: str) -> None:
    server.answers(lambda handler: LIES[kind](handler, weights_file))
    assert cache.refused(server.source()).slug == "weights-not-fetched"
    assert cache.whole_files() == [] and not list(cache.rglob("*.trust.json"))


def test_a_file_with_python_objects_is_not_cached(server: Any, cache: Any) -> None:
    content = io.BytesIO()
    torch.save({"x": os.system}, content)
    server.answers(lambda h: h.send(content.getvalue()))
    found = cache.refused(server.source())
    assert (found.slug, "`posix.system`" in found.message) == ("weights-unreadable", True)
    assert cache.whole_files() == [] and not cache.leftovers()


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "SEGDSL_MIRROR"])
@pytest.mark.parametrize("value", ["http://[::1", "example.org", "file:///etc", "http://h/\n"])
def test_an_invalid_mirror_url_is_reported(cache: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    wanted = parse_source("otx:lite_hrnet_s" if name == "SEGDSL_MIRROR" else "hf://org/repo/w.pth")
    assert f"`{name}`" in cache.refused(wanted).message


def test_an_invalid_token_is_reported_but_not_printed(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\nsecret")
    found = cache.refused(parse_source("hf://org/repo/w.pth"))
    assert "`HF_TOKEN`" in found.message and "secret" not in found.message + found.help


def test_a_token_survives_a_redirect_within_one_server(server: Any, cache: Any, weights_file, monkeypatch) -> None:
    server.answers(lambda h: h.serve(weights_file) if h.path == "/new" else h.send(b"", 302, Location="/new"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch_weights_file(parse_source("hf://org/repo/w.pth"))
    assert {headers.get("authorization") for _, headers in server.asked} == {"Bearer secret"}


def test_an_invalid_version_tag_is_not_sent(server: Any, cache: Any, weights_file: bytes) -> None:
    place = build_cache_path(server.source().url)
    place.parent.mkdir(parents=True)
    place.with_name(".w.pth.part").write_bytes(weights_file[:9])
    place.with_name(".w.pth.part.tag").write_text('"1"\r\nX-Evil: y')
    server.answers(lambda h: h.serve(weights_file))
    assert fetch_weights_file(server.source()).path.read_bytes() == weights_file
    assert "X-Evil" not in server.asked[0][1] and "Range" not in server.asked[0][1]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"url": 1, "sha256": "", "size": 1e999}', '{"sha256": ""}'])
def test_an_invalid_record_is_replaced(server: Any, cache: Any, weights_file: bytes, text: str) -> None:
    server.answers(lambda h: h.serve(weights_file))
    place = fetch_weights_file(server.source()).path
    record = read_record(place)
    build_record_path(place).write_text(text)
    assert fetch_weights_file(server.source()).path == place and read_record(place) == record


def test_an_empty_file_in_the_cache_is_rejected(cache: Any) -> None:
    wanted = parse_source("https://weights.invalid/a/w.pth")
    place = build_cache_path(wanted.url)
    place.parent.mkdir(parents=True)
    place.touch()
    found = cache.refused(wanted)
    assert (found.slug, str(place) in found.message) == ("weights-unreadable", True)
    assert not build_record_path(place).exists()


def test_a_wrong_digest_does_not_suggest_deleting_the_right_file(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    fetch_weights_file(server.source())
    assert "delete" not in cache.refused(server.source(digest="0" * 64)).help
