"""From arguments to an exit status: runs a command, prints its answer, and turns whatever goes wrong into one."""

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
from segdsl.cli.group import commands
from segdsl.cli.result import AT_FAULT, DONE, INTERRUPTED, OUR_BUG, WRONG_USAGE, Answer
from segdsl.diagnostics import Diagnostic, Interrupted, SegError
from segdsl.diagnostics.out_of_memory import shortage

SYSTEM_REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG
}  # fmt: skip
"""What an operating system refuses for reasons that lie with the user's machine and not with us."""
PIPE_CLOSED = 141
"""What a shell reports for a program that ended because nobody read on."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    # Start-up makes objects that stay: looking through them for garbage is a twentieth of the time of `segdsl check`.
    gc.set_threshold(100_000, 50, 100)
    status = run(sys.argv[1:] if args is None else list(args))
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # while Python tidies up, it would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "numpy" not in sys.modules and streams.flushed():
        # The front half leaves nothing to be put in order, and taking its modules apart is an eighth of that time.
        os._exit(status)
    sys.exit(status)


def run(args: list[str]) -> int:
    """Runs one command and gives the exit status (see :mod:`segdsl.cli.result`)."""
    if "_SEGDSL_COMPLETE" in os.environ:
        commands.main(args, prog_name="segdsl")
    # Looking for pydantic's plugins reads the metadata of every installed package, and segdsl uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    debug = "--debug" in args or os.environ.get("SEGDSL_DEBUG", "") not in ("", "0")
    streams.prepare(debug)
    as_json = wants_json(args)
    answer = None
    try:
        with streams.reserved_stdout(as_json) as stdout:
            answer = _guarded(args, debug)
            if answer is None:
                return DONE
            streams.print_findings(answer.findings, answer.sources)
            print(_printed(answer, as_json), end="", file=stdout, flush=True)
        return answer.status
    except BrokenPipeError:
        streams.abandon_stdout()
        return PIPE_CLOSED
    except OSError as error:  # the answer could not be printed, as on a full disk or a terminal that was closed
        streams.abandon_stdout()
        with contextlib.suppress(OSError):
            streams.print_findings([_refusal(error)], {})
        return AT_FAULT if answer is None else answer.status or AT_FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:  # not even for saying so
        os.write(2, b"error[out-of-memory]: the memory is full\n")
        return AT_FAULT


def wants_json(args: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON, in whatever state the rest of them is."""
    before = list(args[: args.index("--")] if "--" in args else args)
    joined = {f"{a}={b}" for a, b in pairwise(before)}
    return "--json" in before or bool({*before, *joined} & {"--format=json", "--format=sarif"})


def _printed(answer: Answer, as_json: bool) -> str:
    if as_json or answer.as_json:
        import json

        return json.dumps(answer.data, default=str) + "\n"
    return answer.text if not answer.text or answer.text.endswith("\n") else answer.text + "\n"


def _guarded(args: list[str], debug: bool) -> Answer | None:
    """The answer of a command, or the one that says what went wrong; None when click has said all (`--help`)."""
    try:
        with commands.make_context("segdsl", args) as context:
            return commands.invoke(context)
    except click.exceptions.Exit:
        return None
    except click.UsageError as error:
        return wrong_usage(error, args)
    except SegError as error:
        return at_fault(error)
    except (KeyboardInterrupt, click.Abort) as error:
        return interrupted(error)
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in SYSTEM_REFUSALS:
            return at_fault(SegError([_refusal(error)]))
        lacking = shortage(error)
        if not lacking:
            return our_bug(error, args, debug)
    # Out of the block, all that the error held is given back: what follows needs some of it.
    help = "end other programs, raise the limits (`ulimit -a`), or do less at once: smaller batches, fewer `workers`"
    return at_fault(SegError([Diagnostic("out-of-memory", lacking, help)]))


def interrupted(error: BaseException) -> Answer:
    """The answer to a signal: a shell's status for it, and how to go on where that is known."""
    with contextlib.suppress(OSError):  # its terminal may be what has gone
        print("\ninterrupted", file=sys.stderr)
    status, help = INTERRUPTED, "start it again"
    if isinstance(error, Interrupted):
        status, help = 128 + error.number, error.help
    return Answer(_failure([Diagnostic("interrupted", "stopped by hand", help)], {}), "", status)


def at_fault(error: SegError) -> Answer:
    """The answer for faulty input."""
    return Answer(_failure(error.diagnostics, error.sources), "", AT_FAULT, error.diagnostics, error.sources)


def wrong_usage(error: click.UsageError, args: Sequence[str]) -> Answer:
    """The answer for wrong options or arguments."""
    from segdsl.cli.usage import explained

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return Answer(_failure([], {}), "", WRONG_USAGE)
    message, help = explained(error, args)
    print(f"error[wrong-usage]: {message}\n  = help: {help}", file=sys.stderr)
    return Answer(_failure([Diagnostic("wrong-usage", message, help)], {}), "", WRONG_USAGE)


def our_bug(error: Exception, args: list[str], debug: bool) -> Answer:
    """The answer for a crash of ours: says that it is one, and where its traceback is."""
    import traceback

    text = "".join(traceback.format_exception(error))
    if debug:
        print(text, file=sys.stderr)
    report = None if debug else streams.write_report(args, text)
    where = f"; the details are in {report}" if report else ""
    finding = Diagnostic(
        "internal-error",
        "this is a bug in segdsl, not in your input",
        f"please report it to the project that you have segdsl from, with the program that you ran{where}"
        + ("" if debug else "\n`segdsl --debug …` shows the traceback"),
    )
    return Answer(_failure([finding], {}), "", OUR_BUG, (finding,))


def _refusal(error: OSError) -> Diagnostic:
    reason = (error.strerror or "not allowed").lower()
    place = f" for `{error.filename}`" if error.filename else ""
    return Diagnostic("system-refused", f"the system said no{place}: {reason}", "make room or change the permissions")


def _failure(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> Mapping[str, object]:
    from segdsl.diagnostics.serialize import as_json

    found: dict[str, list[object]] = {"errors": [], "warnings": []}
    for d in diagnostics:
        found["errors" if d.severity == "error" else "warnings"].append(as_json(d, sources))
    return found
