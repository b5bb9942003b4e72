"""Commands on weight files: `weights list`, `weights fetch` and `weights check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli import streams
from segdsl.cli.result import CommandResult, json_option, set_option

if TYPE_CHECKING:
    from segdsl.weights.sources import WeightRequest


@click.group("weights")
def weights_group() -> None:
    """List, download and check pretrained weights."""


@weights_group.command("list")
@json_option
def weights_list_command() -> CommandResult:
    """List the published weights, and which of them are cached."""
    from segdsl.storage.cache import build_cache_path
    from segdsl.words.published import PUBLIC_WEIGHTS

    entries = []
    for name, entry in PUBLIC_WEIGHTS.items():
        place = build_cache_path(entry.url)
        size = place.stat().st_size if place.is_file() else None
        cached = str(place) if size else None
        entries.append({"source": f"otx:{name}", **entry._asdict(), "cached": cached, "bytes": size})
    return CommandResult({"weights": entries}, _format_weight_table(entries))


def _format_weight_table(entries: list[dict[str, Any]]) -> str:
    rows = [("source", "model", "fills", "trained by, on", "cached")]
    for entry in entries:
        size = f"{entry['bytes'] / 2**20:.1f} MiB" if entry["cached"] else "-"
        rows.append((entry["source"], entry["model"], entry["fills"], entry["by"], size))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


@weights_group.command("fetch")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE|FILE.seg...")
@set_option
@json_option
def weights_fetch_command(sources: tuple[str, ...], overrides: tuple[str, ...]) -> CommandResult:
    """Download weights into the cache.

    Training then needs no network. SOURCE is a source of weights as in a program; given a program, all of its weights
    are downloaded.
    """
    from segdsl.run.console.fetch_display import FetchDisplay
    from segdsl.weights.fetch import is_cached
    from segdsl.weights.sources import locate_weights

    found: dict[str, Any] = {}
    with FetchDisplay() as watcher:
        for text in sources:
            for request in _resolve_sources(text, overrides):
                # Asked before `locate`, which fills the cache.
                fetched = request.source.is_remote and not is_cached(request.source)
                located = locate_weights(request, watcher)
                entry = {"file": str(located.path), "sha256": located.sha256, "fetched": fetched}
                found[request.source.text] = entry
    lines = [
        f"{source}{'' if entry['fetched'] else ' (already here)'}\n  {entry['file']}\n  SHA-256 {entry['sha256']}"
        for source, entry in found.items()
    ]
    return CommandResult({"fetched": found}, "\n".join(lines) or "the programs name no weights")


def _resolve_sources(text: str, overrides: tuple[str, ...]) -> list[WeightRequest]:
    from segdsl.diagnostics import fail
    from segdsl.weights.sources import WeightRequest, collect_weight_requests
    from segdsl.words.published import PUBLIC_WEIGHTS, SourceError, parse_source

    if text.endswith(".seg"):
        from segdsl.lang.program import load

        return collect_weight_requests(load(text, overrides))
    # Published names work without their prefix `otx:`, as `weights list` readers type them.
    try:
        return [WeightRequest("", parse_source(f"otx:{text}" if text in PUBLIC_WEIGHTS else text), Path())]
    except SourceError as error:
        raise fail("weights-source", error.message, error.help) from error


@weights_group.command("check")
@click.argument("file")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder to read the class names from.")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Number of classes, instead of their names.")
@set_option
@json_option
def weights_check_command(
    file: str, root: str | None, classes: int | None, overrides: tuple[str, ...]
) -> CommandResult:
    """Check how a program's weights fit its model.

    Downloads the weights if necessary; does not train. If the program names no classes, they are read from its dataset.
    """
    from segdsl.cli.commands.compile import compile_with_progress
    from segdsl.run.program_data import find_dataset_classes
    from segdsl.weights.report import format_load_table

    # Class names matter: classifier weights of a file are matched to the classes by name.
    known = find_dataset_classes(file, overrides, root) if classes is None else classes
    compiled = compile_with_progress(file, overrides, known, "program")
    data = {"weights": [report.as_json() for report in compiled.load_reports], "random": compiled.find_random_parts()}
    table = format_load_table(compiled.load_reports, compiled.find_random_parts(), streams.detect_width(sys.stdout))
    program = compiled.program
    if program.assumed_classes:
        table = ["classes unknown: assuming two (set them with `--data ROOT` or `--classes N`)", "", *table]
    texts = {name: source.text for name, source in program.sources.items()}
    return CommandResult(data, "\n".join(table), findings=program.warnings, sources=texts)


COMMANDS = {"weights": weights_group}
