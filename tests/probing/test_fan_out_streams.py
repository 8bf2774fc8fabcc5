"""What the gateway sees reaches those that can hear it."""

from __future__ import annotations

from typing import cast

from shipped_settings import PROBES

from epad.probing.fan_out import TurnFanout
from epad.storage.event_log import EventLog
from probes.conversation import ConversationHealth
from probes.token_burn import SubsystemBudget, TokenBurn
from probes.turns import StreamObserver, TurnAdmitted, TurnFinished, TurnStreamed
from statemachine.clock import ManualClock
from statemachine.finding import Finding


def test_chunks_reach_those_that_listen_to_streams_and_nobody_else() -> None:
    """A probe without an ear for chunks is not asked; the others hear every one."""
    clock, heard = ManualClock(), list[Finding]()
    burn = TokenBurn(PROBES.token_burn, budget=lambda _: SubsystemBudget(), clock=clock, push=heard.append)
    talk = ConversationHealth(PROBES.conversation, clock=clock, push=heard.append)
    assert isinstance(burn, StreamObserver)
    assert not isinstance(talk, StreamObserver)
    fanout = TurnFanout([talk, burn], cast("EventLog", None), clock)
    fanout.admitted(TurnAdmitted("chat", clock.monotonic(), "t", "m", 10, b"p"))
    ended = ""
    while not ended:
        ended = fanout.streamed(TurnStreamed("chat", clock.monotonic(), "t", ("again and once more, ",)))
    assert "repeats itself" in ended
    assert [finding.evidence["detector"] for finding in heard] == ["looping_output"]
    fanout.finished(TurnFinished("chat", clock.monotonic(), "t", "done", 1, 100, 101, 200, b"r"))
