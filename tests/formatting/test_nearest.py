"""What a mistyped name is answered with."""

from __future__ import annotations

import pytest

from epad.formatting.nearest import fix, guess


@pytest.mark.parametrize(
    ("typed", "meant"), [("caht", "did you mean 'chat'?"), ("Chat", "did you mean 'chat'?"), ("nobody", "")]
)
def test_the_nearest_name_is_guessed_and_a_far_one_is_not(typed: str, meant: str) -> None:
    """A wrong guess would be worse than none."""
    assert guess(typed, ["wargame", "chat"]) == meant


def test_the_fix_names_all_that_there_are() -> None:
    """In the order given; a guess stands before them."""
    assert fix("wargam", ["wargame", "chat"]) == "did you mean 'wargame'? there are: wargame, chat"
    assert fix("nobody", ["chat"]) == "there are: chat"
    assert fix("nobody", []) == "there are: none"
