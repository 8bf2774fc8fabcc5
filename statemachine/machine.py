"""The phase machine: the table, enforced.

The `transitions` package is used as a synchronous table only. Its AsyncMachine loses requests: a second trigger cancels
the first inside its callback (pytransitions#465, #474), a queued one answers True although it never ran, and a timeout
returns False (#704). So there is no callback with an effect here, and no `auto_transitions`, which would give anyone a
`to_LIFEBOAT()`.
"""

from __future__ import annotations

from transitions import Machine as TransitionTable
from transitions import MachineError

from statemachine.phase import Phase
from statemachine.situation import Limits, Situation
from statemachine.table import GUARDS, TABLE, Row


class IllegalTransitionError(Exception):
    """The transition is not in the table, or its guard does not hold."""


class Machine:
    """Holds the phase and moves it along rows of the table, never otherwise."""

    def __init__(self, phase: Phase = Phase.NORMAL) -> None:
        self.state: str = phase.value  # the attribute that `transitions` reads and writes
        self._table = TransitionTable(
            model=self,
            states=[p.value for p in Phase],
            initial=phase.value,
            auto_transitions=False,
            send_event=True,
        )
        for row in TABLE:
            # One trigger a row: two rows may share source and trigger with different guards, and
            # the row that the policy chose is the one that must be taken.
            self._table.add_transition(_event(row), row.source.value, row.destination.value)

    @property
    def phase(self) -> Phase:
        return Phase(self.state)

    def take(self, row: Row, situation: Situation, limits: Limits) -> Phase:
        """Move along `row` and return the new phase.

        Raises IllegalTransitionError if the situation does not permit it; the phase is then unchanged.
        """
        if row not in TABLE:
            message = f"{row.source} --{row.trigger}--> {row.destination} [{row.guard}] is not in the table"
            raise IllegalTransitionError(message)
        if situation.phase is not self.phase or not GUARDS[row.guard](situation, limits):
            message = (
                f"{row.source} --{row.trigger}--> {row.destination} refused in {self.phase}: [{row.guard}]"
            )
            raise IllegalTransitionError(message)
        try:
            self._table.events[_event(row)].trigger(self)
        except MachineError as error:
            message = f"{row.source} --{row.trigger}--> {row.destination} refused in {self.phase}"
            raise IllegalTransitionError(message) from error
        return self.phase


def _event(row: Row) -> str:
    return f"{row.source}_{row.trigger}_{row.guard}".lower()
