"""The command line: one subcommand per verb. `main` is the entry point of the script `segdsl`.

Commands return a :class:`CommandResult` and print nothing; `segdsl.cli.invoke` prints it and sets the exit status.
"""

from segdsl.cli.invoke import main

__all__ = ["main"]
