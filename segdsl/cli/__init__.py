"""The command line: one sub-command for each verb. `main` is what the script `segdsl` calls.

Commands return an :class:`Answer` and print nothing; `segdsl.cli.invoke` prints it and settles the exit status.
"""

from segdsl.cli.invoke import main

__all__ = ["main"]
