"""Downloads in separate processes: two at once, killed ones, and one whose disk fills up."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import Any

from segdsl.storage.cache import build_cache_path


def segdsl(cache: Any, *arguments: str, limit: int | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own, which may write files of ``limit`` bytes."""
    code = "import sys; from segdsl.cli import main; main(sys.argv[1:])"
    if limit is not None:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); " + code
    environment = {**os.environ, "SEGDSL_CACHE": str(cache), "no_proxy": "*"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], text=True, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_disk_that_fills_up_leaves_nothing_behind(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(lambda h: h.send(weights_file, length=-1))
    process = segdsl(cache, "weights", "fetch", f"{server.url}/w.pth", limit=300_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "error[cache-not-written]" in err and "Traceback" not in err
    assert os.strerror(errno.EFBIG).lower() in err
    assert cache.whole_files() == [] and not cache.leftovers()


def test_a_disk_that_fills_up_slowly_is_not_a_network_error(server: Any, cache: Any, weights_file: bytes) -> None:
    def in_pieces(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for start in range(0, 60_000, 1000):
            handler.wfile.write(weights_file[start : start + 1000])
            time.sleep(0.002)
        handler.close_connection = True

    server.answers(in_pieces)
    process = segdsl(cache, "weights", "fetch", f"{server.url}/w.pth", limit=20_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "error[cache-not-written]" in err and len(server.asked) == 1
    assert cache.whole_files() == [] and not cache.leftovers()


def slowly(content: bytes, pause: float) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(206 if handler.headers.get("Range") else 200)
        begin = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.send_header("ETag", '"1"')
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        for start in range(begin, len(content), 100_000):
            handler.wfile.write(content[start : start + 100_000])
            time.sleep(pause)

    return answer


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_at_once_fetch_once(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(slowly(weights_file, 0.1))
    both = [segdsl(cache, "weights", "fetch", f"{server.url}/w.pth") for _ in range(2)]
    texts = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert len(server.asked) == 1 and cache.whole_files() == [weights_file] and not cache.leftovers()


def test_when_the_one_that_fetches_is_killed_the_other_goes_on(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(slowly(weights_file, 0.1))
    first = segdsl(cache, "weights", "fetch", f"{server.url}/w.pth")
    part = build_cache_path(f"{server.url}/w.pth").with_name(".w.pth.part")
    wait_until(lambda: part.is_file() and part.stat().st_size > 300_000)
    second = segdsl(cache, "weights", "fetch", f"{server.url}/w.pth")
    time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert cache.whole_files() == []
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert cache.whole_files() == [weights_file] and not cache.leftovers()
    assert int(server.asked[-1][1]["Range"].removeprefix("bytes=").rstrip("-")) >= 300_000


def test_ctrl_c_keeps_only_the_partial_download(server: Any, cache: Any, weights_file: bytes) -> None:
    server.answers(slowly(weights_file, 0.2))
    process = segdsl(cache, "weights", "fetch", f"{server.url}/w.pth")
    part = build_cache_path(f"{server.url}/w.pth").with_name(".w.pth.part")
    wait_until(lambda: part.is_file() and part.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert cache.whole_files() == [] and ".w.pth.part" in cache.leftovers()
