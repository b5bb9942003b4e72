"""Spellings of other frameworks: the help text names the right one, and following it works."""

from __future__ import annotations

import re
from typing import Any

import pytest

import segdsl.ops
import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.cli.group import _COMMAND_MODULES as COMMANDS
from segdsl.diagnostics import find_closest_name, match_name
from segdsl.diagnostics.aliases import list_aliases, resolve_alias
from segdsl.ir.data_format import AUTO_FORMAT, DATA_FORMATS
from segdsl.ir.values import UNITS
from segdsl.ir.word import REGISTRY, list_words
from segdsl.lang.suggest.foreign_settings import FOREIGN_SETTINGS
from segdsl.lang.suggest.misplaced import _iterate_slots, find_section, find_slots, list_key_paths

VALUES = [
    ("train.loss = CrossEntropy() + Dice()", "WeightedSum([CrossEntropy(), Dice()])"),
    ("train.loss = 0.5 * CrossEntropy() + Dice()", "WeightedSum([CrossEntropy(), Dice()], weights = [0.5, 1.0])"),
    ("train.loss = CrossEntropy() * 2 + Dice() * 0.5", "WeightedSum([CrossEntropy(), Dice()], weights = [2, 0.5])"),
    ("train.loss = 2 * (CrossEntropy() + Dice())", "WeightedSum([CrossEntropy(), Dice()], weights = [2, 2])"),
    ("train.loss = [CrossEntropy(label_smoothing = 0.1), Focal()]",
     "WeightedSum([CrossEntropy(label_smoothing = 0.1), Focal()])"),
    ("train.loss = CrossEntropy() -> Dice()", "WeightedSum([CrossEntropy(), Dice()])"),
    ('train.loss = "dice"', "Dice()"),
    ("train.loss = dice", "Dice()"),
    ("train.loss = DiceLoss", "Dice()"),
    ("train.loss = nn.CrossEntropyLoss()", "CrossEntropy"),
    ('train.loss = dict(type = "CrossEntropyLoss", ignore_index = 255)', "CrossEntropy(ignore = 255)"),
    ('train.optimizer = "adam"', "Adam()"),
    ("train.optimizer = torch.optim.AdamW(lr = 1e-3)", "AdamW"),
    ('train.optimizer = dict(type = "AdamW", lr = 6e-5, weight_decay = 0.01)', "AdamW(lr = 6e-5, weight_decay = 0.01)"),
    ("train.optimizer = AdamW(learning_rate = 1e-3)", "lr"),
    ("train.optimizer = SGD(lr0 = 1e-2)", "lr"),
    ("train.optimizer = AdamW(wd = 1e-2)", "weight_decay"),
    ("train.ema = true", "EMA()"),
    ("train.ema = false", "none"),
    ("train.ema = 0.99", "EMA(0.99)"),
    ("train.stop = false", "none"),
    ("train.stop = true", "EarlyStopping()"),
    ("train.schedule = Warmup(5 epochs) > Cosine()", "Warmup(5 epochs) -> Cosine()"),
    ("train.schedule = Warmup(5 epochs) + Poly(power = 0.9)", "Warmup(5 epochs) -> Poly(power = 0.9)"),
    ('train.schedule = "cosine"', "Cosine()"),
    ("train.schedule = CosineAnnealingLR", "Cosine()"),
    ("train.schedule = Poly", "Poly()"),
    ("train.schedule = StepLR(step_size = 30 epochs, gamma = 0.1)", "Step"),
    ("data.input_size = [128, 96]", "128x96"),
    ("data.input_size = 640", "640x640"),
    ("data.input_size = 128 * 128", "128x128"),
    ('data.input_size = "128x128"', "128x128"),
    ('data.input_size = "128,96"', "128x96"),
    ("data.train.augment.turn = Rotate(30)", "-30.0 deg..30.0 deg"),
    ("data.train.augment.turn = Rotate(30 deg)", "-30.0 deg..30.0 deg"),
    ("data.train.augment.turn = Rotate(-30..30)", "-30.0 deg..30.0 deg"),
    ("data.train.augment.turn = Rotate([-30, 30])", "-30.0 deg..30.0 deg"),
    ("data.train.augment.turn = Affine(translate = 0.1)", "-0.1..0.1"),
    ("data.train.augment.crop = RandomResizedCrop(scale = [0.5, 1.0])", "0.5..1.0"),
    ("data.train.augment.crop = RandomCrop([512, 512])", "512x512"),
    ("data.train.augment.flip = RandomHorizontalFlip()", "HorizontalFlip"),
    ("data.train.augment.flip = HorizontalFlip(prob = 0.5)", "p"),
    ('data.train.augment.flip = dict(type = "RandomFlip", prob = 0.5)', "HorizontalFlip(p = 0.5)"),
    ("train.epochs = 10 epochs", "10"),
    ('train.epochs = "10"', "10"),
    ("train.epochs = 1e2", "100"),
    ("train.clip = 0", "clip = none"),
    ("train.clip = false", "none"),
    ("train.precision = float16", "fp16"),
    ("train.precision = half", "fp16"),
    ("train.precision = amp", "fp16"),
    ("train.precision = 16", "fp16"),
    ('train.precision = "16-mixed"', "fp16"),
    ("train.precision = bfloat16", "bf16"),
    ("train.precision = true", "fp16"),
    ("train.precision = 32", "fp32"),
    ("train.monitor = val_loss", "val.loss"),
    ('train.monitor = "mIoU"', "val.miou"),
    ("train.monitor = val.iou", "val.miou"),
    ("train.stop = EarlyStopping(patience = 5)", "5 epochs"),
    ('train.stop = EarlyStopping(patience = "5 epochs")', "5 epochs"),
    ("eval.flip = yes", "true"),
    ("eval.flip = off", "false"),
    ("eval.flip = 1", "true"),
    ('eval.flip = "true"', "true"),
    ("eval.scales = 1.5", "[1.5]"),
    ("data.root = data", '"data"'),
    ("data.root = data/camvid", '"data/camvid"'),
    ("data.root = ../data/camvid", '"../data/camvid"'),
    ("data.root = /data/camvid", '"/data/camvid"'),
    ("data.train.subset = training", '"training"'),
    ("data.train.subset = train-2024", '"train-2024"'),
    ("data.remap = Merge([\"a\"], into = \"b\")", '[Merge(["a"], into = "b")]'),
    ("data.format = coco", "coco_instances"),
]  # fmt: skip
"""A statement in the style of another framework, and the code that the help suggests."""

KEYS = [
    ("train.lr = 1e-3", "train.optimizer.lr = 1e-3"),
    ("lr = 1e-3", "train.optimizer.lr = 1e-3"),
    ("train.learning_rate = 1e-3", "train.optimizer.lr = 1e-3"),
    ("train.weight_decay = 1e-2", "train.optimizer.weight_decay = 1e-2"),
    ("train.batch = 4", "data.train.batch = 4"),
    ("train.batch_size = 4", "data.train.batch = 4"),
    ("train.workers = 4", "data.train.workers = 4"),
    ("data.batch_size = 4", "data.train.batch = 4"),
    ("train.num_workers = 4", "data.train.workers = 4"),
    ("train.patience = 5 epochs", "train.stop.patience = 5 epochs"),
    ("train.label_smoothing = 0.1", "train.loss.label_smoothing = 0.1"),
    ("train.imgsz = 64x64", "data.input_size = 64x64"),
    ("imgsz = 64x64", "data.input_size = 64x64"),
    ("epochs = 100", "train.epochs = 100"),
    ("optimizer = AdamW(lr = 1e-3)", "train.optimizer = AdamW(lr = 1e-3)"),
    ("train.crop = RandomCrop()", "data.train.augment.crop = RandomCrop()"),
    ("data.train.flip = HorizontalFlip()", "data.train.augment.flip = HorizontalFlip()"),
    ("train.tile = 64x64", "eval.tile = 64x64"),
    ("export.precision = fp16", "export.openvino.precision = fp16"),
    ("data.val.flip = true", "eval.flip = true"),
]
"""A setting in the wrong place, and the right one as the help writes it."""

SENTENCES = [
    ("train.device = cuda", "--device cuda"),
    ("train.gpus = 1", "--device cuda"),
    ("train.resume = true", "--resume"),
    ("train.output_dir = \"out\"", "--out DIR"),
    ("data.num_classes = 5", 'data.classes = ["background", "defect"]'),
    ("train.warmup_epochs = 5", "Warmup(5 epochs) -> Poly()"),
    ("train.max_iters = 40000", "train.epochs = 40"),
    ("data.train.shuffle = true", "remove this setting"),
    ("data.train.augment.t = ToTensor()", "`data.normalize`"),
    ("train.data = \"x\"", 'data.root = "folder"'),
    ("train.fp16 = true", "`train.precision = auto`"),
    ("train.trainer = Trainer(max_epochs = 3)", "`train.epochs = 100`"),
    ("train.callbacks = [EarlyStopping()]", "`train.stop = EarlyStopping()`"),
    ("data.mean = [0.5]", "`data.normalize = imagenet`"),
    ("export.format = \"onnx\"", "`export.onnx = ONNX()`"),
    ("train.augment.flip = HorizontalFlip()", "`data.train.augment`"),
    ("train.stop = EarlyStopping(monitor = \"val_loss\")", "`train.monitor = …`"),
    ("train.epochs = 100  // faster", "`#`"),
    ("eval.overlap = 50", "`0.5`"),
    ("train.freeze = true", "`[…]`"),
    ("weights = \"otx:segnext_tiny\"", '`weights { backbone = "otx:segnext_tiny" }`'),
    ("data.train.augment = [HorizontalFlip(), Rotate()]", "`data.train.augment { name = HorizontalFlip() … }`"),
    ("augment { flip = HorizontalFlip() }", "`data.train.augment { … }`"),
    ("val { batch = 4 }", "`data.val { … }`"),
    ("test { batch = 4 }", "`segdsl eval RUN --subset test`"),
    ("train.optimizer { lr = 1e-3 }", "`train.optimizer = AdamW(…)`"),
    ("train.optimizer { lr = 1e-3 }", "`train.optimizer.lr = …`"),
    ("optimizer { lr = 1e-3 }", "`train.optimizer = …`"),
    ("train.factor = 0.1", "train.schedule = ReduceOnPlateau(factor = 0.1)"),
]  # fmt: skip
"""A setting without a key, and the code that the help suggests."""


@pytest.mark.parametrize(("wrong", "right"), VALUES, ids=lambda text: text)
def test_a_value_as_others_write_it(wrong: str, right: str, bench: Any) -> None:
    (found,) = bench.setting_errors(wrong)
    assert right in found.help, found.help
    if found.fix is None:
        return
    text = (bench.folder / "main.seg").read_text(encoding="utf-8")
    mended = text[: found.fix.span.start] + found.fix.text + text[found.fix.span.end :]
    after = bench.errors(mended)
    assert (found.slug, found.span) not in [(d.slug, d.span) for d in after]
    assert len(after) <= 1 or "=" in wrong.partition("(")[2], after


@pytest.mark.parametrize(("wrong", "right"), KEYS, ids=lambda text: text)
def test_a_key_in_the_wrong_place(wrong: str, right: str, bench: Any) -> None:
    (found,) = bench.setting_errors(wrong)
    assert f"`{right}`" in found.help, found.help
    assert bench.setting_errors(right) == []


@pytest.mark.parametrize(("wrong", "code"), SENTENCES, ids=lambda text: text)
def test_a_key_that_no_program_has(wrong: str, code: str, bench: Any) -> None:
    (found,) = bench.setting_errors(wrong)
    assert code in found.help, found.help


def test_the_wording_of_the_help(bench: Any, wording: Any) -> None:
    wording(bench.advice(wrong for wrong, _ in VALUES), "values")
    wording(bench.advice(wrong for wrong, _ in KEYS), "keys")
    wording(bench.advice(dict(SENTENCES)), "settings")
    one_of_each = {help: name for name, help in FOREIGN_SETTINGS.items()}.values()
    wording(bench.advice(f"train.{name} = 1" for name in one_of_each), "foreign")


def test_inside_of_braces_the_path_is_the_rest_of_it(bench: Any) -> None:
    (found,) = bench.setting_errors("train {\n  lr = 3e-4\n}\n")
    assert "`optimizer.lr = 3e-4`" in found.help
    text = (bench.folder / "main.seg").read_text(encoding="utf-8")
    assert found.fix is not None
    assert bench.errors(text[: found.fix.span.start] + found.fix.text + text[found.fix.span.end :]) == []
    (found,) = bench.setting_errors("train {\n  batch = 8\n}\n")
    assert "`data.train.batch = 8`" in found.help and "`train { }`" in found.help and found.fix is None


def test_what_is_misspelt_is_no_key_of_another_place(bench: Any) -> None:
    for wrong in ("train.epoch = 3", "train.num_epochs = 3"):
        (found,) = bench.setting_errors(wrong)
        assert found.fix is not None and found.fix.text == "epochs"


def test_an_argument_by_its_place_is_named(bench: Any) -> None:
    (found,) = bench.setting_errors("data.train.augment.turn = Rotate(30)")
    assert found.label == "`range` of `Rotate`"
    (found,) = bench.setting_errors("data.train.augment.turn = Rotate(range = 30)")
    assert found.label == ""


def test_a_model_of_the_library_is_brought_in(bench: Any) -> None:
    (found,) = bench.errors("seg 1\n\nmodel = LiteHRNetS(classes = 2)\n")
    assert '`import "std/lite_hrnet.seg"`' in found.help
    (found,) = bench.errors("seg 1\n\nmodel = UNet(classes = 2)\n")
    assert '`SegNeXtT` ("std/segnext.seg")' in found.help
    (found,) = bench.model_errors("y = x -> nn.Conv2d(8)")
    assert "`Conv`" in found.help and "`Conv(32, 3x3)`" in found.help and found.fix is None


def test_every_synonym_means_something() -> None:
    choices = {"auto", "true", "false", "fp16", "bf16", "fp32", "bilinear", "letterbox", "folders"}
    arguments = {name for word in REGISTRY.values() for name in word.model_fields}
    known = {*(p.rpartition(".")[2] for p in list_key_paths()), *REGISTRY, *arguments, *UNITS, *COMMANDS, *choices}
    known |= {"model", "data", "train", "eval", "export", "weights"}
    known |= {*DATA_FORMATS, AUTO_FORMAT}
    known |= set(re.findall(r"'([\w.]+)'", str(find_section(("train",)).model_fields["monitor"].annotation)))  # type: ignore[union-attr]
    assert {ours for meanings in list_aliases().values() for ours in meanings} <= known


def test_a_synonym_counts_only_where_its_meaning_is_known() -> None:
    assert (
        resolve_alias("learning_rate", ["lr", "p"])
        == "lr"
        == match_name("Learning-Rate", ["lr"])
        == find_closest_name("lr0", ["lr"])
    )
    assert resolve_alias("learning_rate", ["momentum"]) is None
    assert match_name("weigth_decay", ["weight_decay"]) is None and find_closest_name("weigth_decay", ["weight_decay"])


def test_homes_are_those_of_the_sections() -> None:
    assert [home.path for home in find_slots("lr", ("train",))][:1] == [("train", "optimizer", "lr")]
    assert find_slots("momentum", ())[0].words == ("SGD",) and find_slots("no_such", ()) == ()
    assert set(FOREIGN_SETTINGS) & {home.path[-1] for home in _iterate_slots()} == {"data"}
    assert all(list_words(REGISTRY[word].__mro__[1]) for home in _iterate_slots() for word in home.words)
