"""Suggestions are sound: the compiler accepts them, and they mean what the author meant."""

from __future__ import annotations

from typing import Any

import pytest

import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.diagnostics import find_closest_name, find_safe_replacement
from segdsl.ir.word import REGISTRY
from segdsl.lang.suggest.misplaced import ANY_NAME, find_keys_for_word

MENDED = [
    ("train.stop = 10", "EarlyStopping(patience = 10 epochs)"),
    ("train.early_stopping = 10", "stop"),
    ("train.ema = 0.99", "EMA(0.99)"),
    ("train.schedule = warmup", "Warmup(5 epochs) -> Poly()"),
    ('train.schedule = "warmup"', "Warmup(5 epochs) -> Poly()"),
    ("train.schedule = LinearLR()", "Warmup(5 epochs) -> Poly()"),
    ("train.schedule = LinearLR", "Warmup(5 epochs) -> Poly()"),
    ("train.schedule = Warmup -> Poly()", "Warmup(5 epochs)"),
    ('train.schedule = "step"', "Step(every = 30 epochs)"),
    ("train.schedule = Step", "Step(every = 30 epochs)"),
    ('train.loss = "combo_loss"', "WeightedSum([CrossEntropy(), Dice()])"),
    ("train.loss = dice_ce", "WeightedSum([CrossEntropy(), Dice()])"),
    ("train.loss = DiceCELoss()", "WeightedSum([CrossEntropy(), Dice()])"),
    ("train.loss = FocalLoss(2)", "Focal"),
    ('data.classes = ["a", "rust"]\ntrain.monitor = val.rust', "val.dice.rust"),
    ("train.monitor = val.dise", "val.dice"),
]  # fmt: skip
"""A statement, and its fix, which must be accepted."""

WORDS = [
    ("train.ema = 10", "`EMA()`"),
    ("train.epochs = 40000 iters", "an integer"),
    ("train.loss = CrossEntropy(1.0)", "`valid`, `all`"),
    ("train.schedule = CosineAnnealingLR(eta_min = 1e-5)", "Cosine"),
    ("train.schedule = Cosine(eta_min = 1e-5)", "`floor`"),
    ("train.schedule = Cosine(min_lr = 1e-5)", "`lr`"),
    ("train.min_lr = 1e-6", "`train.schedule = Cosine(floor = 0.01)`"),
    ("train.save_period = 5", "`train.keep = Checkpoints(every = 5 epochs)`"),
    ("train.fliplr = 0.5", "`data.train.augment.flip = HorizontalFlip(p = 0.5)`"),
    ("data.train.augment.photo = ColorJitter(brightness = 0.4)", "`brightness`"),
    ("data.split = 0.8", '`data.train.subset = "train"`'),
    ("train.val_split = 0.2", '`data.train.subset = "train"`'),
    ("train.weights = \"x\"", "`weights { backbone"),
    ("train.momentum = 0.9", "`train.optimizer = SGD(momentum = 0.9)`"),
    ("train.gamma = 0.1", "`train.loss = Focal(gamma = 0.1)`"),
    ("trainer.max_epochs = 5", "`train`"),
    ("fit.epochs = 5", "`train`"),
    ("training.epochs = 5", "`train`"),
    ("train.train.epochs = 5", "remove `train`"),
    ("optimizer.lr = 1e-3", "`train.optimizer.lr = 1e-3`"),
    ("loss.class_weights = auto", "`train.loss.class_weights = auto`"),
    ("augment = [HorizontalFlip()]", "`data.train.augment { … }`"),
    ("train.augment = [HorizontalFlip()]", "`data.train.augment { … }`"),
    ("val = \"images/val\"", "`data.val { … }`"),
    ("data.train.augment = none", "`drop data.train.augment`"),
    ("data.train.augment = false", "`drop data.train.augment`"),
    ("data.train.augment = []", "`drop data.train.augment`"),
    ("data.dataset.root = \"x\"", "remove `dataset`"),
    ("hflip = true", "`data.train.augment.flip = HorizontalFlip()`"),
    ("train.schedule = Step()", "`Step(every = 30 epochs)`"),
]  # fmt: skip
"""A statement without an automatic fix, and the code that the help suggests."""


@pytest.mark.parametrize(("wrong", "fix"), MENDED, ids=lambda text: text)
def test_a_fix_is_accepted(wrong: str, fix: str, bench: Any) -> None:
    (found,) = bench.setting_errors(wrong)
    assert found.fix is not None and found.fix.text == fix
    text = (bench.folder / "main.seg").read_text(encoding="utf-8")
    mended = text[: found.fix.span.start] + found.fix.text + text[found.fix.span.end :]
    after = bench.errors(mended)
    assert not after or wrong == "train.early_stopping = 10", after


@pytest.mark.parametrize(("wrong", "code"), WORDS, ids=lambda text: text)
def test_a_statement_without_a_fix_gets_help(wrong: str, code: str, bench: Any) -> None:
    (found,) = bench.setting_errors(wrong)
    assert code in found.help, found.help
    assert found.fix is None or found.fix.text in ("Cosine", "train")


def test_the_wording_of_the_help(bench: Any, wording: Any) -> None:
    wording(bench.advice(wrong for wrong, _ in [*MENDED, *WORDS]))


def test_a_number_by_its_place_is_no_void_value(bench: Any) -> None:
    loss = bench.settings("train.loss = Focal(3.0)").train.loss
    assert (loss.gamma, loss.ignore) == (3.0, None)
    loss = bench.settings("train.loss = Dice(2.0)").train.loss
    assert (loss.smooth, loss.ignore) == (2.0, None)


@pytest.mark.parametrize("norm", ["BatchNorm", "LayerNorm"])
def test_a_norm_is_not_told_its_channels(norm: str, bench: Any) -> None:
    (found,) = bench.model_errors(f"y = x -> {norm}(16)")
    assert found.slug == "out-of-bounds"
    assert f"`{norm}()`" in found.help


def test_a_number_of_channels_is_no_kernel(bench: Any) -> None:
    (found,) = bench.model_errors("y = x -> Conv(16, 32, 3)")
    assert found.fix is None and "`3x3`" in found.help
    (found,) = bench.model_errors("y = x -> Conv(16, 3)")
    assert found.fix is not None and found.fix.text == "3x3"


@pytest.mark.parametrize("call", ["BatchNorm2d(16)", "Conv2d(16, 32, 3)"])
def test_a_component_that_is_told_other_things_is_not_just_renamed(call: str, bench: Any) -> None:
    (found,) = bench.model_errors(f"y = x -> {call}")
    assert found.fix is None and f"`{call.partition('2d')[0]}`" in found.help


@pytest.mark.parametrize("word", [name for name, word in REGISTRY.items() if any(find_keys_for_word(word))])
def test_the_usual_form_of_a_word_is_accepted(word: str, bench: Any) -> None:
    path = next(find_keys_for_word(REGISTRY[word]))
    key = ".".join("own" if name == ANY_NAME else name for name in path)
    form = REGISTRY[word].write_usual_form()
    value = f"[{form}]" if key == "data.remap" else form
    found = bench.setting_errors(f'data.classes = ["a", "b", "d"]\n{key} = {value}')
    assert [d.slug for d in found] == [], found


def test_a_number_alone_is_no_first_argument() -> None:
    assert REGISTRY["EarlyStopping"].write_number_form(10) == "EarlyStopping(patience = 10 epochs)"
    assert REGISTRY["Dice"].write_number_form(1.0) == ""


def test_a_name_of_others_is_not_misspelt() -> None:
    assert find_closest_name("fliplr", ["clip"]) is None and find_closest_name("flipr", ["clip"])
    assert find_closest_name("weight", ["weights"]) == "weights"
    assert find_closest_name("eta_min", ["floor"]) == "floor" and find_safe_replacement("eta_min", ["floor"]) is None
