"""Atomic writes: complete or absent, and never through a link that somebody has planted."""

from __future__ import annotations

import os
import re
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segdsl.storage import atomic
from segdsl.storage.atomic import create_atomically, replace_atomically, write_atomically, write_text_atomically
from segdsl.storage.draft_folders import open_draft_folder, publish_files, replace_folder

WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text_atomically(path, "new"),
    "bytes": lambda path: write_atomically(path, b"new"),
    "new file": lambda path: create_atomically(path, b"new"),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that links point to, and that nothing may change."""
    path = tmp_path / "victim"
    path.write_text("old")
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_at_the_name_of_the_draft_is_not_followed(
    tmp_path: Path, victim: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.csv"
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: iter(["planted", "free"]))
    for name in (".x.csv.planted.part", ".x.csv.part"):
        (tmp_path / name).symlink_to(victim)
    WRITERS[writer](target)
    assert (target.read_text(), victim.read_text()) == ("new", "old")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".x.csv.part", ".x.csv.planted.part", "victim", "x.csv"]


@pytest.mark.parametrize("writer", ["text", "bytes"])
def test_a_link_at_the_final_name_is_replaced(tmp_path: Path, victim: Path, writer: str) -> None:
    victim.chmod(0o600)
    target = tmp_path / "x.csv"
    target.symlink_to(victim)
    WRITERS[writer](target)
    assert (target.read_text(), victim.read_text(), target.is_symlink()) == ("new", "old", False)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~read_umask()


def read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_permissions_are_those_of_the_old_file_or_of_a_new_one(tmp_path: Path) -> None:
    target = tmp_path / "x"
    write_text_atomically(target, "old")
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~read_umask()
    target.chmod(0o640)
    write_text_atomically(target, "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250)
    target.write_text("old")
    with pytest.raises(ValueError), replace_atomically(target) as draft:
        draft.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == [target] and target.read_text() == "old"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_never_replaces_another(tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    create_atomically(tmp_path / "far" / "x", b"first")
    with pytest.raises(FileExistsError):
        create_atomically(tmp_path / "far" / "x", b"second")
    assert [p.read_bytes() for p in (tmp_path / "far").iterdir()] == [b"first"]


@pytest.mark.parametrize("number", atomic.KILL_SIGNALS)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_terminated_process_removes_its_drafts(tmp_path: Path, fork_inside: Any, number: int, kind: str) -> None:
    previous = signal.signal(number, signal.SIG_DFL)
    enter = {"file": lambda: replace_atomically(tmp_path / "x"), "folder": lambda: open_draft_folder(tmp_path)}
    with fork_inside(enter[kind]) as end:
        assert len(list(tmp_path.iterdir())) == 1
        assert end(number) == number
    signal.signal(number, previous)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_terminated_leaves_the_drafts_of_its_parent(tmp_path: Path, fork_inside: Any) -> None:
    with replace_atomically(tmp_path / "x") as draft:
        with fork_inside(lambda: replace_atomically(tmp_path / "y")) as end:
            end(signal.SIGTERM)
        assert draft.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_draft_folders_of_killed_processes_are_removed_and_others_kept(tmp_path: Path, fork_inside: Any) -> None:
    with fork_inside(lambda: open_draft_folder(tmp_path)) as end:
        (alive,) = tmp_path.iterdir()
        with open_draft_folder(tmp_path) as draft:
            assert set(tmp_path.iterdir()) == {alive, draft}
        end(signal.SIGKILL)
        assert list(tmp_path.iterdir()) == [alive]
        with open_draft_folder(tmp_path) as draft:
            assert list(tmp_path.iterdir()) == [draft]


def test_files_are_published_over_links(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "a").symlink_to(victim)
    with open_draft_folder(tmp_path) as draft:
        (draft / "a").write_text("new")
        publish_files(draft, tmp_path, ["a"])
    assert (victim.read_text(), (tmp_path / "a").read_text()) == ("old", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "victim"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"
    for text in ("first", "second"):
        with replace_folder(target) as draft:
            (draft / text).write_text(text)
        assert [p.name for p in target.iterdir()] == [text]
    with pytest.raises(OSError), replace_folder(target):
        raise OSError
    rename = Path.rename

    def refuse(source: Path, to: Path) -> Path:
        if to == target and source.parent == tmp_path:
            raise PermissionError
        return rename(source, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), replace_folder(target):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and [p.name for p in target.iterdir()] == ["second"]


def test_nothing_else_in_the_product_writes_drafts(root: Path) -> None:
    pattern = re.compile(
        r"mkstemp|mkdtemp|NamedTemporaryFile\(\n? *dir|os\.replace\(|TemporaryDirectory\(dir|f\"[^\"\n]*\.part\""
    )
    allowed = {"storage", "weights/fetch.py"}
    found = {
        path.relative_to(root / "segdsl").as_posix()
        for path in (root / "segdsl").rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    }
    assert {name for name in found if name not in allowed and name.partition("/")[0] not in allowed} == set()
