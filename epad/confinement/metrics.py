"""The series of the way out: connections, refusals, bytes and questions."""

from __future__ import annotations

from epad.confinement.approvals import State
from epad.metrics.family import counter, gauge
from runners.egress.refusal import Why

DIRECTIONS = ("up", "down")

EGRESS_OPENED = counter(
    "epad_egress_connections_total", "Connections that the way out let through.", "subsystem", begins=[()]
)
EGRESS_REFUSED = counter(
    "epad_egress_refusals_total",
    "Connections that the way out refused.",
    "subsystem",
    "why",
    begins=[(why,) for why in Why],
)
EGRESS_BYTES = counter(
    "epad_egress_bytes_total",
    "Bytes that passed the way out.",
    "subsystem",
    "direction",
    begins=[(direction,) for direction in DIRECTIONS],
)
EGRESS_OPEN = gauge(
    "epad_egress_connections_open", "Connections that are open now.", "subsystem", leaves=True
)
EGRESS_QUESTIONS = counter(
    "epad_egress_questions_total",
    "Questions for a person, by how they ended.",
    "subsystem",
    "answer",
    begins=[(state,) for state in State if state is not State.OPEN],
)
EGRESS_STARTS = counter("epad_egress_starts_total", "Starts of the way out's own process.")
