"""Name the tools of foreign servers so that every client takes the name: `SERVER__tool`. Pure.

OpenAI and Anthropic take `[a-zA-Z0-9_-]`, 64 characters at most, so a dot is no part of a name. A tool's own name that
does not fit is written with what fits of it, and eight digits of its hash, which tell apart those that are cut alike.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from statemachine.tool_targets import TOOL_PREFIX

MOST_CHARACTERS: Final = 64
SEPARATOR: Final = "__"
_unfit: Final = re.compile(r"[^a-zA-Z0-9_-]")
_DIGITS: Final = 8


def listed_name(server: str, tool: str) -> str:
    """Return the name that a tool is listed by; it depends on the server and the tool alone."""
    plain = f"{server}{SEPARATOR}{tool}"
    if len(plain) <= MOST_CHARACTERS and not _unfit.search(tool) and not _looks_cut(tool):
        return plain
    digits = sha256(tool.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
    room = MOST_CHARACTERS - len(server) - len(SEPARATOR) - 1 - _DIGITS
    return f"{server}{SEPARATOR}{_unfit.sub('_', tool)[:room]}_{digits}"


def _looks_cut(tool: str) -> bool:
    """Tell if a tool's own name ends as a cut one does: it could be chosen to be another one's."""
    return re.search(rf"_[0-9a-f]{{{_DIGITS}}}$", tool) is not None


def held_name(target: str) -> str:
    """Return a target of holds by the name that it is kept by: a person may write `tool:SERVER.tool`."""
    server, dot, rest = target.removeprefix(TOOL_PREFIX).partition(".")
    if not dot or not target.startswith(TOOL_PREFIX):
        return target
    tool, at, subsystem = rest.partition("@")
    return f"{TOOL_PREFIX}{listed_name(server, tool)}{at}{subsystem}"


def with_dot(name: str) -> str:
    """Return the name by which people may call a tool, `SERVER.tool`; the name itself if it is no foreign tool's."""
    server, separator, tool = name.partition(SEPARATOR)
    return f"{server}.{tool}" if separator else name
