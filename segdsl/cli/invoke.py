"""The top level of the command line: run a command, print its result, and turn every failure into an exit status."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NoReturn

import click

from segdsl.cli import streams
from segdsl.cli.group import root_group
from segdsl.cli.result import EXIT_BUG, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, CommandResult
from segdsl.diagnostics import Diagnostic, SegError, SignalInterrupt
from segdsl.diagnostics.out_of_memory import describe_shortage

SYSTEM_REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG
}  # fmt: skip
"""Error numbers that the user's machine causes (full disk, permissions), as opposed to a bug in segdsl."""
EXIT_PIPE_CLOSED = 141
"""The status that shells report for a process ended by SIGPIPE."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    # Objects made at start-up stay alive; collecting them in vain takes 5% of the time of `segdsl check`.
    gc.set_threshold(100_000, 50, 100)
    status = run_cli(sys.argv[1:] if args is None else list(args))
    # Ctrl-C during the shutdown of the interpreter would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "numpy" not in sys.modules and streams.flush_streams():
        # Commands without numpy hold no resources that need a shutdown, which takes 12% of the time of `segdsl check`.
        os._exit(status)
    sys.exit(status)


def run_cli(args: list[str]) -> int:
    """Run one command and return its exit status (see :mod:`segdsl.cli.result`)."""
    if "_SEGDSL_COMPLETE" in os.environ:
        root_group.main(args, prog_name="segdsl")
    # pydantic searches the metadata of every installed package for plugins; segdsl uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    debug = "--debug" in args or os.environ.get("SEGDSL_DEBUG", "") not in ("", "0")
    streams.prepare_streams(debug)
    as_json = wants_json(args)
    answer = None
    try:
        with streams.reserve_stdout(as_json) as stdout:
            answer = _invoke_safely(args, debug)
            if answer is None:
                return EXIT_OK
            streams.print_findings(answer.findings, answer.sources)
            print(_format_output(answer, as_json), end="", file=stdout, flush=True)
        return answer.status
    except BrokenPipeError:
        streams.abandon_stdout()
        return EXIT_PIPE_CLOSED
    except OSError as error:
        # The result could not be printed: the disk is full or the terminal is closed.
        streams.abandon_stdout()
        with contextlib.suppress(OSError):
            streams.print_findings([_diagnose_refusal(error)], {})
        return EXIT_ERROR if answer is None else answer.status or EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except MemoryError:
        # Raised while reporting an error: rendering a diagnostic needs memory, writing constant bytes does not.
        os.write(2, b"error[out-of-memory]: out of memory\n")
        return EXIT_ERROR


def wants_json(args: Sequence[str]) -> bool:
    """Return whether the arguments ask for JSON, even if the other arguments are invalid."""
    # Usage errors are reported as JSON too, so this cannot wait for click to parse the arguments.
    before = list(args[: args.index("--")] if "--" in args else args)
    joined = {f"{a}={b}" for a, b in pairwise(before)}
    return "--json" in before or bool({*before, *joined} & {"--format=json", "--format=sarif"})


def _format_output(answer: CommandResult, as_json: bool) -> str:
    if as_json or answer.is_json_only:
        import json

        return json.dumps(answer.data, default=str) + "\n"
    return answer.text if not answer.text or answer.text.endswith("\n") else answer.text + "\n"


def _invoke_safely(args: list[str], debug: bool) -> CommandResult | None:
    """Run a command; return its result, a result that reports its failure, or None if click printed all (`--help`)."""
    try:
        with root_group.make_context("segdsl", args) as context:
            return root_group.invoke(context)
    except click.exceptions.Exit:
        return None
    except click.UsageError as error:
        return report_wrong_usage(error, args)
    except SegError as error:
        return report_errors(error)
    except (KeyboardInterrupt, click.Abort) as error:
        return report_interrupt(error)
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in SYSTEM_REFUSALS:
            return report_errors(SegError([_diagnose_refusal(error)]))
        message = describe_shortage(error)
        if not message:
            return report_bug(error, args, debug)
    # Built outside the `except` block, where the error no longer keeps its frames and their memory alive.
    help = "close other programs, raise the limits (`ulimit -a`), or use smaller batches or fewer `workers`"
    return report_errors(SegError([Diagnostic("out-of-memory", message, help)]))


def report_interrupt(error: BaseException) -> CommandResult:
    """Return the result for a signal: its shell status, and how to continue if known."""
    # After SIGHUP there is no terminal left to print to.
    with contextlib.suppress(OSError):
        print("\ninterrupted", file=sys.stderr)
    status, help = EXIT_INTERRUPTED, "run the command again"
    if isinstance(error, SignalInterrupt):
        status, help = 128 + error.signal_number, error.help
    return CommandResult(
        _failure_to_dict([Diagnostic("interrupted", "the command was interrupted", help)], {}), "", status
    )


def report_errors(error: SegError) -> CommandResult:
    """Return the result for invalid input."""
    return CommandResult(
        _failure_to_dict(error.diagnostics, error.sources), "", EXIT_ERROR, error.diagnostics, error.sources
    )


def report_wrong_usage(error: click.UsageError, args: Sequence[str]) -> CommandResult:
    """Print a usage error and return its result."""
    from segdsl.cli.usage import explain_usage_error

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return CommandResult(_failure_to_dict([], {}), "", EXIT_USAGE)
    message, help = explain_usage_error(error, args)
    print(f"error[wrong-usage]: {message}\n  = help: {help}", file=sys.stderr)
    return CommandResult(_failure_to_dict([Diagnostic("wrong-usage", message, help)], {}), "", EXIT_USAGE)


def report_bug(error: Exception, args: list[str], debug: bool) -> CommandResult:
    """Return the result for a crash of segdsl, and write its traceback to a file (or print it with `--debug`)."""
    import traceback

    text = "".join(traceback.format_exception(error))
    if debug:
        print(text, file=sys.stderr)
    report = None if debug else streams.write_bug_report(args, text)
    details = f" and the file {report}" if report else ""
    finding = Diagnostic(
        "internal-error",
        "this is a bug in segdsl, not in your input",
        f"please report it to the maintainers of segdsl, with the program that you ran{details}"
        + ("" if debug else "\nrun `segdsl --debug …` to see the traceback"),
    )
    return CommandResult(_failure_to_dict([finding], {}), "", EXIT_BUG, (finding,))


def _diagnose_refusal(error: OSError) -> Diagnostic:
    reason = (error.strerror or "not allowed").lower()
    subject = f"`{error.filename}`" if error.filename else "the operation"
    message = f"the operating system refused {subject}: {reason}"
    return Diagnostic("system-refused", message, "free disk space or fix the permissions")


def _failure_to_dict(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> Mapping[str, object]:
    from segdsl.diagnostics.serialize import serialize_diagnostic

    found: dict[str, list[object]] = {"errors": [], "warnings": []}
    for d in diagnostics:
        found["errors" if d.severity == "error" else "warnings"].append(serialize_diagnostic(d, sources))
    return found
