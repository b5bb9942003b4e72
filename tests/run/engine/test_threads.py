"""A crowded machine is told from a busy and from an idle one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from segdsl.recipe import machine
from segdsl.run.engine.threads import THREAD_VARIABLES, format_crowding_advice, is_crowded, limit_threads


@pytest.mark.parametrize(
    ("load", "cpu", "crowded"),
    [(4.3, 5.0, True), (2.1, 5.0, False), (4.3, 19.0, False), (4.3, 9.9, True), (4.3, 10.1, False)],
)
def test_crowded_is_full_and_starved(monkeypatch: pytest.MonkeyPatch, load: float, cpu: float, crowded: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert is_crowded(cpu, 10.0, threads=2) is crowded


def test_a_system_without_load_average_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")
    assert not is_crowded(1.0, 10.0, threads=2)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of threads that are set, on a machine whose torch starts eight."""
    given: list[int] = []
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: given[-1] if given else 8)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    yield given


def test_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch, threads: list[int]) -> None:
    monkeypatch.setattr("segdsl.run.engine.threads.count_cores", lambda: 2)
    (note,) = limit_threads(workers=2)
    assert threads == [2] and "2 threads" in note
    assert limit_threads(workers=2) == []


def test_the_number_of_threads_that_the_user_sets_stays(
    monkeypatch: pytest.MonkeyPatch, threads: list[int], wording: Callable[..., None]
) -> None:
    monkeypatch.setattr("segdsl.run.engine.threads.count_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    asked, loading = limit_threads(workers=4)
    assert threads == []
    wording(f"{asked}\n{loading}")


def test_no_note_for_as_many_threads_as_cores(monkeypatch: pytest.MonkeyPatch, threads: list[int]) -> None:
    monkeypatch.setattr("segdsl.run.engine.threads.count_cores", lambda: 8)
    assert limit_threads(workers=8) == [] and threads == []


def test_the_advice_names_the_workers_of_the_run_first(
    monkeypatch: pytest.MonkeyPatch, threads: list[int], wording: Callable[..., None]
) -> None:
    monkeypatch.setattr("segdsl.run.engine.threads.count_cores", lambda: 8)
    wording(f"{format_crowding_advice(workers=1)}\n{format_crowding_advice(workers=2)}")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"quota": "50000\n", "period": "100000\n"}, 0.5),
        ({"quota": "-1\n", "period": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_cores_that_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: float
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    places = ((tmp_path / "cpu.max", None), (tmp_path / "quota", tmp_path / "period"))
    monkeypatch.setattr(machine, "CPU_QUOTA_FILES", places)
    assert machine.read_cpu_quota() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert machine.count_cores() == (8 if math.isinf(expected) else math.ceil(expected))
