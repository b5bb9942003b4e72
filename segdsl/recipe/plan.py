"""The model, the size of its input, the batch and the length of a run: what fits the data set and the machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segdsl.data.stats.survey import spread
from segdsl.recipe.choice import Choice, counted, duration, gibibytes, named
from segdsl.recipe.content import mostly_thin, thin_classes
from segdsl.recipe.cost import Cost, model_cost
from segdsl.recipe.facts import SetFacts
from segdsl.recipe.machine import Machine

STRIDE, SMALLEST = 32, 64
"""What height and width are multiples of, as the coarsest maps of all models are; and the least of each."""
UNEVEN = 1.5
"""Images whose heights, widths or shapes differ by this factor are of uneven size."""
MANY = 1000
"""Images to learn from that a model of four million parameters asks for."""
BATCHES = (16, 8, 4, 2)
USUAL, LEAST, LEAST_THIN = 8, 4, 2
"""The batch that is taken where nothing speaks against it, and the ones that an input is shrunk for."""
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 3000, 30, 300
MEMORY_SHARE, ACCELERATOR_SHARE = 0.5, 0.8
"""What a run may take of the memory: others work on the machine too, and the estimate is one."""
MOST_HOURS = 24
"""Longer than this a run on the CPU should not take."""
MOST_SHRUNK = 0.25
"""Time alone shrinks an input to no less than this share of its pixels."""


class Model(NamedTuple):
    """A model of the library, the published weights of its backbone, and the learning rates of AdamW that suit it:
    from random weights, and from those (as in `specs`)."""

    name: str
    library: str
    weights: str
    rate: str
    tuned: str


MODELS = {
    m.name: m
    for m in (
        Model("LiteHRNetS", "lite_hrnet", "otx:lite_hrnet_s", "4e-3", "1e-3"),
        Model("LiteHRNet18", "lite_hrnet", "otx:lite_hrnet_18", "4e-3", "1e-3"),
        Model("LiteHRNetX", "lite_hrnet", "otx:lite_hrnet_x", "4e-3", "1e-3"),
        Model("SegNeXtT", "segnext", "otx:segnext_tiny", "1e-3", "6e-5"),
        Model("SegNeXtS", "segnext", "otx:segnext_small", "1e-3", "6e-5"),
        Model("SegNeXtB", "segnext", "otx:segnext_base", "1e-3", "6e-5"),
    )
}
CostOf = Callable[[Model, tuple[int, int]], Cost]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided; ``size`` is (height, width), ``seconds`` an estimate of the whole run on the CPU, 0 on an
    accelerator."""

    model: Model
    size: tuple[int, int]
    steps: int
    seconds: float
    choices: dict[str, Choice]


def plan(facts: SetFacts, machine: Machine, asked: str | None = None, cost_of: CostOf | None = None) -> Plan:
    """Decides for a data set on a machine; ``asked`` is the name of the model where the user names one."""
    cost_of = cost_of or (lambda model, size: model_cost(model.library, model.name, len(facts.classes), size))
    wanted, size_reason = wanted_size(facts)
    candidates = [MODELS[asked]] if asked else preferred(facts, machine)
    costs = {model: cost_of(model, wanted) for model in candidates}
    model = next((m for m in candidates if _shrinking(facts, machine, costs[m])[0] == 1), candidates[-1])
    factor, limit = _shrinking(facts, machine, costs[model])
    size = shrunk(wanted, factor)
    if size != wanted:
        size_reason += f"; shrunk from {wanted[0]}x{wanted[1]}, {limit}"
    cost = costs[model].at(size[0] * size[1] / (wanted[0] * wanted[1]))
    batch, batch_reason = _batch(facts, machine, cost)
    steps = -(-facts.train_images // batch)
    epochs, seconds = _length(facts, machine, cost, batch)
    choices = {
        "model": Choice(model.name, _model_reason(facts, machine, model, candidates, asked)),
        "input_size": Choice(f"{size[0]}x{size[1]}", size_reason),
        "batch": Choice(str(batch), batch_reason),
        "workers": _workers(machine),
        "epochs": _epochs(epochs, steps, seconds, machine),
    }
    return Plan(model, size, epochs * steps, seconds, choices)


def wanted_size(facts: SetFacts) -> tuple[tuple[int, int], str]:
    """The (height, width) that the images speak for, and why."""
    heights = spread((h, n) for (h, _), n in facts.sizes.items())
    widths = spread((w, n) for (_, w), n in facts.sizes.items())
    middle, thin = (int(heights.median), int(widths.median)), thin_classes(facts)
    size = (_multiple(middle[0], up=bool(thin)), _multiple(middle[1], up=bool(thin)))
    spelt = f"{middle[0]}x{middle[1]}"
    if len(facts.sizes) == 1:
        reason = f"all images are {spelt}"
    else:
        reason = f"the middle of {len(facts.sizes)} sizes is {spelt}, height {_span(heights)}, width {_span(widths)}"
    if thin and size != middle:
        reason += f"; {named(thin[0].name)} is {thin[0].width:.1f} px wide, so rounded up to multiples of {STRIDE}"
    elif size != middle:
        reason += f"; to the nearest multiples of {STRIDE}"
    return size, reason


def _span(spread: tuple[float, float, float]) -> str:
    return f"{spread[0]:.0f} to {spread[2]:.0f}"


def _multiple(length: int, *, up: bool) -> int:
    whole = math.ceil(length / STRIDE) if up else math.floor(length / STRIDE + 0.5)
    return max(whole * STRIDE, SMALLEST)


def is_uneven(facts: SetFacts) -> bool:
    """Whether the images differ much in height, width or shape."""
    numbers = [[h for h, _ in facts.sizes], [w for _, w in facts.sizes], [w / h for h, w in facts.sizes]]
    return any(max(values) >= UNEVEN * min(values) for values in numbers)


def preferred(facts: SetFacts, machine: Machine) -> list[Model]:
    """The models that suit the data, the best first; the last is the one to shrink the input for."""
    if mostly_thin(facts):
        names = ["LiteHRNetX", "LiteHRNet18"] if machine.accelerator else ["LiteHRNet18"]
    else:
        names = ["SegNeXtT", "LiteHRNetS"] if facts.train_images >= MANY else ["LiteHRNetS"]
    return [MODELS[name] for name in names]


def _model_reason(
    facts: SetFacts, machine: Machine, model: Model, candidates: Sequence[Model], asked: str | None
) -> str:
    if asked:
        return "named on the command line"
    images = counted(facts.train_images, "image")
    if mostly_thin(facts):
        thinnest = thin_classes(facts)[0]
        stride = 2 if model.name == "LiteHRNetX" else 4
        return f"{named(thinnest.name)} is {thinnest.width:.1f} px wide: this one keeps maps at 1/{stride} of the size"
    if model.name == "SegNeXtT":
        return f"{images} to learn from are enough for its 4.2 million parameters"
    if model != candidates[0]:
        return f"{images} would do for {candidates[0].name}, which this machine is too small for"
    return f"{images} to learn from: a small model to begin with, 0.8 million parameters; SegNeXtT is larger"


def _budget(machine: Machine) -> float:
    return machine.accelerator * ACCELERATOR_SHARE or machine.memory * MEMORY_SHARE


def _shrinking(facts: SetFacts, machine: Machine, cost: Cost) -> tuple[float, str]:
    """By which factor on its pixels the input has to be shrunk, 1 if not at all, and what demands it."""
    thin = thin_classes(facts)
    least = LEAST_THIN if thin else LEAST
    variable = cost.memory(least) - cost.memory(0)
    by_memory = max(_budget(machine) - cost.memory(0), 0.0) / variable
    by_time = 1.0
    if not machine.accelerator and not thin:
        by_time = max(MOST_HOURS * 3600 / _length(facts, machine, cost, USUAL)[1], MOST_SHRUNK)
    if by_memory >= min(by_time, 1.0):
        return min(by_time, 1.0), f"since a run would take more than {MOST_HOURS} h on this machine"
    reason = f"so that {counted(least, 'image')} fit into {gibibytes(_budget(machine))}"
    if thin:
        width = thin[0].width * math.sqrt(by_memory)
        reason += f"; {named(thin[0].name)} is then {width:.1f} px wide: cutting the images into tiles would keep it"
    return by_memory, reason


def shrunk(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """A (height, width) with at most ``factor`` times the pixels, of the same shape so far as multiples allow."""
    if factor >= 1:
        return size
    side = math.sqrt(factor)
    height, width = (max(int(length * side) // STRIDE * STRIDE, SMALLEST) for length in size)
    return height, width


def _batch(facts: SetFacts, machine: Machine, cost: Cost) -> tuple[int, str]:
    usual = BATCHES[0] if facts.train_images >= MANY else USUAL
    few = max(facts.train_images // 4, BATCHES[-1])
    fits = [b for b in BATCHES if b <= usual and cost.memory(b) <= _budget(machine)]
    batch = next((b for b in fits if b <= few), BATCHES[-1])
    where = "the accelerator's memory" if machine.accelerator else "memory"
    whole = gibibytes(machine.accelerator or machine.memory)
    takes = f"up to about {gibibytes(cost.memory(batch))} of {whole} of {where}"
    if fits and batch < fits[0]:
        return batch, f"more would make few steps of {counted(facts.train_images, 'image')}; {takes}"
    return batch, takes if batch == usual else f"{takes}: no more fit"


def _length(facts: SetFacts, machine: Machine, cost: Cost, batch: int) -> tuple[int, float]:
    """Epochs, and the seconds that they take on the CPU, with a third of a step's time for each image to score."""
    steps = -(-facts.train_images // batch)
    epochs = min(max(-(-STEPS // steps), FEWEST_EPOCHS), MOST_EPOCHS)
    if machine.accelerator:
        return epochs, 0.0
    scored = cost.seconds(batch, machine.cores) / batch / 3 * facts.val_images
    return epochs, epochs * (steps * cost.seconds(batch, machine.cores) + scored)


def _epochs(epochs: int, steps: int, seconds: float, machine: Machine) -> Choice:
    takes = ""
    if seconds:
        each, whole = duration(seconds / epochs), duration(seconds)
        takes = f", about {each} each on {counted(machine.cores, 'core')}, {whole} for all (estimated from the graph)"
    return Choice(str(epochs), f"an upper limit, {epochs * steps:,} steps: {counted(steps, 'step')} an epoch{takes}")


def _workers(machine: Machine) -> Choice:
    most = 8 if machine.accelerator else 4
    workers = min(max(machine.cores - 1, 1), most)
    return Choice(str(workers), f"of {counted(machine.cores, 'core')}, the rest for the network")
