"""The loss, from how the pixels are spread over the classes."""

from __future__ import annotations

from statistics import median

from segdsl.recipe.choice import Choice, named, percent
from segdsl.recipe.facts import ClassFacts, SetFacts

UNBALANCED = 0.05
"""Below this share of the pixels a class asks for help."""
DOMINANT = 0.8
"""From this share on a class drowns the others: weights would make too much of them (on the demo's data, after 280
steps: Dice 0.45 without, 0.50 with weights, 0.63 with Dice in the loss)."""
MOST_OVERLAPS = 20
"""Classes up to which Dice is in the loss: its time grows with their square."""
LIGHTEST, HEAVIEST = 0.1, 10.0
"""Bounds of a weight: a class with a few hundred pixels must not drown all others."""
ABSENT = 1.0
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
    if largest.share >= DOMINANT and len(facts.classes) <= MOST_OVERLAPS:
        background = "background = false" if largest is facts.classes[0] else ""
        most = f"{named(largest.name)} has {percent(largest.share)} of the pixels, {named(rarest.name)}"
        value = f"WeightedSum([{PLAIN}, Dice({background})])"
        return Choice(value, f"{most} {percent(rarest.share)}: Dice counts overlap, however few the pixels are")
    weights = ", ".join(f"{w:.2g}" for w in class_weights(facts))
    reason = (
        f"{has}; each weight is the median frequency of the classes over its own (Eigen and Fergus 2015), "
        f"counted in the images that show it, within {LIGHTEST:g} and {HEAVIEST:g}"
    )
    return Choice(f"CrossEntropy(ignore = data.ignore, class_weights = [{weights}])", reason)


def class_weights(facts: SetFacts) -> list[float]:
    """Median frequency balancing (Eigen and Fergus, ICCV 2015, section 6.3.2): median of all frequencies over that of
    the class, a frequency being its share of the labelled pixels of the images that show it.

    Bounded by :data:`LIGHTEST` and :data:`HEAVIEST`; a class that never occurs, or is void, weighs :data:`ABSENT`.
    """
    counted = {k: c.frequency for k, c in enumerate(facts.classes) if _counts(facts, k, c)}
    middle = median(counted.values())
    weights = [middle / counted[k] if k in counted else ABSENT for k in range(len(facts.classes))]
    return [min(max(weight, LIGHTEST), HEAVIEST) for weight in weights]


def _counts(facts: SetFacts, k: int, of: ClassFacts) -> bool:
    return k != facts.ignore and of.frequency > 0
