"""Text for people."""

from __future__ import annotations

import pytest

from epad.formatting.text import clean, cut, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3_599, "59m59s"),
        (3_600, "1h00m"),
        (86_399, "23h59m"),
        (86_400, "1d00h"),
        (1e9, "11574d01h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Two units, the largest first."""
    assert duration(seconds) == text


def test_nothing_that_a_terminal_would_obey_is_left() -> None:
    """An escape sequence in a status line could forge one."""
    assert clean("\x1b[2Jü\n") == "?[2Jü?"


def test_what_is_too_long_ends_in_dots() -> None:
    """And what just fits is whole."""
    assert (cut("abcdef", 6), cut("abcdefg", 6)) == ("abcdef", "abc...")
