"""Define an embedded model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

OWNER: Final = "epad-embedded (not an LLM)"
"""Goes wherever a server says who made a model, so that no reader can take a result for a language model's."""


@dataclass(frozen=True, slots=True)
class Message:
    """Holds one message of a conversation."""

    role: str
    content: str


class Engine(Protocol):
    """A small model: the same messages and seed give the same text."""

    @property
    def name(self) -> str: ...

    def reply(self, messages: Sequence[Message], seed: int) -> str: ...


def prompt_text(messages: Sequence[Message]) -> str:
    """Return the text an embedded model reads, which is also counted as its prompt."""
    return "".join(f"{message.role}: {message.content}\n" for message in messages)


def random_for(messages: Sequence[Message], seed: int) -> Random:
    """Randomness that is a function of the prompt and the seed alone."""
    digest = hashlib.sha256(f"{seed}\n{prompt_text(messages)}".encode(errors="surrogatepass")).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def last_user_text(messages: Sequence[Message]) -> str:
    """Return the last message of a user; empty if no user spoke."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")
