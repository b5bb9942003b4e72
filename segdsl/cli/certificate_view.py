"""The certificate of an export as a table, and what an exported model knows of its origin."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.result import Answer
from segdsl.cli.tables import facts_table
from segdsl.diagnostics import Diagnostic
from segdsl.diagnostics.render import cells, clean, slice_columns

TORCH = "torch"
WIDTH = 80
PARTS = 12
"""So many parts of an 8-bit model are listed, the costliest first."""
OTHERWISE = "its certificate was written by another version of segdsl: `--json` prints it"
SHA_256 = re.compile(r"[0-9a-f]{64}")
BRIEF = 12
"""So many digits of a SHA-256 are shown."""


def certificate_text(found: Mapping[str, Any]) -> str:
    """The certificate for a person: a line for each form, one for each class, and what 8 bits cost."""
    from segdsl.export.certify.trial_images import counted

    head = f"{found['precision']}, compared with torch on {counted(found['images'], found['source'])}"
    parts = [head, "\n".join(_forms(found)), "\n".join(_classes(found)), "\n".join(_int8(found))]
    parts.append("\n".join([*_interface("", found), *_interface("onnx ", found.get("onnx", {}))]))
    return "\n\n".join(part for part in parts if part)


def unscored(found: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    """What is to be known of an export whose cost no validation mask told."""
    if found["unscored"] is None:
        return ()
    message = f"what the export costs in Dice is not known: {found['unscored']}"
    compared = "pixels of noise" if found["source"] == "noise" else "the classes of pixels"
    help = f"name the data with `--data`, and export again; until then only {compared} were compared"
    return (Diagnostic("export-unscored", message, help, severity="warning"),)


def _forms(found: Mapping[str, Any]) -> Iterator[str]:
    rows = dict(found["rows"])
    if "onnx" in found:
        rows["onnx"] = found["onnx"]
    yield from columns(
        ("form", "pixels", "Dice", "change", "logit error", "parts at"),
        [
            (
                f"{name} ({row['computes_in']})" if "computes_in" in row else name,
                f"{row['pixels']:.4%}" if name != TORCH else "",
                _score(row["dice"]),
                _change(row["dice_change"]) if name != TORCH else "",
                f"{row['max_logit_error']:.1e}" if name != TORCH else "",
                row.get("parts_at") or ("-" if name != TORCH else ""),
            )
            for name, row in rows.items()
        ],
        cut=5,
    )


def _classes(found: Mapping[str, Any]) -> Iterator[str]:
    rows = {name: row["per_class"] for name, row in found["rows"].items() if row["per_class"]}
    if rows:
        names = list(rows[TORCH])
        head = ("Dice", *(name for name in rows))
        table = [(clean(name), *(_score(row[name]["dice"]) for row in rows.values())) for name in names]
        yield from columns(head, table, cut=0)


def _interface(which: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What goes into the file and what comes out of it."""
    for verb, text in found.get("interface", {}).items():
        start = f"{which}{verb}  "
        yield from textwrap.wrap(start + clean(text), WIDTH, subsequent_indent=" " * len(start))


def _int8(found: Mapping[str, Any]) -> Iterator[str]:
    said = found.get("int8")
    if said is None:
        return
    size, time = said["size_mb"], said["latency_ms"]
    yield f"size       {size['fp32']:.2f} MB in fp32, {size['int8']:.2f} MB in int8"
    faster = f"{said['speed_up']:.2f} times as fast"
    yield f"time       {time['fp32']:.2f} ms for fp32, {time['int8']:.2f} ms for int8: {faster}"
    floats = said["layers_in_float"]
    yield f"layers     {said['layers']} in int8" + (f", {floats} more went back to floating point" if floats else "")
    yield f"ranges     from {said['calibration_images']} of {said['calibration_asked']} training images asked for"
    if said["parts"]:
        yield f"search     all in int8 would cost {said['lost_all_int8']:.4f} of the Dice of a class, on average"
        yield ""
        shown = said["parts"][:PARTS]
        table = [
            (p["part"] or "all", str(p["layers"]), f"{p['error']:.1e}", _change(p["dice_change"]), p["computes_in"])
            for p in shown
        ]
        yield from columns(("part alone in int8", "layers", "logit error", "Dice", "computes in"), table, cut=0)
        if len(said["parts"]) > PARTS:
            yield f"and {len(said['parts']) - PARTS} more, which cost less"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], cut: int) -> list[str]:
    """Lines of cells, each column as wide as it must be; the first to the left, the others to the right.

    What is too long of the column ``cut`` loses its beginning, so that no line has more than :data:`WIDTH` columns.
    """
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(_columns(row[k]) for row in table) for k in range(len(head))]
    room = WIDTH - sum(widths) - 2 * (len(head) - 1) + widths[cut]
    widths[cut] = min(widths[cut], room)
    lines = []
    for row in table:
        row[cut] = _ending(row[cut], widths[cut])
        blanks = [" " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        first = row[0] + blanks[0]
        lines.append("  ".join([first, *(b + c for b, c in zip(blanks[1:], row[1:], strict=True))]).rstrip())
    return lines


def _ending(text: str, width: int) -> str:
    have = _columns(text)
    return text if have <= width else f"…{slice_columns(text, have - width + 1, have)}"


def _columns(text: str) -> int:
    return sum(map(cells, text))


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(value: float | None) -> str:
    # A loss of less than the last digit is none.
    return "-" if value is None else f"{round(value, 4) + 0.0:+.4f}"


def shown_origin(file: str) -> Answer:
    """The program of an exported model, and below it its lock, its scores and its certificate."""
    from segdsl.editor.ansi import ansi

    found = verbs.origin(file)
    text = ansi(found["program"]) if streams.wants_color(sys.stdout) else found["program"]
    told = {"weights": found["weights"], "lock": found["lock"], "metrics": found["metrics"]}
    try:
        certificate = certificate_text(found["certificate"])
    except (KeyError, TypeError, ValueError):
        certificate = OTHERWISE
    return Answer({"file": file, **found}, f"{text}\n{facts_table(_brief(told))}\n\n{certificate}")


def _brief(facts: Any) -> Any:
    """Facts with the first digits of each SHA-256 among them."""
    if isinstance(facts, Mapping):
        return {name: _brief(value) for name, value in facts.items()}
    return f"{facts[:BRIEF]}…" if isinstance(facts, str) and SHA_256.fullmatch(facts) else facts
