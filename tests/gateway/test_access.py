"""Which subsystems the gateway is open to."""

from __future__ import annotations

from epad.gateway.access import THROTTLE_INTERVAL_SECONDS, Access
from epad.gateway.refusal import Refusal
from statemachine.clock import ManualClock
from statemachine.containment import Rung


class FakeTurn:
    """Remembers why it was severed."""

    def __init__(self) -> None:
        self.why: Refusal | None = None

    def sever(self, why: Refusal) -> None:
        self.why = why


def test_a_blocked_subsystem_is_refused_and_another_is_not() -> None:
    """Every rung from BLOCK on shuts the gateway to that subsystem alone, until it is released."""
    access = Access(ManualClock())
    for rung in (Rung.BLOCK, Rung.FREEZE, Rung.STOP):
        access.hold("a", rung, "it loops")
        refusal = access.check("a")
        assert refusal is not None
        assert (refusal.status, refusal.code, refusal.retriable) == (403, "subsystem_quarantined", False)
        assert "it loops" in refusal.message
        assert access.check("b") is None
    access.release("a")
    assert access.check("a") is None


def test_a_throttled_subsystem_gets_one_request_in_a_while() -> None:
    """429 with the time to wait; asking in vain does not push that time back."""
    clock = ManualClock()
    access = Access(clock)
    access.hold("a", Rung.THROTTLE, "burning fast")
    assert access.check("a") is None
    for _ in range(3):
        refusal = access.check("a")
        assert refusal is not None
        assert (refusal.status, refusal.retriable) == (429, True)
        assert refusal.retry_after_seconds == THROTTLE_INTERVAL_SECONDS
    clock.advance(THROTTLE_INTERVAL_SECONDS)
    assert access.check("a") is None


def test_holding_open_is_releasing() -> None:
    """A hold may be lowered as well as raised."""
    access = Access(ManualClock())
    access.hold("a", Rung.BLOCK, "x")
    access.hold("a", Rung.OPEN, "")
    assert access.check("a") is None
    assert access.held("a").rung is Rung.OPEN


def test_the_cut_that_concerns_everyone() -> None:
    """LIFEBOAT leaves no one, and it can be taken back."""
    access = Access(ManualClock())
    access.close_all("LIFEBOAT")
    refused = access.check("vital")
    assert refused is not None
    assert (refused.status, refused.code) == (403, "gateway_closed")
    access.close_all("")
    assert access.check("vital") is None


def test_severing_reaches_the_turns_of_that_subsystem_alone() -> None:
    """Turns that have left are not touched; without a name, all are."""
    access = Access(ManualClock())
    mine, left, other = FakeTurn(), FakeTurn(), FakeTurn()
    access.enter("a", mine)
    access.enter("a", left)
    access.enter("b", other)
    access.leave("a", left)
    access.hold("a", Rung.BLOCK, "it loops")
    assert access.sever("a") == 1
    assert mine.why is not None
    assert mine.why.code == "subsystem_quarantined"
    assert left.why is other.why is None
    assert access.sever("nobody") == 0
    assert access.sever() == 2
    assert other.why is not None
