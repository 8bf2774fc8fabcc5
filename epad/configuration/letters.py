"""Recognise text that editors, chats and other programs leave in a file and that is no TOML, and say so."""

from __future__ import annotations

import re
import unicodedata

_LOOK_ALIKES = {
    "\u201c": 'a typographic quote; TOML knows " alone',
    "\u201d": 'a typographic quote; TOML knows " alone',
    "\u201e": 'a typographic quote; TOML knows " alone',
    "\u2018": "a typographic apostrophe; TOML knows ' alone",
    "\u2019": "a typographic apostrophe; TOML knows ' alone",
    "\u00a0": "a space that does not break, which TOML takes for a letter; write a plain one",
    "\u200b": "a space without width; take it out",
    "\ufeff": "a byte order mark in the middle; two files were put together, take it out",
    "\u2013": "a dash; TOML knows - alone",
    "\u2212": "a minus sign of typography; TOML knows - alone",
}
"""What word processors and chats put in the place of what was typed."""

_MERGE = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*")


def not_toml(text: str) -> str:
    """Say which other format the file as a whole is; empty if its fault is in one line."""
    if "\0" in text:
        return "it holds NUL bytes, as UTF-16 does; save it as UTF-8"
    if "\r" in text and "\n" not in text:
        return "its lines end with CR alone; save it with LF"
    if _MERGE.search(text):
        return "it holds the marks of a merge (<<<<<<<, =======, >>>>>>>) that was not finished"
    if text.lstrip().startswith("{"):
        return "it is JSON; `[subsystems.NAME]` begins a table here, and `key = value` fills it"
    return ""


def look_alike(text: str, line: int) -> str:
    """Name the part of the faulty line that only looks like TOML, to follow the fault itself; empty if none does."""
    there = text.split("\n")[line - 1] if 0 < line <= text.count("\n") + 1 else ""
    for letter, what in _LOOK_ALIKES.items():
        if letter in there:
            return f": {letter!r} is {what}"
    for letter in _QUOTED.sub("", there):
        if not letter.isascii():
            name = unicodedata.name(letter, "nameless")
            return f": {letter!r} (U+{ord(letter):04X}, {name}) may stand in quotes alone"
    return ""
