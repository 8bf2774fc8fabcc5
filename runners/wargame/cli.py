"""The command line: `wargame`, or `python -m runners.wargame`."""

from __future__ import annotations

import argparse
import sys

from runners.wargame.commands import again, council, doctor, look, run, scenarios, training
from runners.wargame.commands.exits import STOPPED, Exit
from runners.wargame.configuration import ConfigurationError
from runners.wargame.locking import StoreError
from runners.wargame.scenario.grammar import GrammarError
from runners.wargame.store import SettingsMismatchError

COMMANDS = (run, look, doctor, again, training, council, scenarios)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do it."""
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except SettingsMismatchError as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.OTHER_SETTINGS
    except ConfigurationError as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.USAGE
    except (StoreError, GrammarError) as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.FAILED
    except KeyboardInterrupt:
        print(f"\nwargame: {STOPPED}", file=sys.stderr)
        return Exit.INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    top = argparse.ArgumentParser(
        prog="wargame",
        description="Multi-turn scenarios against five defender roles.",
        epilog="exit status: 0 fine, 1 failed, 2 usage, 4 the store has other settings, 5 not reportable, 6 paused, "
        "130 interrupted: the same command goes on",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for room in COMMANDS:
        room.add(commands)
    return top
