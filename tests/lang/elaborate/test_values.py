"""Values of expressions: literals, operators and precedence, functions, conversion to the type of a key."""

from __future__ import annotations

from typing import Any

import pytest

from segdsl.ir.values import Quantity, Range, Size


def integer(bench: Any, text: str) -> int:
    return bench.settings(f"train.epochs = {text}\n").train.epochs


def number(bench: Any, text: str) -> float:
    return bench.settings(f"train.optimizer = AdamW(weight_decay = {text})\n").train.optimizer.weight_decay


def truth(bench: Any, text: str) -> bool:
    return bench.settings(f"train.keep = Checkpoints(last = {text})\n").train.keep.last


def string(bench: Any, text: str) -> str:
    return bench.settings(f"data.root = {text}\n").data.root


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 * 3 ** 2", 18),
        ("2 ** 3 ** 2 // 100", 5),
        ("10 - 4 - 3", 3),
        ("100 // 7 // 2", 7),
        ("7 // 2", 3),
        ("-7 // 2 + 5", 1),
        ("-2 ** 2 + 5", 1),
        ("+3", 3),
        ("if 1 < 2 then 3 else 4", 3),
        ("if not true or 2 == 2 then 3 else 4", 3),
        ("if true then 1 else 1 // 0", 1),
        ("[5, 6, 7][1]", 6),
        ("[[1, 2], [3, 4]][1][0]", 3),
        ("len([1, 2] + [3])", 3),
        ("sum([1, 2, 3])", 6),
        ("1 + sum([])", 1),
        ("min(4, 3, 5)", 3),
        ("min([4, 3, 5])", 3),
        ("max(4, 3, 5)", 5),
        ("max([9])", 9),
        ("len(range(5))", 5),
        ("range(2, 9, 3)[2]", 8),
        ("range(9, 2, -3)[1]", 6),
        ("first(reverse([1, 2, 3]))", 3),
        ("last(rest([1, 2, 3]))", 3),
        ("len(rest([]) + [1])", 1),
        ("enumerate([7, 8])[1][1]", 8),
        ("enumerate([7, 8])[1][0]", 1),
        ("zip([1, 2], [3, 4])[1][0]", 2),
        ("sum([a * b for a, b in zip([1, 2], [3, 4])])", 11),
        ("last([total + i for i in range(5) from total = 10])", 20),
        ("len([i for i in []] + [1])", 1),
        ("(32x48).height", 32),
        ("len(data.classes)", 2),
        ("data.train.batch", 8),
    ],
)
def test_integers(bench: Any, text: str, value: int) -> None:
    assert integer(bench, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1 / 4", 0.25), ("2 ** -1", 0.5), ("3", 3.0), ("0.5 * 3", 1.5), ("7.0 // 2", 3.0)],
)
def test_floats(bench: Any, text: str, value: float) -> None:
    assert number(bench, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true and not false", True),
        ("false or false", False),
        ("true or false and false", True),
        ("not 1 == 2", True),
        ("1 + 1 <= 2", True),
        ("2 > 2", False),
        ("2 >= 2 and 1 != 2", True),
        ('"a" == "a"', True),
        ('"a" < "b"', True),
        ("3x4 == 3x4", True),
        ("[1, [2]] == [1, [2]]", True),
        ("none == none", True),
        ("false and 1 // 0 == 0", False),
        ("true or 1 // 0 == 0", True),
    ],
)
def test_truth_is_lazy_and_binds_loosely(bench: Any, text: str, value: bool) -> None:
    assert truth(bench, text) is value


def test_strings_are_joined(bench: Any) -> None:
    assert string(bench, '"data" + "/" + "camvid"') == "data/camvid"


def test_sizes_ranges_and_quantities(bench: Any) -> None:
    program = bench.settings(
        """
        data.input_size = 32x48
        data.train.augment {
          turn = Rotate(range = -10 deg..10 deg)
          crop = RandomResizedCrop(scale = 0.5 / 2..1)
        }
        train.schedule = Warmup(4 epochs) -> Poly()
        """
    )
    assert program.data.input_size == Size(32, 48)
    assert program.data.train.augment["turn"].range == Range(-10.0, 10.0, "deg")  # type: ignore[attr-defined]
    assert program.data.train.augment["crop"].scale == Range(0.25, 1.0)  # type: ignore[attr-defined]
    assert program.train.schedule[0].over == Quantity(4, "epochs")  # type: ignore[attr-defined]


def test_truth_values_have_no_order(bench: Any) -> None:
    (error,) = bench.setting_errors("train.keep = Checkpoints(last = true < 2)\n")
    assert error.slug == "wrong-type" and bench.said(error) == "true < 2"


def test_none_is_nothing(bench: Any) -> None:
    assert bench.settings("train.stop = none\n").train.stop is None


REFUSED = [
    ("1 + true", "wrong-type", "true"),
    ('1 + "a"', "wrong-type", '"a"'),
    ("[1] * 2", "wrong-type", "[1]"),
    ("-true", "wrong-type", "-true"),
    ("if 1 then 2 else 3", "wrong-type", "1"),
    ("not 3", "wrong-type", "3"),
    ("1 and true", "wrong-type", "1"),
    ('1 < "a"', "wrong-type", '1 < "a"'),
    ("true < 2", "wrong-type", "true < 2"),
    ("1 // 0", "division-by-zero", "0"),
    ("1 / (2 - 2)", "division-by-zero", "2 - 2"),
    ("5[0]", "not-a-list", "5"),
    ("[1][1]", "index-out-of-range", "1"),
    ("[1][-1]", "index-out-of-range", "-1"),
    ("[1][true]", "wrong-type", "true"),
    ("(3).width", "no-such-property", "width"),
    ("(3x4).channels", "no-such-property", "channels"),
    ("len(3)", "not-a-list", "3"),
    ("len()", "argument-count", "len()"),
    ("range(1.5)", "wrong-type", "1.5"),
    ("range(1, 2, 0)", "argument-count", "range(1, 2, 0)"),
    ("len(xs = [1])", "unknown-argument", "xs"),
    ("size(3)", "unknown-function", "size"),
    ("[i for i in 3]", "not-a-list", "3"),
    ("sum([1, true])", "wrong-type", "sum([1, true])"),
    ("first([])", "empty-list", "first([])"),
    ("min([])", "empty-list", "min([])"),
    ("zip([1], [])", "zip-lengths", "zip([1], [])"),
    ("[a for a, b in [[1]]]", "unpacking", "a, b"),
    ("2.0 ** 100", "integer-bound", "2.0 ** 100"),
    ("9007199254740993", "number-too-large", "9007199254740993"),
    ("nothing", "unknown-name", "nothing"),
    ("data.clases", "unknown-path", "clases"),
    ("data.train", "unknown-path", "data.train"),
    ("data.train.batch.size", "unknown-path", "size"),
    ("train.epochs", "value-cycle", "train.epochs"),
    ("100 epoch", "unknown-unit", "epoch"),
    ("1.0", "wrong-type", "1.0"),
    ("8 epochs", "wrong-type", "8 epochs"),
    ("0", "out-of-bounds", "0"),
    ("true", "wrong-type", "true"),
]
"""An expression that is not an integer, the slug of the error, and the part that it points at."""


@pytest.mark.parametrize(("text", "slug", "place"), REFUSED)
def test_what_an_integer_is_not(bench: Any, text: str, slug: str, place: str) -> None:
    errors = bench.setting_errors(f"train.epochs = {text}\n")
    assert [d.slug for d in errors] == [slug]
    assert bench.said(errors[0]) == place


def test_a_bare_number_offers_both_units(bench: Any) -> None:
    (error,) = bench.setting_errors("train.schedule = Warmup(100) -> Poly()\n")
    assert error.slug == "unit-missing"
    assert "`100 iters` or `100 epochs`" in error.help


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("1.0..0.2", "range-reversed"),
        ("0.2..1 deg", "range-mixed"),
        ("1 deg..2 iters", "range-mixed"),
        ("0.2 deg..1 deg", "wrong-type"),
        ("0.5", "wrong-type"),
        ("0.2..5.0", "out-of-bounds"),
    ],
)
def test_ranges_that_are_refused(bench: Any, text: str, slug: str) -> None:
    errors = bench.setting_errors(f"data.train.augment.crop = RandomResizedCrop(scale = {text})\n")
    assert [d.slug for d in errors] == [slug]


@pytest.mark.parametrize("name", ["imagenet", "none"])
def test_a_choice_may_be_called_none(bench: Any, name: str) -> None:
    assert bench.settings(f"data.normalize = {name}\n").data.normalize == name


def test_choices_come_from_lets_and_conditions(bench: Any) -> None:
    program = bench.settings('let wide = false\nlet how = "input"\neval.scale = if wide then image else how\n')
    assert program.eval.scale == "input"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", "auto"),
        ("named", "auto"),
        ("listed", (1.0, 2.5)),
        ("[1, 2.5]", (1.0, 2.5)),
        ("none", None),
        ("if true then auto else listed", "auto"),
        ("[1.0] + [2.5]", (1.0, 2.5)),
    ],
)
def test_a_choice_may_stand_beside_another_type(bench: Any, text: str, value: object) -> None:
    lets = 'let named = "auto"\nlet listed = [1.0, 2.5]\n'
    program = bench.loaded(bench.model_text("y = x", lets) + f"\ntrain.loss = CrossEntropy(class_weights = {text})\n")
    assert program.train.loss.class_weights == value
    again = bench.loaded(program.resolved)
    assert again.train.loss.class_weights == value


def test_components_come_from_lets_and_conditions(bench: Any) -> None:
    program = bench.settings(
        "let fast = true\nlet slow = AdamW()\ntrain.optimizer = if fast then SGD(lr = 0.5) else slow\n"
        "train.schedule = [Warmup(10 iters), Poly()]\n"
    )
    assert type(program.train.optimizer).__name__ == "SGD"
    assert [type(law).__name__ for law in program.train.schedule] == ["Warmup", "Poly"]


@pytest.mark.parametrize(
    ("text", "slug", "help"),
    [
        ("train.optimizer = AdamW", "component-not-built", "`AdamW()`"),
        ("train.optimizer = adamw", "wrong-type", "`AdamW()`"),
        ("train.optimizer = Adm()", "unknown-component", "`Adam`"),
        ("train.loss = CrossEntropy() -> Dice()", "wrong-type", "`WeightedSum([CrossEntropy(), Dice()])`"),
        ("train.freeze = backbone", "wrong-type", "`[backbone]`"),
        ("train.freeze = [3]", "wrong-type", '"backbone.stage0.1"'),
        ("data.classes = [1, 2]", "wrong-type", '"1"'),
        ("data.input_size = 512", "wrong-type", "`512x512`"),
        ("data.train.batch = 8.0", "wrong-type", "`8`"),
        ("train.optimizer = AdamW(betas = [0.9])", "wrong-type", "2 values"),
        ("train.optimizer = AdamW(betas = rest([0.1, 0.2]))", "wrong-type", "2 values"),
        ("train.optimizer = AdamW(1, 2, 3, 4, 5, 6, 7)", "too-many-arguments", "remove"),
        ("train.optimizer = AdamW(lr = 1, lr = 2)", "rebinding", "keep"),
        ("train.loss = Focal(class_weights = aut)", "unknown-member", "`auto`"),
        ('train.loss = Focal(class_weights = "auto")', "quoted-member", "`auto`"),
        ("train.loss = Focal(class_weights = [0.0])", "out-of-bounds", "greater than 0"),
        ("train.loss = Focal(class_weights = 3)", "wrong-type", "`[3]`"),
        ("train.optimizer = SGD(groups = [Group(backbone)])", "wrong-type", "`[backbone]`"),
        ("train.schedule = Step([30, 60])", "unit-missing", "`30 iters` or `30 epochs`"),
        ("data.input_size = 0x64", "out-of-bounds", "`512x512`"),
    ],
)
def test_values_that_do_not_fit_get_the_code_to_write(bench: Any, text: str, slug: str, help: str) -> None:
    errors = [d for d in bench.setting_errors(text + "\n") if d.slug == slug]
    assert help in errors[0].help


def test_the_wording_of_errors_in_expressions(bench: Any, wording: Any) -> None:
    wording(bench.advice(f"train.epochs = {text}" for text, *_ in REFUSED))


def test_all_independent_errors_come_at_once(bench: Any) -> None:
    errors = bench.setting_errors(
        "train.optimizer = AdamW(lr = -1.0, eps = true, weigth_decay = 1)\ndata.ignor = 3\neval.scale = larg\n"
    )
    assert sorted(d.slug for d in errors) == ["unknown-argument", "unknown-key", "unknown-member"]
    errors = bench.setting_errors("train.optimizer = AdamW(lr = 1 deg, eps = true)\ntrain.epochs = 0\n")
    assert sorted(d.slug for d in errors) == ["out-of-bounds", "wrong-type", "wrong-type"]
