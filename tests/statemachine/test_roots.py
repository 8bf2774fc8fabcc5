"""Which troubles are independent: roots are counted, not symptoms."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.assessor import Anomaly
from statemachine.containment import Rung
from statemachine.finding import HOST, Finding, Severity
from statemachine.roots import roots
from statemachine.shortage import SHORTAGES, host_is_short

RUNGS = {
    "token_burn": Rung.FREEZE,
    "token_rate": Rung.THROTTLE,
    "conversation": Rung.THROTTLE,
    "alerts": Rung.THROTTLE,
    "progress": Rung.FREEZE,
    "liveness": Rung.OPEN,
    "cascade": Rung.STOP,
    "memory": Rung.FREEZE,
    "vram": Rung.RELEASE_VRAM,
    "host": Rung.OPEN,
    "ledger_integrity": Rung.OPEN,
    "identity": Rung.BLOCK,
}

Found = tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, Severity]
"""Probe and subsystem; a rung that the finding names ("" for none); how bad it is."""


def anomaly(
    probe: str,
    subsystem: str,
    rung: str = "",
    severity: Severity = Severity.ANOMALY,
    *,
    hard: bool = False,
) -> Anomaly:
    named = Rung.labelled(rung) if rung else None
    return Anomaly(Finding(probe, subsystem, severity, 0.0, "why", hard=hard, rung=named), 0.0, 0.0)


@pytest.mark.parametrize(
    ("found", "independent"),
    [
        ([], set()),
        ([("token_burn", "chat")], {"chat"}),
        # The seed's ladder: two facts about two subsystems.
        ([("token_burn", "chat"), ("progress", "agent")], {"chat", "agent"}),
        ([("cascade", "chat"), ("cascade", "agent")], {"chat", "agent"}),
        ([("liveness", "chat"), ("liveness", "agent")], {"chat", "agent"}),
        ([("identity", "chat"), ("vram", "agent")], {"chat", "agent"}),
        # One subsystem is one trouble.
        ([("token_burn", "chat"), ("progress", "chat"), ("cascade", "chat")], {"chat"}),
        ([("token_burn", "chat"), ("token_rate", "chat")], {"chat"}),
        ([("host", HOST), ("checkpoint", HOST), ("alerts", HOST)], {HOST}),
        # Throttles are contained, each for itself; a finding may name its rung, milder or firmer than its probe's.
        ([("token_rate", "chat"), ("token_rate", "agent"), ("conversation", "laptop")], set()),
        ([("token_rate", "chat"), ("token_burn", "agent")], {"agent"}),
        ([("token_burn", "chat", "throttle"), ("token_burn", "agent", "throttle")], set()),
        ([("conversation", "chat", "freeze"), ("conversation", "agent", "freeze")], {"chat", "agent"}),
        ([("alerts", "chat"), ("alerts", "agent")], set()),
        # What is only watched holds nobody and counts for nothing.
        ([("cascade", "vllm", "open"), ("cascade", "agent", "open")], set()),
        ([("token_burn", "chat", "open"), ("progress", "agent")], {"agent"}),
        # What is critical counts whatever it calls for.
        ([("token_rate", "chat", "", Severity.CRITICAL)], {"chat"}),
        ([("cascade", "vllm", "open", Severity.CRITICAL)], {"vllm"}),
        # A host that is short is the root of what dies, hangs and stands still on it, and of nothing else.
        ([("host", HOST), ("cascade", "chat"), ("liveness", "agent"), ("progress", "night")], {HOST}),
        ([("host", HOST), ("memory", "agent")], {HOST}),
        ([("memory", HOST), ("cascade", "chat")], {HOST}),
        ([("vram", HOST), ("cascade", "chat")], {HOST}),
        ([("host", HOST), ("token_burn", "chat")], {HOST, "chat"}),
        ([("ledger_integrity", HOST), ("cascade", "chat")], {HOST, "chat"}),
        ([("memory", "chat"), ("memory", "agent")], {"chat", "agent"}),
    ],
    ids=lambda found: str(sorted(found) if isinstance(found, set) else found),
)
def test_what_counts_as_trouble_of_its_own(found: Sequence[Found], independent: set[str]) -> None:
    """Each row is one moment on a workstation."""
    assert roots([anomaly(*one) for one in found], RUNGS) == independent


@pytest.mark.parametrize(
    ("rung", "hard", "counts"),
    [("", False, False), ("", True, True), ("throttle", True, False), ("freeze", False, True)],
)
def test_a_fact_is_more_than_a_throttle_unless_its_finding_says_so(
    rung: str, hard: bool, counts: bool
) -> None:
    """A probe's usual throttle may be a fact's too; a detector that asks for no more than one is not certain."""
    assert roots([anomaly("progress_slow", "chat", rung, hard=hard)], {"progress_slow": Rung.THROTTLE}) == (
        {"chat"} if counts else set()
    )


def test_a_broken_gpu_is_no_shortage() -> None:
    """Whoever crashes beside it has a trouble of its own, and nobody is paused to make room."""
    for unit, short in (("gpus", False), ("xid", False), ("ratio", True), ("", True)):
        found = Anomaly(Finding("vram", HOST, Severity.ANOMALY, 0.0, "why", unit=unit), 0.0, 0.0)
        assert host_is_short([found]) is short
        assert roots([found, anomaly("cascade", "chat")], RUNGS) == ({HOST} if short else {HOST, "chat"})


anomalies = st.lists(
    st.builds(
        anomaly,
        st.sampled_from([*RUNGS, "unheard-of"]),
        st.sampled_from([HOST, "chat", "agent", "night"]),
        st.sampled_from(["", "open", "throttle", "block", "freeze", "stop"]),
        st.sampled_from([Severity.ANOMALY, Severity.CRITICAL]),
        hard=st.booleans(),
    ),
    max_size=8,
)


@given(anomalies)
def test_roots_are_never_more_than_those_something_was_found_of(found: list[Anomaly]) -> None:
    """All that is critical is among them, and a subsystem counts once however much is found of it."""
    counted = roots(found, RUNGS)
    assert counted <= {a.key.subsystem for a in found}
    assert counted >= {a.key.subsystem for a in found if a.severity is Severity.CRITICAL}
    assert roots([*found, *found], RUNGS) == counted


@given(anomalies)
def test_a_shortage_only_ever_takes_roots_away(found: list[Anomaly]) -> None:
    """It explains what others suffer; it blames nobody who was not blamed before."""
    for probe in sorted(SHORTAGES):
        assert roots([*found, anomaly(probe, HOST)], RUNGS) <= roots(found, RUNGS) | {HOST}
