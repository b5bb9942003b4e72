"""Checks of a program against its data: settings that are valid by themselves but do not suit the dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segdsl.data.findings import Findings, make_finding

if TYPE_CHECKING:
    from segdsl.data.check.checker import CheckReport
    from segdsl.ir.program import Program

MAX_REPEAT_DIFFERENCE = 1e-6
"""Largest difference at which the repeats of all images count as equal."""
MAJORITY = 0.5
"""Share of the training images above which a finding holds for most of them."""


def find_program_issues(program: Program, report: CheckReport) -> Findings:
    """Return warnings about the training subset.

    They concern crops larger than most images, color changes of gray images, and samplers without effect.
    """
    name = program.data.train.subset
    sizes = report.sizes.get(name)
    if not sizes:
        return []
    found: Findings = []
    total = sizes.total()
    for step, word in program.data.train.augment.items():
        path = f"data.train.augment.{step}"
        size = word.get_crop_size(program.data.input_size)
        if size is not None:
            small = sum(n for (height, width), n in sizes.items() if height < size.height or width < size.width)
            if small > MAJORITY * total:
                message = f"`{path}` crops {size}, but {small} of {total} images are smaller and get padded"
                help = "use a smaller crop, or put a `Resize` before it"
                found.append(make_finding("crop-larger", message, help, report.root / name, "warning"))
        if word.gray_arguments and report.gray_counts.get(name, 0) == total:
            message = f"`{path}` changes saturation and hue, but all {total} images are gray"
            help = f"write `{word.gray_arguments}` to save the time: gray images have neither"
            found.append(make_finding("hue-on-grey", message, help, report.root / name, "warning"))
    return [*found, *_check_sampler_effect(program, report)]


def check_monitor_class_present(program: Program, report: CheckReport) -> Findings:
    """Return an error if a run monitors a class that does not occur in the validation subset."""
    from segdsl.ir.monitor import extract_class

    monitor, subset = program.train.monitor, program.data.val.subset
    name = extract_class(monitor)
    if name not in report.classes or subset not in report.pixels:
        return []
    if report.pixels[subset][report.classes.index(name)]:
        return []
    message = f"`train.monitor` is `{monitor}`, but no mask of `{subset}` contains this class: it never changes"
    help = "monitor another score, such as `val.foreground.dice`, or move images that show the class into the subset"
    return [make_finding("monitor-unseen", message, help, report.root / subset)]


def _check_sampler_effect(program: Program, report: CheckReport) -> Findings:
    name, word = program.data.train.subset, program.data.train.sampler
    if word is None or name not in report.class_presence:
        return []
    from segdsl.data.stats.samplers import compute_repeats

    # Compared with a tolerance: the factors are roots and quotients of counts.
    average_uses = compute_repeats(word, report.class_presence[name], len(report.classes))
    if average_uses.max() - average_uses.min() > MAX_REPEAT_DIFFERENCE:
        return []
    message = "`data.train.sampler` has no effect: all images show the same classes, or no class is rare enough"
    help = "remove it; to give rare classes more weight, set `class_weights = auto` in the loss"
    return [make_finding("sampler-idle", message, help, report.root / name, "warning")]
