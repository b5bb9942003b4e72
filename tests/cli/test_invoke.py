"""Exit statuses, output streams, and unusual environments."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from segdsl.cli import group
from segdsl.cli.commands import source
from segdsl.cli.invoke import run_cli, wants_json
from segdsl.cli.result import CommandResult
from segdsl.diagnostics import fail

ROOT = Path(__file__).resolve().parents[2]


def segdsl(*args: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "segdsl", *args]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, **options)


@pytest.fixture
def explain_does(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the action of `segdsl explain`."""

    def install(action: Any) -> None:
        @click.command()
        @click.option("--json", "json", is_flag=True, expose_value=False)
        def stand_in() -> CommandResult:
            return action()

        monkeypatch.setitem(source.COMMANDS, "explain", stand_in)

    return install


def raising(error: BaseException) -> Any:
    def action() -> CommandResult:
        raise error

    return action


def test_success_is_0(explain_does: Any, capsys: pytest.CaptureFixture[str]) -> None:
    explain_does(lambda: CommandResult({"a": 1}, "text"))
    assert run_cli(["explain"]) == 0
    assert capsys.readouterr() == ("text\n", "")
    assert run_cli(["explain", "--json"]) == 0
    assert capsys.readouterr() == ('{"a": 1}\n', "")


def test_invalid_input_is_1(explain_does: Any, capsys: pytest.CaptureFixture[str]) -> None:
    explain_does(raising(fail("some-slug", "got 1", "write 2", path="x.png")))
    assert run_cli(["explain"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[some-slug]: got 1\n --> x.png\n  = help: write 2\n")
    assert re.search(r"^1 error .*`segdsl explain some-slug`", err, re.MULTILINE)
    assert run_cli(["explain", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [e["slug"] for e in found["errors"]] == ["some-slug"]
    assert found["errors"][0]["file"] == "x.png"


@pytest.mark.parametrize("args", [["explian"], ["check"], ["check", "--nothing"], ["train", "a", "b"], ["--set", "x"]])
def test_wrong_usage_is_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[wrong-usage]: ")
    assert " --help`" in err
    assert run_cli([*args, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["slug"] == "wrong-usage"


def test_a_misspelled_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["chekc"]) == 2
    assert "'check'" in capsys.readouterr().err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([]) == 2
    assert "demo-data" in capsys.readouterr().err


def test_a_bug_is_70_and_leaves_a_report(explain_does: Any, capsys: pytest.CaptureFixture[str]) -> None:
    explain_does(raising(KeyError("secret-of-python")))
    assert run_cli(["explain"]) == 70
    err = capsys.readouterr().err
    assert "bug in segdsl" in err
    assert "secret-of-python" not in err
    assert "Traceback" not in err
    (file,) = re.findall(r"(\S+segdsl-bug-\S+\.txt)", err)
    report = Path(file)
    assert "secret-of-python" in report.read_text(encoding="utf-8")
    report.unlink()


@pytest.mark.parametrize("by", ["option", "environment"])
def test_debug_shows_the_traceback(
    by: str, explain_does: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explain_does(raising(KeyError("secret-of-python")))
    if by == "environment":
        monkeypatch.setenv("SEGDSL_DEBUG", "1")
    assert run_cli(["--debug", "explain"] if by == "option" else ["explain"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "secret-of-python" in err
    assert "segdsl-bug-" not in err


def test_a_full_disk_is_not_a_bug(explain_does: Any, capsys: pytest.CaptureFixture[str]) -> None:
    explain_does(raising(OSError(errno.ENOSPC, "No space left on device", "a.bin")))
    assert run_cli(["explain"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error[system-refused]: ") and "`a.bin`: no space left" in err


@pytest.mark.parametrize(
    ("error", "resource"),
    [
        (MemoryError(), "memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "threads"),
    ],
    ids=str,
)
def test_exhausted_resources_are_not_a_bug(
    explain_does: Any, capsys: pytest.CaptureFixture[str], error: Exception, resource: str
) -> None:
    explain_does(raising(error))
    assert run_cli(["explain"]) == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("error[out-of-memory]: ") and resource in first.partition(": ")[2]


def test_ctrl_c_is_130(explain_does: Any, capsys: pytest.CaptureFixture[str]) -> None:
    explain_does(raising(KeyboardInterrupt()))
    assert run_cli(["explain", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["errors"][0]["slug"] == "interrupted"
    assert "interrupted" in err
    assert "Traceback" not in err


def test_json_keeps_stdout_to_itself_even_from_c() -> None:
    code = (
        "import os, sys, json\n"
        "from segdsl.cli.commands import source\n"
        "from segdsl.cli.result import CommandResult\n"
        "from segdsl.cli.invoke import run_cli\n"
        "import click\n"
        "@click.command()\n"
        "@click.option('--json', is_flag=True, expose_value=False)\n"
        "def noisy():\n"
        "    print('from python'); os.write(1, b'from c'); os.system('echo from a child')\n"
        "    return CommandResult({'a': 1})\n"
        "source.COMMANDS['explain'] = noisy\n"
        "sys.exit(run_cli(['explain', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == '{"a": 1}\n'
    for noise in ("from python", "from c", "from a child"):
        assert noise in done.stderr


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["check", "a.seg"], False),
        (["check", "a.seg", "--json"], True),
        (["check", "--format", "json", "a.seg"], True),
        (["check", "--format=sarif", "a.seg"], True),
        (["check", "--format", "text", "a.seg"], False),
        (["check", "--", "--json"], False),
        (["data", "check", "x", "--format", "common_semantic_segmentation"], False),
    ],
)
def test_wants_json(args: Sequence[str], wanted: bool) -> None:
    assert wants_json(args) is wanted


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "segdsl", "--help"], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE
        )
    assert done.stderr == b""
    assert done.returncode != 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this file system has no /dev/full")
def test_a_result_that_does_not_fit_on_the_disk_is_an_error() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "segdsl", "explain", "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error[system-refused]: ") and "no space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_stream_does_not_crash(closed: str) -> None:
    command = f"exec {sys.executable} -m segdsl explain no-such-slug {closed}>&-"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "bug in segdsl" not in done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_unicode_does_not_crash(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "漢字.seg"
    path.write_text("seg 1\nlet 漢 = “”\n", encoding="utf-8")
    for command in ("check", "show"):
        done = segdsl(command, str(path), env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
        assert done.returncode == (1 if command == "check" else 0), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"bug in segdsl" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_environment_variables_control_color(variables: dict[str, str], colored: bool) -> None:
    env = {"NO_COLOR": "", "FORCE_COLOR": "", **variables}
    done = segdsl("explain", "no-such-slug", env=env)
    assert (b"\x1b[" in done.stderr) is colored


def test_every_command_has_help_of_one_line() -> None:
    context = click.Context(group.root_group)
    for name in group.root_group.list_commands(context):
        command = group.root_group.get_command(context, name)
        assert command is not None
        line = command.get_short_help_str(62)
        assert line.endswith("."), name
        assert "..." not in line, name
