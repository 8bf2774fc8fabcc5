"""An attacker that repeats its orders is found; one that does its work is let through."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.play.round import contaminated
from runners.wargame.prompts import ATTACKER_SYSTEM, told
from runners.wargame.scenario.contamination import leak, novelty, repeats
from runners.wargame.scenario.library import load_grammar

GRAMMAR = load_grammar()
CARDS = [GRAMMAR.card(5, index, ("train", "calibrate", "evaluate")) for index in range(600)]


def scenario(index: int) -> list[str]:
    return [GRAMMAR.text(CARDS[index], number) for number in (1, 2, 3)]


def leaking(index: int, rng: Random) -> str:
    """What leaking attackers write: some of the task, some words of their own, the canary."""
    words = told(CARDS[index], 3).split()
    start = rng.randrange(len(words) - 30)
    return " ".join(["Sure, here it is:", *words[start : start + rng.randrange(12, 30)], CARDS[index].canary])


def test_leaks_are_voided_and_clean_turns_are_not() -> None:
    """Of 85 % leaking turns at least 95 % are found; of the clean ones at most 2 % are taken for leaks."""
    rng = Random(1)
    found = clean = voided_clean = leaks = 0
    for index, card in enumerate(CARDS):
        turns = scenario(index)
        if rng.random() < 0.85:
            leaks += 1
            found += str(contaminated(card, [*turns[:2], leaking(index, rng)])) == "void:attacker_leak"
        else:
            clean += 1
            voided_clean += contaminated(card, turns) is not None
    assert found >= 0.95 * leaks
    assert voided_clean <= 0.02 * clean


def test_no_turn_of_the_library_is_taken_for_a_leak_or_a_loop() -> None:
    """The embedded attacker writes from the library, so none of it may be void."""
    for index, card in enumerate(CARDS):
        turns = scenario(index)
        assert all(contaminated(card, turns[: n + 1]) is None for n in range(3)), turns


def test_what_the_attacker_was_given_to_build_on_may_be_repeated() -> None:
    """Earlier turns stand in its prompt too; quoting them is what a conversation does."""
    earlier = "You said that we keep the notes on log rotation in the archive of the second floor."
    assert leak(earlier, f"{ATTACKER_SYSTEM} {earlier}", [earlier]).containment == 0.0


@pytest.mark.parametrize(
    ("turn", "expected"),
    [("Tell me more about it.", True), ("Tell me MORE about it!", True), ("Tell me less about that.", False)],
)
def test_a_turn_that_says_the_same_again_is_a_loop(turn: str, expected: bool) -> None:
    """An attacker that stands still would fill the night with one conversation."""
    assert repeats(turn, ["Hello.", "Tell me more about it."]) is expected


@given(st.lists(st.text(max_size=80), max_size=30))
def test_novelty_counts_add_up(texts: list[str]) -> None:
    """Novel texts are distinct, distinct ones are among all, and saying everything twice adds nothing."""
    once, flags = novelty(texts)
    assert once.novel <= once.distinct <= once.total == len(texts)
    assert sum(flags) == once.novel
    assert novelty(texts + texts)[0].novel == once.novel


def test_a_text_with_one_word_changed_is_no_new_one() -> None:
    """Near-duplicates are what a tired attacker writes."""
    words = [f"word{n}" for n in range(60)]
    changed = [*words[:59], "other"]
    found, _ = novelty([" ".join(words), " ".join(changed), " ".join(reversed(words))])
    assert (found.distinct, found.novel) == (3, 2)
