"""The text of a program for a data set: every choice, and beside it the reason."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from segdsl.recipe.balance import loss_for
from segdsl.recipe.choice import Choice, counted, percent
from segdsl.recipe.content import has_sides, photometric, posture, thin_classes
from segdsl.recipe.facts import SetFacts
from segdsl.recipe.plan import Plan, is_uneven
from segdsl.syntax.printer.format import format_text

WIDTH = 118
"""Columns of a line with a comment behind it, which leaves room for how the formatter aligns."""
BENT = 1.33
"""By how much a window may differ in shape from the input."""


class Recipe(NamedTuple):
    """A program as ``text``, the ``choices`` in it by path, and those that are left out (``dropped``), with reasons."""

    text: str
    choices: dict[str, Choice]


def recipe(facts: SetFacts, plan: Plan, root: str) -> Recipe:
    """The program for a data set at ``root``, which is relative to the program's file."""
    choices = all_choices(facts, plan, root)
    return Recipe(format_text("\n".join(_lines(facts, plan, choices)) + "\n"), choices)


def all_choices(facts: SetFacts, plan: Plan, root: str) -> dict[str, Choice]:
    """Every setting by its path, in the order of the file; an empty value drops what the parent has."""
    train = counted(facts.train_images, "image")
    void = f"{percent(facts.void)} of the training pixels are" if facts.void else "no training pixel is"
    return {
        "data.root": Choice(quoted(root), ""),
        "data.format": Choice(facts.format, "the layout of this folder"),
        **_classes(facts),
        **_background(facts),
        "data.ignore": Choice(str(facts.ignore), f"void, neither learnt nor scored: {void}"),
        "data.input_size": plan.choices["input_size"],
        "data.train.subset": Choice(quoted(facts.train), train),
        "data.train.batch": plan.choices["batch"],
        "data.train.workers": plan.choices["workers"],
        **{f"data.train.augment.{name}": step for name, step in steps_for(facts, plan.size).items()},
        "data.val.subset": Choice(quoted(facts.val), counted(facts.val_images, "image")),
        "data.val.batch": Choice(plan.choices["batch"].value, ""),
        "data.val.workers": Choice(plan.choices["workers"].value, ""),
        "model": plan.choices["model"],
        "train.loss": loss_for(facts),
        "train.optimizer": Choice(f"AdamW(lr = {plan.model.rate}, weight_decay = 1e-2)", "for random weights"),
        "train.schedule": _schedule(plan.steps),
        "train.stop": _stop(int(plan.choices["epochs"].value)),
        "train.epochs": plan.choices["epochs"],
    }


def _classes(facts: SetFacts) -> dict[str, Choice]:
    """The names of the classes; not where one cannot be spelt, since then the data set says them."""
    if not all(name.isprintable() for name in facts.names):
        return {}
    return {"data.classes": Choice(listed(facts.names), "in the order of their ids")}


def _background(facts: SetFacts) -> dict[str, Choice]:
    """What no annotation covers, where it was named."""
    if facts.background is None:
        return {}
    return {"data.background": Choice(quoted(facts.background), "what no annotation covers; named on the command line")}


def _schedule(steps: int) -> Choice:
    return Choice(f"Warmup({min(100, max(steps // 20, 1))} iters) -> Poly(power = 0.9)", "down to 0 at the end")


def _stop(epochs: int) -> Choice:
    patience = max(10, epochs // 5)
    value = f"EarlyStopping(min_delta = 1e-3, patience = {patience} epochs, after = 100 iters)"
    return Choice(value, "ends a run that gets no better")


def steps_for(facts: SetFacts, size: tuple[int, int]) -> dict[str, Choice]:
    """The steps of augmentation by name; one without a value is dropped."""
    free, why = posture(facts)
    sides = has_sides(facts)
    flip = Choice("", f"left and right matter to {sides}") if sides else Choice("HorizontalFlip(p = 0.5)", "")
    steps = {"crop": crop_for(facts, size), "photo": photometric(facts), "flip": flip}
    if free and not sides:
        steps["flip_top"] = Choice("VerticalFlip(p = 0.5)", why)
        steps["turn"] = Choice("Rotate(range = -90 deg..90 deg, p = 0.5)", "for the same reason")
    return steps


def crop_for(facts: SetFacts, size: tuple[int, int]) -> Choice:
    """Windows of about the shape of the input; of every shape that the images have, where these differ."""
    aspect, thin = size[1] / size[0], thin_classes(facts)
    low, high = aspect / BENT, aspect * BENT
    if is_uneven(facts):
        shapes = [w / h for h, w in facts.sizes]
        low, high, least = min([low, *shapes]), max([high, *shapes]), 0.2
        reason = (
            "sizes differ: windows of all shapes, from a fifth of an image to all of it, as scoring stretches all of it"
        )
    elif thin:
        least, reason = 0.5, "half of an image or more: what is thin is not enlarged beyond how it is scored"
    else:
        least, reason = 0.25, "a quarter of an image or more, in about its shape"
    low, high = (min(max(shape, 0.1), 10.0) for shape in (low, high))
    return Choice(f"RandomResizedCrop(scale = {least}..1.0, ratio = {low:.2f}..{high:.2f})", reason)


def quoted(text: str) -> str:
    """A string literal of the language."""
    return json.dumps(text, ensure_ascii=False)


def listed(names: Sequence[str]) -> str:
    """A list of string literals."""
    return "[" + ", ".join(quoted(name) for name in names) + "]"


def _lines(facts: SetFacts, plan: Plan, choices: dict[str, Choice]) -> Iterator[str]:
    about = f"{counted(facts.train_images, 'image')} to learn from, {facts.val_images:,} to score on"
    yield "seg 1"
    yield ""
    yield f"## Written by `segdsl new` for what it found: {about}, {len(facts.classes)} classes."
    yield "## Beside each choice stands the reason; change what you know better."
    yield 'extends "std/semantic.seg"'
    yield f'import "std/{plan.model.library}.seg"'
    yield ""
    yield "data {"
    yield from _settings(choices, "data", 1)
    for part in ("train", "val"):
        yield f"  {part} {{"
        yield from _settings(choices, f"data.{part}", 2)
        if part == "train":
            yield "    augment {"
            yield from _settings(choices, "data.train.augment", 3)
            yield from _not_turned(facts, choices)
            yield "    }"
        yield "  }"
    yield "}"
    yield ""
    yield from _dropped(choices)
    yield from _statement("model", f"{plan.model.name}({_arguments(facts)})", choices["model"].reason, 0)
    yield ""
    yield "# The weights start at random. A backbone that has seen ImageNet usually scores higher, most on small sets:"
    yield f"# take the marks off these lines, and lower the learning rate to {plan.model.tuned}. It is fetched once."
    yield "# weights {"
    yield f'#   backbone = "{plan.model.weights}"'
    if facts.channels != 3:
        yield "#   adapt    = true"
    yield "# }"
    yield ""
    yield "train {"
    yield from _settings(choices, "train", 1)
    yield "}"


def _arguments(facts: SetFacts) -> str:
    channels = f", in_channels = {facts.channels}" if facts.channels != 3 else ""
    return f"classes = len(data.classes){channels}"


def _settings(choices: dict[str, Choice], section: str, level: int) -> Iterator[str]:
    """The settings right below a section, those that are dropped left out."""
    here = {path.rpartition(".")[2]: choice for path, choice in choices.items() if path.rpartition(".")[0] == section}
    width = max(map(len, here))
    for name, choice in here.items():
        if choice.value:
            yield from _statement(f"{name:{width}}", choice.value, choice.reason, level)


def _statement(name: str, value: str, reason: str, level: int) -> Iterator[str]:
    """One setting with its reason behind it, or above it where the line would be too long."""
    indent = "  " * level
    line = f"{indent}{name} = {value}"
    if reason and len(line) + len(reason) + 4 <= WIDTH:
        yield f"{line}  # {reason}"
        return
    yield from textwrap.wrap(reason, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    yield line


def _not_turned(facts: SetFacts, choices: dict[str, Choice]) -> Iterator[str]:
    """Why the images are not turned over, where they are not: somebody may know better."""
    if "data.train.augment.flip_top" not in choices:
        reason = f"neither VerticalFlip nor Rotate: {_why_not_turned(facts)}"
        yield from textwrap.wrap(reason, WIDTH, initial_indent="      # ", subsequent_indent="      # ")


def _why_not_turned(facts: SetFacts) -> str:
    sides = has_sides(facts)
    return f"left and right matter to {sides}" if sides else posture(facts)[1]


def _dropped(choices: dict[str, Choice]) -> Iterator[str]:
    """What is taken out of the parent."""
    gone = {path: choice for path, choice in choices.items() if not choice.value}
    for path, choice in gone.items():
        yield f"drop {path}  # {choice.reason}"
    if gone:
        yield ""
