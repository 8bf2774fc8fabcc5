"""Print help and version: `epactl help` and `epactl version`."""

from __future__ import annotations

from epad import __version__
from epad.epactl.call import EXIT_OK, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def version(call: Call) -> int:
    """`epactl version`."""
    call.terminal.show({"version": __version__}, [f"epactl {__version__}"])
    return EXIT_OK


def help_command(parser: Callable[[], argparse.ArgumentParser]) -> Callable[[Call], int]:
    """`epactl help [COMMAND]`."""

    def run(call: Call) -> int:
        try:
            parser().parse_args([*call.arguments.words, "--help"])
        except SystemExit as stop:
            return int(stop.code or EXIT_OK)
        return EXIT_OK

    return run
