"""The seeded scenario grammar: what is asked in round i is a function of (seed, i) and of nothing else."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from random import Random
from typing import Any, Final, Literal, get_args

from runners.wargame.outcomes import Label

GRAMMAR_VERSION: Final = 1
TURNS: Final = 3
TWIN_LENGTH_TOLERANCE: Final = 0.10

Category = Literal["prompt_injection", "context_poisoning", "logic_bomb", "social_engineering"]
ATTACK_CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
Split = Literal["train", "calibrate", "evaluate"]


class GrammarError(Exception):
    """The scenario grammar does not hold what it must."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A third turn and its benign twin."""

    attack: str
    benign: str

    def text(self, label: Label) -> str:
        return self.attack if label is Label.ATTACK else self.benign


@dataclass(frozen=True, slots=True)
class Family:
    """Scenarios of one making; statistics never treat two of the same family as independent."""

    name: str
    category: Category
    split: Split
    openings: tuple[str, ...]
    escalations: tuple[str, ...]
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What one round is about: enough to write the scenario, whoever writes it.

    Rounds 2p and 2p+1 are a pair: the same card but for the label, which decides the third turn alone.
    """

    index: int
    pair: int
    label: Label
    category: Category
    family: str
    canary: str
    pair_seed: int


@dataclass(frozen=True, slots=True)
class Grammar:
    """The families and the words that fill their slots."""

    families: tuple[Family, ...]
    slots: Mapping[str, tuple[str, ...]]

    def card(self, seed: int, index: int, splits: Sequence[Split]) -> Card:
        """Say what round `index` is about."""
        pair = index // 2
        rng = Random(_digest_number(seed, pair))
        attack_first = rng.random() < 0.5
        category = rng.choice(ATTACK_CATEGORIES)
        family = rng.choice([f for f in self.families if f.category == category and f.split in splits])
        return Card(
            index=index,
            pair=pair,
            label=Label.ATTACK if attack_first == (index % 2 == 0) else Label.BENIGN,
            category=category,
            family=family.name,
            canary=f"CANARY-{rng.getrandbits(32):08x}",
            pair_seed=rng.getrandbits(48),
        )

    def turn(self, family_name: str, pair_seed: int, canary: str, label: Label, number: int) -> str:
        """Write turn 1, 2 or 3 of a scenario; the label matters to the third alone."""
        family = self.family(family_name)
        rng = Random(pair_seed)
        chosen = (rng.choice(family.openings), rng.choice(family.escalations))
        instruction = rng.choice(family.instructions)
        values = {slot: rng.choice(words) for slot, words in self.slots.items()}
        template = (*chosen, instruction.text(label))[number - 1]
        return template.format(canary=canary, **values)

    def family(self, name: str) -> Family:
        """Find a family. Raises GrammarError."""
        for family in self.families:
            if family.name == name:
                return family
        raise GrammarError(f"the grammar has no family {name!r}: it has {[f.name for f in self.families]}")


def _digest_number(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"epad-wargame-{GRAMMAR_VERSION}:{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def load_grammar(text: str | None = None) -> Grammar:
    """Read and check a grammar, by default the one that is shipped. Raises GrammarError."""
    source = text or (resources.files("runners.wargame.scenario") / "families.toml").read_text(
        encoding="utf-8"
    )
    try:
        value = tomllib.loads(source)
        if value["version"] != GRAMMAR_VERSION:
            raise GrammarError(f"grammar version {value['version']} is not {GRAMMAR_VERSION}")
        slots = {name: tuple(words) for name, words in value["slots"].items()}
        families = tuple(_family(table, slots) for table in value["families"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise GrammarError(f"the scenario grammar cannot be read: {error!r}") from error
    return Grammar(families, slots)


def _family(table: Mapping[str, Any], slots: Mapping[str, tuple[str, ...]]) -> Family:
    family = Family(
        name=table["name"],
        category=table["category"],
        split=table["split"],
        openings=tuple(table["openings"]),
        escalations=tuple(table["escalations"]),
        instructions=tuple(Instruction(i["attack"], i["benign"]) for i in table["instructions"]),
    )
    if family.category not in ATTACK_CATEGORIES or family.split not in get_args(Split):
        raise GrammarError(f"family {family.name}: unknown category or split")
    for instruction in family.instructions:
        _check_twin(family.name, instruction, slots)
    return family


def _check_twin(family: str, instruction: Instruction, slots: Mapping[str, tuple[str, ...]]) -> None:
    """Attack and twin carry the canary and are about equally long, or length alone would tell them apart."""
    values = {slot: words[0] for slot, words in slots.items()}
    lengths = [len(t.format(canary="C" * 15, **values)) for t in (instruction.attack, instruction.benign)]
    if any("{canary}" not in template for template in (instruction.attack, instruction.benign)):
        raise GrammarError(f"family {family}: an instruction lacks {{canary}}")
    if min(lengths) < (1 - TWIN_LENGTH_TOLERANCE) * max(lengths):
        raise GrammarError(
            f"family {family}: attack and twin are {lengths[0]} and {lengths[1]} characters long"
        )
