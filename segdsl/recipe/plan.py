"""The choice of model, input size, batch size and run length, from the dataset and the machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segdsl.data.stats.survey import compute_spread
from segdsl.recipe.choice import Choice, format_duration, format_gib, quote_name
from segdsl.recipe.content import find_thin_classes, has_mostly_thin_classes
from segdsl.recipe.cost import Cost, compute_model_cost
from segdsl.recipe.facts import DatasetFacts
from segdsl.recipe.machine import Machine
from segdsl.text.plural import format_count

# A side that is not a multiple of the stride would make the decoder resize feature maps by odd factors.
STRIDE, MIN_SIDE = 32, 64
"""Input height and width are multiples of the stride of the coarsest feature maps, and have a minimum."""
UNEVEN_RATIO = 1.5
"""Ratio of the largest to the smallest height, width or aspect ratio from which image sizes count as uneven."""
MANY_IMAGES = 1000
"""Training images from which a model with four million parameters is worthwhile."""
BATCHES = (16, 8, 4, 2)
DEFAULT_BATCH, MIN_BATCH, MIN_BATCH_THIN = 8, 4, 2
"""The default batch size, and the smallest ones that an input is shrunk to make room for."""
TARGET_STEPS, MIN_EPOCHS, MAX_EPOCHS = 3000, 30, 300
MEMORY_SHARE, ACCELERATOR_SHARE = 0.5, 0.8
"""Shares of the memory that a run may take: other processes need some too, and the estimate is not exact."""
MAX_HOURS = 24
"""Longest estimated duration of a run on the CPU."""
MIN_PIXEL_SHARE = 0.25
"""Smallest share of its pixels to which an input is shrunk to save time."""


class LibraryModel(NamedTuple):
    """A model of the library, the published weights of its backbone, and suitable learning rates for AdamW, as in
    `specs`: ``rate`` for random weights, ``finetune_rate`` for the published ones."""

    name: str
    library: str
    weights: str
    rate: str
    finetune_rate: str


MODELS = {
    m.name: m
    for m in (
        LibraryModel("LiteHRNetS", "lite_hrnet", "otx:lite_hrnet_s", "4e-3", "1e-3"),
        LibraryModel("LiteHRNet18", "lite_hrnet", "otx:lite_hrnet_18", "4e-3", "1e-3"),
        LibraryModel("LiteHRNetX", "lite_hrnet", "otx:lite_hrnet_x", "4e-3", "1e-3"),
        LibraryModel("SegNeXtT", "segnext", "otx:segnext_tiny", "1e-3", "6e-5"),
        LibraryModel("SegNeXtS", "segnext", "otx:segnext_small", "1e-3", "6e-5"),
        LibraryModel("SegNeXtB", "segnext", "otx:segnext_base", "1e-3", "6e-5"),
    )
}
CostFunction = Callable[[LibraryModel, tuple[int, int]], Cost]


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions. ``size`` is (height, width); ``seconds`` is the estimated duration of the whole run on the CPU, 0
    with a GPU."""

    model: LibraryModel
    size: tuple[int, int]
    steps: int
    seconds: float
    choices: dict[str, Choice]


def make_plan(
    facts: DatasetFacts, machine: Machine, model_name: str | None = None, compute_cost: CostFunction | None = None
) -> Plan:
    """Decide on model, input size, batch size and run length for a dataset on a machine.

    ``model_name`` is the model if the user chose one; ``compute_cost`` estimates the cost of a model at an input size.
    """
    compute_cost = compute_cost or (
        lambda model, size: compute_model_cost(model.library, model.name, len(facts.classes), size)
    )
    # Costs are estimated at the full input size first; the first model that needs no reduction wins.
    full_size, size_reason = choose_input_size(facts)
    candidates = [MODELS[model_name]] if model_name else list_candidates(facts, machine)
    costs = {model: compute_cost(model, full_size) for model in candidates}
    model = next((m for m in candidates if _compute_shrink_factor(facts, machine, costs[m])[0] == 1), candidates[-1])
    factor, limit = _compute_shrink_factor(facts, machine, costs[model])
    size = shrink_size(full_size, factor)
    if size != full_size:
        size_reason += f"; reduced from {full_size[0]}x{full_size[1]} {limit}"
    cost = costs[model].scale_pixels(size[0] * size[1] / (full_size[0] * full_size[1]))
    batch, batch_reason = _choose_batch(facts, machine, cost)
    steps = -(-facts.train_images // batch)
    epochs, seconds = _estimate_length(facts, machine, cost, batch)
    choices = {
        "model": Choice(model.name, _explain_model(facts, machine, model, candidates, model_name)),
        "input_size": Choice(f"{size[0]}x{size[1]}", size_reason),
        "batch": Choice(str(batch), batch_reason),
        "workers": _choose_workers(machine),
        "epochs": _describe_epochs(epochs, steps, seconds, machine),
    }
    return Plan(model, size, epochs * steps, seconds, choices)


def choose_input_size(facts: DatasetFacts) -> tuple[tuple[int, int], str]:
    """Return the (height, width) that suits the images best, and the reason."""
    heights = compute_spread((h, n) for (h, _), n in facts.sizes.items())
    widths = compute_spread((w, n) for (_, w), n in facts.sizes.items())
    middle, thin = (int(heights.median), int(widths.median)), find_thin_classes(facts)
    size = (_round_to_stride(middle[0], up=bool(thin)), _round_to_stride(middle[1], up=bool(thin)))
    spelt = f"{middle[0]}x{middle[1]}"
    if len(facts.sizes) == 1:
        reason = f"all images are {spelt}"
    else:
        ranges = f"height {_format_range(heights)}, width {_format_range(widths)}"
        reason = f"the median of {len(facts.sizes)} sizes is {spelt} ({ranges})"
    if thin and size != middle:
        reason += (
            f"; rounded up to multiples of {STRIDE} because {quote_name(thin[0].name)} is {thin[0].width:.1f} px wide"
        )
    elif size != middle:
        reason += f"; rounded to the nearest multiples of {STRIDE}"
    return size, reason


def _format_range(spread: tuple[float, float, float]) -> str:
    return f"{spread[0]:.0f} to {spread[2]:.0f}"


def _round_to_stride(length: int, *, up: bool) -> int:
    whole = math.ceil(length / STRIDE) if up else math.floor(length / STRIDE + 0.5)
    return max(whole * STRIDE, MIN_SIDE)


def is_uneven(facts: DatasetFacts) -> bool:
    """Return whether the images differ much in height, width or aspect ratio."""
    numbers = [[h for h, _ in facts.sizes], [w for _, w in facts.sizes], [w / h for h, w in facts.sizes]]
    return any(max(values) >= UNEVEN_RATIO * min(values) for values in numbers)


def list_candidates(facts: DatasetFacts, machine: Machine) -> list[LibraryModel]:
    """Return the models that suit the data, the best first; if none fits, the input is shrunk for the last one."""
    if has_mostly_thin_classes(facts):
        names = ["LiteHRNetX", "LiteHRNet18"] if machine.accelerator_bytes else ["LiteHRNet18"]
    else:
        names = ["SegNeXtT", "LiteHRNetS"] if facts.train_images >= MANY_IMAGES else ["LiteHRNetS"]
    return [MODELS[name] for name in names]


def _explain_model(
    facts: DatasetFacts,
    machine: Machine,
    model: LibraryModel,
    candidates: Sequence[LibraryModel],
    model_name: str | None,
) -> str:
    if model_name:
        return "chosen on the command line"
    images = format_count(facts.train_images, "image")
    if has_mostly_thin_classes(facts):
        thinnest = find_thin_classes(facts)[0]
        stride = 2 if model.name == "LiteHRNetX" else 4
        maps = f"feature maps at 1/{stride} of the input size"
        return f"{quote_name(thinnest.name)} is {thinnest.width:.1f} px wide, and this model keeps {maps}"
    if model.name == "SegNeXtT":
        return f"{images} for training are enough for its 4.2 million parameters"
    if model != candidates[0]:
        return f"{images} would be enough for {candidates[0].name}, but this machine is too small for it"
    return f"{images} for training: a small model to start with (0.8 million parameters); SegNeXtT is larger"


def _compute_memory_budget(machine: Machine) -> float:
    return machine.accelerator_bytes * ACCELERATOR_SHARE or machine.memory * MEMORY_SHARE


def _compute_shrink_factor(facts: DatasetFacts, machine: Machine, cost: Cost) -> tuple[float, str]:
    """Return the factor by which the pixels of the input must shrink, 1 for none, and the limit that requires it."""
    thin = find_thin_classes(facts)
    least = MIN_BATCH_THIN if thin else MIN_BATCH
    variable = cost.estimate_memory(least) - cost.estimate_memory(0)
    by_memory = max(_compute_memory_budget(machine) - cost.estimate_memory(0), 0.0) / variable
    by_time = 1.0
    # Speed is never bought with thin objects, and the time on a GPU is not estimated.
    if not machine.accelerator_bytes and not thin:
        by_time = max(MAX_HOURS * 3600 / _estimate_length(facts, machine, cost, DEFAULT_BATCH)[1], MIN_PIXEL_SHARE)
    if by_memory >= min(by_time, 1.0):
        return min(by_time, 1.0), f"because a run would take more than {MAX_HOURS} h on this machine"
    reason = f"so that {format_count(least, 'image')} fit into {format_gib(_compute_memory_budget(machine))}"
    if thin:
        width = thin[0].width * math.sqrt(by_memory)
        reason += f"; {quote_name(thin[0].name)} is then {width:.1f} px wide; cut the images into tiles to avoid that"
    return by_memory, reason


def shrink_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a (height, width) with at most ``factor`` times the pixels and about the same aspect ratio."""
    if factor >= 1:
        return size
    side = math.sqrt(factor)
    height, width = (max(int(length * side) // STRIDE * STRIDE, MIN_SIDE) for length in size)
    return height, width


def _choose_batch(facts: DatasetFacts, machine: Machine, cost: Cost) -> tuple[int, str]:
    usual = BATCHES[0] if facts.train_images >= MANY_IMAGES else DEFAULT_BATCH
    # At least four steps per epoch: batch statistics and schedules need several.
    few = max(facts.train_images // 4, BATCHES[-1])
    fits = [b for b in BATCHES if b <= usual and cost.estimate_memory(b) <= _compute_memory_budget(machine)]
    batch = next((b for b in fits if b <= few), BATCHES[-1])
    where = "GPU memory" if machine.accelerator_bytes else "memory"
    whole = format_gib(machine.accelerator_bytes or machine.memory)
    takes = f"needs up to about {format_gib(cost.estimate_memory(batch))} of {whole} of {where}"
    if fits and batch < fits[0]:
        images = format_count(facts.train_images, "image")
        return batch, f"{takes}; a larger batch would leave few steps per epoch ({images})"
    return batch, takes if batch == usual else f"{takes}; larger batches do not fit"


def _estimate_length(facts: DatasetFacts, machine: Machine, cost: Cost, batch: int) -> tuple[int, float]:
    """Return the number of epochs, and their seconds on the CPU; validating an image takes a third of a training step's
    time."""
    steps = -(-facts.train_images // batch)
    epochs = min(max(-(-TARGET_STEPS // steps), MIN_EPOCHS), MAX_EPOCHS)
    if machine.accelerator_bytes:
        return epochs, 0.0
    # Validation has no backward pass, which is about two thirds of a training step.
    scored = cost.estimate_seconds(batch, machine.cores) / batch / 3 * facts.val_images
    return epochs, epochs * (steps * cost.estimate_seconds(batch, machine.cores) + scored)


def _describe_epochs(epochs: int, steps: int, seconds: float, machine: Machine) -> Choice:
    takes = ""
    if seconds:
        each, whole = format_duration(seconds / epochs), format_duration(seconds)
        takes = (
            f", about {each} each on {format_count(machine.cores, 'core')}, {whole} in total (estimated from the graph)"
        )
    total = f"{epochs * steps:,} steps"
    return Choice(str(epochs), f"an upper limit: {total}, {format_count(steps, 'step')} per epoch{takes}")


def _choose_workers(machine: Machine) -> Choice:
    # On a CPU the network itself is the bottleneck; a GPU waits for images sooner.
    limit = 8 if machine.accelerator_bytes else 4
    workers = min(max(machine.cores - 1, 1), limit)
    return Choice(str(workers), f"of {format_count(machine.cores, 'core')}; the rest run the network")
