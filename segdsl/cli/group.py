"""The group of all commands, which imports the module of a command on its first use."""

from __future__ import annotations

from importlib import import_module

import click

from segdsl.diagnostics.aliases import register_aliases
from segdsl.version import __version__

# Names are listed here by hand: importing the modules to learn them would load torch for `segdsl --help`.
_COMMAND_MODULES = {
    "new": "new",
    "check": "source",
    "fmt": "source",
    "show": "source",
    "explain": "source",
    "compile": "model",
    "train": "model",
    "report": "model",
    "eval": "eval",
    "export": "model",
    "rebuild": "model",
    "predict": "model",
    "bench": "model",
    "data": "data",
    "weights": "weights",
    "demo-data": "data",
}
register_aliases("predict", "infer inference detect segment")
register_aliases("check", "lint verify")
register_aliases("fmt", "format")
register_aliases("new", "init create setup")
register_aliases("show", "cat print view")
register_aliases("compile", "info summary build")
register_aliases("bench", "benchmark profile speed")
register_aliases("explain", "doc docs help")


class LazyGroup(click.Group):
    """A lazy group that lists commands in workflow order and suggests corrections for misspelled ones."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMAND_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMAND_MODULES:
            return None
        module = import_module(f"segdsl.cli.commands.{_COMMAND_MODULES[cmd_name]}")
        return module.COMMANDS[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMAND_MODULES and not name.startswith("-"):
            from segdsl.diagnostics import find_closest_name

            near = find_closest_name(name, _COMMAND_MODULES)
            hint = f" Did you mean '{near}'?" if near else ""
            # `segdsl my.seg` is a common first attempt: it deserves better than the nearest command name.
            if name.endswith(".seg"):
                hint = f" Put a command before the program: 'segdsl check {name}' or 'segdsl train {name}'."
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="segdsl")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of internal errors.")
def root_group() -> None:
    """Train, evaluate and export semantic segmentation models from one .seg file.

    To get started: segdsl demo-data demo, then segdsl train specs/quickstart.seg --data demo.
    """
