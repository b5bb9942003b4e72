"""What to do about a command line that is wrong: the option or the `--set` that is meant, and what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from segdsl.lang.suggest.misplaced import Home

SHOWN = 3
"""So many files of a kind are named as examples."""


class Wrong(NamedTuple):
    """What is wrong with a command line, and what to write instead."""

    message: str
    help: str


def explained(error: click.UsageError, args: Sequence[str]) -> Wrong:
    """What to say of a command line with these arguments."""
    name = error.ctx.command_path if error.ctx else "segdsl"
    message, said = error.format_message(), ""
    if error.ctx is not None and isinstance(error, click.NoSuchOption):
        said = _option(error.ctx.command, error.option_name, _value_of(error.option_name, args))
        message = f"There is no option '{error.option_name}'." if said else message
    elif error.ctx is not None and isinstance(error, click.MissingParameter):
        said = _needed(error.ctx.command, name)
    elif error.ctx is not None:
        said = _settings(error.ctx.command, _surplus(error))
    more = f"`{name} --help` lists what it takes"
    return Wrong(message, f"{said}; {more}" if said else more)


def _value_of(option: str, args: Sequence[str]) -> str:
    """What was given with an option: `--lr 1e-3`, `--lr=1e-3`; "" for none."""
    for arg, after in zip(args, [*args[1:], ""], strict=True):
        if arg == option:
            return "" if after.startswith("--") else after
        if arg.startswith(f"{option}="):
            return arg.partition("=")[2]
    return ""


def _option(command: click.Command, option: str, value: str) -> str:
    """The option, or the `--set`, that an unknown one is meant to be."""
    from segdsl.diagnostics import called
    from segdsl.diagnostics.foreign import folded
    from segdsl.lang.suggest.misplaced import NO_KEYS

    known = {text.lstrip("-"): text for param in command.params for text in param.opts if text.startswith("--")}
    same = called(option.lstrip("-").replace("-", "_"), known)
    if same:
        return f"write `{known[same]}`"
    name = option.lstrip("-")
    counted = value.isdecimal() and called(name, ["classes"])
    sentence = NO_KEYS.get("numclasses" if counted else folded(name), "")
    if sentence:
        return sentence
    found = _set_of(command, name, value)
    return _change([found]) if found else _elsewhere(command, name, value)


def _elsewhere(command: click.Command, name: str, value: str) -> str:
    """What to write in the program for an option that is no key of it, such as `--fliplr 0.5`."""
    from segdsl.diagnostics import Span
    from segdsl.lang.suggest.misplaced import Unplaced, remedy
    from segdsl.lang.suggest.remedies import is_number
    from segdsl.syntax.tree import Constant

    if not value or all(param.name != "overrides" for param in command.params) or command.name in ("eval", "export"):
        return ""
    constant = Constant(float(value) if is_number(value) else value, Span("", 0, 0))
    found = remedy(Unplaced(name.replace("-", "_"), (), 0, constant, value), ())
    return found.help if found is not None else ""


def _change(found: Sequence[str]) -> str:
    """The `--set` for each of these overrides, and what those take that have no value."""
    from segdsl.lang.settings.overrides import taken_at

    shown = " ".join(f"--set {shlex.quote(text)}" for text in found)
    open = [text.partition("=")[0] for text in found if text.endswith("=…")]
    return "; ".join([f"change the program: `{shown}`", *(f"`{path}` is {taken_at(path.split('.'))}" for path in open)])


def _settings(command: click.Command, texts: Sequence[str]) -> str:
    """The `--set` for arguments such as `epochs=100`."""
    found = [made for text in texts if "=" in text if (made := _set_of(command, *text.split("=", 1)))]
    return _change(found) if found else ""


def _surplus(error: click.UsageError) -> list[str]:
    """The arguments that a command does not take, as click names them."""
    named = re.search(r"unexpected extra arguments? \((.*)\)", error.message)
    return named[1].split() if named else []


def _set_of(command: click.Command, name: str, value: str) -> str:
    """The text of a `--set` that changes what is called ``name``, where the command takes one that reaches it."""
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.lang.settings.overrides import as_override

    if all(param.name != "overrides" for param in command.params):
        return ""
    known = [home for home in _homes(name) if home.by_path and _reaches(command, ".".join(home.path))]
    if not known:
        return ""
    return as_override(known[0].path, value)


def _homes(name: str) -> Sequence[Home]:
    """The places in a program that a name, or a path, may mean."""
    from segdsl.lang.suggest.misplaced import homes

    path = tuple(name.replace("-", "_").split("."))
    return [home for home in homes(path[-1], ()) if home.path[-len(path) :] == path or len(path) == 1]


def _reaches(command: click.Command, path: str) -> bool:
    """Whether the `--set` of a command may change a path of a program."""
    from segdsl import verbs

    allowed = {"eval": verbs.EVAL_SETTINGS, "export": verbs.EXPORT_SETTINGS}.get(command.name or "")
    return allowed is None or any(path == open or path.startswith(f"{open}.") for open in allowed)


def _needed(command: click.Command, name: str) -> str:
    """How a command is called at the least, and what lies here that it could be called with."""
    needed = [param for param in command.params if param.required]
    words = [_shown(param) for param in needed]
    here = [str(path) for path in _examples(words)]
    offered = f"; found here: {', '.join(f'`{path}`' for path in here)}" if here else ""
    return f"write `{' '.join([name, *words])}`{offered}"


def _shown(param: click.Parameter) -> str:
    metavar = (param.metavar or (param.name or "").upper()).split("|")[0]
    return f"{param.opts[0]} {metavar}" if isinstance(param, click.Option) else metavar


def _examples(words: Sequence[str]) -> Iterator[Path]:
    """Programs and runs of the working directory, for the first thing that a command needs."""
    first = words[0] if words else ""
    found: list[Path] = []
    if first.startswith("FILE"):
        found += sorted(Path().glob("*.seg")) or sorted(Path().glob("*/*.seg"))
    if "RUN" in first:
        found += sorted(folder.parent for folder in Path().glob("runs/*/program.seg"))
    yield from found[:SHOWN]
