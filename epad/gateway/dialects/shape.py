"""How much structure a body has, counted before a decoder makes an object of each piece of it.

A decoder holds the interpreter while it works: a body of 11 million empty objects stopped everybody for half a
minute, whichever thread read it. What is in strings does not count, since it stays the bytes that it is.
"""

from __future__ import annotations

from typing import NamedTuple

from epad.gateway.errors import RequestError

# A chat of 10,000 messages, each with calls of tools, has 60,000 objects and lists; 1,000 tools with schemas of
# 100 properties have 110,000 keys. Token ids are neither: a million of them may be in a prompt.
MAX_BRANCHES = 100_000
MAX_FIELDS = 200_000
MAX_VALUES = 1_000_000
# The entries of one list that is read entry by entry, and the keys of one object that is read key by key.
MAX_ENTRIES = 10_000
MAX_KEY_CHARACTERS = 1_024
# Whatever is in so few bytes is read in a few milliseconds.
_FEW_BYTES = 16 << 10
# What is read at once on the event loop: more takes longer than others should wait.
_QUICK_BYTES = 256 << 10
_QUICK_MARKS = 4_000
# A window's scan takes a millisecond, after which other threads go on.
_WINDOW_BYTES = 256 << 10
_NO_MARKS = bytes(set(range(256)) - set(b'{[:,"'))


class Shape(NamedTuple):
    """What there is outside of strings: objects and lists, keys, and values beside each other."""

    branches: int
    fields: int
    values: int


def is_quick(body: bytes) -> bool:
    """Say whether reading a body takes so little time that the event loop can do it between two other things."""
    if len(body) <= _FEW_BYTES:
        return True
    return len(body) <= _QUICK_BYTES and len(body.translate(None, _NO_MARKS)) <= _QUICK_MARKS


def refuse_shape(body: bytes, what: str) -> None:
    """Raise RequestError for a body with more structure than any honest one has; it names the bound."""
    if len(body) <= _FEW_BYTES:
        return
    shape = measure(body)
    for count, most, name in (
        (shape.branches, MAX_BRANCHES, "objects and lists"),
        (shape.fields, MAX_FIELDS, "keys"),
        (shape.values, MAX_VALUES, "values"),
    ):
        if count > most:
            raise RequestError(f"{what} has more than {most:,} {name}: send it in several requests")


def measure(body: bytes) -> Shape:
    """Count until the end, or until there is too much. Of what is no JSON, the counts say nothing."""
    branches = fields = values = at = 0
    inside = False
    while at < len(body) and branches <= MAX_BRANCHES and fields <= MAX_FIELDS and values <= MAX_VALUES:
        window = body[at : at + _WINDOW_BYTES]
        at += len(window)
        if b"\\" in window:
            escapes = len(window) - len(window.rstrip(b"\\"))
            if escapes % 2 and at < len(body):  # what the last one stands before is in the next window
                window, at = window[:-1], at - 1
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = window.translate(None, _NO_MARKS).split(b'"')
        outside = b"".join(parts[1 if inside else 0 :: 2])
        inside = inside is (len(parts) % 2 == 1)
        branches += outside.count(b"{") + outside.count(b"[")
        fields += outside.count(b":")
        values += outside.count(b",")
    return Shape(branches, fields, values)


def refuse_entries(count: int, name: str, kind: str = "entries") -> None:
    """Raise RequestError for a list or an object with more than are looked at one by one."""
    if count > MAX_ENTRIES:
        raise RequestError(
            f"{name}: {count:,} {kind}, of which at most {MAX_ENTRIES:,} are read in one request"
        )
