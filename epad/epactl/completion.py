"""Complete a command line of `epactl` at Tab: commands, options and their values, in bash, zsh and fish.

The three scripts are thin. At each Tab a shell runs `epactl __complete WORD...`, and the parser of `epactl` itself is
walked along the words, so a script cannot offer another command line than the one that is understood, and a script
that was installed once stays right after an upgrade. Rejected: scripts with every word written out, as it was before;
they cannot know the subsystems of a running daemon, and bash, zsh and fish each need their own copy of the rules.

Each line of the answer is a word, a tab and a few words about it; `:files` or `:directories` stands for those.
"""

from __future__ import annotations

import argparse

from epad.epactl import arguments
from epad.epactl.parser import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Protocol

    class Values(Protocol):
        """Finds the values of one kind that exist now, each with a few words about it."""

        def __call__(self, kind: str, given: Sequence[str]) -> Iterable[tuple[str, str]]: ...


FILES, DIRECTORIES = ":files", ":directories"
MOMENTS = (("10m", "10 minutes ago"), ("1h", ""), ("24h", ""), ("7d", "7 days ago"), ("30d", ""))

SUBSYSTEM, DATASTORE, CHECKPOINT, BUNDLE = "subsystem", "datastore", "checkpoint", "bundle"
SCOPE, LIMIT, KEY, THRESHOLD, SUBJECT, PART = "scope", "limit", "key", "threshold", "subject", "part"
COMMAND, HOLDABLE = "command", "holdable"

# The command's words and the argument's name, for those that are not told by their type. "" is any command.
KINDS = {
    ("", "name"): SUBSYSTEM,
    ("explain", "subject"): SUBJECT,
    ("trace", "subject"): SUBSYSTEM,
    ("quarantine", "name"): HOLDABLE,
    ("release", "name"): HOLDABLE,
    ("status", "name"): HOLDABLE,
    ("datastore accept", "name"): DATASTORE,
    ("budget show", "name"): SCOPE,
    ("budget set", "name"): SCOPE,
    ("budget set", "limits"): LIMIT,
    ("checkpoint verify", "id"): CHECKPOINT,
    ("checkpoint restore", "id"): CHECKPOINT,
    ("checkpoint restore", "only"): PART,
    ("lifeboat inspect", "source"): BUNDLE,
    ("lifeboat relaunch", "source"): BUNDLE,
    ("simulate", "settings"): THRESHOLD,
    ("config show", "prefix"): KEY,
    ("help", "words"): COMMAND,
}
BY_METAVAR = {"DIR": DIRECTORIES, "FILE": FILES, "PATH": FILES}
REPEATED = ("+", "*", "append")


class _Walk:
    """Follows the words of a command line to where the next one stands."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._root = parser
        self.path: tuple[str, ...] = ()
        self.pending: argparse.Action | None = None  # an option whose value comes next
        self.used: set[str] = set()
        self.given: list[str] = []
        self._enter(parser)

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.positionals = [action for action in _actions(parser) if not action.option_strings]

    def step(self, word: str) -> None:
        """Take one finished word."""
        if self.pending is not None:
            self.pending = None
            return
        name, equals, _ = word.partition("=")
        if (option := self.option(name)) is not None:
            self.used.update(() if _is_repeated(option) else option.option_strings)
            self.pending = option if option.nargs != 0 and not equals else None
        elif self.positionals:
            self._take(word)

    def _take(self, word: str) -> None:
        action = self.positionals[0]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no other name for it
            self._descend(action, word)
            return
        self.given.append(word)
        if not _is_repeated(action):
            self.positionals.pop(0)

    def _descend(self, action: argparse.Action, word: str) -> None:
        choices = commands_of(action)
        otherwise = self.parser.otherwise if isinstance(self.parser, Parser) else ""
        chosen = choices.get(word) or choices.get(otherwise)
        if chosen is None:
            self.positionals = []
            return
        name = word if word in choices else otherwise
        self.path = (*self.path, next(own for own, one in choices.items() if one is chosen))
        self._enter(chosen)
        if name != word:
            self.step(word)

    def option(self, name: str) -> argparse.Action | None:
        """Return the option of a name, none if there is none."""
        return next((action for action in _actions(self.parser) if name in action.option_strings), None)


def offers(
    parser: argparse.ArgumentParser, words: Sequence[str], values: Values
) -> Iterator[tuple[str, str]]:
    """Yield the words that may replace the last of `words`; the words before it are finished."""
    *finished, current = words or ("",)
    walk = _Walk(parser)
    for word in finished:
        walk.step(word)
    name, equals, _ = current.partition("=")
    if walk.pending is not None:
        found = _values_of(walk, walk.pending, values)
    elif equals and current.startswith("-") and (option := walk.option(name)) is not None:
        found = ((f"{name}={value}", about) for value, about in _values_of(walk, option, values))
    elif current.startswith("-"):
        found = _options(walk)
    else:
        found = _operands(parser, walk, values)
    yield from (offer for offer in found if offer[0].startswith((current, ":")))


def _options(walk: _Walk) -> Iterator[tuple[str, str]]:
    for action in _actions(walk.parser):
        for name in action.option_strings:
            if name not in walk.used:
                yield name, _about(action)


def _operands(root: argparse.ArgumentParser, walk: _Walk, values: Values) -> Iterator[tuple[str, str]]:
    for action in walk.positionals[:1]:
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from _commands(action)
            otherwise = commands_of(action).get(
                walk.parser.otherwise if isinstance(walk.parser, Parser) else ""
            )
            if otherwise is not None:
                below = _Walk(otherwise)
                below.path = (*walk.path, getattr(walk.parser, "otherwise", ""))
                yield from _operands(root, below, values)
        elif _kind(walk, action) == COMMAND:
            yield from offers(root, [*walk.given, ""], values)
        else:
            yield from _values_of(walk, action, values)


def _commands(action: argparse.Action) -> Iterator[tuple[str, str]]:
    """Yield each command under its own name and its aliases."""
    choices = commands_of(action)
    helps = {choices[one.dest]: one.help or "" for one in action._choices_actions}  # type: ignore[attr-defined]  # noqa: SLF001
    yield from ((name, helps.get(parser, "")) for name, parser in choices.items())


def _values_of(walk: _Walk, action: argparse.Action, values: Values) -> Iterator[tuple[str, str]]:
    """Yield the values that an option or an operand may have, as far as they can be listed."""
    kind = _kind(walk, action)
    if action.choices is not None:
        yield from ((str(choice), "") for choice in action.choices)
    elif action.type is arguments.phase:
        yield from ((phase, "") for phase in arguments.PHASES)
    elif action.type in {arguments.moment, arguments.event_or_moment}:
        yield from MOMENTS
    elif kind.startswith(":"):
        yield kind, ""
    elif kind:
        yield from values(kind, walk.given)
        if kind == BUNDLE:
            yield FILES, ""


def _kind(walk: _Walk, action: argparse.Action) -> str:
    path = " ".join(walk.path)
    return (
        KINDS.get((path, action.dest))
        or BY_METAVAR.get(str(action.metavar))
        or KINDS.get(("", action.dest), "")
    )


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse shows them no other way


def commands_of(action: argparse.Action) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers below one by each name they have, their own names first."""
    return action.choices if isinstance(action.choices, dict) else {}


def _is_repeated(action: argparse.Action) -> bool:
    return action.nargs in REPEATED or isinstance(action, argparse._AppendAction)  # noqa: SLF001


def _about(action: argparse.Action) -> str:
    return " ".join((action.help or "").split())


BASH = r"""# bash completion for epactl: eval "$(epactl completion bash)"
_epactl() {
  local line="${COMP_LINE:0:COMP_POINT}" word about breaks="" done=""
  local -a words
  read -ra words <<<"$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  local current="${words[${#words[@]}-1]}"
  # bash ends a word at = and :, and replaces only what follows the last of them.
  [[ "$COMP_WORDBREAKS" == *=* ]] && breaks+="="
  [[ "$COMP_WORDBREAKS" == *:* ]] && breaks+=":"
  [[ -n "$breaks" && "$current" == *["$breaks"]* ]] && done="${current%"${current##*["$breaks"]}"}"
  COMPREPLY=()
  while IFS=$'\t' read -r word about; do
    case "$word" in
      :files) _epactl_paths -f "${current#"$done"}" ;;
      :directories) _epactl_paths -d "${current#"$done"}" ;;
      *) [[ "$word" == *= ]] && compopt -o nospace 2>/dev/null; COMPREPLY+=("${word#"$done"}") ;;
    esac
  done < <("${words[0]/#\~/$HOME}" __complete "${words[@]:1}" 2>/dev/null)
}
_epactl_paths() {
  compopt -o filenames 2>/dev/null
  mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$1" -- "$2")
}
complete -F _epactl epactl
"""

ZSH = r"""#compdef epactl
# zsh completion for epactl: eval "$(epactl completion zsh)", or put it into a file _epactl of your $fpath
_epactl() {
  local word about
  local -a plain open
  while IFS=$'\t' read -r word about; do
    case "$word" in
      :files) _files ;;
      :directories) _files -/ ;;
      *=) open+=("$word") ;;
      *) plain+=("${word//:/\\:}:$about") ;;
    esac
  done < <("${words[1]/#\~/$HOME}" __complete "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)
  (( $#open )) && compadd -S '' -- "${open[@]}"
  (( $#plain )) && _describe epactl plain
}
if [[ "${funcstack[1]-}" == _epactl ]]; then
  _epactl "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -D; }
  compdef _epactl epactl
fi
"""

FISH = r"""# fish completion for epactl: epactl completion fish | source
function __epactl_offers
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    $program __complete $words[2..-1] "$current" 2>/dev/null | while read -l line
        switch $line
            case ':files*'
                __fish_complete_path "$current"
            case ':directories*'
                __fish_complete_directories "$current" ''
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c epactl -f -a '(__epactl_offers)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
