"""Find the line of each key of a TOML document, which tomllib does not give and an error message needs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str, ...]

# The tokens that decide where a statement ends; anything else is skipped a character at a time. Strings
# come first, so that what looks like a bracket or a comment inside one is not taken for it.
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?!")|\'\'\'.*?\'\'\'(?!\')|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]|\n''',
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map each table and key of a valid TOML document to the line its statement begins on, from 1."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.startswith("["):
            table = _header_path(parsed)
            lines.setdefault(table, number)
        else:
            for path in _paths(parsed):
                lines.setdefault((*table, *path), number)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of a key, else of the nearest table around it; 0 when nothing of it is in the document."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


def key_text(path: KeyPath) -> str:
    """Return a key as one would write it in the file."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Cut a document into its headers and assignments, each with its first line's number."""
    depth, start = 0, 0
    line, counted = 1, 0
    for token in _TOKEN.finditer(text + "\n"):
        mark = token.group()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth == 0:
            statement = text[start : token.start()]
            blank = len(statement) - len(statement.lstrip())
            line += text.count("\n", counted, start + blank)
            counted = start + blank
            start = token.end()
            if statement.strip() and not statement.lstrip().startswith("#"):
                yield line, statement.strip()


def _header_path(parsed: dict[str, Any]) -> KeyPath:
    path: list[str] = []
    node: Any = parsed
    while isinstance(node, dict) and node:
        key, node = next(iter(node.items()))
        path.append(key)
    return tuple(path)


def _paths(parsed: dict[str, Any]) -> Iterator[KeyPath]:
    for key, value in parsed.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _paths(value))
