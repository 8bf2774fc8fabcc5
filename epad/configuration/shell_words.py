"""Find values that only a shell would expand, or characters that cannot be seen: taken literally, each is wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec

from epad.configuration.complaint import Complaint
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.toml_lines import KeyPath

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_OF_A_SHELL = re.compile(r"\$(HOME|PATH|USER|PWD|\{(HOME|PATH|USER|PWD)\})")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env"})
# They join letters into one picture, or choose how a letter is drawn: people type them without knowing.
_HARMLESS = frozenset("\u200d\ufe0e\ufe0f")


def shell_check(config: Config) -> Iterator[Complaint]:
    """Yield every value that is taken literally and was meant otherwise."""
    yield from _unseen((), msgspec.to_builtins(config))
    for name, spec in config.subsystems.items():
        yield from _of_subsystem(("subsystems", name), spec)
    for name, upstream in config.upstreams.items():
        for key in ("tokenizer", "api_key_file"):
            if why := _expanded(getattr(upstream, key)):
                yield Complaint(("upstreams", name, key), why)


def _of_subsystem(path: KeyPath, spec: SubsystemConfig) -> Iterator[Complaint]:
    if why := _expanded(spec.working_directory):
        yield Complaint((*path, "working_directory"), why)
    by_shell = bool(spec.command) and spec.command[0].rpartition("/")[2] in _SHELLS
    for word in spec.command:
        if word.startswith("~/") or (not by_shell and _VARIABLE.match(word)):
            yield Complaint((*path, "command"), _expanded(word))
            break
    for variable, value in spec.environment.items():
        if value.startswith("~/") or _OF_A_SHELL.search(value):
            yield Complaint((*path, "environment", variable), _expanded(value))
    for key in ("files", "directories", "databases"):
        for file in getattr(spec.state, key):
            if why := _expanded(file):
                yield Complaint((*path, "state", key), why)


def _expanded(text: str) -> str:
    """Name the part that a shell would have expanded; empty if there is none."""
    found = _VARIABLE.search(text)
    if not text.startswith("~") and found is None:
        return ""
    what = "~" if text.startswith("~") or found is None else found[0]
    return f"holds {what}, which is taken as it stands: no shell reads it; write out what it stands for"


def _unseen(path: KeyPath, value: Any) -> Iterator[Complaint]:
    """Find letters that nobody sees, in every text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unseen((*path, key), inner)
    elif isinstance(value, list | tuple):
        found = [complaint for inner in value for complaint in _unseen(path, inner)]
        yield from found[:1]
    elif isinstance(value, str) and (letter := next(filter(_is_unseen, value), "")):
        name = unicodedata.name(letter, "a control character")
        yield Complaint(path, f"holds U+{ord(letter):04X} ({name}), which cannot be seen; take it out")


def _is_unseen(letter: str) -> bool:
    if letter in _HARMLESS or letter in "\n\t\r":
        return False
    return unicodedata.category(letter) in {"Cf", "Cc"} or (letter.isspace() and letter != " ")
