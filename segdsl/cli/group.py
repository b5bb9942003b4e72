"""The group of all commands; the module of a command is imported when it is called or listed."""

from __future__ import annotations

from importlib import import_module

import click

from segdsl.version import __version__

_MODULES = {
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


class Commands(click.Group):
    """Commands in the order of the work, with a suggestion for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"segdsl.cli.commands.{_MODULES[cmd_name]}")
        return module.COMMANDS[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _MODULES and not name.startswith("-"):
            from segdsl.diagnostics import nearest

            near = nearest(name, _MODULES)
            hint = f" Did you mean '{near}'?" if near else ""
            if name.endswith(".seg"):
                hint = f" A program comes after one: 'segdsl check {name}', 'segdsl train {name}'."
            raise click.UsageError(f"There is no command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="segdsl")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a bug in segdsl.")
def commands() -> None:
    """Train, score and ship semantic segmentation models from one .seg file.

    A first run: segdsl demo-data demo, then segdsl train specs/quickstart.seg --data demo.
    """
