"""Isolation of one subsystem: the gateway's door and the process tree, in the order that lets nothing through."""

from __future__ import annotations

from epad.gateway.access import Access
from epad.response.step import Operation, Step, StepFailedError
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Hold, Rung


class Containment:
    """Puts a hold into effect, or takes it away. Level-triggered: told the same twice, it does it once."""

    def __init__(self, access: Access, supervisor: Supervisor) -> None:
        self._access = access
        self._supervisor = supervisor

    async def hold(self, step: Step, _: Operation) -> str:
        """Do a `hold` step. Raises StepFailedError."""
        rung, reason = Rung[step.arguments["rung"].upper()], step.arguments["reason"]
        # The door closes before the process is touched, and opens only when the process is ready to use it.
        if rung is not Rung.OPEN:
            self._access.hold(step.target, rung, reason)
        door = self._access.held(step.target)
        severed = self._access.sever(step.target) if rung >= Rung.BLOCK else 0
        try:
            await self._supervisor.hold(step.target, rung, reason, paused=step.arguments["paused"])
        except SupervisorError as error:
            raise StepFailedError(str(error)) from error
        if rung is Rung.OPEN:
            return f"{open_door(self._access, step.target, door)}; {self._process(step.target)}"
        shut = "gateway throttled" if rung is Rung.THROTTLE else f"gateway closed, {severed} turn(s) severed"
        return f"{shut}; {self._process(step.target)}"

    def _process(self, name: str) -> str:
        return process_in_words(self._supervisor, name)


def open_door(access: Access, name: str, before: Hold) -> str:
    """Open the gateway to a subsystem, unless another lane has put it under a new hold since `before`."""
    if access.held(name) is not before:
        return f"gateway still closed: {access.held(name).reason}"
    access.release(name)
    return "gateway open"


def process_in_words(supervisor: Supervisor, name: str) -> str:
    """What a subsystem's process is doing now, for the result of a step."""
    snapshot = next(s for s in supervisor.snapshots() if s.name == name)
    if snapshot.kind == "client":
        return "it has no process of ours"
    return f"process {snapshot.pid} {snapshot.state}" if snapshot.pid else f"no process, {snapshot.state}"
