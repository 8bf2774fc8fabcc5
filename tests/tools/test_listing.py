"""Categories of tools as people see them."""

from __future__ import annotations

from scripted_worker import catalogue

from epad.tools.listing import Work, listed, names_of
from statemachine.containment import Hold
from statemachine.rung import Rung

DEFINITIONS = list(catalogue().definitions.values())


def test_each_tool_and_category_can_be_held() -> None:
    """By the names that the ladder has for them."""
    names = names_of(DEFINITIONS)
    assert {"tools-files", "tools-odd", "tool:echo", "tool:host"} <= names
    assert len(names) == len(DEFINITIONS) + 2


def test_a_category_is_listed_with_its_workers_and_its_holds() -> None:
    """A hold of its tool is named, and leaves its own state as it is."""
    holds = {
        "tool:echo@chat": Hold(Rung.BLOCK),
        "tools-odd": Hold(Rung.BLOCK),
        "tool:write": Hold(Rung.OPEN),
        "chat": Hold(Rung.STOP),
    }
    work = {"files": Work((7, 8), calls=1, lost=2)}
    files, odd = listed(DEFINITIONS, work, holds, lambda name: f"{name} is held")

    assert (files["name"], files["kind"], files["state"]) == ("tools-files", "tools", "running")
    assert (files["workers"], files["calls"], files["lost"]) == ((7, 8), 1, 2)
    assert files["held"] == [{"target": "tool:echo@chat", "rung": "block", "line": "tool:echo@chat is held"}]
    assert (odd["state"], odd["workers"], odd["tools"]) == ("quarantined", (), ["host"])
    assert [one["target"] for one in odd["held"]] == ["tools-odd"]


def test_a_category_without_workers_is_idle() -> None:
    """It is started at its first call."""
    files, odd = listed(DEFINITIONS, {}, {"tools-odd": Hold(Rung.THROTTLE)}, str)
    assert (files["state"], odd["state"]) == ("idle", "throttled")
