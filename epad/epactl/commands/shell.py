"""`epactl completion`, `epactl man`, and the answer to Tab: written from the parser, so they cannot differ from it."""

from __future__ import annotations

import argparse

from epad import __version__
from epad.epactl.call import EXIT_OK, Call
from epad.epactl.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")
Words = tuple[str, ...]


class Node:
    """Describes one command: the words that lead to it, its aliases, its options and its operands."""

    def __init__(
        self, words: Words, parser: argparse.ArgumentParser, about: str, aliases: Words = ()
    ) -> None:
        self.words, self.parser, self.about, self.aliases = words, parser, about, aliases
        self.options = [a for a in parser._actions if a.option_strings]  # noqa: SLF001 - argparse shows them no other way
        self.names = [n for a in self.options for n in a.option_strings]
        self.positionals = [
            a
            for a in parser._actions  # noqa: SLF001
            if not a.option_strings and not isinstance(a, argparse._SubParsersAction)  # noqa: SLF001
        ]


def nodes(
    parser: argparse.ArgumentParser, words: Words = (), about: str = "", aliases: Words = ()
) -> Iterator[Node]:
    """Yield a parser and all parsers below it, each before its own children."""
    yield Node(words, parser, about or parser.description or "", aliases)
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, about_it in helps.items():
                child = action.choices[name]
                others = tuple(n for n, c in action.choices.items() if c is child and n != name)
                yield from nodes(child, (*words, name), about_it, others)


def below(all_nodes: list[Node], node: Node) -> list[Node]:
    """Return the commands that may follow a command."""
    depth = len(node.words)
    return [n for n in all_nodes if len(n.words) == depth + 1 and n.words[:depth] == node.words]


def man(parser: argparse.ArgumentParser) -> str:
    """Return the manual page, in roff."""
    every = [node for node in nodes(parser) if node.words]
    root = next(iter(nodes(parser)))
    lines = [
        f'.TH EPACTL 1 "" "epad {__version__}" "User Commands"',
        ".SH NAME",
        "epactl \\- look at a running epad and give it orders",
        ".SH SYNOPSIS",
        ".B epactl",
        "[OPTION]... COMMAND [ARGUMENT]...",
        ".SH OPTIONS",
        *_man_options(root),
        ".SH COMMANDS",
    ]
    for node in every:
        if below(every, node):
            continue
        usage = " ".join([*node.words, *(_shown(action) for action in node.positionals)])
        lines += [f".SS {_roff(usage)}", _roff(node.about), *_man_options(node)]
    epilog = parser.epilog or ""
    lines += [".SH EXIT STATUS AND ENVIRONMENT", ".nf", *(_roff(line) for line in epilog.splitlines()), ".fi"]
    return "\n".join(lines) + "\n"


def _man_options(node: Node) -> Iterator[str]:
    for action in node.options:
        if action.dest in {"help", "socket", "output"} and node.words:
            continue  # they are the same everywhere, and stand above
        value = "" if action.nargs == 0 else f" {_shown(action)}"
        yield from (".TP", f".B {_roff(', '.join(action.option_strings) + value)}", _roff(action.help or ""))


def _shown(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


def completion(call: Call) -> int:
    """Print the completion script of a shell: `epactl completion SHELL`."""
    from epad.epactl.completion import SCRIPTS  # noqa: PLC0415 - only at Tab

    call.terminal.lines(SCRIPTS[call.arguments.shell].splitlines())
    return EXIT_OK


def complete(parser: argparse.ArgumentParser, words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Answer a shell at Tab: a line for each word that may stand in place of the last."""
    from epad.epactl.completion import offers  # noqa: PLC0415
    from epad.epactl.completion_values import LiveValues, place_of  # noqa: PLC0415

    terminal = Terminal(environment, "table")
    values = LiveValues(Call(place_of(words), environment, terminal))
    terminal.lines(f"{word}\t{about}" for word, about in offers(parser, words, values))
    return EXIT_OK


def man_command(parser: Callable[[], argparse.ArgumentParser]) -> Callable[[Call], int]:
    """`epactl man`."""

    def run(call: Call) -> int:
        call.terminal.lines(man(parser()).splitlines())
        return EXIT_OK

    return run
