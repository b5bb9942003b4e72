"""The text of a generated program: every choice with the reason beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from segdsl.ir.word import format_choice
from segdsl.recipe.balance import choose_background, choose_loss
from segdsl.recipe.choice import Choice, format_percent
from segdsl.recipe.content import choose_photometric_step, decide_vertical_flip, find_thin_classes, format_sided_classes
from segdsl.recipe.facts import DatasetFacts
from segdsl.recipe.plan import Plan, is_uneven
from segdsl.syntax.printer.format import format_text
from segdsl.text.listing import format_string, format_string_list
from segdsl.text.plural import format_count

MAX_LINE_WIDTH = 118
"""Columns of a line with a trailing comment; leaves room for the formatter's alignment."""
MAX_ASPECT_CHANGE = 1.33
"""Factor by which the aspect ratio of a crop may differ from that of the input."""


class ProgramText(NamedTuple):
    """A generated program as ``text``, and its ``choices`` by path; a choice without a value drops a setting of the
    parent."""

    text: str
    choices: dict[str, Choice]


def generate_program(facts: DatasetFacts, plan: Plan, root: str) -> ProgramText:
    """Generate the program for a dataset at ``root``, a path relative to the program file."""
    choices = collect_choices(facts, plan, root)
    return ProgramText(format_text("\n".join(_render_lines(facts, plan, choices)) + "\n"), choices)


def collect_choices(facts: DatasetFacts, plan: Plan, root: str) -> dict[str, Choice]:
    """Return every setting by its path, in the order of the file; an empty value drops the parent's setting."""
    train, background = format_count(facts.train_images, "image"), choose_background(facts)
    ignored = format_percent(facts.void) if facts.void else "none"
    return {
        "data.root": Choice(format_string(root), ""),
        "data.format": Choice(format_choice(facts.format), "the layout of this dataset"),
        **_choose_classes(facts),
        **facts.settings,
        **{path: choice for path, choice in background.items() if path == "data.background"},
        "data.ignore": Choice(str(facts.ignore), f"neither learned nor scored: {ignored} of the training pixels"),
        "data.input_size": plan.choices["input_size"],
        "data.train.subset": Choice(format_string(facts.train), train),
        "data.train.batch": plan.choices["batch"],
        "data.train.workers": plan.choices["workers"],
        **{f"data.train.augment.{name}": step for name, step in choose_augmentations(facts, plan.size).items()},
        "data.val.subset": Choice(format_string(facts.val), format_count(facts.val_images, "image")),
        "data.val.batch": Choice(plan.choices["batch"].value, ""),
        "data.val.workers": Choice(plan.choices["workers"].value, ""),
        "model": plan.choices["model"],
        "train.loss": choose_loss(facts),
        "train.optimizer": Choice(f"AdamW(lr = {plan.model.rate}, weight_decay = 1e-2)", "for random weights"),
        "train.schedule": _choose_schedule(plan.steps),
        "train.stop": _choose_stopper(int(plan.choices["epochs"].value)),
        **{path: choice for path, choice in background.items() if path == "train.monitor"},
        "train.epochs": plan.choices["epochs"],
    }


def _choose_classes(facts: DatasetFacts) -> dict[str, Choice]:
    """Return the class names, unless one of them cannot be written in a program; then they are read from the
    dataset."""
    if not all(name.isprintable() for name in facts.names):
        return {}
    # The order fixes the ids, so that the model's channels are known without the dataset.
    return {"data.classes": Choice(format_string_list(facts.names), "in the order of their ids")}


def _choose_schedule(steps: int) -> Choice:
    # A twentieth of the run at most: in a very short run 100 steps of warmup would be most of it.
    return Choice(f"Warmup({min(100, max(steps // 20, 1))} iters) -> Poly(power = 0.9)", "decreases to 0 at the end")


def _choose_stopper(epochs: int) -> Choice:
    patience = max(10, epochs // 5)
    value = f"EarlyStopping(min_delta = 1e-3, patience = {patience} epochs, after = 100 iters)"
    return Choice(value, "ends a run that no longer improves")


def choose_augmentations(facts: DatasetFacts, size: tuple[int, int]) -> dict[str, Choice]:
    """Return the augmentation steps by name; one with an empty value drops the parent's step."""
    free, why = decide_vertical_flip(facts)
    sides = format_sided_classes(facts)
    flip = Choice("", f"left and right matter to {sides}") if sides else Choice("HorizontalFlip(p = 0.5)", "")
    steps = {"crop": choose_crop(facts, size), "photo": choose_photometric_step(facts), "flip": flip}
    if free and not sides:
        steps["flip_top"] = Choice("VerticalFlip(p = 0.5)", why)
        steps["turn"] = Choice("Rotate(range = -90 deg..90 deg, p = 0.5)", "same reason")
    return steps


def choose_crop(facts: DatasetFacts, size: tuple[int, int]) -> Choice:
    """Choose crops with about the aspect ratio of the input, or with the aspect ratios of all images if these vary."""
    aspect, thin = size[1] / size[0], find_thin_classes(facts)
    low, high = aspect / MAX_ASPECT_CHANGE, aspect * MAX_ASPECT_CHANGE
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


def _render_lines(facts: DatasetFacts, plan: Plan, choices: dict[str, Choice]) -> Iterator[str]:
    about = f"{format_count(facts.train_images, 'training image')}, {facts.val_images:,} for validation"
    yield "seg 1"
    yield ""
    yield f"## Written by `segdsl new` for a dataset with {about}, {len(facts.classes)} classes."
    yield "## Comments give the reason for each choice; change what you know better."
    yield 'extends "std/semantic.seg"'
    yield f'import "std/{plan.model.library}.seg"'
    yield ""
    yield "data {"
    yield from _render_settings(choices, "data", 1)
    for part in ("train", "val"):
        yield f"  {part} {{"
        yield from _render_settings(choices, f"data.{part}", 2)
        if part == "train":
            yield "    augment {"
            yield from _render_settings(choices, "data.train.augment", 3)
            yield from _render_rotation_note(facts, choices)
            yield "    }"
        yield "  }"
    yield "}"
    yield ""
    yield from _render_drops(choices)
    yield from _render_statement(
        "model", f"{plan.model.name}({_render_model_arguments(facts)})", choices["model"].reason, 0
    )
    yield ""
    yield "# Training starts from random weights. A backbone pretrained on ImageNet usually scores higher, above all on"
    yield f"# small datasets: uncomment these lines and lower the learning rate to {plan.model.finetune_rate}."
    yield "# weights {"
    yield f'#   backbone = "{plan.model.weights}"'
    if facts.channels != 3:
        yield "#   adapt    = true"
    yield "# }"
    yield ""
    yield "train {"
    yield from _render_settings(choices, "train", 1)
    yield "}"


def _render_model_arguments(facts: DatasetFacts) -> str:
    channels = f", in_channels = {facts.channels}" if facts.channels != 3 else ""
    return f"classes = len(data.classes){channels}"


def _render_settings(choices: dict[str, Choice], section: str, level: int) -> Iterator[str]:
    """Yield the settings directly in a section, without those that are dropped."""
    own = {path.rpartition(".")[2]: choice for path, choice in choices.items() if path.rpartition(".")[0] == section}
    width = max(map(len, own))
    for name, choice in own.items():
        if choice.value:
            yield from _render_statement(f"{name:{width}}", choice.value, choice.reason, level)


def _render_statement(name: str, value: str, reason: str, level: int) -> Iterator[str]:
    """Yield one setting with its reason behind it, or above it if the line would be too long."""
    indent = "  " * level
    line = f"{indent}{name} = {value}"
    if reason and len(line) + len(reason) + 4 <= MAX_LINE_WIDTH:
        yield f"{line}  # {reason}"
        return
    # The formatter does not break comments, so a long reason is wrapped here.
    yield from textwrap.wrap(reason, MAX_LINE_WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    yield line


def _render_rotation_note(facts: DatasetFacts, choices: dict[str, Choice]) -> Iterator[str]:
    """Yield a comment on why images are not flipped vertically or rotated, if they are not: the user may know
    better."""
    if "data.train.augment.flip_top" not in choices:
        reason = f"no VerticalFlip and no Rotate: {_explain_no_rotation(facts)}"
        yield from textwrap.wrap(reason, MAX_LINE_WIDTH, initial_indent="      # ", subsequent_indent="      # ")


def _explain_no_rotation(facts: DatasetFacts) -> str:
    sides = format_sided_classes(facts)
    return f"left and right matter to {sides}" if sides else decide_vertical_flip(facts)[1]


def _render_drops(choices: dict[str, Choice]) -> Iterator[str]:
    """Yield the statements that drop settings of the parent."""
    gone = {path: choice for path, choice in choices.items() if not choice.value}
    for path, choice in gone.items():
        yield f"drop {path}  # {choice.reason}"
    if gone:
        yield ""
