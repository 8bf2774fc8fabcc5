"""Count a body's structure before a decoder makes an object of each piece of it.

A decoder holds the interpreter while it works: a body of 11 million empty objects stopped everybody for half a minute,
in any thread. Text in strings does not count, since it stays bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from epad.gateway.errors import RequestError

# A chat of 10,000 messages, each with a call of a tool, has 40,000 objects and lists and 80,000 keys; 1,000 tools of
# 20 described properties have 65,000 keys. Token ids are neither: a million of them may be in a prompt.
MAX_BRANCHES = 100_000
MAX_FIELDS = 100_000
MAX_VALUES = 1_000_000
MAX_STRINGS = 400_000
# In any object; one of 32 MiB of escapes is read for 60 ms at a stretch.
MAX_KEY_BYTES = 64 << 10
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
_NO_MARKS = bytes(set(range(256)) - set(b"{[:,"))
_WHITE = b" \t\n\r"


class Shape(NamedTuple):
    """Counts objects and lists, keys, values beside each other, strings, and tells if a key is far too long."""

    branches: int
    fields: int
    values: int
    strings: int
    long_key: bool = False

    @property
    def excess(self) -> str:
        """Name the excessive count; empty if there is none."""
        for count, most, name in (
            (self.branches, MAX_BRANCHES, "objects and lists"),
            (self.fields, MAX_FIELDS, "keys"),
            (self.values, MAX_VALUES, "values"),
            (self.strings, MAX_STRINGS, "strings"),
        ):
            if count > most:
                return f"more than {most:,} {name}"
        return f"a key of more than {MAX_KEY_BYTES:,} bytes" if self.long_key else ""


def is_quick(body: bytes) -> bool:
    """Say whether reading a body takes so little time that the event loop can do it between two other things."""
    if len(body) <= _FEW_BYTES:
        return True
    return len(body) <= _QUICK_BYTES and len(body.translate(None, _NO_MARKS)) <= _QUICK_MARKS


def refuse_shape(body: bytes, what: str) -> None:
    """Raise RequestError for a body with more structure than any honest one has; it names the bound."""
    if len(body) <= _FEW_BYTES:
        return
    excess = measure(body).excess
    if excess:
        raise RequestError(f"{what} has {excess}: send it in several requests")


def measure(body: bytes) -> Shape:
    """Count until the end, or until there is too much. For anything but JSON, the counts mean nothing."""
    scan, at = _Scan(), 0
    while at < len(body) and not scan.shape.excess:
        window = body[at : at + _WINDOW_BYTES]
        at += len(window)
        if b"\\" in window:
            escapes = len(window) - len(window.rstrip(b"\\"))
            if escapes % 2 and at < len(body):  # what the last one stands before is in the next window
                window, at = window[:-1], at - 1
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        scan.take(window.split(b'"'))
    return scan.shape


class _Scan:
    """Holds the place of a scan: within a string or not, and if that is, or was just now, a long one."""

    def __init__(self) -> None:
        self.shape = Shape(0, 0, 0, 0)
        self._inside = False
        self._long = False

    def take(self, parts: list[bytes]) -> None:
        """Take a window, parted at its quotes."""
        first = 0 if self._inside else 1
        long_key = self._find_long_key(parts, first)
        outside = b"".join(parts[1 - first :: 2]).translate(None, _NO_MARKS)
        branches, fields, values, strings, _ = self.shape
        self.shape = Shape(
            branches + outside.count(b"{") + outside.count(b"["),
            fields + outside.count(b":"),
            values + outside.count(b","),
            strings + len(parts[first::2]) - (1 - first),
            long_key,
        )
        self._inside = self._inside is (len(parts) % 2 == 1)

    def _find_long_key(self, parts: list[bytes], first: int) -> bool:
        """Say whether a long string ends here that a colon follows; both may have begun in the window before."""
        if not self._long and max(map(len, parts[first::2]), default=0) <= MAX_KEY_BYTES:
            return False
        before, self._long = self._long, False
        if first and before:  # one ended where the window before did
            rest = parts[0].lstrip(_WHITE)
            if rest.startswith(b":"):
                return True
            self._long = not rest and len(parts) == 1
        for place in range(first, len(parts), 2):
            if len(parts[place]) <= MAX_KEY_BYTES and not (before and place == 0):
                continue
            if place + 1 == len(parts):
                self._long = True
                break
            rest = parts[place + 1].lstrip(_WHITE)
            if rest.startswith(b":"):
                return True
            self._long = not rest and place + 2 == len(parts)
        return False


def refuse_entries(count: int, name: str, kind: str = "entries") -> None:
    """Raise RequestError for a list or an object with more than are looked at one by one."""
    if count > MAX_ENTRIES:
        raise RequestError(
            f"{name}: {count:,} {kind}, of which at most {MAX_ENTRIES:,} are read in one request"
        )
