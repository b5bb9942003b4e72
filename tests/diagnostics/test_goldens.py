"""Golden diagnostics: one folder in `tests/goldens/diagnostics` per slug, named after it.

Each folder contains `main.seg`, the files that it needs, and `expected.txt`: what `segdsl check main.seg` prints to
stderr, run in a copy of the folder without the `.gitkeep` files that keep empty folders in git. A file `command.txt`
contains another command line (`data check data`). `--refresh-goldens` rewrites the expected texts; read them before
committing.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.explain import explanations

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "diagnostics"
CASES = sorted(p for p in GOLDENS.iterdir() if p.is_dir())


def command_of(case: Path) -> list[str]:
    file = case / "command.txt"
    return shlex.split(file.read_text(encoding="utf-8")) if file.is_file() else ["check", "main.seg"]


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder, except for its cache, which a command may fill."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {p: p.read_bytes() for p in files if p.relative_to(folder).parts[0] != "cache"}


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_diagnostic(
    case: Path,
    tmp_path: Path,
    golden: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / case.name
    shutil.copytree(case, folder, ignore=shutil.ignore_patterns(".gitkeep", "expected.txt"))
    before = contents(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEGDSL_CACHE", "cache")
    monkeypatch.setattr("segdsl.weights.download.PAUSE", 0.01)
    status = run_cli(command_of(case))
    out, err = capsys.readouterr()
    severity = re.search(rf"^(error|warning)\[{re.escape(case.name)}\]: .+", err, re.MULTILINE)
    assert severity, f"the slug {case.name} is not reported:\n{err}"
    assert status == (1 if severity[1] == "error" else 0)
    assert "= help: " in err
    if status:
        assert out == ""
    assert contents(folder) == before, "the command wrote something"
    golden(case / "expected.txt", err)


def test_no_golden_is_an_orphan() -> None:
    stray = [p.name for p in GOLDENS.iterdir() if not p.is_dir()]
    unknown = [p.name for p in CASES if p.name not in explanations()]
    empty = [p.name for p in CASES if not (p / "main.seg").is_file() and not (p / "command.txt").is_file()]
    assert (stray, unknown, empty) == ([], [], [])


FOREIGN = re.compile(
    r"Traceback|pydantic|Errno|Exception|<class |object at 0x|NoneType|cv2\.|torch\.|lark\.|validation error",
    re.IGNORECASE,
)
"""Terms of Python and its libraries, which must not reach users."""


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_no_golden_contains_python_terms(case: Path) -> None:
    text = (case / "expected.txt").read_text(encoding="utf-8") if (case / "expected.txt").is_file() else ""
    assert not FOREIGN.search(text)
