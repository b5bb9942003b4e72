"""`segdsl report` of damaged run folders: it names what is missing and never fails."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import read_rows_until
from segdsl.run.report.history import read_history
from segdsl.run.train import train_file

Damage = Callable[[RunFolder], object]


@pytest.fixture
def left(project: Path, copy_result: Callable[[Path, Callable[[], object]], None]) -> RunFolder:
    """A run that was resumed once, with everything that a report reads."""
    copy_result(project, train_twice)
    return RunFolder(project / "left")


def train_twice() -> None:
    settings = ["train.loss=CrossEntropy(class_weights = auto)", "train.monitor=val.dice.red"]
    for epochs in (2, 3):
        train_file("tiny.seg", [*settings, f"train.epochs={epochs}"], out="left", quiet=True, resume=True)


def reported(folder: RunFolder) -> str:
    """Write the report and return its text."""
    assert run_cli(["report", str(folder.root)]) == 0
    page = folder.report.read_text(encoding="utf-8")
    assert page.endswith("</html>\n") and page.count("<section") == 8
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


def edited(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_cell(column: str, value: str) -> Damage:
    """Return a function that writes a value into every row of the log."""

    def damage(folder: RunFolder) -> None:
        header, *lines = folder.metrics.read_text(encoding="utf-8").splitlines()
        place = header.split(",").index(column)
        rows = [line.split(",") for line in lines]
        for row in rows:
            row[place] = value
        folder.metrics.write_text("\n".join([header, *map(",".join, rows)]) + "\n", encoding="utf-8")

    return damage


LOGS: dict[str, tuple[Damage, str]] = {
    "a huge line": (lambda f: edited(f.metrics, lambda t: t + "4," + "9" * 200_000 + "\n"), "1 line of metrics.csv"),
    "a huge cell in quotes": (lambda f: edited(f.metrics, lambda t: t + '"' + "x," * 90_000), "1 line of metrics.csv"),
    "two lines of bytes": (lambda f: f.metrics.open("ab").write(b"\xff\x00,1\n\x00\n"), "2 lines of metrics.csv"),
    "nothing": (lambda f: f.metrics.write_bytes(b""), "not finished an epoch"),
    "a folder": (lambda f: (f.metrics.unlink(), f.metrics.mkdir()), "not finished an epoch"),
    "no header": (lambda f: edited(f.metrics, lambda t: t.partition("\n")[2]), "not finished an epoch"),
    "only epochs": (lambda f: f.metrics.write_text("epoch\n1\n2\n3\n", encoding="utf-8"), "Learning curves"),
    "epoch 0": (with_cell("epoch", "0"), "not finished an epoch"),
    "no end of epochs": (with_cell("epoch", "1e300"), "not finished an epoch"),
    "half an epoch": (with_cell("epoch", "1.5"), "not finished an epoch"),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_damaged_log(left: RunFolder, name: str) -> None:
    damage, words = LOGS[name]
    damage(left)
    assert words in reported(left)


@pytest.mark.parametrize("value", ["1e308", "-1e308", "nan", "inf", "-inf", "", "0", "-5", "1e-320", "9" * 400])
def test_numbers_that_no_run_writes(left: RunFolder, value: str) -> None:
    columns = left.metrics.read_text(encoding="utf-8").splitlines()[0].split(",")
    for column in columns[1:]:
        with_cell(column, value)(left)
    edited(left.metrics, lambda text: text.replace(value, f"-{value}", 3) if value[:1].isdigit() else text)
    reported(left)


def test_losses_far_out_leave_the_others_readable(left: RunFolder) -> None:
    lines = left.metrics.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("train.loss")
    cells = [line.split(",") for line in lines[1:]]
    known = float(cells[2][place])
    cells[0][place], cells[1][place] = "1e308", "-1e308"
    left.metrics.write_text("\n".join([lines[0], *map(",".join, cells)]), encoding="utf-8")
    assert f"training from - to {known:.4g}" in left_label(left)


def left_label(folder: RunFolder) -> str:
    reported(folder)
    page = folder.report.read_text(encoding="utf-8")
    return page[page.index("Loss from epoch") :][:200]


JSON = [
    "5",
    '"text"',
    "null",
    "true",
    "[]",
    "{}",
    "[1, null]",
    "NaN",
    "1e999",
    "9" * 5000,
    "[" * 100_000,
    "{",
    "",
    "\x00",
]


@pytest.mark.parametrize("content", JSON, ids=[text[:8] or "empty" for text in JSON])
def test_json_of_another_kind(left: RunFolder, content: str) -> None:
    for path in (left.lock, left.machine, left.resumptions):
        path.write_text(content, encoding="utf-8")
    assert "Tiny from" in reported(left)


VALUES = [5, -1, 1.5, True, None, "x" * 3000, "\ud800", [], [1, [2]], {}, {"a": {"b": 1}}, float("nan"), 10**400]


@pytest.mark.parametrize("value", VALUES, ids=[repr(value)[:12] for value in VALUES])
def test_values_of_another_type(left: RunFolder, value: object) -> None:
    shutil.rmtree(left.checkpoints)
    (left.root.parent / "set").rename(left.root.parent / "away")
    paths = (left.lock, left.machine, left.resumptions)
    whole = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    (entry,) = whole[left.resumptions]
    for path in (left.lock, left.machine):
        path.write_text(json.dumps(dict.fromkeys(whole[path], value)), encoding="utf-8")
    left.resumptions.write_text(json.dumps([dict.fromkeys(entry, value), value, entry]), encoding="utf-8")
    reported(left)
    inner = {"red": value, "tiny.seg": value}
    left.lock.write_text(json.dumps(dict.fromkeys(whole[left.lock], inner)), encoding="utf-8")
    left.resumptions.write_text(json.dumps([{**entry, "changed": inner, "machine": inner}]), encoding="utf-8")
    reported(left)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_any_bytes(left: RunFolder, seed: int) -> None:
    chance = random.Random(seed)
    whole = {path: path.read_bytes() for path in (left.metrics, left.lock, left.machine, left.resumptions, left.best)}
    for path, content in whole.items():
        for _ in range(3):
            broken = bytearray(content)
            for _ in range(chance.randint(1, 40)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            path.write_bytes(bytes(broken[: chance.randint(0, len(broken))]))
            assert run_cli(["report", str(left.root)]) == 0, (path.name, seed)
        path.write_bytes(content)


@pytest.mark.parametrize("content", ["", "\x00\xff", "seg 1\n", "seg 9\n", "model", "seg 1\n\ntrain.epochs = 3\n"])
def test_an_invalid_program_is_a_diagnostic(left: RunFolder, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    left.program.write_text(content, encoding="utf-8")
    assert run_cli(["report", str(left.root)]) == 1
    assert "internal-error" not in capsys.readouterr().err


def test_damaged_checkpoints(left: RunFolder) -> None:
    for content in (b"", b"\x00" * 100, left.last.read_bytes()[:200]):
        left.best.write_bytes(content)
        assert "No images: " in reported(left)
    left.best.unlink()
    left.best.mkdir()
    assert "best epoch" in reported(left)


def test_a_folder_in_the_place_of_the_report(left: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    left.report.unlink()
    left.report.mkdir()
    assert run_cli(["report", str(left.root)]) == 1
    err = capsys.readouterr().err
    assert "report-not-written" in err and "folder" in err
    assert "--out" not in err and not list(left.root.glob(".report*"))


def test_a_log_with_a_huge_line_does_not_prevent_resuming(left: RunFolder) -> None:
    edited(left.metrics, lambda text: text + "9" * 200_000 + "\n")
    assert len(read_rows_until(left.metrics, ["epoch", "val.loss"], 3)) == 3
    result = train_file("left", ["train.epochs=4"], quiet=True, resume=True)
    history = read_history(left.metrics)
    assert result.epochs == 4 and history.epochs == (1, 2, 3, 4) and history.bad_lines == 0


def test_a_run_folder_with_nothing_but_its_program(left: RunFolder) -> None:
    for path in (left.lock, left.machine, left.resumptions, left.metrics, left.report):
        path.unlink()
    shutil.rmtree(left.checkpoints)
    words = reported(left)
    assert "no machine.json" in words and "lock file" in words


def test_a_dataset_with_other_classes(left: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for meta in (left.root.parent / "set").glob("*/dataset_meta.json"):
        edited(meta, lambda text: text.replace('"red"', '"rot"').replace('"blue"}', '"blue", "3": "x"}'))
    words = reported(left)
    assert re.search(r"\b4 in the dataset, 3\b", words) and "Learning curves" in words
    assert run_cli(["report", str(left.root), "--data", "set"]) == 1
    assert "classes-differ" in capsys.readouterr().err
