"""Isolation of one subsystem: the gateway's door and the process tree, in the order that lets nothing through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from epad.control_loop.step import Operation, Step, StepFailedError
from epad.gateway.access import Access
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from statemachine.containment import Hold, Rung
from statemachine.tool_targets import is_tool_target

HoldOf = Callable[[str], Hold]
"""How a subsystem should be held, as of the last decision that is in the journal."""


class VramRelease(Protocol):
    """Frees a subsystem's GPU memory short of ending it."""

    async def release(self, subsystem: str) -> str:
        """Return a sentence on the freed memory, and the way.

        Raises StepFailedError if only the subsystem's end helps.
        """
        ...


class NoVramRelease:
    """For a daemon that knows no gentle way."""

    async def release(self, subsystem: str) -> str:
        raise StepFailedError(f"there is no way to free the GPU memory of {subsystem} but to end it")


class CellDoors(Protocol):
    """Opens and shuts the doors of confined subsystems; of one that is not confined there are none."""

    async def shut(self, subsystem: str) -> str:
        """Let it reach nothing any more, and cut off its open connections; return the result, empty without doors."""
        ...

    async def open(self, subsystem: str) -> str:
        """Let it through again; return the result, empty without doors."""
        ...


class CellStarts(CellDoors, Protocol):
    """Chooses the policy that a confined subsystem is started under."""

    def fall_back(self, subsystem: str) -> str:
        """Start it under its last good policy; name the suspect changes of the configured one, if any are."""
        ...

    def take_back(self, subsystem: str) -> None:
        """Start it under the configured policy."""
        ...


class NoCellDoors:
    """For a daemon that confines nothing."""

    def fall_back(self, subsystem: str) -> str:
        del subsystem
        return ""

    def take_back(self, subsystem: str) -> None: ...

    async def shut(self, subsystem: str) -> str:
        del subsystem
        return ""

    async def open(self, subsystem: str) -> str:
        del subsystem
        return ""


class Containment:
    """Brings a subsystem under its hold. Level-triggered: a late step applies the hold that is wanted by then."""

    def __init__(
        self,
        access: Access,
        supervisor: Supervisor,
        hold_of: HoldOf,
        vram: VramRelease | None = None,
        cells: CellDoors | None = None,
    ) -> None:
        self._access = access
        self._supervisor = supervisor
        self._hold_of = hold_of
        self._vram = vram or NoVramRelease()
        self._cells = cells or NoCellDoors()

    async def hold(self, step: Step, _: Operation) -> str:
        """Do a `hold` step. Raises StepFailedError."""
        name, hold = step.target, self._hold_of(step.target)
        if is_tool_target(name, (one.name for one in self._supervisor.snapshots())):
            return self._hold_tool(name, hold)
        # The door closes before the process is touched, and opens only when the process is ready to use it.
        if hold.rung is not Rung.OPEN:
            self._access.hold(name, hold.rung, hold.reason)
        cut = await self._cut(name) if hold.rung >= Rung.BLOCK else ""
        try:
            network = await self._supervisor.hold(name, hold.rung, hold.reason, paused=hold.paused)
            freed = await self._release_vram(name, hold) if hold.rung is Rung.RELEASE_VRAM else ""
        except SupervisorError as error:
            raise StepFailedError(str(error)) from error
        if hold.rung is Rung.OPEN:
            door = await open_door(self._access, name, self._hold_of(name), self._cells)
        elif hold.rung is Rung.THROTTLE:
            door = "; ".join(filter(None, ("gateway throttled", await self._cells.open(name))))
        else:
            door = cut
        said = (door, freed, process_in_words(self._supervisor, name), network)
        return "; ".join(words for words in said if words)

    def _hold_tool(self, name: str, hold: Hold) -> str:
        """Hold a tool, or a category: its calls are refused, and those under way end with their processes."""
        if hold.rung is Rung.OPEN:
            self._access.release(name)
            return "its calls go on"
        self._access.hold(name, hold.rung, hold.reason)
        if hold.rung is Rung.THROTTLE:
            return "its calls are throttled"
        return f"its calls are refused, {self._access.sever(name)} under way ended"

    async def _cut(self, name: str) -> str:
        """Sever its turns and shut the doors of its cell; return the result."""
        severed = self._access.sever(name)
        shut = await self._cells.shut(name)
        return "; ".join(filter(None, (f"gateway closed, {severed} turn(s) severed", shut)))

    async def _release_vram(self, name: str, hold: Hold) -> str:
        """Free its GPU memory: gently if that is possible, else by ending it."""
        try:
            return await self._vram.release(name)
        except StepFailedError as error:
            await self._supervisor.hold(name, Rung.STOP, hold.reason, paused=hold.paused)
            return str(error)


async def open_door(access: Access, name: str, wanted: Hold, cells: CellDoors) -> str:
    """Open the gateway to a subsystem, unless it has come under a hold meanwhile: that hold has its own step.

    The doors of its cell come last: who comes in by them is let through.
    """
    if wanted.rung is not Rung.OPEN:
        return f"gateway still closed: {wanted.reason}"
    access.release(name)
    return "; ".join(filter(None, ("gateway open", await cells.open(name))))


def process_in_words(supervisor: Supervisor, name: str) -> str:
    """Describe the present state of a subsystem's process, for the result of a step."""
    snapshot = next(s for s in supervisor.snapshots() if s.name == name)
    if snapshot.kind == "client":
        return "it has no process of ours"
    return f"process {snapshot.pid} {snapshot.state}" if snapshot.pid else f"no process, {snapshot.state}"
