"""A crowded machine is told from a busy and from an idle one."""

from __future__ import annotations

import os

import pytest

from segdsl.run.threads import is_crowded


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
