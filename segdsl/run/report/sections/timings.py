"""The section on timings and on the machine of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from segdsl.run.console.display import duration
from segdsl.run.report.markup import UNKNOWN, Html, facts, joined, table, tag
from segdsl.run.report.run_data import Material

GIB, MOST = 1 << 30, 1 << 60
"""A gibibyte in bytes, and a bound that no machine reaches: a larger number in a file is damage."""


def timings(material: Material) -> Html:
    """Render the times of the epochs, the throughput, and the machine."""
    history = material.history
    if not history.epochs:
        return joined(tag("p", "The run has not finished an epoch.", class_="missing"), _machine(material))
    # The time of the first epoch includes preparation, so it is left out if there are others.
    times = history.seconds()[1:] or history.seconds()
    waits = [value for value in history.column("waiting") if math.isfinite(value)]
    speeds = [value for value in history.column("images_per_second") if math.isfinite(value) and value > 0]
    pairs = facts(
        ("whole run", duration(history.column("seconds")[-1])),
        ("epoch, with validation", times_said(times)),
        ("preparation and first epoch", duration(history.seconds()[0]) if len(history) > 1 else None),
        ("training images per second", f"{median(speeds):.1f}, including loading" if speeds else None),
        ("waiting for data", f"{median(waits):.1%} of training time" if waits else None),
        ("steps", f"{history.column('step')[-1]:,.0f}" if "step" in history.columns else None),
    )
    return joined(pairs, *_resumptions(material), _machine(material))


def _resumptions(material: Material) -> list[Html]:
    """Render a table of the times at which the run was resumed; return an empty list if it was not."""
    if not material.resumptions:
        return []
    rows = [[_when(r), *(_number(r, key) for key in ("epoch", "step")), _changes(r)] for r in material.resumptions]
    header = ["resumed at", "after epoch", "step", "changed settings"]
    return [tag("h3", "Interruptions"), table(header, rows, caption="Resumptions")]


def _when(entry: Mapping[str, Any]) -> str:
    return str(entry.get("when", UNKNOWN)).replace("T", " ").replace("+00:00", " UTC")


def _number(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    # Files of a run may be damaged or edited: a report of the rest is better than none.
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _changes(entry: Mapping[str, Any]) -> str:
    changed = entry.get("changed")
    return ", ".join(f"{path} = {value}" for path, value in changed.items()) if isinstance(changed, dict) else ""


def times_said(times: list[float]) -> str:
    """Format the median, and the range if the times differ."""
    low, middle, high = (_short(t) for t in (min(times), median(times), max(times)))
    return middle if low == high else f"{middle}, from {low} to {high}"


def _short(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)


def _machine(material: Material) -> Html:
    known = material.machine
    if not known:
        return tag("p", "Unknown machine: the run has no machine.json.", class_="missing")
    texts = {key: str(value) for key, value in known.items() if value is not None}
    memory = known.get("memory")
    return joined(
        tag("h3", "Machine"),
        facts(
            ("device", texts.get("accelerator") or texts.get("device")),
            ("processor", texts.get("cpu")),
            ("cores", texts.get("cores")),
            ("PyTorch threads", texts.get("threads")),
            ("memory", f"{memory / GIB:.1f} GiB" if isinstance(memory, int) and memory < MOST else None),
            ("system", texts.get("system")),
            *((name, texts.get(name)) for name in ("python", "torch", "segdsl")),
        ),
    )
