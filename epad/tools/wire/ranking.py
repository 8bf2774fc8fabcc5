"""Rank tools by a question: BM25 over their names, descriptions and arguments."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from epad.tools.protocol import Definition
from epad.tools.wire.synonyms import SYNONYMS

# The usual constants: how soon a repeated word stops to count more, and how much a long text is marked down.
_SATURATION = 1.2
_LENGTH = 0.75
# The name says best what a tool does, then its description; each argument's name helps a little.
_NAME_WEIGHT = 3
_ENDINGS = (("ing", ""), ("ies", "y"), ("ied", "y"), ("ed", ""), ("er", ""), ("es", ""), ("s", ""))
_WORD = re.compile(r"[a-z]+|[0-9]+")
_NOISE = frozenset({
    *("a", "all", "an", "and", "any", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "has"),
    *("have", "how", "i", "in", "is", "it", "its", "me", "my", "of", "on", "one", "or", "show", "some", "that"),
    *("the", "their", "there", "these", "this", "to", "was", "what", "where", "which", "who", "with"),
})  # fmt: skip
# A question's word counts for those that mean the same too, but less.
_LESS = 0.5


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
        asked = _with_same(words(question))
        scored = [(self._score(place, asked), -place) for place in range(len(self._definitions))]
        fitting = sorted((pair for pair in scored if pair[0] > 0), reverse=True)
        return [self._definitions[-place] for _, place in fitting[:limit]]

    def _score(self, place: int, asked: Mapping[str, float]) -> float:
        counts, length = self._counts[place], self._lengths[place]
        allowance = _SATURATION * (1 - _LENGTH + _LENGTH * length / self._mean)
        return sum(
            part * self._weights[word] * counts[word] * (_SATURATION + 1) / (counts[word] + allowance)
            for word, part in asked.items()
            if word in counts
        )


def words(text: str) -> list[str]:
    """Return the words of a text, without those that say nothing, and without the plural's s."""
    found = (word for word in _WORD.findall(text.lower()) if word not in _NOISE)
    return [_stem(word) for word in found]


def _with_same(asked: Sequence[str]) -> dict[str, float]:
    """Return the words of a question with how much each counts, and those that mean the same."""
    found = dict.fromkeys((same for word in asked for same in _SAME.get(word, ())), _LESS)
    return found | {word: float(count) for word, count in Counter(asked).items()}


def _words_of(definition: Definition) -> list[str]:
    properties = definition.input_schema.get("properties")
    arguments: Mapping[str, object] = properties if isinstance(properties, dict) else {}
    return [
        *words(definition.name) * _NAME_WEIGHT,
        *words(definition.category),
        *words(definition.description),
        *(word for name in arguments for word in words(name)),
        *(word for schema in arguments.values() for word in _choices(schema)),
    ]


def _choices(schema: object) -> list[str]:
    """Return the words of an argument's fixed values: an operation's name says what a tool can do."""
    values = schema.get("enum", ()) if isinstance(schema, dict) else ()
    return [word for value in values if isinstance(value, str) for word in words(value)]


def _stem(word: str) -> str:
    """Return a word without its commonest endings, so that `files` finds `file` and `searching` finds `search`."""
    for ending, rest in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word.removesuffix(ending) + rest
            doubled = ending in {"ing", "ed", "er"} and stem[-1] == stem[-2] and stem[-1] not in "ls"
            return stem[:-1] if doubled else stem
    return word.removesuffix("e") if len(word) > 3 else word


_SAME = {
    _stem(word): {_stem(same) for line in SYNONYMS if word in line for same in line}
    for line in SYNONYMS
    for word in line
}
