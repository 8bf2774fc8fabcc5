"""Holds of tools at the gateway's door."""

from __future__ import annotations

from scripted_worker import catalogue

from epad.gateway.access import Access
from epad.gateway.refusal import Refusal
from epad.tools import holds
from statemachine.clock import ManualClock
from statemachine.rung import Rung

DEFINITION = catalogue().definitions["echo"]  # of the category "files"


class Ended:
    """A call that remembers why it was ended."""

    def __init__(self) -> None:
        self.why: list[str] = []

    def sever(self, why: Refusal) -> None:
        self.why.append(why.message)


def test_each_target_shuts_a_tool_and_the_firmest_speaks() -> None:
    """One subsystem's hold is not another's."""
    access = Access(ManualClock())
    assert holds.shut(access, access.check, "chat", DEFINITION) is None
    access.hold("tool:echo@chat", Rung.BLOCK, "it loops")
    assert "it loops" in str(holds.shut(access, access.check, "chat", DEFINITION))
    assert holds.shut(access, access.check, "game", DEFINITION) is None
    access.hold("tools-files", Rung.STOP, "a person says so")
    assert "a person says so" in str(holds.shut(access, access.check, "game", DEFINITION))
    assert "a person says so" in str(holds.shut(access, access.check, "chat", DEFINITION))
    assert holds.firmest(access, "chat", DEFINITION) is Rung.STOP


def test_a_throttled_tool_is_called_now_and_then() -> None:
    """Its allowance is everybody's who is held by it."""
    clock = ManualClock()
    access = Access(clock)
    access.hold("tools-files", Rung.THROTTLE, "slow")
    assert holds.shut(access, access.check, "chat", DEFINITION) is None
    assert holds.shut(access, access.check, "game", DEFINITION) is not None
    clock.advance(11)
    assert holds.shut(access, access.check, "game", DEFINITION) is None


def test_a_hold_ends_the_calls_under_its_target_alone() -> None:
    """Each once, however many of its names are held; who has left is not ended."""
    access, own, other, gone = Access(ManualClock()), Ended(), Ended(), Ended()
    holds.enter(access, "chat", DEFINITION, own)
    holds.enter(access, "game", DEFINITION, other)
    holds.enter(access, "chat", DEFINITION, gone)()
    access.hold("tool:echo@chat", Rung.BLOCK, "it loops")
    assert access.sever("tool:echo@chat") == 1
    assert (len(own.why), other.why, gone.why) == (1, [], [])
    assert access.sever() == 2
