"""The sentence about a change: of many it names the first."""

from __future__ import annotations

from epad.measurement.words import sentence_of
from runners.measure.request import Change, Measured


def test_a_sentence_for_each_outcome() -> None:
    assert sentence_of("chat", Measured("d", 3, True)) == "chat is measured for the first time: 3 parts"
    assert sentence_of("chat", Measured("d", 3, False)) == "chat is what it was at its last start: 3 parts"


def test_changes_are_named() -> None:
    changes = (Change("(command)", "changed", "command"), Change("/a.py", "removed", "script"))
    told = sentence_of("chat", Measured("d", 3, False, "b", 2, changes))

    assert told == "chat is not what it was at its last start: its command has changed, script /a.py is gone"


def test_of_many_the_first_are_named() -> None:
    changes = tuple(Change(f"/{number}.py", "added", "module") for number in range(50))
    told = sentence_of("chat", Measured("d", 3, False, "b", 120, changes))

    assert "module /4.py is new, and 115 more" in told
    assert "/5.py" not in told
