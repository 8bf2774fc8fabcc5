"""Rank tools by a question: BM25 over their names, descriptions and arguments."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from epad.tools.protocol import Definition

# The usual constants: how soon a repeated word stops to count more, and how much a long text is marked down.
_SATURATION = 1.2
_LENGTH = 0.75
# The name says best what a tool does, then its description; each argument's name helps a little.
_NAME_WEIGHT = 3
_WORD = re.compile(r"[a-z]+|[0-9]+")
_NOISE = frozenset({
    *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "how", "i", "in", "is", "it"),
    *("of", "on", "or", "that", "the", "this", "to", "what", "with"),
})  # fmt: skip


class Ranking:
    """Ranks one list of tools; made once for each list."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self._definitions = definitions
        self._counts = [Counter(_words_of(each)) for each in definitions]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / len(self._lengths) if definitions else 1.0
        containing = Counter(word for counts in self._counts for word in counts)
        size = len(definitions)
        self._weights = {
            word: math.log(1 + (size - count + 0.5) / (count + 0.5)) for word, count in containing.items()
        }

    def best(self, question: str, limit: int) -> list[Definition]:
        """Return the tools that fit a question, the best first; ties in the order of the list."""
        asked = words(question)
        scored = [(self._score(place, asked), -place) for place in range(len(self._definitions))]
        fitting = sorted((pair for pair in scored if pair[0] > 0), reverse=True)
        return [self._definitions[-place] for _, place in fitting[:limit]]

    def _score(self, place: int, asked: Sequence[str]) -> float:
        counts, length = self._counts[place], self._lengths[place]
        allowance = _SATURATION * (1 - _LENGTH + _LENGTH * length / self._mean)
        return sum(
            self._weights[word] * counts[word] * (_SATURATION + 1) / (counts[word] + allowance)
            for word in asked
            if word in counts
        )


def words(text: str) -> list[str]:
    """Return the words of a text, without those that say nothing, and without the plural's s."""
    found = (word for word in _WORD.findall(text.lower()) if word not in _NOISE)
    return [_stem(word) for word in found]


def _words_of(definition: Definition) -> list[str]:
    properties = definition.input_schema.get("properties")
    arguments: Mapping[str, object] = properties if isinstance(properties, dict) else {}
    return [
        *words(definition.name) * _NAME_WEIGHT,
        *words(definition.category),
        *words(definition.description),
        *(word for name in arguments for word in words(name)),
    ]


def _stem(word: str) -> str:
    """Return a word without its commonest endings, so that `files` finds `file` and `searching` finds `search`."""
    for ending in ("ing", "ies", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word.removesuffix(ending)
            return stem + "y" if ending == "ies" else stem
    return word.removesuffix("e") if len(word) > 3 else word
