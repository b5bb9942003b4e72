"""Plain-text tables of facts and of the parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segdsl.ir.parts import Part

BAR_BLOCKS = " ▏▎▍▌▋▊▉█"
"""Bar segments, each an eighth of a character cell wider than the one before."""
BAR_WIDTH = 20
BOLD, RESET = "\x1b[1m", "\x1b[0m"


def format_facts(facts: Mapping[str, Any]) -> str:
    """Format facts one per line with aligned names, nested facts indented below their name."""
    width = max((len(name) for name in facts), default=0)
    lines: list[str] = []
    for name, value in facts.items():
        label = name.replace("_", " ").ljust(width)
        if isinstance(value, Mapping):
            lines += [label.rstrip(), *(f"  {line}" for line in format_facts(value).splitlines())]
        else:
            lines.append(f"{label}  {format_value(value)}")
    return "\n".join(lines)


def format_part_table(
    root_part: Part,
    output_names: Mapping[str, str],
    depth: int,
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Format the parts of a model one per line: output size, parameters, GFLOPs, and share of the GFLOPs.

    ``output_names`` maps paths to the names of outputs, which label parts without parameters. Parts without parameters
    or cost are omitted unless they are outputs. The column of outputs and the bars need enough ``width``.
    """
    rows = [(level, p) for level, p in root_part.walk_rows(depth) if p.parameters or p.macs or p.path in output_names]
    shares = [part.macs / root_part.macs if root_part.macs else 0.0 for _, part in rows]
    columns = {
        "part": ["  " * level + part.find_display_name(output_names) for level, part in rows],
        "output": [part.format_sizes("…" if unicode else "...") for _, part in rows],
        "parameters": [f"{part.parameters:,}" for _, part in rows],
        "GFLOPs": [f"{2 * part.macs / 1e9:.3f}" for _, part in rows],
        "share": [f"{share:.1%}" for share in shares],
        " ": [part.freeze_state for _, part in rows],
    }
    if not any(columns[" "]):
        del columns[" "]
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    # Output sizes are the widest column and the least important figure of the table.
    if sum(widths.values()) + 2 * len(widths) > width:
        del columns["output"], widths["output"]
    room = min(width - sum(widths.values()) - 2 * len(widths), BAR_WIDTH)
    lines = [_format_row({name: name for name in columns}, widths)]
    for row, (level, part) in enumerate(rows):
        line = _format_row({name: cells[row] for name, cells in columns.items()}, widths)
        # A part whose inner parts follow has no bar: theirs add up to it.
        bar = _draw_bar(shares[row], room, unicode) if not part.needs_expansion(level, depth) else ""
        lines.append(f"{_apply_style(line, BOLD if level == 0 and color else '')}  {bar}")
    return "\n".join(line.rstrip() for line in lines)


def _format_row(cells: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """Align cells in columns, numbers to the right."""
    numbers = ("parameters", "GFLOPs", "share")
    return "  ".join(f"{cell:{'>' if name in numbers else ''}{widths[name]}}" for name, cell in cells.items())


def _draw_bar(share: float, width: int, unicode: bool) -> str:
    # Shorter bars would not tell parts apart.
    if width < 5:
        return ""
    if not unicode:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + BAR_BLOCKS[eighths % 8].strip()


def _apply_style(text: str, style: str) -> str:
    return f"{style}{text}{RESET}" if style else text


def format_value(value: Any) -> str:
    """Format a value: thousands separators, four significant digits, sequences joined by commas."""
    # Before `int`, of which `bool` is a subclass.
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(v) for v in value)
    return str(value)
