"""`embedded-markov-chat`: word triples of the standard library's docstrings, and a walk through them."""

from __future__ import annotations

import ast
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from runners.model.engine import Message, last_user_text, random_for

# The modules richest in prose for their length: about 30,000 words of docstrings, read in 0.2 s.
SOURCES: Final = (
    "configparser.py", "contextlib.py", "difflib.py", "doctest.py", "fractions.py", "ftplib.py", "heapq.py",
    "logging/__init__.py", "random.py", "shutil.py", "smtplib.py", "statistics.py", "textwrap.py", "threading.py",
)  # fmt: skip
LONGEST_REPLY_WORDS: Final = 60

Pair = tuple[str, str]


class MarkovChat:
    """Answers with a random walk that starts, where it can, at a word of the question."""

    name = "embedded-markov-chat"

    def __init__(self, texts: Iterable[str]) -> None:
        self._next: dict[Pair, list[str]] = defaultdict(list)
        self._starts: dict[str, list[Pair]] = defaultdict(list)
        self._openings: list[Pair] = []
        for text in texts:
            self._learn(text.split())
        if not self._openings:
            self._learn(["There", "is", "nothing", "to", "say."])

    def _learn(self, words: list[str]) -> None:
        if len(words) < 3:
            return
        self._openings.append((words[0], words[1]))
        for first, second, third in zip(words, words[1:], words[2:], strict=False):
            self._next[first, second].append(third)
            self._starts[first.lower()].append((first, second))

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        rng = random_for(messages, seed)
        asked = [word.strip("?.,!").lower() for word in last_user_text(messages).split()]
        known = [pair for word in asked if len(word) > 4 for pair in self._starts.get(word, [])]
        pair = rng.choice(known or self._openings)
        words = list(pair)
        length = rng.randint(LONGEST_REPLY_WORDS // 3, LONGEST_REPLY_WORDS)
        while len(words) < length and (following := self._next.get(pair)):
            pair = (pair[1], rng.choice(following))
            words.append(pair[1])
        return " ".join(words)


def stdlib_docstrings(directory: Path | None = None) -> Iterator[str]:
    """Yield every docstring of the chosen modules of this interpreter, in a fixed order."""
    root = directory or Path(sysconfig.get_path("stdlib"))
    for source in SOURCES:
        path = root / source
        if path.exists():
            yield from _docstrings(path)


def _docstrings(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
