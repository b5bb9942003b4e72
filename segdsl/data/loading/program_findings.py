"""What is doubtful about a program once its data is known: each part is right by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segdsl.data.findings import Findings, finding

if TYPE_CHECKING:
    from segdsl.data.check.checker import CheckReport
    from segdsl.ir.program import Program

EQUAL = 1e-6
"""How far apart the uses of two images may be to count as equal."""
MOST = 0.5
"""Of the training images: what holds for more than this share holds for most."""


def doubts(program: Program, report: CheckReport) -> Findings:
    """Warnings about the training subset: windows that are larger than most images, colours that grey images lack, a
    sampler that repeats nothing."""
    name = program.data.train.subset
    sizes = report.sizes.get(name)
    if not sizes:
        return []
    from segdsl.words.augmentations import PhotometricDistortion, RandomCrop

    found: Findings = []
    total = sizes.total()
    for step, word in program.data.train.augment.items():
        path = f"data.train.augment.{step}"
        if isinstance(word, RandomCrop):
            size = word.size or program.data.input_size
            small = sum(n for (height, width), n in sizes.items() if height < size.height or width < size.width)
            if small > MOST * total:
                message = f"`{path}` cuts out {size}, and {small} of {total} images are smaller: the rest is padding"
                help = "cut out a smaller window, or put a `Resize` before it"
                found.append(finding("crop-larger", message, help, report.root / name, "warning"))
        colored = isinstance(word, PhotometricDistortion) and (word.hue.value > 0 or word.saturation.low != 1)
        if colored and report.grey.get(name, 0) == total:
            message = f"`{path}` changes saturation and hue, and all {total} images are grey"
            help = "write `saturation = 1.0..1.0, hue = 0 deg`: grey has neither, and the time is lost"
            found.append(finding("hue-on-grey", message, help, report.root / name, "warning"))
    return [*found, *_idle_sampler(program, report)]


def unseen_monitor(program: Program, report: CheckReport) -> Findings:
    """The error of a run that watches a class that the validation subset does not show."""
    from segdsl.ir.monitor import class_of

    monitor, subset = program.train.monitor, program.data.val.subset
    name = class_of(monitor)
    if name not in report.classes or subset not in report.pixels:
        return []
    if report.pixels[subset][report.classes.index(name)]:
        return []
    message = f"`train.monitor` is `{monitor}`, and no mask of `{subset}` shows the class: every epoch would be as good"
    help = "watch another score, such as `val.foreground.dice`, or move images that show it into the subset"
    return [finding("monitor-unseen", message, help, report.root / subset)]


def _idle_sampler(program: Program, report: CheckReport) -> Findings:
    name, word = program.data.train.subset, program.data.train.sampler
    if word is None or name not in report.shown:
        return []
    from segdsl.data.stats.samplers import repeats

    often = repeats(word, report.shown[name], len(report.classes))
    if often.max() - often.min() > EQUAL:
        return []
    message = "`data.train.sampler` uses every image equally often: all show the same classes, or none is rare enough"
    help = "leave it out; weights of the classes in the loss (`class_weights = auto`) change what rare pixels count"
    return [finding("sampler-idle", message, help, report.root / name, "warning")]
