"""The command line: one sub-command for each verb. `main` is what the script `segdsl` calls.

Commands return an :class:`Answer` and print nothing; `segdsl.cli.run` prints it and settles the exit status.
"""

from segdsl.cli.run import main

__all__ = ["main"]
