"""The section on timings and on the machine of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from segdsl.pages.page import UNKNOWN
from segdsl.run.console.display import format_duration
from segdsl.run.report.run_data import RunData

GIB, MAX_MEMORY = 1 << 30, 1 << 60
"""A gibibyte in bytes, and a bound that no machine reaches: a larger number in a file is damage."""


def collect_timings(run: RunData) -> dict[str, object]:
    """Return the times of the epochs, the throughput, and the machine."""
    history, machine = run.history, _list_machine_facts(run.machine)
    if not history.epochs:
        return {"missing": "The run has not finished an epoch.", "machine": machine}
    # The time of the first epoch includes preparation, so it is left out if there are others.
    first, *others = history.compute_epoch_seconds()
    waits = [value for value in history.get_column("waiting") if math.isfinite(value)]
    speeds = [value for value in history.get_column("images_per_second") if math.isfinite(value) and value > 0]
    facts = [
        ("whole run", format_duration(history.get_column("seconds")[-1])),
        ("epoch, with validation", format_epoch_times(others or [first])),
        ("preparation and first epoch", format_duration(first) if others else None),
        ("training images per second", f"{median(speeds):.1f}, including loading" if speeds else None),
        ("waiting for data", f"{median(waits):.1%} of training time" if waits else None),
        ("steps", f"{history.get_column('step')[-1]:,.0f}" if "step" in history.columns else None),
    ]
    resumptions = [
        (_format_time(r), _format_count(r, "epoch"), _format_count(r, "step"), _format_changes(r))
        for r in run.resumptions
    ]
    return {"missing": "", "facts": facts, "resumptions": resumptions, "machine": machine}


def _format_time(entry: Mapping[str, Any]) -> str:
    return str(entry.get("when", UNKNOWN)).replace("T", " ").replace("+00:00", " UTC")


def _format_count(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    # Files of a run may be damaged or edited: a report of the rest is better than none.
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _format_changes(entry: Mapping[str, Any]) -> str:
    changed = entry.get("changed")
    return ", ".join(f"{path} = {value}" for path, value in changed.items()) if isinstance(changed, dict) else ""


def format_epoch_times(times: list[float]) -> str:
    """Format the median, and the range if the times differ."""
    low, middle, high = (_format_seconds(t) for t in (min(times), median(times), max(times)))
    return middle if low == high else f"{middle}, from {low} to {high}"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else format_duration(seconds)


def _list_machine_facts(known: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return the properties of the machine; an empty list if it is unknown."""
    texts = {key: str(value) for key, value in known.items() if value is not None}
    memory = known.get("memory")
    facts = [
        ("device", texts.get("accelerator") or texts.get("device")),
        ("processor", texts.get("cpu")),
        ("cores", texts.get("cores")),
        ("PyTorch threads", texts.get("threads")),
        ("memory", f"{memory / GIB:.1f} GiB" if isinstance(memory, int) and memory < MAX_MEMORY else None),
        ("system", texts.get("system")),
        *((name, texts.get(name)) for name in ("python", "torch", "segdsl")),
    ]
    return facts if known else []
