"""Servers that lie, settings that are none, and a cache that somebody has been at."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.weights.cache import place_of, read_record, record_path
from segdsl.weights.fetch import fetch
from segdsl.words.published import parse_source


def source(server: Any, path: str = "/w.pth", digest: str = "") -> Any:
    return parse_source(f"{server.url}{path}" + (f"#sha256={digest}" if digest else ""))


def refused(wanted: Any, expected: str = "") -> Diagnostic:
    with pytest.raises(SegError) as caught:
        fetch(wanted, expected=expected)
    (found,) = caught.value.diagnostics
    return found


def whole_files(cache: Path) -> list[bytes]:
    """What lies in the cache under the name of a file of weights."""
    files = [p for p in cache.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return [p.read_bytes() for p in files if not p.name.endswith(".trust.json")]


def leftovers(cache: Path) -> list[str]:
    """What lies there beside them, without locks and records."""
    hidden = [p.name for p in cache.rglob(".*") if p.is_file()]
    return sorted(name for name in hidden if not name.endswith(".lock"))


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
def test_a_lie_ends_in_a_reason_and_leaves_nothing(server: Any, cache: Path, weights_file: bytes, kind: str) -> None:
    server.answers(lambda handler: LIES[kind](handler, weights_file))
    assert refused(source(server)).slug == "weights-not-fetched"
    assert whole_files(cache) == [] and not list(cache.rglob("*.trust.json"))


def test_a_file_with_objects_is_never_kept(server: Any, cache: Path) -> None:
    content = io.BytesIO()
    torch.save({"x": os.system}, content)
    server.answers(lambda h: h.send(content.getvalue()))
    found = refused(source(server))
    assert (found.slug, "`posix.system`" in found.message) == ("weights-unreadable", True)
    assert whole_files(cache) == [] and not leftovers(cache)


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "SEGDSL_MIRROR"])
@pytest.mark.parametrize("value", ["http://[::1", "example.org", "file:///etc", "http://h/\n"])
def test_a_server_that_is_none_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    wanted = parse_source("otx:lite_hrnet_s" if name == "SEGDSL_MIRROR" else "hf://org/repo/w.pth")
    assert f"`{name}`" in refused(wanted).message


def test_a_token_that_is_none_is_told_and_not_shown(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\nsecret")
    found = refused(parse_source("hf://org/repo/w.pth"))
    assert "`HF_TOKEN`" in found.message and "secret" not in found.message + found.help


def test_a_token_stays_with_a_server_that_leads_on_to_itself(
    server: Any, cache: Path, weights_file, monkeypatch
) -> None:
    server.answers(lambda h: h.serve(weights_file) if h.path == "/new" else h.send(b"", 302, Location="/new"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(parse_source("hf://org/repo/w.pth"))
    assert [headers.get("Authorization") for _, headers in server.asked] == ["Bearer secret"] * 2


def test_what_is_no_version_is_not_asked_for(server: Any, cache: Path, weights_file: bytes) -> None:
    place = place_of(source(server).url)
    place.parent.mkdir(parents=True)
    place.with_name(".w.pth.part").write_bytes(weights_file[:9])
    place.with_name(".w.pth.part.tag").write_text('"1"\r\nX-Evil: y')
    server.answers(lambda h: h.serve(weights_file))
    assert fetch(source(server)).path.read_bytes() == weights_file
    assert "X-Evil" not in server.asked[0][1] and "Range" not in server.asked[0][1]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"url": 1, "sha256": "", "size": 1e999}', '{"sha256": ""}'])
def test_a_record_that_is_none_is_written_anew(server: Any, cache: Path, weights_file: bytes, text: str) -> None:
    server.answers(lambda h: h.serve(weights_file))
    place = fetch(source(server)).path
    record = read_record(place)
    record_path(place).write_text(text)
    assert fetch(source(server)).path == place and read_record(place) == record


def test_an_empty_file_that_somebody_put_there_is_refused(cache: Path) -> None:
    wanted = parse_source("https://weights.invalid/a/w.pth")
    place = place_of(wanted.url)
    place.parent.mkdir(parents=True)
    place.touch()
    found = refused(wanted)
    assert (found.slug, str(place) in found.message) == ("weights-unreadable", True)
    assert not record_path(place).exists()


def test_a_wrong_digest_does_not_cost_the_right_file(server: Any, cache: Path, weights_file: bytes) -> None:
    server.answers(lambda h: h.serve(weights_file))
    fetch(source(server))
    assert "delete" not in refused(source(server, digest="0" * 64)).help
