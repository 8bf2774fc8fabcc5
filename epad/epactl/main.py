"""`epactl`, the operator's hand. Standard library only, and little of it: it starts in two blinks.

A command imports more only where it cannot do without (those of `ledger`).
"""

from __future__ import annotations

import contextlib
import os
import sys

from epad.api.client import ClientError, NotRunningError, RefusedError, UnknownNameError, UnreachableError
from epad.epactl.call import (
    AS_WHOM,
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_RUNNING,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    Call,
    UsageError,
)
from epad.epactl.command_line import make_parser
from epad.epactl.commands import shell
from epad.epactl.terminal import Terminal

COMPLETE = "__complete"  # what the scripts of `epactl completion` ask with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == [COMPLETE]:
        return shell.complete(make_parser(), words[1:], os.environ)
    try:
        arguments = make_parser().parse_args(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    terminal = Terminal(os.environ, arguments.output)
    try:
        return _run(Call(arguments, os.environ, terminal))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; without this, the interpreter complains once more when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _run(call: Call) -> int:
    command: Callable[[Call], int] = call.arguments.run
    try:
        return command(call)
    except UsageError as error:
        call.terminal.say(str(error))
        return EXIT_USAGE
    except ClientError as error:
        call.terminal.say(f"{error}; {error.fix}" if error.fix else str(error))
        return exit_status(error)
    except BrokenPipeError:
        raise
    except _of_files() as error:
        call.terminal.progress("")
        if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
            call.terminal.say(f"{_words(error)}; {AS_WHOM}")
            return EXIT_REFUSED
        call.terminal.say(_words(error))
        return EXIT_UNKNOWN


def _of_files() -> tuple[type[Exception], ...]:
    """What any file may raise that a command reads; imported only once something was raised."""
    from epad.copying.errors import CheckpointError  # noqa: PLC0415

    return OSError, CheckpointError


def _words(error: Exception) -> str:
    """The place and what is wrong with it."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def exit_status(error: ClientError) -> int:
    """The exit status that says what kind of failure it was."""
    match error:
        case NotRunningError():
            return EXIT_NOT_RUNNING
        case RefusedError():
            return EXIT_REFUSED
        case UnknownNameError() | UnreachableError():
            return EXIT_UNKNOWN
        case _:
            return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
