"""The series of cells and of the way out: walls, connections, refusals, bytes and questions."""

from __future__ import annotations

from collections.abc import Mapping

from epad.confinement.approvals import State
from epad.confinement.cells import Confinement
from epad.metrics.family import counter, gauge
from epad.metrics.registry import Metrics
from probes.egress import DirectKind
from runners.egress.refusal import Why

DIRECTIONS = ("up", "down")
UNREAD_ATTEMPTS = "unread"
"""The kind of attempts that came faster than they were read."""

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
DIRECT_ATTEMPTS = counter(
    "epad_egress_direct_attempts_total",
    "Attempts of confined subsystems to connect past their doors, by where to; none gets anywhere.",
    "subsystem",
    "kind",
    begins=[*((kind,) for kind in DirectKind), (UNREAD_ATTEMPTS,)],
)
EGRESS_STARTS = counter("epad_egress_starts_total", "Starts of the way out's own process.")
CONFINED = gauge(
    "epad_subsystem_confined", "1 if a subsystem's process has walls around it.", "subsystem", leaves=True
)
WALLS_MISSING = gauge(
    "epad_subsystem_walls_missing",
    "Walls that a subsystem's process has to do without, though its policy asks for them.",
    "subsystem",
    leaves=True,
)


def show_cells(metrics: Metrics, confinements: Mapping[str, Confinement]) -> None:
    """Bring the series of walls up to date, for a scrape."""
    confined, missing = metrics.of(CONFINED), metrics.of(WALLS_MISSING)
    for name, one in confinements.items():
        confined.labels(name).set(one.profile != "open")
        missing.labels(name).set(len(one.missing))
