"""Help for usage errors: the option or `--set` that was probably meant, and missing arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from segdsl.lang.suggest.misplaced import SettingSlot

MAX_EXAMPLES = 3
"""How many files are suggested as examples."""


class UsageProblem(NamedTuple):
    """A usage error: the message, and what to write instead."""

    message: str
    help: str


def explain_usage_error(error: click.UsageError, args: Sequence[str]) -> UsageProblem:
    """Explain the usage error that the arguments ``args`` caused."""
    name = error.ctx.command_path if error.ctx else "segdsl"
    message, advice = error.format_message(), ""
    if error.ctx is not None and isinstance(error, click.NoSuchOption):
        advice = _suggest_option(error.ctx.command, error.option_name, _find_option_value(error.option_name, args))
        # click's own suggestion of a similar option is dropped if there is a better one.
        message = f"No such option '{error.option_name}'." if advice else message
    elif error.ctx is not None and isinstance(error, click.MissingParameter):
        advice = _describe_required(error.ctx.command, name)
    elif error.ctx is not None:
        advice = _suggest_settings(error.ctx.command, _find_extra_arguments(error))
    more = f"run `{name} --help` to list arguments and options"
    return UsageProblem(message, f"{advice}; {more}" if advice else more)


def _find_option_value(option: str, args: Sequence[str]) -> str:
    """Return the value passed to an option, as in `--lr 1e-3` or `--lr=1e-3`; "" if it has none."""
    for arg, after in zip(args, [*args[1:], ""], strict=True):
        if arg == option:
            return "" if after.startswith("--") else after
        if arg.startswith(f"{option}="):
            return arg.partition("=")[2]
    return ""


def _suggest_option(command: click.Command, option: str, value: str) -> str:
    """Suggest the option or the `--set` that an unknown option stands for; "" if there is none."""
    from segdsl.diagnostics import match_name
    from segdsl.diagnostics.aliases import fold_name
    from segdsl.lang.suggest.foreign_settings import EARLY_STOPPING, FOREIGN_SETTINGS

    options = {text.lstrip("-"): text for param in command.params for text in param.opts if text.startswith("--")}
    same = match_name(option.lstrip("-").replace("-", "_"), options)
    if same:
        return f"write `{options[same]}`"
    name = option.lstrip("-")
    # `--classes 3` gives a number where the program has a list of names; advise as for `--num-classes 3`.
    is_class_count = value.isdecimal() and match_name(name, ["classes"])
    sentence = FOREIGN_SETTINGS.get("numclasses" if is_class_count else fold_name(name), "")
    if sentence and not (fold_name(name) == EARLY_STOPPING and value.isdecimal()):
        return sentence
    found = _build_override(command, name, value)
    return _format_set_help([found]) if found else _suggest_program_change(command, name, value)


def _suggest_program_change(command: click.Command, name: str, value: str) -> str:
    """Suggest a change of the program for an option of other tools that is not a key, such as `--fliplr 0.5`."""
    from segdsl.diagnostics import Span
    from segdsl.lang.suggest.misplaced import UnknownSetting, find_remedy
    from segdsl.lang.suggest.remedies import is_number_literal
    from segdsl.syntax.tree import Constant

    # A finished run has its program fixed: `eval` and `export` could not use the advice.
    if not value or all(param.name != "overrides" for param in command.params) or command.name in ("eval", "export"):
        return ""
    constant = Constant(float(value) if is_number_literal(value) else value, Span("", 0, 0))
    found = find_remedy(UnknownSetting(name.replace("-", "_"), (), 0, constant, value), ())
    return found.help if found is not None else ""


def _format_set_help(overrides: Sequence[str]) -> str:
    """Format overrides as `--set` options, and describe the values that are missing."""
    from segdsl.lang.settings.overrides import describe_path_type

    options = " ".join(f"--set {shlex.quote(text)}" for text in overrides)
    # An override that ends in "…" has no usable value: the command line gave none, or one of another type.
    open_paths = [text.partition("=")[0] for text in overrides if text.endswith("=…")]
    types = (f"`{path}` is {describe_path_type(path.split('.'))}" for path in open_paths)
    return "; ".join([f"override the setting: `{options}`", *types])


def _suggest_settings(command: click.Command, texts: Sequence[str]) -> str:
    """Suggest `--set` for arguments such as `epochs=100`; "" if none is a setting."""
    found = [override for text in texts if "=" in text if (override := _build_override(command, *text.split("=", 1)))]
    return _format_set_help(found) if found else ""


def _find_extra_arguments(error: click.UsageError) -> list[str]:
    """Return the surplus arguments of a command, which click only gives inside its message."""
    match = re.search(r"unexpected extra arguments? \((.*)\)", error.message)
    return match[1].split() if match else []


def _build_override(command: click.Command, name: str, value: str) -> str:
    """Return the override that sets ``name``, or "" if the command cannot change such a setting."""
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.lang.settings.overrides import format_override

    if all(param.name != "overrides" for param in command.params):
        return ""
    slots = [
        slot for slot in _find_setting_slots(name) if slot.can_set_by_path and _can_set(command, ".".join(slot.path))
    ]
    if not slots:
        return ""
    return format_override(slots[0].path, value)


def _find_setting_slots(name: str) -> Sequence[SettingSlot]:
    """Return the settings of a program that a name or path may mean."""
    from segdsl.lang.suggest.misplaced import find_slots

    path = tuple(name.replace("-", "_").split("."))
    return [home for home in find_slots(path[-1], ()) if home.path[-len(path) :] == path or len(path) == 1]


def _can_set(command: click.Command, path: str) -> bool:
    """Return whether `--set` of this command may change a path of the program."""
    from segdsl import verbs

    # Everything else was fixed when the model was trained.
    limits = {"eval": verbs.EVAL_SETTINGS, "predict": verbs.PREDICT_SETTINGS, "export": verbs.EXPORT_SETTINGS}
    allowed = limits.get(command.name or "")
    return allowed is None or any(path == prefix or path.startswith(f"{prefix}.") for prefix in allowed)


def _describe_required(command: click.Command, name: str) -> str:
    """Show the shortest valid call of a command, with matching files of the working directory."""
    words = [_format_parameter(param) for param in command.params if param.required]
    files = ", ".join(f"`{path}`" for path in _find_examples(words))
    return f"write `{' '.join([name, *words])}`" + (f" (found in this folder: {files})" if files else "")


def _format_parameter(param: click.Parameter) -> str:
    metavar = (param.metavar or (param.name or "").upper()).split("|")[0]
    return f"{param.opts[0]} {metavar}" if isinstance(param, click.Option) else metavar


def _find_examples(words: Sequence[str]) -> Iterator[Path]:
    """Yield programs and runs of the working directory that fit the first required argument."""
    first = words[0] if words else ""
    found: list[Path] = []
    if first.startswith("FILE"):
        found += sorted(Path().glob("*.seg")) or sorted(Path().glob("*/*.seg"))
    if "RUN" in first:
        found += sorted(folder.parent for folder in Path().glob("runs/*/program.seg"))
    yield from found[:MAX_EXAMPLES]
