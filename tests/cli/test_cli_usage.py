"""A command line that is wrong is answered with the one that is right."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from segdsl.cli.invoke import run

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
    assert run(["check", *given, "my.seg"] if given[0].startswith("-") else ["show", "my.seg", *given]) == 2
    err = capsys.readouterr().err
    (shown,) = re.findall(r"change the program: `(.*?)`;", err)
    words = shlex.split(shown)
    assert words == [word for text in right for word in ("--set", text)]
    assert run(["check", "my.seg", *words]) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "my.seg", "--gpus", "1"], "`segdsl train FILE --device cuda`"),
        (["train", "my.seg", "--num-classes", "3"], "`data.classes = [\"background\", \"defect\"]`"),
        (["train", "my.seg", "--classes", "3"], "`data.classes = [\"background\", \"defect\"]`"),
        (["train", "my.seg", "--output-dir", "x"], "`segdsl train FILE --out DIR`"),
        (["train", "my.seg", "--resume-from", "x"], "--resume`"),
        (["export", "RUN", "--onnx"], "`--set 'export.onnx=ONNX()'`"),
        (["eval", "RUN", "--batch-size", "4"], "`--set data.val.batch=4`"),
        (["train", "my.seg", "--optimizer", "RMSprop"], "`--set 'train.optimizer=…'`; `train.optimizer` is one of"),
        (["train", "my.seg", "--seed", "1.5"], "`--set 'train.seed=…'`; `train.seed` is an integer"),
        (["train", "my.seg", "--freeze", "10"], "`--set 'train.freeze=…'`; `train.freeze` is a list"),
        (["train", "my.seg", "--fliplr", "0.5"], "`data.train.augment.flip = HorizontalFlip(p = 0.5)`"),
        (["train"], "write `segdsl train FILE`; found here: `my.seg`"),
        (["eval"], "write `segdsl eval RUN`"),
        (["predict", "RUN"], "write `segdsl predict RUN INPUT... --out DIR`"),
    ],
)  # fmt: skip
def test_what_is_missing_or_is_no_setting(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_lies_here_is_offered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs" / "my-1").mkdir(parents=True)
    (here / "runs" / "my-1" / "program.seg").touch()
    assert run(["eval"]) == 2
    assert "found here: `runs/my-1`" in capsys.readouterr().err


def test_an_option_that_no_setting_reaches_is_left_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (
        ["report", "RUN", "--epochs", "5"],
        ["eval", "RUN", "--epochs", "5"],
        ["check", "my.seg", "--nothing"],
    ):
        assert run(args) == 2
        assert f"= help: `segdsl {args[0]} --help` lists what it takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("fit", "'train'"),
        ("test", "'eval'"),
        ("val", "'eval'"),
        ("infer", "'predict'"),
        ("my.seg", "'segdsl train my.seg'"),
    ],
)
def test_verbs_of_others(verb: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb]) == 2
    assert said in capsys.readouterr().err


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
    assert run(["check", "my.seg", "--set", text]) == 1
    err = capsys.readouterr().err
    assert f"whole option: --set {right}\n" in err
    assert run(["check", "my.seg", "--set", *shlex.split(right)]) == 0


@pytest.mark.parametrize(
    ("name", "title", "said"),
    [
        ("Dice", "Dice", "It is a loss: `train.loss`."),
        ("rotate", "Rotate", "It is an augmentation: `data.train.augment.NAME`."),
        ("Conv", "Conv", "channels: int, at least 1; has to be given"),
        ("train.clip", "train.clip", "float, above 0; none unless said"),
        ("epochs", "train.epochs", "100 unless said"),
        ("export.tolerance", "export.tolerance", "pixels: float"),
        ("train", "train", "loss: loss; none unless said"),
    ],
)
def test_words_and_keys_are_explained(name: str, title: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == title and said in found["text"]
    assert max(map(len, found["text"].splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("batch", "it is a key of several sections: `data.train.batch`, `data.val.batch`"),
        ("Dicee", "did you mean `Dice`?"),
        ("xyzzy", "`segdsl explain` lists the diagnostics"),
    ],
)
def test_what_cannot_be_explained_is_answered(name: str, help: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", name, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["help"] == help
