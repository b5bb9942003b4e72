"""The accuracy certificate of an export as tables, and the provenance of an exported model."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.result import CommandResult
from segdsl.cli.tables import format_facts
from segdsl.diagnostics import Diagnostic
from segdsl.text.columns import sanitize_text
from segdsl.text.table import TERMINAL_WIDTH, render_table

TORCH_ROW = "torch"
MAX_PARTS = 12
"""How many parts of an INT8 model are listed, costliest first."""
UNREADABLE_CERTIFICATE = "the certificate was written by another version of segdsl; `--json` prints it unformatted"
SHA_256 = re.compile(r"[0-9a-f]{64}")
DIGEST_DIGITS = 12
"""How many digits of a SHA-256 are shown."""


def format_certificate(certificate: Mapping[str, Any]) -> str:
    """Format a certificate as text: a row per form of the model, a row per class, and the cost of INT8."""
    from segdsl.export.certify.trial_images import format_image_count

    images = format_image_count(certificate["images"], certificate["source"])
    head = f"{certificate['precision']}, compared with torch on {images}"
    parts = [
        head,
        "\n".join(_format_precision_rows(certificate)),
        "\n".join(_format_class_rows(certificate)),
        "\n".join(_format_int8_summary(certificate)),
    ]
    interfaces = [*_format_interface("", certificate)]
    for name in certificate.get("also", ()):
        interfaces += _format_interface(f"{name} ", certificate[name])
    parts.append("\n".join(interfaces))
    return "\n\n".join(part for part in parts if part)


def warn_if_unscored(certificate: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    """Return a warning if the Dice change of an export was not measured, else nothing."""
    if certificate["unscored"] is None:
        return ()
    message = f"the Dice change of this export is unknown: {certificate['unscored']}"
    compared = "outputs on random noise" if certificate["source"] == "noise" else "predicted classes per pixel"
    help = f"export again with `--data ROOT`; so far only {compared} were compared"
    return (Diagnostic("export-unscored", message, help, severity="warning"),)


def _format_precision_rows(certificate: Mapping[str, Any]) -> Iterator[str]:
    rows = {**certificate["rows"], **{name: certificate[name] for name in certificate.get("also", ())}}
    yield from render_table(
        ("form", "pixels changed", "Dice", "change", "logit error", "diverges at"),
        [
            (
                f"{name} ({row['computes_in']})" if "computes_in" in row else name,
                f"{row['pixels']:.4%}" if name != TORCH_ROW else "",
                _format_dice(row["dice"]),
                _format_dice_change(row["dice_change"]) if name != TORCH_ROW else "",
                f"{row['max_logit_error']:.1e}" if name != TORCH_ROW else "",
                row.get("parts_at") or ("-" if name != TORCH_ROW else ""),
            )
            for name, row in rows.items()
        ],
        shrink=5,
        overflow="fold",
    )


def _format_class_rows(certificate: Mapping[str, Any]) -> Iterator[str]:
    rows = {name: row["per_class"] for name, row in certificate["rows"].items() if row["per_class"]}
    if rows:
        names = list(rows[TORCH_ROW])
        head = ("Dice", *(name for name in rows))
        table = [(sanitize_text(name), *(_format_dice(row[name]["dice"]) for row in rows.values())) for name in names]
        yield from render_table(head, table, overflow="fold")


def _format_interface(prefix: str, certificate: Mapping[str, Any]) -> Iterator[str]:
    """Describe the inputs and outputs of a model file."""
    for verb, text in certificate.get("interface", {}).items():
        start = f"{prefix}{verb}  "
        yield from textwrap.wrap(start + sanitize_text(text), TERMINAL_WIDTH, subsequent_indent=" " * len(start))


def _format_int8_summary(certificate: Mapping[str, Any]) -> Iterator[str]:
    int8 = certificate.get("int8")
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
        costliest = int8["parts"][:MAX_PARTS]
        table = [
            (
                p["part"] or "all",
                str(p["layers"]),
                f"{p['error']:.1e}",
                _format_dice_change(p["dice_change"]),
                p["computes_in"],
            )
            for p in costliest
        ]
        yield from render_table(
            ("only this part in int8", "layers", "logit error", "Dice", "computes in"), table, overflow="fold"
        )
        if len(int8["parts"]) > MAX_PARTS:
            yield f"and {len(int8['parts']) - MAX_PARTS} more that cost less"


def _format_dice(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _format_dice_change(value: float | None) -> str:
    # Adding 0.0 turns -0.0 into 0.0: a loss below the last digit must not print as "-0.0000".
    return "-" if value is None else f"{round(value, 4) + 0.0:+.4f}"


def show_origin(file: str) -> CommandResult:
    """Print the program of an exported model, followed by its lock file, scores and certificate."""
    found = verbs.origin(file)
    facts = {"weights": found["weights"], "lock": found["lock"], "metrics": found["metrics"]}
    # A certificate of another version may lack any key; the program above it is worth printing all the same.
    try:
        certificate = format_certificate(found["certificate"])
    except (KeyError, TypeError, ValueError):
        certificate = UNREADABLE_CERTIFICATE
    text = "\n\n".join((format_facts(_shorten_digests(facts)), sanitize_text(certificate, "\n")))
    return CommandResult({"file": file, **found}, f"{streams.format_source(found['program'])}\n{text}")


def _shorten_digests(facts: Any) -> Any:
    """Return the facts with every SHA-256 shortened to its first digits."""
    if isinstance(facts, Mapping):
        return {name: _shorten_digests(value) for name, value in facts.items()}
    return f"{facts[:DIGEST_DIGITS]}…" if isinstance(facts, str) and SHA_256.fullmatch(facts) else facts
