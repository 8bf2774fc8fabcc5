"""Cut a document into passages that a search finds: Markdown by headings, JSON by values, STIX by objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runners.vault import stix
from runners.vault.errors import VaultError

MOST_CHARACTERS: Final = 1200
"""A longer passage is cut into several of the same section."""
MOST_DEPTH: Final = 64
_HEADING: Final = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_MARKDOWN: Final = (".md", ".markdown")
_JSON: Final = (".json", ".stix")
SUFFIXES: Final = (*_MARKDOWN, *_JSON, ".txt", ".log", ".csv", ".yaml", ".yml", ".toml")
"""The ends of the names that documents may have."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: the section that it is cited by, the words that it is about, and its text."""

    section: str
    title: str
    text: str


def passages_of(path: str, data: bytes) -> list[Passage]:
    """Return a document's passages in their order. Raises VaultError for bytes that are no such document."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise VaultError(
            f"{path} is no text in UTF-8: byte {error.start} is {data[error.start]:#04x}",
            "documents are Markdown, JSON, STIX 2.1 or plain text",
        ) from error
    if path.endswith(_JSON):
        return list(_cut(_of_json(path, text)))
    return list(_cut(_of_markdown(text) if path.endswith(_MARKDOWN) else [Passage("", "", text)]))


def _of_markdown(text: str) -> Iterator[Passage]:
    """Yield a passage for each heading, cited by the headings above it."""
    above, lines, fence = list[tuple[int, str]](), list[str](), ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark is not None and fence in {"", mark[1]}:
            fence = "" if fence else mark[1]
        heading = None if fence or mark else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        yield from _section(above, lines)
        level, lines = len(heading[1]), []
        above = [one for one in above if one[0] < level] + [(level, heading[2])]
    yield from _section(above, lines)


def _section(above: list[tuple[int, str]], lines: list[str]) -> Iterator[Passage]:
    section, text = " > ".join(words for _, words in above), "\n".join(lines).strip()
    if section or text:
        yield Passage(section, section, text)


def _of_json(path: str, text: str) -> Iterator[Passage]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise VaultError(f"{path} is no JSON: {error}", "mend it, or give it another ending") from error
    if stix.is_bundle(value):
        try:
            found = list(stix.objects_of(value))
        except stix.StixError as error:
            raise VaultError(f"{path}: {error}", "it has to be a STIX 2.1 bundle") from error
        for section, title, words in found:
            yield Passage(section, title, words)
        return
    for pointer, part in _parts(value):
        yield Passage(pointer, pointer.replace("/", " ").strip(), "\n".join(_leaves(part, "", 0)))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what stands right below the root, by its JSON pointer."""
    match value:
        case dict():
            yield from ((f"/{_escaped(key)}", each) for key, each in value.items())
        case list():
            yield from ((f"/{number}", each) for number, each in enumerate(value))
        case _:
            yield "", value


def _leaves(value: Any, pointer: str, depth: int) -> Iterator[str]:
    match value:
        case dict() | list() if depth >= MOST_DEPTH:
            yield f"{pointer}: (deeper than {MOST_DEPTH})"
        case dict():
            for key, each in value.items():
                yield from _leaves(each, f"{pointer}/{_escaped(key)}", depth + 1)
        case list():
            for number, each in enumerate(value):
                yield from _leaves(each, f"{pointer}/{number}", depth + 1)
        case _:
            yield f"{pointer}: {value}" if pointer else str(value)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _cut(passages: Iterator[Passage] | list[Passage]) -> Iterator[Passage]:
    """Yield passages of at most MOST_CHARACTERS, cut where a line ends if there is one."""
    for passage in passages:
        text, start = passage.text, 0
        while True:
            end = _end(text, start)
            yield Passage(passage.section, passage.title, text[start:end].strip("\n"))
            if end >= len(text):
                break
            start = end


def _end(text: str, start: int) -> int:
    end = start + MOST_CHARACTERS
    if end >= len(text):
        return len(text)
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, start + MOST_CHARACTERS // 2, end)
        if found > start:
            return found + len(mark)
    return end
