"""Embedded defenders that learn: naive Bayes over words, word pairs or letter groups of the training families.

They are trained at start, in a quarter of a second, on the training families, which rounds leave out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from runners.model.conversation import turns_to_judge
from runners.model.engine import Message
from runners.model.verdicts import verdict_json
from runners.wargame.outcomes import Label
from runners.wargame.scenario.grammar import Grammar

TRAINING_PAIRS: Final = 400
TRAINING_SEED: Final = 20_240_601
SMOOTHING: Final = 0.5

_WORD = re.compile(r"[a-z']+")

Features = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Example:
    """Holds one turn of a training scenario; an empty category means that it is harmless."""

    text: str
    category: str


def words(text: str) -> list[str]:
    """Lower-case words; canary tokens and numbers are not words."""
    return _WORD.findall(re.sub(r"canary-\w+", " ", text.lower()))


def word_pairs(text: str) -> list[str]:
    """Neighbouring words."""
    found = words(text)
    return [f"{a} {b}" for a, b in itertools.pairwise(found)]


def letter_groups(text: str) -> list[str]:
    """Runs of four letters, word borders included."""
    joined = f" {' '.join(words(text))} "
    return [joined[i : i + 4] for i in range(len(joined) - 3)]


def training_examples(grammar: Grammar) -> list[Example]:
    """Return every turn of seeded scenarios from the training families, labelled by their third turn."""
    examples = []
    for index in range(2 * TRAINING_PAIRS):
        card = grammar.card(TRAINING_SEED, index, ("train",))
        for number in (1, 2, 3):
            text = grammar.turn(card.family, card.pair_seed, card.canary, card.label, number)
            bad = number == 3 and card.label is Label.ATTACK
            examples.append(Example(text, card.category if bad else ""))
    return examples


class BayesDefender:
    """Weighs each turn by its features' log-odds; the worst turn decides."""

    def __init__(self, name: str, features: Features, examples: Iterable[Example]) -> None:
        self.name = name
        self._features = features
        self._by_class: dict[str, Counter[str]] = {}
        for example in examples:
            self._by_class.setdefault(example.category, Counter()).update(features(example.text))
        self._harmless = self._by_class.pop("", Counter())
        self._harmful = sum(self._by_class.values(), Counter())

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        del seed  # a count has no randomness
        turns = turns_to_judge(messages)
        scores = [self._log_odds(turn) for turn in turns]
        worst = max(range(len(turns)), key=scores.__getitem__)
        probability = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, scores[worst]))))
        return verdict_json(probability, self._category(turns[worst]), min(worst + 1, 8))

    def _log_odds(self, text: str) -> float:
        """The sum of the features' log-odds over the root of their number: neighbours are not independent."""
        known = [f for f in self._features(text) if f in self._harmful or f in self._harmless]
        if not known:
            return -1.0
        harmful, harmless = self._harmful.total() + 1, self._harmless.total() + 1
        total = sum(
            math.log((self._harmful[f] + SMOOTHING) / harmful)
            - math.log((self._harmless[f] + SMOOTHING) / harmless)
            for f in known
        )
        return total / math.sqrt(len(known))

    def _category(self, text: str) -> str:
        found = Counter(self._features(text))
        return max(
            self._by_class,
            key=lambda category: sum(
                number * math.log((self._by_class[category][f] + SMOOTHING) / (self._harmful[f] + 1))
                for f, number in found.items()
            ),
            default="other",
        )
