"""The certificate of an export as a table, and what an exported model knows of its origin."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.answer import Answer
from segdsl.cli.tables import facts_table

TORCH = "torch"
PARTS = 12
"""So many parts of an 8-bit model are listed, the costliest first."""


def certificate_text(found: Mapping[str, Any]) -> str:
    """The certificate for a person: a line for each form, one for each class, and what 8 bits cost."""
    images = f"{found['images']} {'validation images' if found['source'] == 'val' else 'pictures of noise'}"
    head = f"{found['precision']}, compared with torch on {images}"
    parts = [head, "\n".join(_forms(found)), "\n".join(_classes(found)), "\n".join(_int8(found))]
    return "\n\n".join(part for part in parts if part)


def _forms(found: Mapping[str, Any]) -> Iterator[str]:
    rows = dict(found["rows"])
    if "onnx" in found:
        rows["onnx"] = found["onnx"]
    yield from columns(
        ("form", "pixels", "Dice", "change", "logit error", "parts at"),
        [
            (
                f"{name} ({row['computes_in']})" if "computes_in" in row else name,
                f"{row['pixels']:.4%}",
                _score(row["dice"]),
                _change(row["dice_change"]) if name != TORCH else "",
                f"{row['max_logit_error']:.1e}" if name != TORCH else "",
                row.get("parts_at") or ("-" if name != TORCH else ""),
            )
            for name, row in rows.items()
        ],
    )


def _classes(found: Mapping[str, Any]) -> Iterator[str]:
    rows = {name: row["per_class"] for name, row in found["rows"].items() if row["per_class"]}
    if rows:
        names = list(rows[TORCH])
        head = ("Dice", *(name for name in rows))
        yield from columns(head, [(name, *(_score(row[name]["dice"]) for row in rows.values())) for name in names])


def _int8(found: Mapping[str, Any]) -> Iterator[str]:
    said = found.get("int8")
    if said is None:
        return
    size, time = said["size_mb"], said["latency_ms"]
    yield f"size       {size['fp32']:.2f} MB in fp32, {size['int8']:.2f} MB in int8"
    faster = f"{said['speed_up']:.2f} times as fast"
    yield f"time       {time['fp32']:.2f} ms in fp32, {time['int8']:.2f} ms in int8: {faster}"
    floats = said["layers_in_float"]
    yield f"layers     {said['layers']} in int8" + (f", {floats} more went back to floating point" if floats else "")
    if said["parts"]:
        yield ""
        shown = said["parts"][:PARTS]
        cells = [
            (p["part"] or "all", str(p["layers"]), f"{p['error']:.1e}", _change(p["dice_change"]), p["computes_in"])
            for p in shown
        ]
        yield from columns(("part alone in int8", "layers", "logit error", "Dice", "computes in"), cells)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as it must be; the first to the left, the others to the right."""
    table = [head, *rows]
    widths = [max(len(row[k]) for row in table) for k in range(len(head))]
    lines = []
    for row in table:
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def shown_origin(file: str) -> Answer:
    """The program of an exported model, and below it its lock, its scores and its certificate."""
    from segdsl.editor.ansi import ansi

    found = verbs.origin(file)
    text = ansi(found["program"]) if streams.wants_color(sys.stdout) else found["program"]
    told = {"lock": found["lock"], "metrics": found["metrics"]}
    certificate = certificate_text(found["certificate"])
    return Answer({"file": file, **found}, f"{text}\n{facts_table(told)}\n\n{certificate}")
