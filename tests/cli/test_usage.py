"""Usage errors name the correct command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from segdsl.cli.invoke import run_cli

PROGRAM = """seg 1

extends "std/semantic.seg"
import "std/lite_hrnet.seg"

model = LiteHRNetS(classes = len(data.classes))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("my.seg").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


OPTIONS = [
    (["--epochs", "5"], ["train.epochs=5"]),
    (["--lr", "1e-3"], ["train.optimizer.lr=1e-3"]),
    (["--learning-rate=0.01"], ["train.optimizer.lr=0.01"]),
    (["--batch-size", "4"], ["data.train.batch=4"]),
    (["--imgsz", "640"], ["data.input_size=640x640"]),
    (["--loss", "dice"], ["train.loss=Dice()"]),
    (["--loss", "DiceCELoss"], ["train.loss=WeightedSum([CrossEntropy(), Dice()])"]),
    (["--schedule", "warmup"], ["train.schedule=Warmup(5 epochs) -> Poly()"]),
    (["--scheduler", "step"], ["train.schedule=Step(every = 30 epochs)"]),
    (["--patience", "10"], ["train.stop.patience=10 epochs"]),
    (["--early-stopping", "10"], ["train.stop=EarlyStopping(patience = 10 epochs)"]),
    (["--stop", "10"], ["train.stop=EarlyStopping(patience = 10 epochs)"]),
    (["--precision", "16"], ["train.precision=fp16"]),
    (["--optimizer", "adamw"], ["train.optimizer=AdamW()"]),
    (["--classes", "road,sky"], ['data.classes=["road", "sky"]']),
    (["--scales", "0.5,1"], ["eval.scales=[0.5,1]"]),
    (["--flip", "yes"], ["eval.flip=true"]),
    (["--data-root", "/a/my data"], ['data.root="/a/my data"']),
    (["epochs=100", "imgsz=64"], ["train.epochs=100", "data.input_size=64x64"]),
    (["train.epochs=100"], ["train.epochs=100"]),
]


@pytest.mark.parametrize(("given", "right"), OPTIONS, ids=lambda texts: " ".join(texts))
def test_an_option_that_is_a_setting(given: list[str], right: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["check", *given, "my.seg"] if given[0].startswith("-") else ["show", "my.seg", *given]) == 2
    err = capsys.readouterr().err
    (options,) = re.findall(r"`(--set .*?)`;", err)
    words = shlex.split(options)
    assert words == [word for text in right for word in ("--set", text)]
    assert run_cli(["check", "my.seg", *words]) == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["train", "my.seg", "--gpus", "1"], "`segdsl train FILE --device cuda`"),
        (["train", "my.seg", "--num-classes", "3"], "`data.classes = [\"background\", \"defect\"]`"),
        (["train", "my.seg", "--classes", "3"], "`data.classes = [\"background\", \"defect\"]`"),
        (["train", "my.seg", "--output-dir", "x"], "`segdsl train FILE --out DIR`"),
        (["train", "my.seg", "--resume-from", "x"], "--resume`"),
        (["export", "RUN", "--onnx"], "`--set 'export.onnx=ONNX()'`"),
        (["eval", "RUN", "--batch-size", "4"], "`--set data.val.batch=4`"),
        (["train", "my.seg", "--optimizer", "RMSprop"], "`--set 'train.optimizer=…'`; `train.optimizer`"),
        (["train", "my.seg", "--seed", "1.5"], "`--set 'train.seed=…'`; `train.seed`"),
        (["train", "my.seg", "--freeze", "10"], "`--set 'train.freeze=…'`; `train.freeze`"),
        (["train", "my.seg", "--fliplr", "0.5"], "`data.train.augment.flip = HorizontalFlip(p = 0.5)`"),
        (["train"], "`segdsl train FILE`"),
        (["train"], "`my.seg`"),
        (["eval"], "`segdsl eval RUN`"),
        (["predict", "RUN"], "`segdsl predict RUN INPUT... --out DIR`"),
    ],
)  # fmt: skip
def test_usage_errors_suggest_what_to_write(args: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(args) == 2
    assert code in capsys.readouterr().err


COMMANDS = [
    "train", "eval", "predict RUN", "train my.seg --gpus 1", "train my.seg --num-classes 3", "check my.seg --epochs 5",
    "train my.seg --optimizer RMSprop", "train my.seg --seed 1.5", "show my.seg epochs=100 imgsz=64", "check --nothing",
    "eval RUN --epochs 5", "train my.seg --fliplr 0.5", "show my.seg --lr --images 5 --steps-per-epoch 5",
    "show my.seg --images 5", "data check my.seg --format coco", "data check folder --set a=1", "my.seg", "chekc",
    "compile my.seg --dump elaborate --emit torch", "compile my.seg --dump dead_node",
    "compile my.seg --emit torch --weights a.pt", "new other.seg --data data --subset train",
]  # fmt: skip


def test_the_wording_of_usage_errors(wording: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    text = ""
    for line in COMMANDS:
        assert run_cli(shlex.split(line)) == 2
        text += f"$ segdsl {line}\n{capsys.readouterr().err}\n"
    wording(text)


def test_existing_runs_are_suggested(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs" / "my-1").mkdir(parents=True)
    (here / "runs" / "my-1" / "program.seg").touch()
    assert run_cli(["eval"]) == 2
    assert "`runs/my-1`" in capsys.readouterr().err


def test_unknown_options_without_a_setting_refer_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (
        ["report", "RUN", "--epochs", "5"],
        ["eval", "RUN", "--epochs", "5"],
        ["check", "my.seg", "--nothing"],
    ):
        assert run_cli(args) == 2
        (help,) = re.findall(r"= help: (.*)", capsys.readouterr().err)
        assert re.findall(r"`(.*?)`", help) == [f"segdsl {args[0]} --help"]


@pytest.mark.parametrize(
    ("verb", "suggestion"),
    [
        ("fit", "'train'"),
        ("test", "'eval'"),
        ("val", "'eval'"),
        ("infer", "'predict'"),
        ("my.seg", "'segdsl train my.seg'"),
    ],
)
def test_verbs_of_other_tools(verb: str, suggestion: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([verb]) == 2
    assert suggestion in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("data.root=/a/b", "'data.root=\"/a/b\"'"),
        ("data.root=a/b", "'data.root=\"a/b\"'"),
        ("data.root=camvid", "'data.root=\"camvid\"'"),
        ("weights.backbone=otx:lite_hrnet_s", "'weights.backbone=\"otx:lite_hrnet_s\"'"),
        ("train.epoch=3", "train.epochs=3"),
        ("lr=3", "train.optimizer.lr=3"),
        ("train.loss=CrossEntropy()+Dice()", "'train.loss=WeightedSum([CrossEntropy(), Dice()])'"),
    ],
)
def test_a_setting_is_answered_with_the_whole_option(text: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["check", "my.seg", "--set", text]) == 1
    err = capsys.readouterr().err
    assert f": --set {right}\n" in err
    assert run_cli(["check", "my.seg", "--set", *shlex.split(right)]) == 0


@pytest.mark.parametrize(
    ("name", "title", "fact"),
    [
        ("Dice", "Dice", "`train.loss`"),
        ("rotate", "Rotate", "`data.train.augment.NAME`"),
        ("Conv", "Conv", "channels: int, at least 1; required"),
        ("train.clip", "train.clip", "float, above 0; default none"),
        ("epochs", "train.epochs", "default 100"),
        ("export.tolerance", "export.tolerance", "pixels: float"),
        ("train", "train", "loss: loss; default none"),
    ],
)
def test_words_and_keys_are_explained(name: str, title: str, fact: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == title and fact in found["text"]
    assert max(map(len, found["text"].splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "suggestions"),
    [("batch", ["data.train.batch", "data.val.batch"]), ("Dicee", ["Dice"]), ("xyzzy", ["segdsl explain"])],
)
def test_unknown_names_get_suggestions(name: str, suggestions: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", name, "--json"]) == 1
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["slug"] == "unknown-slug"
    assert re.findall(r"`(.*?)`", error["help"]) == suggestions
