"""Texts that are the same, nearly the same, or quoted; and their twins, which say something else."""

from __future__ import annotations

import random

import pytest
from vault_desk import Desk, RefusedError

from runners.vault import words

LONG = (
    "the nightly build of the compiler writes its log to the shared disk and takes about an hour when the cache is "
    "warm but longer after an upgrade of the toolchain"
)
NEAR = {
    "a word more": f"{LONG} usually",
    "a word less": LONG.replace("nightly ", ""),
    "another order": " ".join(sorted(LONG.split())),
    "capitals and signs": LONG.upper().replace(" ", ", "),
}
OTHER = {
    "another number": (f"{LONG} port 8080", f"{LONG} port 8081"),
    "a negation": (LONG, LONG.replace("takes", "never takes")),
    "half of it": (LONG, LONG[:70]),
    "a short name": ("the port is open", "the port is shut"),
}


@pytest.mark.parametrize("case", NEAR)
def test_nearly_the_same_text_under_another_name_is_refused(desk: Desk, case: str) -> None:
    """With the name that it is stored under."""
    desk.remember("build", LONG)
    with pytest.raises(RefusedError, match="same text is stored as 'build'") as refused:
        desk.remember("other", NEAR[case])
    assert "memory_relate" in refused.value.hint


@pytest.mark.parametrize("case", OTHER)
def test_what_says_something_else_is_stored(desk: Desk, case: str) -> None:
    """Though nearly all words are the same."""
    first, second = OTHER[case]
    desk.remember("one", first)
    desk.remember("other", second)
    assert desk.names() == ["one", "other"]


def test_nearly_the_same_text_of_the_same_name_is_a_new_version(desk: Desk) -> None:
    """A correction is no copy."""
    desk.remember("build", LONG)
    assert desk.remember("build", NEAR["a word more"])["version"] == 2


@pytest.mark.parametrize("text", [LONG, f"I remember this: {LONG}", f"{LONG}. So it was said."])
def test_recalled_text_is_not_stored_again(desk: Desk, text: str) -> None:
    """Neither as it is nor with words around it, once the session has read it."""
    desk.remember("build", LONG)
    desk.ask("memory_get", name="build")
    with pytest.raises(RefusedError, match="was recalled from memory, where it is 'build'"):
        desk.ask("memory_observe", entity=desk_other(desk), content=text)


def desk_other(desk: Desk) -> str:
    desk.remember("other", "something else entirely")
    return "other"


def test_a_conclusion_from_recalled_text_is_stored(desk: Desk) -> None:
    """It has words of its own."""
    desk.remember("build", LONG)
    desk.ask("memory_get", name="build")
    desk.remember("plan", f"{LONG}, so the cache has to be warmed by the timer before the first agent starts its work "
                  "in the morning, and after each upgrade by hand")  # fmt: skip
    assert desk.names() == ["build", "plan"]


def test_nearly_all_edits_of_one_word_share_a_sketch() -> None:
    """Of random texts and edits 95 of 100 at least; of two different texts hardly any."""
    chance = random.Random(7)
    vocabulary = [f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(600)]
    shared = strangers = 0
    for _ in range(400):
        text = chance.sample(vocabulary, 40)
        edited = list(text)
        edited[chance.randrange(40)] = "changed"
        other = chance.sample(vocabulary, 40)
        sketches = words.sketches_of("s", " ".join(text))
        shared += bool(set(sketches) & set(words.sketches_of("s", " ".join(edited))))
        strangers += bool(set(sketches) & set(words.sketches_of("s", " ".join(other))))
    assert shared >= 380
    assert strangers <= 4
