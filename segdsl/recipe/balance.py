"""The loss, from how the pixels are spread over the classes."""

from __future__ import annotations

from segdsl.data.stats.class_weights import HEAVIEST, LIGHTEST, median_frequency_weights
from segdsl.recipe.choice import Choice, named, percent
from segdsl.recipe.facts import SetFacts

UNBALANCED = 0.05
"""Below this share of the pixels a class asks for help."""
DOMINANT = 0.8
"""From this share on a class drowns the others: weights would make too much of them (on the demo's data, after 280
steps: Dice 0.45 without, 0.50 with weights, 0.63 with Dice in the loss)."""
PLAIN = "CrossEntropy(ignore = data.ignore)"


def loss_for(facts: SetFacts) -> Choice:
    """Cross entropy; with weights where a class is rare, with Dice beside it where one class is nearly everywhere."""
    here = [c for k, c in enumerate(facts.classes) if c.images and k != facts.ignore]
    rarest = min(here, key=lambda c: c.share, default=None)
    if rarest is None or len(here) < 2:
        return Choice(PLAIN, "fewer than two classes occur")
    has = f"{named(rarest.name)} has {percent(rarest.share)} of the pixels"
    if rarest.share >= UNBALANCED:
        return Choice(PLAIN, f"{has}, the fewest of all classes: balanced enough without weights")
    largest = max(here, key=lambda c: c.share)
    if largest.share >= DOMINANT:
        background = "background = false" if largest is facts.classes[0] else ""
        most = f"{named(largest.name)} has {percent(largest.share)} of the pixels, {named(rarest.name)}"
        value = f"WeightedSum([{PLAIN}, Dice({background})])"
        return Choice(value, f"{most} {percent(rarest.share)}: Dice counts overlap, however few the pixels are")
    weights = class_weights(facts)
    reason = (
        f"{has}; each weight is the median frequency of the classes over its own (Eigen and Fergus 2015), counted anew "
        f"when a run starts, within {LIGHTEST:g} and {HEAVIEST:g}: now from {min(weights):.2g} to {max(weights):.2g}"
    )
    return Choice("CrossEntropy(ignore = data.ignore, class_weights = auto)", reason)


def class_weights(facts: SetFacts) -> list[float]:
    """The weight of each class, as `class_weights = auto` counts it; a class that is void counts as absent."""
    shares = [0.0 if k == facts.ignore else c.frequency for k, c in enumerate(facts.classes)]
    return median_frequency_weights(shares)
