"""Count words and pairs of words (TF-IDF): half of the classifier's view, and the baseline that its report shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np

from runners.intent.arrays import Matrix, Vector

MOST_GRAMS: Final = 8_000
_WORD = re.compile(r"[^\W\d_]+")


class Vocabulary(msgspec.Struct, frozen=True):
    """Holds words and pairs of words, each with its weight: the rarer, the heavier."""

    grams: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def learnt(cls, texts: Sequence[str]) -> Vocabulary:
        """Take the words of some texts, the most frequent MOST_GRAMS of them."""
        seen = Counter(gram for text in texts for gram in set(grams_of(text)))
        kept = sorted(sorted(seen, key=lambda gram: (-seen[gram], gram))[:MOST_GRAMS])
        weight = np.log((1 + len(texts)) / (1 + np.array([seen[gram] for gram in kept]))) + 1
        return cls(tuple(kept), tuple(weight.tolist()))

    def rows(self, texts: Sequence[str]) -> Matrix:
        """Return one row of unit length a text; of a text without a known word, zeros."""
        index = {gram: place for place, gram in enumerate(self.grams)}
        rows = np.zeros((len(texts), len(index)))
        for row, text in zip(rows, texts, strict=True):
            for gram in grams_of(text):
                if (place := index.get(gram)) is not None:
                    row[place] += self.weights[place]
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def grams_of(text: str) -> list[str]:
    """Return the words of a text, then its pairs of words."""
    words = _WORD.findall(text.lower())
    return [*words, *(" ".join(pair) for pair in pairwise(words))]


class Lookup:
    """Scores texts by the weights of their words, one word after the other: without a row as wide as a vocabulary."""

    def __init__(self, vocabulary: Vocabulary, found: Vector) -> None:
        together = zip(vocabulary.grams, vocabulary.weights, found.tolist(), strict=True)
        self._known = {gram: (weight, weight * score) for gram, weight, score in together}

    def scores(self, texts: Sequence[str]) -> Vector:
        """Return one score a text."""
        return np.array([self._score(text) for text in texts])

    def _score(self, text: str) -> float:
        size = total = 0.0
        for gram, count in Counter(grams_of(text)).items():
            if (known := self._known.get(gram)) is not None:
                size += (count * known[0]) ** 2
                total += count * known[1]
        return total / size**0.5 if size else 0.0
