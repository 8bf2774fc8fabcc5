"""Collect an assistant's text as it comes: the text for observers, and a digest of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_DIGEST_BYTES = 16
_begin_digest = hashlib.sha256().copy  # to make one anew takes twice as long
# What has come is hashed so many characters at a time: chunk by chunk took longer than reading the JSON did.
_HASHED_CHARACTERS = 4096
_BEGIN_DATA = ("{", "[", "<", "|", "```")


class Reply:
    """Takes in an answer piece by piece; the digest is the same however it was cut into pieces."""

    def __init__(self) -> None:
        self._text = _begin_digest()
        self._calls: hashlib._Hash | None = None  # most answers call nothing
        self._pieces: list[str] = []
        self._unhashed: list[str] = []
        self._unhashed_characters = 0
        self._taken_bytes = 0
        self._said = False
        self.is_data = False
        """Whether what is said begins as JSON, a table, markup or a block of code does."""
        self._called = False
        self._space = False

    def say(self, text: str | None) -> None:
        """Take in text of the answer; how much white space is between two words makes no difference."""
        if not text:
            return
        self._pieces.append(text)
        self._unhashed.append(text)
        self._unhashed_characters += len(text)
        if self._unhashed_characters >= _HASHED_CHARACTERS:
            self._hash()

    def say_all(self, texts: Iterable[str | None]) -> None:
        """Take in several pieces of text, one after the other."""
        said = [text for text in texts if text]
        self._pieces += said
        self._unhashed += said
        self._unhashed_characters += sum(map(len, said))
        if self._unhashed_characters >= _HASHED_CHARACTERS:
            self._hash()

    def _hash(self) -> None:
        if not self._unhashed:
            return
        text = "".join(self._unhashed)
        self._unhashed.clear()
        self._unhashed_characters = 0
        words = text.split()
        if not words:
            self._space = True
            return
        if not self._said:
            self.is_data = words[0].startswith(_BEGIN_DATA)
        elif self._space or text[0].isspace():
            self._text.update(b" ")
        self._text.update(" ".join(words).encode())
        self._said, self._space = True, text[-1].isspace()

    def think(self, text: str | None) -> None:
        """Take in text that is no part of the answer, though it may loop as well."""
        if text:
            self._pieces.append(text)

    def weigh(self, size: int) -> None:
        """Count unreadable bytes, so that they bound the tokens."""
        self._taken_bytes += size

    def call(self, name: str | None = None, arguments: str | bytes = "") -> None:
        """Take in a call of a tool, or a piece of its arguments. Its id is a new one every time: left out."""
        if name:
            self._called = True
            self._taken_bytes += len(name.encode())
            self._hash_call(b"\0" + name.encode() + b"\0")
        if arguments:
            self._hash_call(arguments.encode() if isinstance(arguments, str) else arguments)
            if isinstance(arguments, str):
                self._pieces.append(arguments)
            else:
                self._taken_bytes += len(arguments)

    def _hash_call(self, said: bytes) -> None:
        if self._calls is None:
            self._calls = hashlib.sha256()
        self._calls.update(said)

    def take(self) -> list[str]:
        """Return the pieces that came since the last time."""
        if not self._pieces:
            return []
        pieces, self._pieces = self._pieces, []
        self._taken_bytes += _size(pieces)
        return pieces

    @property
    def size(self) -> int:
        """Return how many bytes came: of the answer, of thoughts and calls."""
        return self._taken_bytes + _size(self._pieces)

    def digest(self) -> bytes:
        """Return the identity of the answer; empty if there was none."""
        self._hash()
        if not (self._said or self._called):
            return b""
        if self._calls is None:
            return self._text.digest()[:_DIGEST_BYTES]
        return hashlib.sha256(self._text.digest() + self._calls.digest()).digest()[:_DIGEST_BYTES]


def _size(pieces: list[str]) -> int:
    return len("".join(pieces).encode())
