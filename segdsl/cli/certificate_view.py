"""The accuracy certificate of an export as tables, and the provenance of an exported model."""

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
"""How many parts of an INT8 model are listed, costliest first."""
OTHERWISE = "the certificate was written by another version of segdsl; `--json` prints it unformatted"
SHA_256 = re.compile(r"[0-9a-f]{64}")
BRIEF = 12
"""How many digits of a SHA-256 are shown."""


def certificate_text(found: Mapping[str, Any]) -> str:
    """Format a certificate as text: a row per form of the model, a row per class, and the cost of INT8."""
    from segdsl.export.certify.trial_images import counted

    head = f"{found['precision']}, compared with torch on {counted(found['images'], found['source'])}"
    parts = [head, "\n".join(_forms(found)), "\n".join(_classes(found)), "\n".join(_int8(found))]
    parts.append("\n".join([*_interface("", found), *_interface("onnx ", found.get("onnx", {}))]))
    return "\n\n".join(part for part in parts if part)


def unscored(found: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    """Return a warning if the Dice change of an export was not measured, else nothing."""
    if found["unscored"] is None:
        return ()
    message = f"the Dice change of this export is unknown: {found['unscored']}"
    compared = "outputs on random noise" if found["source"] == "noise" else "predicted classes per pixel"
    help = f"export again with `--data ROOT`; so far only {compared} were compared"
    return (Diagnostic("export-unscored", message, help, severity="warning"),)


def _forms(found: Mapping[str, Any]) -> Iterator[str]:
    rows = dict(found["rows"])
    if "onnx" in found:
        rows["onnx"] = found["onnx"]
    yield from columns(
        ("form", "pixels equal", "Dice", "change", "logit error", "diverges at"),
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
    """Describe the inputs and outputs of a model file."""
    for verb, text in found.get("interface", {}).items():
        start = f"{which}{verb}  "
        yield from textwrap.wrap(start + clean(text), WIDTH, subsequent_indent=" " * len(start))


def _int8(found: Mapping[str, Any]) -> Iterator[str]:
    int8 = found.get("int8")
    if int8 is None:
        return
    size, time = int8["size_mb"], int8["latency_ms"]
    yield f"size         {size['fp32']:.2f} MB in fp32, {size['int8']:.2f} MB in int8"
    yield f"latency      {time['fp32']:.2f} ms in fp32, {time['int8']:.2f} ms in int8 ({int8['speed_up']:.2f}x as fast)"
    floats = int8["layers_in_float"]
    yield f"layers       {int8['layers']} in int8" + (f", {floats} reverted to floating point" if floats else "")
    yield f"calibration  {int8['calibration_images']} of {int8['calibration_asked']} requested training images"
    if int8["parts"]:
        yield f"search       all layers in int8 would lose {int8['lost_all_int8']:.4f} Dice per class on average"
        yield ""
        # The parts come sorted by their cost, so that the first ones explain most of the loss.
        costliest = int8["parts"][:PARTS]
        table = [
            (p["part"] or "all", str(p["layers"]), f"{p['error']:.1e}", _change(p["dice_change"]), p["computes_in"])
            for p in costliest
        ]
        yield from columns(("only this part in int8", "layers", "logit error", "Dice", "computes in"), table, cut=0)
        if len(int8["parts"]) > PARTS:
            yield f"and {len(int8['parts']) - PARTS} more that cost less"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], cut: int) -> list[str]:
    """Align rows below a header: the first column to the left, the others to the right.

    Cells of the column ``shrink_column`` lose their beginning where a line would exceed :data:`MAX_WIDTH` columns.
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
    # The end is kept: names of layers and classes share their beginnings and differ at their ends.
    return text if have <= width else f"…{slice_columns(text, have - width + 1, have)}"


def _columns(text: str) -> int:
    return sum(map(cells, text))


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(value: float | None) -> str:
    # Adding 0.0 turns -0.0 into 0.0: a loss below the last digit must not print as "-0.0000".
    return "-" if value is None else f"{round(value, 4) + 0.0:+.4f}"


def shown_origin(file: str) -> Answer:
    """Print the program of an exported model, followed by its lock file, scores and certificate."""
    from segdsl.editor.ansi import ansi

    found = verbs.origin(file)
    text = ansi(found["program"]) if streams.wants_color(sys.stdout) else found["program"]
    facts = {"weights": found["weights"], "lock": found["lock"], "metrics": found["metrics"]}
    # A certificate of another version may lack any key; the program above it is worth printing all the same.
    try:
        certificate = certificate_text(found["certificate"])
    except (KeyError, TypeError, ValueError):
        certificate = OTHERWISE
    return Answer({"file": file, **found}, f"{text}\n{facts_table(_brief(facts))}\n\n{certificate}")


def _brief(facts: Any) -> Any:
    """Return the facts with every SHA-256 shortened to its first digits."""
    if isinstance(facts, Mapping):
        return {name: _brief(value) for name, value in facts.items()}
    return f"{facts[:BRIEF]}…" if isinstance(facts, str) and SHA_256.fullmatch(facts) else facts
