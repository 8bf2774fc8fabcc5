"""The parser that every command of `epactl` is read by, and how a command is added to it."""

from __future__ import annotations

import argparse
import os
from functools import cache

from epad.epactl import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from epad.epactl.call import Call
    from epad.operations.registry import Operation

# People's fingers know these from other programs; the help shows each command once, under its own name.
ALIASES = {"status": ("ps", "ls", "list"), "explain": ("describe",), "logs": ("log",), "list": ("ls",)}

# argparse asks for a translation of the same few words for each parser: 650 looks for files that are not there, a third
# of what it takes to make the command line.
argparse._ = cache(argparse._)  # type: ignore[attr-defined]


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Formats help as wide as the terminal. Does not use shutil, whose import takes 8 ms of every command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    chosen = os.environ.get("COLUMNS", "")
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Parser(argparse.ArgumentParser):
    """Names the nearest command where one is mistyped.

    With `otherwise` set, a word that is no command of this parser is an argument of that one.
    """

    otherwise = ""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if self.otherwise and _is_command(action) and arg_strings[0] not in _choices(action):
            arg_strings = [self.otherwise, *arg_strings]
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if _is_command(action) and value not in _choices(action):
            from epad.formatting.nearest import guess  # noqa: PLC0415

            meant = guess(value, _choices(action)) or f"`{self.prog} --help` lists them"
            self.error(f"there is no command {value!r}; {meant}")
        super()._check_value(action, value)


def _is_command(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - argparse has no other name for it


def _choices(action: argparse.Action) -> Iterable[str]:
    return action.choices or ()


class Commands:
    """The commands of one level; each takes the common options too."""

    def __init__(
        self,
        commands: argparse._SubParsersAction[Parser],
        common: Parser,
    ) -> None:
        self._commands = commands
        self._common = common
        self._groups: dict[str, Commands] = {}
        self.operations: set[Operation] = set()
        """Those that have a command."""

    def add(self, name: str, run: Callable[[Call], int], words: str) -> Parser:
        """Return a command that does something."""
        parser = self._commands.add_parser(
            name,
            aliases=ALIASES.get(name, ()),
            parents=[self._common],
            help=words,
            description=words,
            formatter_class=Formatter,
        )
        self._commands._choices_actions[-1].metavar = name  # noqa: SLF001 - else the help lists its aliases
        parser.set_defaults(run=run)
        return parser

    def ask(self, operation: Operation, run: Callable[[Call], int]) -> Parser:
        """Return a command that asks the daemon for something, with the words of its operation."""
        self.operations.add(operation)
        return self.add(operation.command.split()[-1], run, operation.words)

    def order(
        self,
        operation: Operation,
        run: Callable[[Call], int],
        name: str = "",
        words: str = "",
        reason: str = "",
    ) -> Parser:
        """Add a command that changes something. It takes a reason, unless one is given here."""
        self.operations.add(operation)
        parser = self.add(name or operation.command.split()[-1], run, words or operation.words)
        add_order_options(parser, reason_required=not reason, reason=reason)
        add_name(parser, operation)
        return parser

    def group(self, name: str, words: str) -> Commands:
        """Return a command that is only the first word of others."""
        if name not in self._groups:
            parser = self._commands.add_parser(name, help=words, formatter_class=Formatter)
            self.below(name, parser, required=True)
        return self._groups[name]

    def below(self, name: str, parser: Parser, *, required: bool = False) -> Commands:
        """Return the commands that may (or must) follow another."""
        commands = parser.add_subparsers(required=required, metavar="COMMAND")
        self._groups[name] = Commands(commands, self._common)
        return self._groups[name]


def add_name(parser: argparse.ArgumentParser, operation: Operation) -> None:
    """Add the name of an operation's subject, if it has a named one."""
    if operation.about:
        parser.add_argument("name", metavar="NAME", type=arguments.name, help=f"the {operation.about}")


def add_order_options(
    parser: argparse.ArgumentParser,
    *,
    reason_required: bool = False,
    reason: str = "",
    words: str = "why; it is recorded",
) -> None:
    """Add the three options that every order has; `reason` is taken where none is given."""
    parser.add_argument(
        "--reason",
        metavar="TEXT",
        type=arguments.reason,
        required=reason_required,
        default=reason or None,
        help=words,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, where a dangerous order would")
