"""Completions and man pages, written from the parser itself: they cannot say anything else than it does."""

from __future__ import annotations

import argparse

from epad import __version__
from epad.epactl.call import EXIT_OK, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHELLS = ("bash", "zsh", "fish")
HELP = ("help",)
Words = tuple[str, ...]


class Node:
    """One command: the words that lead to it, other words for the last of them, its options, and what may follow."""

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
    """A parser and all below it, each before what is below it."""
    yield Node(words, parser, about or parser.description or "", aliases)
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, about_it in helps.items():
                child = action.choices[name]
                others = tuple(n for n, c in action.choices.items() if c is child and n != name)
                yield from nodes(child, (*words, name), about_it, others)


def below(all_nodes: list[Node], node: Node) -> list[Node]:
    """The commands that may follow a command."""
    depth = len(node.words)
    return [n for n in all_nodes if len(n.words) == depth + 1 and n.words[:depth] == node.words]


def completion(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of a shell."""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return write(list(nodes(parser)))


def _last_words(node: Node) -> Words:
    """A command's own name, and its aliases; aliases of groups there are none."""
    return (*node.words[-1:], *node.aliases)


def _following(all_nodes: list[Node], node: Node) -> list[str]:
    """The commands that may stand behind one; behind `help`, those that it explains."""
    above = all_nodes[0] if node.words == HELP else node
    return [word for child in below(all_nodes, above) for word in _last_words(child)]


def _cases(all_nodes: list[Node]) -> Iterator[tuple[str, str]]:
    for node in all_nodes:
        paths = [" ".join((*node.words[:-1], word)) for word in _last_words(node)] or [""]
        yield "|".join(f'"{path}"' for path in paths), " ".join([*_following(all_nodes, node), *node.names])


def _bash(all_nodes: list[Node]) -> str:
    cases = "\n".join(f'    {paths}) offered="{offered}" ;;' for paths, offered in _cases(all_nodes))
    return f"""# bash completion for epactl: eval "$(epactl completion bash)"
_epactl() {{
  local word path="" offered="" next
  local current="${{COMP_WORDS[COMP_CWORD]}}"
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    next="${{path:+$path }}$word"
    _epactl_offered "$next" && path="$next"
  done
  _epactl_offered "$path"
  COMPREPLY=($(compgen -W "$offered" -- "$current"))
}}
_epactl_offered() {{
  case "$1" in
{cases}
    *) return 1 ;;
  esac
}}
complete -F _epactl epactl
"""


def _zsh(all_nodes: list[Node]) -> str:
    # Its own emulation of bash's completion is part of zsh, and says the same in one place.
    head = """#compdef epactl
# zsh completion for epactl: eval "$(epactl completion zsh)"
autoload -U +X bashcompinit && bashcompinit
"""
    return head + _bash(all_nodes).split("\n", 1)[1]


def _fish(all_nodes: list[Node]) -> str:
    lines = ["# fish completion for epactl: epactl completion fish | source", "complete -c epactl -f"]
    for node in all_nodes:
        condition = _fish_condition(all_nodes, node)
        lines += [
            f"complete -c epactl{condition} -a {word} -d {_fish_quoted(child.about)}"
            for child in below(all_nodes, node)
            for word in _last_words(child)
        ]
        if node.words == HELP:
            lines.append(f"complete -c epactl{condition} -a '{' '.join(_following(all_nodes, node))}'")
        for action in node.options:
            names = "".join(
                f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
                for name in action.option_strings
            )
            takes = " -r" if action.nargs != 0 else ""
            lines.append(f"complete -c epactl{condition}{names}{takes} -d {_fish_quoted(action.help or '')}")
    return "\n".join(lines) + "\n"


def _fish_condition(all_nodes: list[Node], node: Node) -> str:
    """When what belongs to a command is offered: its words were typed, and none of those that follow it.

    A word that other commands have below them (`list`) means this one only where those were not typed.
    """
    seen = [f"__fish_seen_subcommand_from {word}" for word in node.words[:-1]]
    seen += [f"__fish_seen_subcommand_from {' '.join(last)}"] if (last := _last_words(node)) else []
    not_seen = [] if node.words == HELP else _following(all_nodes, node)
    if len(node.words) == 1:
        inner = [n for n in all_nodes if len(n.words) > 1 and set(_last_words(n)) & set(last)]
        not_seen += sorted({n.words[0] for n in inner})
    unless = [f"not __fish_seen_subcommand_from {' '.join(not_seen)}"] if not_seen else []
    when = "; and ".join([*seen, *unless])
    return f" -n '{when}'" if when else ""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def man(parser: argparse.ArgumentParser) -> str:
    """The manual page, in roff."""
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


def completion_command(parser: Callable[[], argparse.ArgumentParser]) -> Callable[[Call], int]:
    """`epactl completion SHELL`."""

    def run(call: Call) -> int:
        call.terminal.lines(completion(call.arguments.shell, parser()).splitlines())
        return EXIT_OK

    return run


def man_command(parser: Callable[[], argparse.ArgumentParser]) -> Callable[[Call], int]:
    """`epactl man`."""

    def run(call: Call) -> int:
        call.terminal.lines(man(parser()).splitlines())
        return EXIT_OK

    return run
