"""The commands on source files: check, fmt, show, explain, and `compile --dump`."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.explain import explanations

GOOD = """seg 1

extends "std/semantic.seg"
import "std/lite_hrnet.seg"

model = LiteHRNetS(classes = len(data.classes))
"""
BAD = GOOD + "\ntrain {\n  epoch = 3\n}\n\ndata {\n  batc = 3\n}\n"
UNTIDY = GOOD.replace("model = ", "model   =   ")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"good.seg": GOOD, "bad.seg": BAD, "untidy.seg": UNTIDY}.items():
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def as_json(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    status = run_cli([*args, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return status, json.loads(out)


def test_check_of_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["check", "good.seg"]) == 0
    out, err = capsys.readouterr()
    note, result = out.splitlines()
    assert note.startswith("good.seg: `data.classes` ") and "2 classes" in note
    assert result.startswith("1 file checked: ")
    assert err == ""
    assert as_json(capsys, "check", "good.seg") == (0, {"files": 1, "errors": [], "warnings": []})


def test_check_reports_all_errors_of_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = as_json(capsys, "check", "good.seg", "bad.seg", "missing.seg")
    assert status == 1
    assert found["files"] == 3
    assert [(e["slug"], e["file"], e.get("line")) for e in found["errors"]] == [
        ("unknown-key", "bad.seg", 9),
        ("unknown-key", "bad.seg", 13),
        ("file-missing", "missing.seg", None),
    ]
    assert run_cli(["check", "good.seg", "bad.seg", "missing.seg"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^3 errors .*`segdsl explain SLUG`.*\n\Z", err, re.MULTILINE)


def test_an_error_in_an_option_points_into_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = as_json(capsys, "check", "good.seg", "--set", "train.epoch=3")
    (error,) = found["errors"]
    assert (error["file"], error["line"], error["column"]) == ("--set", 1, 7)


def test_an_option_changes_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "train.epochs=3", "--set", 'data.classes=["a", "b", "c"]']
    assert run_cli(["check", "good.seg", *settings]) == 0
    assert "data.classes" not in capsys.readouterr().out


def test_check_of_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "sub" / ".hidden").mkdir(parents=True)
    (here / "sub" / "a.seg").write_text(GOOD)
    (here / "sub" / ".hidden" / "b.seg").write_text("not a program")
    assert as_json(capsys, "check", "sub")[1]["files"] == 1
    (here / "empty").mkdir()
    status, found = as_json(capsys, "check", "empty")
    assert (status, found["errors"][0]["slug"]) == (1, "no-programs")


def test_check_as_sarif(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["check", "bad.seg", "--format", "sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    results = log["runs"][0]["results"]
    assert [r["ruleId"] for r in results] == ["unknown-key", "unknown-key"]
    assert log["runs"][0]["tool"]["driver"]["rules"][0]["help"]["text"]


def test_fmt_changes_only_what_is_untidy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / "good.seg").stat().st_mtime_ns
    Path("untidy.seg").chmod(0o755)
    assert as_json(capsys, "fmt", "--check", "good.seg", "untidy.seg") == (1, {"changed": ["untidy.seg"]})
    assert Path("untidy.seg").read_text() == UNTIDY
    assert as_json(capsys, "fmt", "good.seg", "untidy.seg") == (0, {"changed": ["untidy.seg"]})
    assert Path("untidy.seg").read_text() == GOOD
    assert stat.S_IMODE(Path("untidy.seg").stat().st_mode) == 0o755
    assert (here / "good.seg").stat().st_mtime_ns == before
    assert as_json(capsys, "fmt", "good.seg", "untidy.seg") == (0, {"changed": []})
    assert sorted(p.name for p in here.iterdir()) == ["bad.seg", "good.seg", "untidy.seg"]


def test_fmt_refuses_what_does_not_parse_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    broken = "seg 1\n\ndata {\n  batch = = 3\n}\n"
    Path("broken.seg").write_text(broken)
    status, found = as_json(capsys, "fmt", "broken.seg", "untidy.seg")
    assert status == 1
    assert found["changed"] == ["untidy.seg"]
    assert [e["file"] for e in found["errors"]] == ["broken.seg"]
    assert Path("broken.seg").read_text() == broken


def test_fmt_of_windows_line_ends(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.seg").write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert as_json(capsys, "fmt", "good.seg") == (0, {"changed": ["good.seg"]})
    assert Path("good.seg").read_bytes() == GOOD.encode()


def test_fmt_from_stdin_to_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UNTIDY.encode())))
    assert run_cli(["fmt", "-"]) == 0
    assert capsys.readouterr() == (GOOD, "")


class Terminal(io.TextIOWrapper):
    """A stdout that supports only ASCII."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors="replace", newline="\r\n")


def test_fmt_of_stdin_preserves_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("seg 1\n# 中\n".encode())))
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    assert run_cli(["fmt", "-"]) == 0
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    assert buffer.getvalue() == "seg 1\n# 中\n".encode()


@pytest.mark.parametrize("stdin", [io.TextIOWrapper(io.BytesIO(b"seg 1\n# d\xe4t\n")), None])
def test_fmt_of_stdin_rejects_invalid_text(
    stdin: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run_cli(["fmt", "-"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error[file-unreadable]: ") and "<stdin>" in err


def test_fmt_check_of_stdin_only_looks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for text, status in ((GOOD, 0), (UNTIDY, 1)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run_cli(["fmt", "-", "--check"]) == status
    assert capsys.readouterr().out.strip() == "would reformat <stdin>"


@pytest.mark.parametrize("command", ["check", "fmt"])
def test_an_empty_name_is_not_the_current_folder(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([command, ""]) == 1
    assert "error[file-missing]: " in capsys.readouterr().err
    assert (here / "untidy.seg").read_text(encoding="utf-8") == UNTIDY


def test_a_link_to_nowhere_is_named_as_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "link.seg").symlink_to("nowhere.seg")
    assert run_cli(["check", "link.seg"]) == 1
    err = capsys.readouterr().err
    assert "error[file-missing]: " in err and "link" in err


def test_fmt_follows_a_link(here: Path) -> None:
    (here / "link.seg").symlink_to("untidy.seg")
    assert run_cli(["fmt", "link.seg"]) == 0
    assert (here / "link.seg").is_symlink()
    assert Path("untidy.seg").read_text() == GOOD


def test_show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["show", "good.seg"]) == 0
    assert capsys.readouterr().out == GOOD
    assert run_cli(["show", "std/lite_hrnet.seg"]) == 0
    assert "model LiteHRNetS" in capsys.readouterr().out
    assert run_cli(["show", "std/lite_hrnt.seg"]) == 1
    assert "`std/lite_hrnet.seg`" in capsys.readouterr().err
    assert run_cli(["show", "std/../lang/program.py"]) == 1


def test_show_in_color_changes_no_character(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run_cli(["show", "good.seg"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert re.sub(r"\x1b\[[\d;]*m", "", out) == GOOD


@pytest.mark.parametrize("spelling", ["unknown-key", "[unknown-key]", "Unknown-Key"])
def test_explain(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", spelling]) == 0
    assert explanations()["unknown-key"] in capsys.readouterr().out


def test_explain_lists_all_and_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "explain") == (0, {"slugs": list(explanations())})
    status, found = as_json(capsys, "explain", "unknown-kee")
    assert status == 1 and "`unknown-key`" in found["errors"][0]["help"]


def test_dump_prints_the_graph_after_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["compile", "good.seg", "--dump", "elaborate"]) == 0
    before = capsys.readouterr().out
    assert run_cli(["compile", "good.seg", "--dump", "dead_nodes"]) == 0
    after = capsys.readouterr().out
    assert before.startswith("in image: [B, 3, H, W]\n")
    assert before.count("\n") > after.count("\n") > 100
    _, found = as_json(capsys, "compile", "good.seg", "--dump", "elaborate")
    assert found["graph"]["nodes"][0]["path"] == before.splitlines()[1].split(" = ")[0]
    assert run_cli(["compile", "good.seg", "--dump", "dead_node"]) == 2
    assert "`dead_nodes`" in capsys.readouterr().err


def test_a_folder_is_searched_for_programs_of_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(here / "pipe.seg")
    (here / "device.seg").symlink_to("/dev/zero")
    outside = here.parent / f"{here.name}-outside"
    outside.mkdir()
    (outside / "other.seg").write_text("not a program", encoding="utf-8")
    (here / "linked").symlink_to(outside)
    (here / "linked.seg").symlink_to(outside / "other.seg")
    (here / "bad.seg").unlink()
    assert as_json(capsys, "check", ".") == (0, {"files": 2, "errors": [], "warnings": []})
    assert run_cli(["fmt", "."]) == 0
    assert (outside / "other.seg").read_text(encoding="utf-8") == "not a program"


@pytest.mark.parametrize("name", ["pipe.seg", "device.seg", "good.seg/x.seg"])
@pytest.mark.parametrize("command", ["check", "fmt", "show"])
def test_what_is_no_file_is_refused(here: Path, capsys: pytest.CaptureFixture[str], command: str, name: str) -> None:
    os.mkfifo(here / "pipe.seg")
    (here / "device.seg").symlink_to("/dev/zero")
    assert run_cli([command, name]) in (1, 2)
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("note", ["## what it is", "## what it is\n## and more", "# a comment"])
def test_a_note_may_end_a_file_without_a_line_end(here: Path, note: str) -> None:
    (here / "note.seg").write_text(GOOD + note, encoding="utf-8")
    assert run_cli(["fmt", "note.seg"]) == 0
    assert (here / "note.seg").read_text(encoding="utf-8").endswith(f"\n{note}\n")


def test_a_terminal_gets_no_escape_sequences_of_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "escapes.seg").write_text("seg 1\n\n# \x1b]0;owned\x07\x1b[2J \u202e\n", encoding="utf-8")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run_cli(["show", "escapes.seg"]) == 0
    assert "owned" in terminal.getvalue()
    assert not [part for part in ("\x1b]", "\x07", "\x1b[2J", "\u202e") if part in terminal.getvalue()]


def test_a_check_ends_after_a_hundred_errors(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "many.seg").write_text(GOOD + "\ntrain {\n" + "".join(f"  epoch{i} = 3\n" for i in range(400)) + "}\n")
    status, found = as_json(capsys, "check", "many.seg")
    assert (status, len(found["errors"]), found["errors"][-1]["slug"]) == (1, 101, "too-many-errors")
