"""`epactl`, the operator's hand. Standard library only, and little of it: it starts in two blinks.

A command imports more only where it cannot do without (those of `ledger`).
"""

from __future__ import annotations

import os
import sys

from epad import EpadError
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
        import contextlib  # noqa: PLC0415 - it would take a millisecond of every command

        # The reader has gone; without this, the interpreter complains once more when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _run(call: Call) -> int:
    command: Callable[[Call], int] = call.arguments.run
    try:
        return command(call)
    except BrokenPipeError:
        raise
    except (OSError, EpadError) as error:
        call.terminal.progress("")
        if _is_forbidden(error):
            call.terminal.say(f"{_words(error)}; {AS_WHOM}")
            return EXIT_REFUSED
        call.terminal.say(_words(error))
        return exit_status(error)


def _is_forbidden(error: Exception) -> bool:
    """Tell whether this user may not read a file; what the daemon refuses has its own words."""
    return not isinstance(error, ClientError) and isinstance(error.__cause__ or error, PermissionError)


def _words(error: Exception) -> str:
    """Format an error as the path and the fault."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def exit_status(error: Exception) -> int:
    """Return the exit status for a kind of failure; of a file, unknown."""
    match error:
        case UsageError():
            return EXIT_USAGE
        case NotRunningError():
            return EXIT_NOT_RUNNING
        case RefusedError():
            return EXIT_REFUSED
        case UnknownNameError() | UnreachableError():
            return EXIT_UNKNOWN
        case ClientError():
            return EXIT_FAILED
        case _:
            return EXIT_UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
