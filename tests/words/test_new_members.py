"""A new member of a family, in one file with its implementation, is found everywhere, with no other edit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.editor.highlight import collect_words
from segdsl.editor.reference import build_reference
from segdsl.editor.textmate import build_grammar
from segdsl.ir.families import Loss, Optimizer
from segdsl.ir.word import REGISTRY
from segdsl.lang.program import check_file, load
from segdsl.lower.compiled import compile_program
from segdsl.lower.emit import emit_torch
from segdsl.run.engine.group_loss import build_group_loss
from segdsl.run.train import train_file

PROGRAM = """seg 1

model Tiny(classes: int) {
  in image: [B, 3, H, W]

  head = image -> Conv(4, 3x3, bias = false) -> BatchNorm() -> ReLU() -> Conv(classes)
  out logits = head
}

data {
  root           = "set"
  classes        = ["other", "mark"]
  input_size     = 16x16
  train.batch    = 2
  train.workers  = 0
  val.workers    = 0
}

model = Tiny(classes = len(data.classes))

train {
  loss       = CrossEntropy()
  optimizer  = AdamW(lr = 1e-2)
  schedule   = Poly()
  keep       = Checkpoints()
  epochs     = 3
  accumulate = 2
}
"""
TURN = "data.train.augment.turn"
NEW = [
    ("loss", "Tversky", "train.loss", "Tversky(0.4)", "FocalTverskyLoss", "Tversky()"),
    ("augmentation", "HalfTurn", TURN, "HalfTurn(0.25)", "Rot180", "HalfTurn()"),
    ("optimizer", "RMSprop", "train.optimizer", "RMSprop(1e-3)", "RMSpropTF", "RMSprop()"),
    ("schedule", "Exponential", "train.schedule", "Warmup(1 epochs) -> Exponential(0.5)", "ExponentialLR",
     "Exponential()"),
    ("stopper", "ScoreReached", "train.stop", "ScoreReached(0.5)", "StopAt", "ScoreReached(0.9)"),
]  # fmt: skip
"""Family, word, key, a use of it, its name in another framework, and its usual form."""
FAMILIES = [row[0] for row in NEW]


def check(folder: Path, text: str) -> list[Diagnostic]:
    """Return everything that is found in a program."""
    path = folder / "main.seg"
    path.write_text(text, encoding="utf-8")
    try:
        _, warnings, _ = check_file(path, ())
    except SegError as error:
        return list(error.diagnostics)
    return list(warnings)


def write_setting(key: str, value: str) -> str:
    """Return the program with another value of a key."""
    name = key.rpartition(".")[2]
    changed = re.sub(rf"^  {name} +=.*$", f"  {name} = {value}", PROGRAM, flags=re.MULTILINE)
    return changed if changed != PROGRAM else f"{PROGRAM}\n{key} = {value}\n"


@pytest.mark.parametrize(("family", "word", "key", "use", "foreign", "form"), NEW, ids=FAMILIES)
def test_a_new_word_is_checked(
    family: str, word: str, key: str, use: str, foreign: str, form: str, members: Any, tmp_path: Path
) -> None:
    assert check(tmp_path, write_setting(key, use)) == []
    (found,) = check(tmp_path, write_setting(key, f"{word}(-1.0)"))
    assert found.slug == "out-of-bounds"
    for wrong in (f"{word[:-2]}{word[-1]}", foreign, f'"{foreign}"'):
        (found,) = check(tmp_path, write_setting(key, wrong))
        assert found.fix is not None and found.fix.text == form, found
        mended = write_setting(key, form)
        assert check(tmp_path, mended) == []


@pytest.mark.parametrize(("family", "word"), [(row[0], row[1]) for row in NEW] + [("op", "Softplus")])
def test_a_new_word_is_documented_and_highlighted(family: str, word: str, members: Any) -> None:
    page = build_reference()
    section = page[page.index(f"#### `{word}`") :].split("####", 2)[1]
    assert " ".join((REGISTRY[word].__doc__ or "").split())[:30].replace("*", "\\*") in section
    for name in REGISTRY[word].model_fields:
        assert re.search(rf"^\| `{name}` \| .+ \| .* \| .+ \|$", section, flags=re.MULTILINE), name
    assert word in collect_words()[family]
    assert f"support.class.{family}" in json.dumps(build_grammar()) and word in json.dumps(build_grammar())


def test_a_new_augmentation_is_shown_with_its_own_arguments(members: Any) -> None:
    assert "four draws of `HalfTurn(p = 0.9)`" in build_reference()


def test_a_new_augmentation_answers_for_itself_whether_it_suits_the_classes(members: Any, tmp_path: Path) -> None:
    text = write_setting(TURN, "HalfTurn()").replace('"mark"', '"sky"')
    assert [found.slug for found in check(tmp_path, text)] == ["flip-upside-down"]
    assert check(tmp_path, text.replace("HalfTurn()", "HalfTurn(0)")) == []


def write_dataset(folder: Path) -> None:
    """Write two subsets of four images with a bright square each."""
    for subset in ("train", "val"):
        for name in ("images", "masks"):
            (folder / subset / name).mkdir(parents=True)
        labels = {"label_map": {"0": "other", "1": "mark"}}
        (folder / subset / "dataset_meta.json").write_text(json.dumps(labels), encoding="utf-8")
        for number in range(4):
            mask = np.zeros((16, 16), dtype=np.uint8)
            mask[number : number + 6, 2:9] = 1
            image = np.where(mask[..., None] == 1, 220, 40).astype(np.uint8).repeat(3, axis=2)
            Image.fromarray(image).save(folder / subset / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / subset / "masks" / f"{number}.png")


def test_new_words_train(
    members: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGDSL_CACHE", str(tmp_path / "cache"))
    write_dataset(tmp_path / "set")
    settings = [
        "train.loss=Tversky(factors = auto)", f"{TURN}=HalfTurn(0.25)", "train.optimizer=RMSprop(1e-2)",
        "train.schedule=Exponential(0.5)", "train.stop=ScoreReached(0.0)",
    ]  # fmt: skip
    Path("main.seg").write_text(PROGRAM, encoding="utf-8")
    result = train_file("main.seg", settings, quiet=True)
    assert result.epochs == 1  # the stopper ended it
    (weights, *others) = members["loss"].SEEN_FACTORS
    assert weights is not None and len(weights) == 2 and "auto" not in (weights, *others)
    assert set(members["augmentation"].TURNS) == {0.25}
    report = (result.run / "report.html").read_text(encoding="utf-8")
    assert "stopped early" in report and "RMSprop" in report
    state = load(result.run / "program.seg").train
    assert [type(state.optimizer).__name__, type(state.schedule[0]).__name__] == ["RMSprop", "Exponential"]


def test_new_ops_are_lowered_and_emitted(members: Any, tmp_path: Path) -> None:
    text = PROGRAM.replace("ReLU()", "HardSwish() -> Softplus(2.0)")
    assert check(tmp_path, text) == []
    (found,) = check(tmp_path, text.replace("HardSwish()", "HSwish()"))
    assert "`HardSwish`" in found.help
    program = load(tmp_path / "main.seg") if check(tmp_path, text) == [] else None
    assert program is not None
    torch.manual_seed(0)
    model = compile_program(program).model.eval()
    torch.manual_seed(0)
    scope: dict[str, Any] = {}
    exec(emit_torch(program.graph, "main.seg"), scope)
    emitted = scope["Tiny"]().eval()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(emitted(images), model(images), rtol=0, atol=0)


def test_the_sign_of_a_new_op_is_asked_of_it(members: Any, tmp_path: Path) -> None:
    text = PROGRAM.replace("ReLU() -> ", "Softplus() -> NMF() -> ")
    assert check(tmp_path, text) == []
    assert [found.slug for found in check(tmp_path, text.replace("Softplus", "HardSwish"))] == ["nmf-of-negative"]


def test_a_loss_must_state_its_reduction() -> None:
    # Without it, the batches of a step would be weighted by their images, which is wrong for a mean over pixels.
    with pytest.raises(TypeError, match="reduction"):
        type("Silent", (Loss,), {"__doc__": "A loss.", "__module__": __name__})
    assert REGISTRY.pop("Silent")


def test_an_optimizer_must_have_the_fields_that_groups_change() -> None:
    with pytest.raises(TypeError, match="groups"):
        type("Bare", (Optimizer,), {"__doc__": "An optimizer.", "__module__": __name__, "target": "torch.optim:SGD"})
    assert REGISTRY.pop("Bare")


def test_the_batches_of_a_step_are_weighted_by_the_reduction_of_the_loss(
    members: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    word = members["loss"].Tversky
    full, half = torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([[[0, 255], [255, 255]]])
    shares = {}
    for reduction in ("valid", "all", "images"):
        monkeypatch.setattr(word, "get_reduction", lambda self, stated=reduction: stated)
        shares[reduction] = build_group_loss(word(), 2, 255).compute_shares([full, half, half])
    assert shares["valid"] == [[4 / 6], [1 / 6], [1 / 6]]
    assert shares["all"] == shares["images"] == [[1 / 3], [1 / 3], [1 / 3]]
