"""Commands on weight files: `weights list`, `weights fetch` and `weights check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli import streams
from segdsl.cli.result import Answer, json_option, set_option

if TYPE_CHECKING:
    from segdsl.weights.sources import Wanted


@click.group("weights")
def weights() -> None:
    """List, download and check pretrained weights."""


@weights.command("list")
@json_option
def weights_list() -> Answer:
    """List the published weights, and which of them are cached."""
    from segdsl.storage.cache import place_of
    from segdsl.words.published import PUBLISHED

    entries = []
    for name, entry in PUBLISHED.items():
        place = place_of(entry.url)
        size = place.stat().st_size if place.is_file() else None
        cached = str(place) if size else None
        entries.append({"source": f"otx:{name}", **entry._asdict(), "cached": cached, "bytes": size})
    return Answer({"weights": entries}, _listed(entries))


def _listed(entries: list[dict[str, Any]]) -> str:
    rows = [("source", "model", "fills", "trained by, on", "cached")]
    for entry in entries:
        size = f"{entry['bytes'] / 2**20:.1f} MiB" if entry["cached"] else "-"
        rows.append((entry["source"], entry["model"], entry["fills"], entry["by"], size))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


@weights.command("fetch")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE|FILE.seg...")
@set_option
@json_option
def weights_fetch(sources: tuple[str, ...], overrides: tuple[str, ...]) -> Answer:
    """Download weights into the cache.

    Training then needs no network. SOURCE is a source of weights as in a program; given a program, all of its weights
    are downloaded.
    """
    from segdsl.run.console.fetch_display import FetchDisplay
    from segdsl.weights.fetch import is_cached
    from segdsl.weights.sources import locate

    found: dict[str, Any] = {}
    with FetchDisplay() as watcher:
        for text in sources:
            for request in _named(text, overrides):
                # Asked before `locate`, which fills the cache.
                fetched = request.source.is_remote and not is_cached(request.source)
                located = locate(request, watcher)
                entry = {"file": str(located.path), "sha256": located.sha256, "fetched": fetched}
                found[request.source.text] = entry
    lines = [
        f"{source}{'' if entry['fetched'] else ' (already here)'}\n  {entry['file']}\n  SHA-256 {entry['sha256']}"
        for source, entry in found.items()
    ]
    return Answer({"fetched": found}, "\n".join(lines) or "the programs name no weights")


def _named(text: str, overrides: tuple[str, ...]) -> list[Wanted]:
    from segdsl.diagnostics import fail
    from segdsl.weights.sources import Wanted, wanted_weights
    from segdsl.words.published import PUBLISHED, SourceError, parse_source

    if text.endswith(".seg"):
        from segdsl.lang.program import load

        return wanted_weights(load(text, overrides))
    # Published names work without their prefix `otx:`, as `weights list` readers type them.
    try:
        return [Wanted("", parse_source(f"otx:{text}" if text in PUBLISHED else text), Path())]
    except SourceError as error:
        raise fail("weights-source", error.message, error.help) from error


@weights.command("check")
@click.argument("file")
@click.option("--data", "root", metavar="ROOT", help="Dataset folder to read the class names from.")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Number of classes, instead of their names.")
@set_option
@json_option
def weights_check(file: str, root: str | None, classes: int | None, overrides: tuple[str, ...]) -> Answer:
    """Check how a program's weights fit its model.

    Downloads the weights if necessary; does not train. If the program names no classes, they are read from its dataset.
    """
    from segdsl.cli.commands.compile import loaded_model
    from segdsl.run.program_data import classes_setting
    from segdsl.weights.report import load_table

    # Class names matter: classifier weights of a file are matched to the classes by name.
    if classes is None:
        overrides = (*overrides, *classes_setting(file, overrides, root))
    compiled = loaded_model(file, overrides, classes, "program")
    data = {"weights": [report.as_json() for report in compiled.loaded], "random": compiled.at_random()}
    table = load_table(compiled.loaded, compiled.at_random(), streams.width(sys.stdout))
    program = compiled.program
    if program.assumed_classes:
        table = ["classes unknown: assuming two (set them with `--data ROOT` or `--classes N`)", "", *table]
    texts = {name: source.text for name, source in program.sources.items()}
    return Answer(data, "\n".join(table), findings=program.warnings, sources=texts)


COMMANDS = {"weights": weights}
