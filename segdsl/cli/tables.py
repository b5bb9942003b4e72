"""Plain-text tables of facts and of the parts of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segdsl.text.columns import sanitize_text

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
        label = sanitize_text(name).replace("_", " ").ljust(width)
        if isinstance(value, Mapping):
            lines += [label.rstrip(), *(f"  {line}" for line in format_facts(value).splitlines())]
        else:
            lines.append(sanitize_text(f"{label}  {format_value(value)}"))
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
    shares = [part.macs / (root_part.macs or 1) for _, part in rows]
    columns = {
        "part": ["  " * level + part.find_display_name(output_names) for level, part in rows],
        **_format_part_figures([part for _, part in rows], shares, unicode),
    }
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    # Output sizes are the widest column and the least important figure of the table.
    if sum(widths.values()) + 2 * len(widths) > width:
        del columns["output"], widths["output"]
    room = min(width - sum(widths.values()) - 2 * len(widths), BAR_WIDTH)
    header, *texts = _format_rows(columns, widths)
    lines = [header]
    for row, ((level, part), line) in enumerate(zip(rows, texts, strict=True)):
        # A part whose inner parts follow has no bar: theirs add up to it.
        bar = _draw_bar(shares[row], room, unicode) if not part.needs_expansion(level, depth) else ""
        lines.append(f"{_apply_style(line, BOLD if level == 0 and color else '')}  {bar}")
    return "\n".join(line.rstrip() for line in lines)


def _format_part_figures(parts: Sequence[Part], shares: Sequence[float], unicode: bool) -> dict[str, list[str]]:
    """Return the columns behind the names of the parts; the one of frozen parts only if there are any."""
    columns = {
        "output": [part.format_sizes("…" if unicode else "...") for part in parts],
        "parameters": [f"{part.parameters:,}" for part in parts],
        "GFLOPs": [f"{2 * part.macs / 1e9:.3f}" for part in parts],
        "share": [f"{share:.1%}" for share in shares],
    }
    frozen = [part.freeze_state for part in parts]
    return {**columns, " ": frozen} if any(frozen) else columns


def _format_rows(columns: Mapping[str, Sequence[str]], widths: Mapping[str, int]) -> list[str]:
    """Return the header and the rows of a table."""
    rows = zip(*columns.values(), strict=True)
    return [_format_row(dict(zip(columns, cells, strict=True)), widths) for cells in (tuple(columns), *rows)]


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
