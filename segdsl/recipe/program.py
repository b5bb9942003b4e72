"""The text of a generated program: every choice with the reason beside it."""

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
"""Columns of a line with a trailing comment; leaves room for the formatter's alignment."""
BENT = 1.33
"""Factor by which the aspect ratio of a crop may differ from that of the input."""


class Recipe(NamedTuple):
    """A generated program as ``text``, and its ``choices`` by path; a choice without a value drops a setting of the
    parent."""

    text: str
    choices: dict[str, Choice]


def recipe(facts: SetFacts, plan: Plan, root: str) -> Recipe:
    """Generate the program for a dataset at ``root``, a path relative to the program file."""
    choices = all_choices(facts, plan, root)
    return Recipe(format_text("\n".join(_lines(facts, plan, choices)) + "\n"), choices)


def all_choices(facts: SetFacts, plan: Plan, root: str) -> dict[str, Choice]:
    """Return every setting by its path, in the order of the file; an empty value drops the parent's setting."""
    train = counted(facts.train_images, "image")
    ignored = percent(facts.void) if facts.void else "none"
    return {
        "data.root": Choice(quoted(root), ""),
        "data.format": Choice(facts.format, "the layout of this dataset"),
        **_classes(facts),
        **_background(facts),
        "data.ignore": Choice(str(facts.ignore), f"neither learned nor scored: {ignored} of the training pixels"),
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
    """Return the class names, unless one of them cannot be written in a program; then they are read from the
    dataset."""
    if not all(name.isprintable() for name in facts.names):
        return {}
    # The order fixes the ids, so that the model's channels are known without the dataset.
    return {"data.classes": Choice(listed(facts.names), "in the order of their ids")}


def _background(facts: SetFacts) -> dict[str, Choice]:
    """Return the class of pixels without an annotation, if the user named one."""
    if facts.background is None:
        return {}
    reason = "the class of pixels without an annotation, chosen on the command line"
    return {"data.background": Choice(quoted(facts.background), reason)}


def _schedule(steps: int) -> Choice:
    # A twentieth of the run at most: in a very short run 100 steps of warmup would be most of it.
    return Choice(f"Warmup({min(100, max(steps // 20, 1))} iters) -> Poly(power = 0.9)", "decreases to 0 at the end")


def _stop(epochs: int) -> Choice:
    patience = max(10, epochs // 5)
    value = f"EarlyStopping(min_delta = 1e-3, patience = {patience} epochs, after = 100 iters)"
    return Choice(value, "ends a run that no longer improves")


def steps_for(facts: SetFacts, size: tuple[int, int]) -> dict[str, Choice]:
    """Return the augmentation steps by name; one with an empty value drops the parent's step."""
    free, why = posture(facts)
    sides = has_sides(facts)
    flip = Choice("", f"left and right matter to {sides}") if sides else Choice("HorizontalFlip(p = 0.5)", "")
    steps = {"crop": crop_for(facts, size), "photo": photometric(facts), "flip": flip}
    if free and not sides:
        steps["flip_top"] = Choice("VerticalFlip(p = 0.5)", why)
        steps["turn"] = Choice("Rotate(range = -90 deg..90 deg, p = 0.5)", "same reason")
    return steps


def crop_for(facts: SetFacts, size: tuple[int, int]) -> Choice:
    """Choose crops with about the aspect ratio of the input, or with the aspect ratios of all images if these vary."""
    aspect, thin = size[1] / size[0], thin_classes(facts)
    low, high = aspect / BENT, aspect * BENT
    if is_uneven(facts):
        shapes = [w / h for h, w in facts.sizes]
        low, high, least = min([low, *shapes]), max([high, *shapes]), 0.2
        reason = "image sizes vary: crops of all shapes, a fifth of the image or more, because validation stretches it"
    elif thin:
        least, reason = 0.5, "half of the image or more, so that thin objects look about as thin as in validation"
    else:
        least, reason = 0.25, "a quarter of the image or more, in about its shape"
    # The bounds of `ratio` in the word; a dataset may have longer images than it allows.
    low, high = (min(max(shape, 0.1), 10.0) for shape in (low, high))
    return Choice(f"RandomResizedCrop(scale = {least}..1.0, ratio = {low:.2f}..{high:.2f})", reason)


def quoted(text: str) -> str:
    """Return a string literal of the language."""
    return json.dumps(text, ensure_ascii=False)


def listed(names: Sequence[str]) -> str:
    """Return a list of string literals."""
    return "[" + ", ".join(quoted(name) for name in names) + "]"


def _lines(facts: SetFacts, plan: Plan, choices: dict[str, Choice]) -> Iterator[str]:
    about = f"{counted(facts.train_images, 'training image')}, {facts.val_images:,} for validation"
    yield "seg 1"
    yield ""
    yield f"## Written by `segdsl new` for a dataset with {about}, {len(facts.classes)} classes."
    yield "## Comments give the reason for each choice; change what you know better."
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
    yield "# Training starts from random weights. A backbone pretrained on ImageNet usually scores higher, above all on"
    yield f"# small datasets: uncomment these lines and lower the learning rate to {plan.model.tuned}."
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
    """Yield the settings directly in a section, without those that are dropped."""
    own = {path.rpartition(".")[2]: choice for path, choice in choices.items() if path.rpartition(".")[0] == section}
    width = max(map(len, own))
    for name, choice in own.items():
        if choice.value:
            yield from _statement(f"{name:{width}}", choice.value, choice.reason, level)


def _statement(name: str, value: str, reason: str, level: int) -> Iterator[str]:
    """Yield one setting with its reason behind it, or above it if the line would be too long."""
    indent = "  " * level
    line = f"{indent}{name} = {value}"
    if reason and len(line) + len(reason) + 4 <= WIDTH:
        yield f"{line}  # {reason}"
        return
    # The formatter does not break comments, so a long reason is wrapped here.
    yield from textwrap.wrap(reason, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    yield line


def _not_turned(facts: SetFacts, choices: dict[str, Choice]) -> Iterator[str]:
    """Yield a comment on why images are not flipped vertically or rotated, if they are not: the user may know
    better."""
    if "data.train.augment.flip_top" not in choices:
        reason = f"no VerticalFlip and no Rotate: {_why_not_turned(facts)}"
        yield from textwrap.wrap(reason, WIDTH, initial_indent="      # ", subsequent_indent="      # ")


def _why_not_turned(facts: SetFacts) -> str:
    sides = has_sides(facts)
    return f"left and right matter to {sides}" if sides else posture(facts)[1]


def _dropped(choices: dict[str, Choice]) -> Iterator[str]:
    """Yield the statements that drop settings of the parent."""
    gone = {path: choice for path, choice in choices.items() if not choice.value}
    for path, choice in gone.items():
        yield f"drop {path}  # {choice.reason}"
    if gone:
        yield ""
