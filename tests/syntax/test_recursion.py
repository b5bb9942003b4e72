"""Nesting deeper than Python's limit, which nobody changes: it is one number for all threads of a process."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import segdsl
from segdsl.syntax.printer.format import format_text
from segdsl.syntax.recursion import call_deeply

DEEP = 3000


def count_down(n: int) -> int:
    return 0 if n == 0 else 1 + call_deeply(lambda: count_down(n - 1))


def test_a_computation_goes_deeper_than_the_limit() -> None:
    limit = sys.getrecursionlimit()
    assert count_down(3 * limit) == 3 * limit
    assert sys.getrecursionlimit() == limit


def test_what_it_raises_arrives() -> None:
    def fail_below(n: int) -> int:
        return 1 // n if n == 0 else call_deeply(lambda: fail_below(n - 1))

    with pytest.raises(ZeroDivisionError):
        fail_below(DEEP)


def test_there_is_an_end() -> None:
    def recurse() -> None:
        call_deeply(recurse)

    with pytest.raises(RecursionError, match="nested too deeply"):
        recurse()


def test_no_thread_is_started_for_a_shallow_computation() -> None:
    assert call_deeply(threading.get_ident) == threading.get_ident()


def nest(depth: int) -> str:
    """Return a program with an expression and a chain of blocks that nest ``depth`` deep."""
    blocks = "".join(f"block A{i}() {{\n  in x\n\n  out y = x -> A{i + 1}()\n}}\n\n" for i in range(depth))
    return (
        'seg 1\n\nextends "std/semantic.seg"\n\n'
        f"let deep = {'(' * 90}1{')' * 90}\n\n{blocks}"
        f"block A{depth}() {{\n  in x\n\n  out y = x -> ReLU()\n}}\n\n"
        "model Net() {\n  in image: [B, 3, H, W]\n\n"
        "  out logits = image -> A0() -> Conv(2)\n}\n\nmodel = Net()\n"
    )


def test_eight_threads_check_compile_and_format_at_once(tmp_path: Path) -> None:
    """Python counts the depth of each thread; a limit that one raised and lowered would end another's work."""
    for i in range(8):
        (tmp_path / f"{i}.seg").write_text(nest(40 + i), encoding="utf-8")
    limit, switch = sys.getrecursionlimit(), sys.getswitchinterval()
    wait = threading.Barrier(8).wait

    def work(i: int) -> tuple[str, int, int]:
        wait()
        path = tmp_path / f"{i}.seg"
        text = format_text(path.read_text(encoding="utf-8"))
        model = segdsl.compile(path, classes=["a", "b"]).model
        return text, len(segdsl.check(path).graph.nodes), sum(p.numel() for p in model.parameters())

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(switch)
    assert sys.getrecursionlimit() == limit
    assert [text for text, _, _ in results] == [format_text(nest(40 + i)) for i in range(8)]
    assert len({result[1:] for result in results}) == 1
