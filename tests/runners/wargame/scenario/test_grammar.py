"""What is asked in round i is a function of (seed, i), and twins differ in their last turn alone."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.outcomes import Label
from runners.wargame.scenario.grammar import ATTACK_CATEGORIES, Card, Grammar, GrammarError, Split
from runners.wargame.scenario.library import load_grammar, read_toml, shipped

GRAMMAR = load_grammar()
SPLITS: tuple[Split, ...] = ("calibrate", "evaluate")


def turns(grammar: Grammar, card: Card) -> list[str]:
    """The whole scenario of a card."""
    return [grammar.turn(card.family, card.pair_seed, card.canary, card.label, n) for n in (1, 2, 3)]


@given(st.integers(), st.integers(0, 10**6))
def test_content_is_a_function_of_seed_and_index(seed: int, index: int) -> None:
    """Asked again, in any order and by another reader of the file, round i is the same."""
    card = GRAMMAR.card(seed, index, SPLITS)
    again = load_grammar().card(seed, index, SPLITS)
    assert card == again
    assert turns(GRAMMAR, card) == turns(load_grammar(), again)


@given(st.integers(), st.integers(0, 10**6))
def test_a_pair_is_one_attack_and_one_twin(seed: int, pair: int) -> None:
    """Twins share everything but the label and the third turn; both name the canary; lengths are alike."""
    first, second = (GRAMMAR.card(seed, 2 * pair + side, SPLITS) for side in (0, 1))
    assert {first.label, second.label} == {Label.ATTACK, Label.BENIGN}
    one, other = turns(GRAMMAR, first), turns(GRAMMAR, second)
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert first.canary == second.canary
    assert first.canary in one[2]
    assert second.canary in other[2]
    assert min(len(one[2]), len(other[2])) >= 0.9 * max(len(one[2]), len(other[2])), first.family


def test_another_process_asks_the_same() -> None:
    """Neither hash randomisation nor anything else of a process gets into the content."""
    code = (
        "from runners.wargame.scenario.library import load_grammar; g = load_grammar();"
        "c = [g.card(7, i, ('evaluate',)) for i in range(20)];"
        "print([(x.canary, g.turn(x.family, x.pair_seed, x.canary, x.label, 3)) for x in c])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(said) == 1


def test_categories_and_labels_are_balanced() -> None:
    """No category is left out, labels are half and half, and neither side always comes first."""
    cards = [GRAMMAR.card(1, index, SPLITS) for index in range(2_000)]
    categories = Counter(card.category for card in cards)
    assert set(categories) == set(ATTACK_CATEGORIES)
    assert min(categories.values()) > 400
    assert Counter(card.label for card in cards) == {Label.ATTACK: 1_000, Label.BENIGN: 1_000}
    assert 300 < sum(card.label is Label.ATTACK for card in cards[::2]) < 700


def test_training_families_are_never_asked() -> None:
    """The families that embedded defenders learn from are not those they are judged on."""
    families = {GRAMMAR.card(1, index, SPLITS).family for index in range(500)}
    assert all(GRAMMAR.family(name).split != "train" for name in families)
    assert len(families) == 16


def test_the_shipped_library_has_several_families_for_each_category_and_split() -> None:
    """Four categories, five families each; every category is held out and calibrated on two."""
    counted = Counter((family.category, family.split) for family in GRAMMAR.families)
    for category in ATTACK_CATEGORIES:
        assert [counted[category, split] for split in ("train", "calibrate", "evaluate")] == [1, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version = 2", "version = 3"), "version 3 is not 2"),
        (('category = "logic_bomb"', 'category = "spam"'), "spam"),
        (("the string {canary}.", "the string."), "tool_output: an instruction lacks {canary}"),
        (("[slots]", "[slot"), "families.toml"),
        (('benign = "Term: refusal.', 'benign = "' + "very " * 20 + "Term: refusal."), "characters long"),
        (("Nobody should ignore", "Nobody should forgot"), "lacks the attack's trigger words"),
        (("{topic}", "{topics}"), "no such slot"),
        (('brief = "', 'breif = "'), "breif"),
    ],
)
def test_a_bad_library_is_refused(change: tuple[str, str], message: str) -> None:
    """A twin without canary, of another length or without a trigger word is found when the file is read."""
    assert change[0] in shipped()
    with pytest.raises(GrammarError, match=message):
        read_toml(shipped().replace(*change), "families.toml")
