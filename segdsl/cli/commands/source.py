"""Commands on source files: check, fmt, show and explain. None of them imports torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from segdsl.cli import streams
from segdsl.cli.result import EXIT_ERROR, EXIT_OK, CommandResult, json_option, set_option
from segdsl.diagnostics import Diagnostic, SegError, fail, suggest_name
from segdsl.text.plural import format_count

STDIN = "-"
REPORT_FORMATS = ["text", "json", "sarif"]


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format", "form", type=click.Choice(REPORT_FORMATS), default="text", help="Output format of the diagnostics."
)
@set_option
@json_option
def check_command(files: tuple[str, ...], form: str, overrides: tuple[str, ...]) -> CommandResult:
    """Check programs and libraries.

    Given a folder, checks all .seg files below it. Does not open data or train.
    """
    from segdsl.diagnostics.serialize import serialize_diagnostic

    paths = find_programs(files)
    findings: list[Diagnostic] = []
    sources: dict[str, str] = {}
    notes = [_check_file(path, overrides, findings, sources) for path in paths]
    findings = _drop_duplicates(findings)
    errors = [d for d in findings if d.severity == "error"]
    status = EXIT_ERROR if errors else EXIT_OK
    if form == "sarif":
        return CommandResult(_build_sarif(findings, sources), status=status, is_json_only=True)
    data = {
        "files": len(paths),
        "errors": [serialize_diagnostic(d, sources) for d in errors],
        "warnings": [serialize_diagnostic(d, sources) for d in findings if d.severity != "error"],
    }
    count = f"{format_count(len(paths), 'file')} checked"
    result = format_count(len(findings), "warning") if findings else "no problems found"
    text = "" if errors else "\n".join([*filter(None, notes), f"{count}: {result}"])
    return CommandResult(data, text, status, tuple(findings), sources, is_json_only=form == "json")


def _check_file(path: str, overrides: Sequence[str], findings: list[Diagnostic], sources: dict[str, str]) -> str:
    """Check one file, adding to ``findings`` and ``sources``; return a note on a valid program, or ""."""
    from segdsl.lang.program import check_file

    try:
        program, warnings, texts = check_file(path, overrides)
    except SegError as error:
        findings.extend(error.diagnostics)
        sources.update(error.sources)
        return ""
    findings.extend(warnings)
    sources.update(texts)
    if program is not None and program.assumed_classes:
        return f"{path}: `data.classes` is not set; checked with {len(program.classes)} classes"
    return ""


def _drop_duplicates(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings without duplicates, which arise when several files import the same one."""
    return list({(d.slug, d.span, d.path, d.message): d for d in findings}.values())


def _build_sarif(findings: list[Diagnostic], sources: dict[str, str]) -> dict[str, Any]:
    from segdsl.diagnostics.serialize import build_sarif
    from segdsl.explain import explanations
    from segdsl.version import __version__

    return build_sarif(findings, sources, __version__, explanations())


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "only_check", is_flag=True, help="Change no file; exit with 1 if one would change.")
@json_option
def fmt_command(files: tuple[str, ...], only_check: bool) -> CommandResult:
    """Format .seg files.

    Given a folder, formats all .seg files below it; - formats stdin to stdout.
    """
    from segdsl.diagnostics.serialize import serialize_diagnostic

    if files == (STDIN,):
        return _format_stdin(only_check)
    changed: list[str] = []
    findings: list[Diagnostic] = []
    sources: dict[str, str] = {}
    for path in find_programs(files):
        try:
            if _format_file(Path(path), only_check):
                changed.append(path)
        except SegError as error:
            findings.extend(error.diagnostics)
            sources.update(error.sources)
    failure = {"errors": [serialize_diagnostic(d, sources) for d in findings]} if findings else {}
    status = EXIT_ERROR if findings or (only_check and changed) else EXIT_OK
    verb = "would reformat" if only_check else "reformatted"
    text = "\n".join(f"{verb} {path}" for path in changed)
    return CommandResult({"changed": changed, **failure}, text, status, tuple(findings), sources)


def _format_stdin(only_check: bool) -> CommandResult:
    from segdsl.syntax.printer.format import format_text

    text = _read_stdin()
    tidy = format_text(text, "<stdin>")
    changed = [] if tidy.encode() == text.encode() else ["<stdin>"]
    if only_check:
        status = EXIT_ERROR if changed else EXIT_OK
        return CommandResult({"changed": changed}, "would reformat <stdin>" if changed else "", status)
    # The formatted text replaces the user's: no character may be lost to the encoding of a terminal.
    streams.set_stdout_utf8()
    return CommandResult({"changed": changed, "text": tidy}, tidy)


def _read_stdin() -> str:
    """Read standard input. Raises SegError if it is closed or not UTF-8."""
    if sys.stdin is None:
        raise fail("file-unreadable", "standard input is closed", "pipe a program in or name a file", path="<stdin>")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"standard input is not valid UTF-8 at byte {error.start}"
        raise fail("file-unreadable", message, "save the file as UTF-8", path="<stdin>") from None


def _format_file(path: Path, only_check: bool) -> bool:
    """Format a file in place, unless ``only_check``; return whether its text differs from the formatted one."""
    from segdsl.lang.elaborate.files import read_source
    from segdsl.storage.atomic import write_text_atomically
    from segdsl.syntax.printer.format import format_text

    text = read_source(path, str(path))
    tidy = format_text(text, str(path))
    # Bytes are compared, because reading as text hides Windows line ends.
    same = path.read_bytes() == tidy.encode()
    if not same and not only_check:
        # Resolved first: replacing a symbolic link would turn it into a file.
        write_text_atomically(path.resolve(), tidy)
    return not same


def find_programs(names: Sequence[str]) -> list[str]:
    """Return the named files, with each folder replaced by the `.seg` files below it.

    Raises SegError: `no-programs` for a folder without any, `file-missing` for an empty name.
    """
    found: list[str] = []
    for name in names:
        # `Path("")` is the current folder: an unset shell variable must not format everything below it.
        if not name:
            raise fail("file-missing", "the file name is empty", "name a file or a folder such as `.`")
        folder = Path(name)
        if not folder.is_dir():
            found.append(name)
            continue
        below = sorted(_walk_programs(folder))
        if not below:
            message = f"no `.seg` files in folder {name}"
            raise fail("no-programs", message, "name a file or another folder", path=name)
        found += map(str, below)
    return list(dict.fromkeys(found))


def _walk_programs(folder: Path) -> Iterator[Path]:
    """Yield the `.seg` files below a folder, skipping hidden and unreadable folders, pipes and devices."""
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for file in (Path(place, n) for n in names if n.endswith(".seg") and not n.startswith(".")):
            # A link out of the folder is not the author's: `fmt` must not write through it.
            if file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(root)):
                yield file


@click.command("show")
@click.argument("file")
@click.option("--lr", "rates", is_flag=True, help="Draw the learning rate over the run instead.")
@click.option("--steps-per-epoch", type=click.IntRange(min=1), metavar="N", help="With --lr: steps per epoch.")
@click.option("--images", type=click.IntRange(min=1), metavar="N", help="With --lr: number of training images.")
@set_option
@json_option
def show_command(
    file: str, rates: bool, steps_per_epoch: int | None, images: int | None, overrides: tuple[str, ...]
) -> CommandResult:
    """Print a .seg file, or draw its learning rate.

    For an exported .xml or .onnx, print its program, scores and certificate. std/NAME.seg is a file of the standard
    library.
    """
    if steps_per_epoch is not None and images is not None:
        raise click.UsageError("--steps-per-epoch and --images exclude each other: give only one.")
    if rates:
        from segdsl.cli.commands.learning_rate import show_learning_rate

        return show_learning_rate(file, overrides, steps_per_epoch, images)
    if overrides or steps_per_epoch is not None or images is not None:
        raise click.UsageError("--set, --steps-per-epoch and --images need --lr.")
    from segdsl.words.exports import find_format

    if find_format(Path(file).suffix) is not None:
        from segdsl.cli.certificate_view import show_origin

        return show_origin(file)
    from segdsl.lang.elaborate.files import STD, read_source

    path = Path(file)
    if file.startswith("std/") and not path.is_file():
        path = STD / file.removeprefix("std/")
        # `std/../…` must not print other files of the package.
        if not path.is_file() or not path.resolve().is_relative_to(STD):
            names = sorted(f"std/{p.name}" for p in STD.glob("*.seg"))
            raise fail(
                "file-missing",
                f"the standard library has no file {file}",
                suggest_name(file, names, "files"),
                path=file,
            )
    text = read_source(path, file)
    return CommandResult({"file": file, "text": text}, streams.format_source(text))


@click.command("explain")
@click.argument("slug", required=False, metavar="[SLUG|WORD|KEY]")
@json_option
def explain_command(slug: str | None) -> CommandResult:
    """Explain a diagnostic, a word or a key.

    SLUG is the name in brackets after `error` or `warning`; without it, all slugs are listed. WORD is a word such as
    CrossEntropy, KEY a path such as train.clip.
    """
    from segdsl.cli.explain import find_documentation, suggest_topic
    from segdsl.explain import explanations

    texts = explanations()
    if slug is None:
        return CommandResult({"slugs": list(texts)}, "\n".join(texts))
    # Slugs and names are often pasted with their brackets or backticks.
    name = slug.strip("[]`").lower()
    if name not in texts:
        found = find_documentation(slug.strip("[]`()"))
        if found is not None:
            return CommandResult({"name": found[0], "text": found[1]}, f"{found[0]}\n\n{found[1]}")
        raise fail("unknown-slug", f"no diagnostic, word or key is named `{slug}`", suggest_topic(slug, texts))
    return CommandResult({"slug": name, "text": texts[name]}, f"{name}\n\n{texts[name]}")


COMMANDS = {"check": check_command, "fmt": fmt_command, "show": show_command, "explain": explain_command}
