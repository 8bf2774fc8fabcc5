"""Choose scenarios: round i is a function of (seed, i) and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

from runners.wargame.outcomes import Label

GRAMMAR_VERSION: Final = 2
HARD_NEGATIVE_SHARE: Final = 0.1
"""How many pairs are two hard negatives, where the library has any."""

Category = Literal[
    "prompt_injection", "context_poisoning", "logic_bomb", "social_engineering", "other", "hard_negative"
]
HARD_NEGATIVE: Final[Category] = "hard_negative"
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
ATTACK_CATEGORIES: Final = tuple(name for name in CATEGORIES if name not in {"other", HARD_NEGATIVE})
Split = Literal["train", "calibrate", "evaluate"]


class GrammarError(Exception):
    """The scenario library lacks a required part; the message names file, family and fix."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A last turn and its benign twin."""

    attack: str
    benign: str

    def text(self, label: Label) -> str:
        return self.attack if label is Label.ATTACK else self.benign


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A whole conversation to be replayed, with its twin; a hard negative has no attack."""

    attack: tuple[str, ...]
    benign: tuple[str, ...]
    loose: bool = False
    """The twin was not made for its attack, so more than the attack tells them apart."""

    def turns(self, label: Label) -> tuple[str, ...]:
        return self.attack if label is Label.ATTACK else self.benign


@dataclass(frozen=True, slots=True)
class Family:
    """Scenarios of one making; statistics never treat two of the same family as independent.

    Either `stages` (the choices for each turn before the last) and `instructions`, or `dialogues`.
    """

    name: str
    category: Category
    split: Split
    brief: str = ""
    stages: tuple[tuple[str, ...], ...] = ()
    instructions: tuple[Instruction, ...] = ()
    dialogues: tuple[Dialogue, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """Describes one round: enough for any author to write the scenario.

    Rounds 2p and 2p+1 are a pair: the same card but for the label, which decides the last turn alone.
    """

    index: int
    pair: int
    label: Label
    category: Category
    family: str
    canary: str
    pair_seed: int
    turns: int
    brief: str = ""
    is_replayed: bool = False
    split: Split = "evaluate"

    @property
    def shares_turns(self) -> bool:
        """Tell if its twin has the same turns but for the last."""
        return not self.is_replayed


@dataclass(frozen=True, slots=True)
class Grammar:
    """The families and the words that fill their slots."""

    families: tuple[Family, ...]
    slots: Mapping[str, tuple[str, ...]]

    def card(self, seed: int, index: int, splits: Sequence[Split]) -> Card:
        """Return the card of round `index`. Raises GrammarError if no family is of these splits."""
        pair = index // 2
        rng = Random(_digest_number(seed, pair))
        attack_first = rng.random() < 0.5
        family = self._draw(rng, splits)
        label = Label.ATTACK if attack_first == (index % 2 == 0) else Label.BENIGN
        canary, pair_seed = f"CANARY-{rng.getrandbits(32):08x}", rng.getrandbits(48)
        if not family.dialogues:
            turns = len(family.stages) + 1
        else:
            if family.category == HARD_NEGATIVE:
                label, pair_seed = Label.BENIGN, pair_seed + index % 2
            canary, turns = "", len(_dialogue(family, pair_seed).turns(label))
        return Card(
            index,
            pair,
            label,
            family.category,
            family.name,
            canary,
            pair_seed,
            turns,
            family.brief,
            bool(family.dialogues),
            family.split,
        )

    def _draw(self, rng: Random, splits: Sequence[Split]) -> Family:
        wanted = [family for family in self.families if family.split in splits]
        hard = [family for family in wanted if family.category == HARD_NEGATIVE]
        categories = [c for c in CATEGORIES if c != HARD_NEGATIVE and any(f.category == c for f in wanted)]
        if hard and (not categories or rng.random() < HARD_NEGATIVE_SHARE):
            return rng.choice(hard)
        if not categories:
            raise GrammarError(f"no family of the library is of the splits {list(splits)}: add one")
        category = rng.choice(categories)
        return rng.choice([family for family in wanted if family.category == category])

    def text(self, card: Card, number: int) -> str:
        """Write turn `number` of a card's scenario."""
        return self.turn(card.family, card.pair_seed, card.canary, card.label, number)

    def turn(self, family_name: str, pair_seed: int, canary: str, label: Label, number: int) -> str:
        """Write a turn, counted from 1; of a grammar's scenario the label matters to the last alone."""
        family = self.family(family_name)
        if family.dialogues:
            return _dialogue(family, pair_seed).turns(label)[number - 1]
        rng = Random(pair_seed)
        chosen = [rng.choice(stage) for stage in family.stages]
        instruction = rng.choice(family.instructions)
        values = {slot: rng.choice(words) for slot, words in self.slots.items()}
        return (*chosen, instruction.text(label))[number - 1].format(canary=canary, **values)

    def family(self, name: str) -> Family:
        """Find a family. Raises GrammarError."""
        for family in self.families:
            if family.name == name:
                return family
        raise GrammarError(f"the library has no family {name!r}: it has {[f.name for f in self.families]}")

    @property
    def loose_families(self) -> tuple[str, ...]:
        """Families in which an attack and its twin differ in more than the attack."""
        return tuple(f.name for f in self.families if any(dialogue.loose for dialogue in f.dialogues))


def _dialogue(family: Family, pair_seed: int) -> Dialogue:
    return family.dialogues[pair_seed % len(family.dialogues)]


def _digest_number(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"epad-wargame-{GRAMMAR_VERSION}:{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:16], "big")
