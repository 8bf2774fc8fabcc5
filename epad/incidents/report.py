"""Word troubles and holds as sentences, in one place (`epad/incidents/sentence.py`).

Everything that tells a person of a trouble asks here: `of` for one subsystem, `current` for all, `headline` for the
one line above them. Reads memory only.
"""

from __future__ import annotations

from datetime import tzinfo

from epad.control_loop.decider import Decider
from epad.incidents.look import CALM, IncidentLook, Upstreams
from epad.incidents.sentence import Sentence
from epad.metrics.registry import Metrics
from statemachine.clock import Clock

__all__ = ["CALM", "IncidentReport"]


class IncidentReport:
    """Says how things are whenever it is asked.

    `upstreams` gives the rows of the status; `zone` is the machine's if None. Whoever asks several things at once
    takes one `look`, so that the same is not worked out again for each of them.
    """

    def __init__(
        self, decider: Decider, clock: Clock, upstreams: Upstreams = tuple, zone: tzinfo | None = None
    ) -> None:
        self._decider = decider
        self._clock = clock
        self._upstreams = upstreams
        self._zone = zone

    def look(self) -> IncidentLook:
        """Take in how things are now."""
        return IncidentLook(self._decider, self._clock, self._upstreams, self._zone)

    def of(self, subsystem: str) -> Sentence | None:
        """Return the hold of a subsystem, its reason, its end, and the command; None if it is not held."""
        return self.look().of(subsystem)

    def line_of(self, subsystem: str) -> str:
        """Return the same as text; empty if it is not held."""
        return self.look().line_of(subsystem)

    def phase(self) -> Sentence | None:
        """Return the phase's action, its end, and the command for that; None if the subsystems' lines say it all."""
        return self.look().phase()

    def current(self) -> list[Sentence]:
        """Return a sentence for every trouble and hold: subsystems, the host, the upstreams, then those who wait."""
        return self.look().current()

    def about(self, subject: str | None) -> list[Sentence]:
        """Return the sentences about a subsystem, the host, the present phase, or (None) everything."""
        return self.look().about(subject)

    def headline(self) -> str:
        """Say all of it in one line: the condition of the phase itself, every trouble, and the waiting subsystems."""
        return self.look().headline()

    def observe(self, metrics: Metrics) -> None:
        """Bring the series of the holds up to date."""
        self.look().observe(metrics)
