"""Provide the chat client's questions: ordinary ones, never the same one twice in a row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

VERBS: Final = (
    "sort",
    "parse",
    "compare",
    "format",
    "copy",
    "split",
    "round",
    "shuffle",
    "search",
    "compress",
)
THINGS: Final = (
    "a list of numbers",
    "two dates",
    "a configuration file",
    "a directory tree",
    "a log line",
    "a mailbox",
    "a decimal fraction",
    "a long string",
    "an argument list",
    "a priority queue",
)


def questions(seed: int) -> Iterator[str]:
    """Ask without end; the number makes each question its own."""
    rng = Random(seed)
    for number in count(1):
        yield f"Question {number}: how do I {rng.choice(VERBS)} {rng.choice(THINGS)} in Python?"
