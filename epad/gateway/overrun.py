"""State a finding when an upstream counts more tokens than were possible, or than any turn can have."""

from __future__ import annotations

from epad.gateway.budget import Reservation
from epad.gateway.charge import Charge
from statemachine.finding import HOST, Finding, Severity

OVERRUN_PROBE = "overrun"


def exceeded(
    turn: str, upstream: str, model: str, reservation: Reservation, charge: Charge, now: float
) -> Finding:
    """The bound was none: it is recorded in full, and the budget refuses the subsystem."""
    reason = (
        f"upstream {upstream} counted {charge.tokens} tokens where at most {reservation.tokens} "
        f"were possible (turn {turn}): its count or [gateway] template_tokens is wrong"
    )
    evidence = {
        "turn": turn,
        "upstream": upstream,
        "model": model,
        "reserved_tokens": reservation.tokens,
        "charged_tokens": charge.tokens,
        "reserved_microusd": reservation.microusd,
        "charged_microusd": charge.microusd,
    }
    return Finding(
        OVERRUN_PROBE,
        reservation.subsystem,
        Severity.ANOMALY,
        now,
        reason,
        charge.tokens,
        reservation.tokens,
        "tokens",
        evidence,
        hard=True,
    )


def absurd(turn: str, upstream: str, counted: str, now: float) -> Finding:
    """The upstream counts nonsense: the turn costs its reservation. No client is to blame for it."""
    name, _, value = counted.partition(" = ")
    reason = (
        f"upstream {upstream} counted {counted}, which no turn can have (turn {turn}): "
        "all that was reserved is charged; see what stands before the model server"
    )
    evidence = {"turn": turn, "upstream": upstream, "field": name, "counted": value}
    return Finding(OVERRUN_PROBE, HOST, Severity.WARNING, now, reason, unit="tokens", evidence=evidence)
