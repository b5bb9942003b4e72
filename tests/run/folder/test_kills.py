"""A run that is killed before any of its file operations goes on, and ends as one that never stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Same = Callable[[Path, Path], None]
LEAST = 60
"""Operations that a run of three epochs has at least."""


def killed(how: str, stride: int) -> list[tuple[str, list[int]]]:
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run([sys.executable, str(script), how, str(stride)], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the file system of Linux lets processes fork")
def test_a_run_killed_repeatedly(noisy: Path, same_run: Same) -> None:
    """Each kill comes some operations later in a start than the one before: in its preparation, then in its steps."""
    ((out, numbers),) = killed("relay", 6)
    assert len(numbers) > 4
    same_run(noisy / out, noisy / "run-0")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the file system of Linux lets processes fork")
def test_a_kill_before_every_operation(noisy: Path, same_run: Same) -> None:
    """And once more at another place while it goes on."""
    made = killed("each", 1)
    assert len(made) > LEAST
    for out, _ in made:
        same_run(noisy / out, noisy / "run-0")
