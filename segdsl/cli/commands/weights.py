"""Commands on files of weights: `weights list`, `weights fetch`, `weights check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli import streams
from segdsl.cli.result import Answer, json_option, set_option

if TYPE_CHECKING:
    from segdsl.weights.sources import Wanted


@click.group()
def weights() -> None:
    """Look at what a program starts from, and fetch it."""


@weights.command("list")
@json_option
def weights_list() -> Answer:
    """List the published weights, and which of them are here."""
    from segdsl.storage.cache import place_of
    from segdsl.words.published import PUBLISHED

    entries = []
    for name, entry in PUBLISHED.items():
        place = place_of(entry.url)
        here = place.stat().st_size if place.is_file() else None
        cached = str(place) if here else None
        entries.append({"source": f"otx:{name}", **entry._asdict(), "cached": cached, "bytes": here})
    return Answer({"weights": entries}, _listed(entries))


def _listed(entries: list[dict[str, Any]]) -> str:
    rows = [("source", "model", "fills", "trained by, on", "here")]
    for entry in entries:
        here = f"{entry['bytes'] / 2**20:.1f} MiB" if entry["cached"] else "-"
        rows.append((entry["source"], entry["model"], entry["fills"], entry["by"], here))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


@weights.command("fetch")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE|FILE.seg...")
@set_option
@json_option
def weights_fetch(sources: tuple[str, ...], overrides: tuple[str, ...]) -> Answer:
    """Fetch weights into the cache, to train without a network later.

    A source is what a program would name; of a program all that it names is fetched.
    """
    from segdsl.run.console.fetch_display import FetchDisplay
    from segdsl.weights.fetch import is_cached
    from segdsl.weights.sources import locate

    found: dict[str, Any] = {}
    with FetchDisplay() as watcher:
        for text in sources:
            for wanted in _named(text, overrides):
                fetched = wanted.source.is_remote and not is_cached(wanted.source)
                located = locate(wanted, watcher)
                entry = {"file": str(located.path), "sha256": located.sha256, "fetched": fetched}
                found[wanted.source.text] = entry
    lines = [
        f"{source}{'' if entry['fetched'] else ' (was here)'}\n  {entry['file']}\n  SHA-256 {entry['sha256']}"
        for source, entry in found.items()
    ]
    return Answer({"fetched": found}, "\n".join(lines) or "these programs name no weights")


def _named(text: str, overrides: tuple[str, ...]) -> list[Wanted]:
    from segdsl.diagnostics import fail
    from segdsl.weights.sources import Wanted, wanted_weights
    from segdsl.words.published import PUBLISHED, SourceError, parse_source

    if text.endswith(".seg"):
        from segdsl.lang.program import load

        return wanted_weights(load(text, overrides))
    try:
        return [Wanted("", parse_source(f"otx:{text}" if text in PUBLISHED else text), Path())]
    except SourceError as error:
        raise fail("weights-source", error.message, error.help) from error


@weights.command("check")
@click.argument("file")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set whose classes are meant.")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Number of classes, in place of their names.")
@set_option
@json_option
def weights_check(file: str, root: str | None, classes: int | None, overrides: tuple[str, ...]) -> Answer:
    """Show how the weights that a program names fit its model.

    They are fetched if need be; nothing is trained. Classes that the program does not name are read from its data.
    """
    from segdsl.cli.commands.compile import loaded_model
    from segdsl.run.program_data import classes_setting
    from segdsl.weights.report import load_table

    if classes is None:
        overrides = (*overrides, *classes_setting(file, overrides, root))
    compiled = loaded_model(file, overrides, classes, "program")
    data = {"weights": [report.as_json() for report in compiled.loaded], "random": compiled.at_random()}
    table = load_table(compiled.loaded, compiled.at_random(), streams.width(sys.stdout))
    program = compiled.program
    if program.assumed_classes:
        table = ["no data set says the classes: two are assumed (`--data ROOT`, `--classes N`)", "", *table]
    texts = {name: source.text for name, source in program.sources.items()}
    return Answer(data, "\n".join(table), findings=program.warnings, sources=texts)


COMMANDS = {"weights": weights}
