"""Commands on source texts: check, fmt, show, explain. None of them imports torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from segdsl.cli import streams
from segdsl.cli.result import AT_FAULT, DONE, Answer, json_option, set_option
from segdsl.diagnostics import Diagnostic, SegError, fail, suggest

STDIN = "-"
FORMS = ["text", "json", "sarif"]


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(FORMS), default="text", help="Form of the findings.")
@set_option
@json_option
def check(files: tuple[str, ...], form: str, overrides: tuple[str, ...]) -> Answer:
    """Say everything that is wrong with programs and libraries.

    A folder stands for all .seg files below it. Opens no data and trains nothing.
    """
    from segdsl.diagnostics.serialize import as_json

    paths = programs(files)
    findings: list[Diagnostic] = []
    sources: dict[str, str] = {}
    notes = [_check_one(path, overrides, findings, sources) for path in paths]
    findings = _distinct(findings)
    errors = [d for d in findings if d.severity == "error"]
    status = AT_FAULT if errors else DONE
    if form == "sarif":
        return Answer(_sarif(findings, sources), status=status, as_json=True)
    data = {
        "files": len(paths),
        "errors": [as_json(d, sources) for d in errors],
        "warnings": [as_json(d, sources) for d in findings if d.severity != "error"],
    }
    count = f"{len(paths)} file{'s' if len(paths) != 1 else ''} checked"
    result = f"{len(findings)} warning{'s' if len(findings) != 1 else ''}" if findings else "all good"
    text = "" if errors else "\n".join([*filter(None, notes), f"{count}: {result}"])
    return Answer(data, text, status, tuple(findings), sources, as_json=form == "json")


def _check_one(path: str, overrides: Sequence[str], findings: list[Diagnostic], sources: dict[str, str]) -> str:
    """Checks one file into ``findings`` and ``sources``; gives what there is to say of a good one."""
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
        return f"{path}: `data.classes` is left out, so it is checked with {len(program.classes)} classes"
    return ""


def _distinct(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Findings without those that a shared import brought up before."""
    return list({(d.slug, d.span, d.path, d.message): d for d in findings}.values())


def _sarif(findings: list[Diagnostic], sources: dict[str, str]) -> dict[str, Any]:
    from segdsl.diagnostics.serialize import sarif
    from segdsl.explain import explanations
    from segdsl.version import __version__

    return sarif(findings, sources, __version__, explanations())


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit with 1 if a file would change.")
@json_option
def fmt(files: tuple[str, ...], only_check: bool) -> Answer:
    """Lay out .seg files in the one format.

    A folder stands for all .seg files below it, - for stdin to stdout.
    """
    from segdsl.diagnostics.serialize import as_json
    from segdsl.syntax.printer.format import format_text

    if files == (STDIN,):
        text = _stdin()
        tidy = format_text(text, "<stdin>")
        same = tidy.encode() == text.encode()
        if only_check:
            status = DONE if same else AT_FAULT
            return Answer({"changed": [] if same else ["<stdin>"]}, "" if same else "would change <stdin>", status)
        streams.write_utf8()
        return Answer({"changed": [] if same else ["<stdin>"], "text": tidy}, tidy)
    changed: list[str] = []
    findings: list[Diagnostic] = []
    sources: dict[str, str] = {}
    for path in programs(files):
        try:
            if _format_one(Path(path), only_check):
                changed.append(path)
        except SegError as error:
            findings.extend(error.diagnostics)
            sources.update(error.sources)
    failure = {"errors": [as_json(d, sources) for d in findings]} if findings else {}
    status = AT_FAULT if findings or (only_check and changed) else DONE
    verb = "would change" if only_check else "changed"
    text = "\n".join(f"{verb} {path}" for path in changed)
    return Answer({"changed": changed, **failure}, text, status, tuple(findings), sources)


def _stdin() -> str:
    """The text on standard input. Raises SegError where there is none, or where it is not UTF-8."""
    if sys.stdin is None:
        raise fail("file-unreadable", "standard input is closed", "pipe a program in, or name a file", path="<stdin>")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"standard input is not UTF-8: byte {error.start} cannot be read"
        raise fail("file-unreadable", message, "save the file as UTF-8", path="<stdin>") from None


def _format_one(path: Path, only_check: bool) -> bool:
    """Whether the file is laid out otherwise than it should be; writes it, unless ``only_check``."""
    from segdsl.lang.elaborate.files import read_text
    from segdsl.syntax.printer.format import format_text

    text = read_text(path, str(path))
    tidy = format_text(text, str(path))
    same = path.read_bytes() == tidy.encode()
    if not same and not only_check:
        _replace(path, tidy)
    return not same


def _replace(path: Path, text: str) -> None:
    """Writes a file at once or not at all, through a link into what it points to, and keeps its permissions."""
    import shutil

    path = path.resolve()
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        shutil.copymode(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def programs(names: Sequence[str]) -> list[str]:
    """The files that the arguments name: folders give the `.seg` files below them, hidden folders left out.

    Raises SegError (`no-programs`) for a folder without any.
    """
    found: list[str] = []
    for name in names:
        if not name:
            raise fail("file-missing", "the name of a file is empty", "name a file or a folder, such as `.`")
        folder = Path(name)
        if not folder.is_dir():
            found.append(name)
            continue
        below = sorted(_below(folder))
        if not below:
            message = f"there is no `.seg` file in the folder {name}"
            raise fail("no-programs", message, "name a file, or another folder", path=name)
        found += map(str, below)
    return list(dict.fromkeys(found))


def _below(folder: Path) -> Iterator[Path]:
    """The `.seg` files below a folder, without hidden folders and those that cannot be listed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        yield from (Path(place, n) for n in names if n.endswith(".seg") and not n.startswith("."))


@click.command()
@click.argument("file")
@click.option("--lr", "rates", is_flag=True, help="Draw the learning rate over the run instead.")
@click.option("--steps-per-epoch", type=click.IntRange(min=1), metavar="N", help="With --lr: steps of an epoch.")
@click.option("--images", type=click.IntRange(min=1), metavar="N", help="With --lr: images to train on.")
@set_option
@json_option
def show(file: str, rates: bool, steps_per_epoch: int | None, images: int | None, overrides: tuple[str, ...]) -> Answer:
    """Print a .seg file in colour, or draw its rate.

    Of an exported .xml or .onnx, print what it knows of its origin. std/NAME.seg is a file of the library that ships
    with segdsl.
    """
    if steps_per_epoch is not None and images is not None:
        raise click.UsageError("--steps-per-epoch and --images say the same: give one of them.")
    if rates:
        from segdsl.cli.commands.learning_rate import shown_rates

        return shown_rates(file, overrides, steps_per_epoch, images)
    if overrides or steps_per_epoch is not None or images is not None:
        raise click.UsageError("--set, --steps-per-epoch and --images go with --lr: a file is printed as it is.")
    if Path(file).suffix.lower() in (".xml", ".onnx"):
        from segdsl.cli.certificate_view import shown_origin

        return shown_origin(file)
    from segdsl.editor.ansi import ansi
    from segdsl.lang.elaborate.files import STD, read_text

    path = Path(file)
    if file.startswith("std/") and not path.is_file():
        path = STD / file.removeprefix("std/")
        if not path.is_file() or not path.resolve().is_relative_to(STD):
            known = sorted(f"std/{p.name}" for p in STD.glob("*.seg"))
            raise fail("file-missing", f"there is no {file} in the library", suggest(file, known, "files"), path=file)
    text = read_text(path, file)
    return Answer({"file": file, "text": text}, ansi(text) if streams.wants_color(sys.stdout) else text)


@click.command()
@click.argument("slug", required=False, metavar="[SLUG|WORD|KEY]")
@json_option
def explain(slug: str | None) -> Answer:
    """Explain a diagnostic, a word or a key.

    SLUG is what stands in the brackets behind error or warning; without one, all are listed. WORD is one such as
    CrossEntropy, KEY a path such as train.clip.
    """
    from segdsl.cli.explain import documented, meant
    from segdsl.explain import explanations

    texts = explanations()
    if slug is None:
        return Answer({"slugs": list(texts)}, "\n".join(texts))
    wanted = slug.strip("[]`").lower()
    if wanted not in texts:
        found = documented(slug.strip("[]`()"))
        if found is not None:
            return Answer({"name": found[0], "text": found[1]}, f"{found[0]}\n\n{found[1]}")
        raise fail("unknown-slug", f"no diagnostic, word or key is called `{slug}`", meant(slug, texts))
    return Answer({"slug": wanted, "text": texts[wanted]}, f"{wanted}\n\n{texts[wanted]}")


COMMANDS = {"check": check, "fmt": fmt, "show": show, "explain": explain}
