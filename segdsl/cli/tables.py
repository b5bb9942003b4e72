"""Figures as plain text for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def facts_table(facts: Mapping[str, Any]) -> str:
    """One line for each fact, names aligned; what is nested is indented below its name."""
    width = max((len(name) for name in facts), default=0)
    lines: list[str] = []
    for name, value in facts.items():
        label = name.replace("_", " ").ljust(width)
        if isinstance(value, Mapping):
            lines += [label.rstrip(), *(f"  {line}" for line in facts_table(value).splitlines())]
        else:
            lines.append(f"{label}  {spelled(value)}")
    return "\n".join(lines)


def score_table(scores: Mapping[str, Any]) -> str:
    """Dice and IoU of each class and of all, and what they were counted over."""
    per_class: Mapping[str, Mapping[str, float | None]] = scores["per_class"]
    width = max([len("all classes"), *(len(name) for name in per_class)])
    rows = [f"{'':{width}}   Dice    IoU"]
    rows += [f"{name:{width}}  {_score(v['dice'])}  {_score(v['iou'])}" for name, v in per_class.items()]
    rows.append(f"{'all classes':{width}}  {_score(scores['dice'])}  {_score(scores['miou'])}")
    rows.append(f"pixel accuracy {_score(scores['accuracy']).strip()} on {scores['images']} images")
    return "\n".join(rows)


def _score(value: float | None) -> str:
    return "  -  " if value is None or value != value else f"{value:.3f}"


def spelled(value: Any) -> str:
    """A value for a person: thousands separated, four digits behind the point, sizes as lists."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(spelled(v) for v in value)
    return str(value)
