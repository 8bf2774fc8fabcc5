"""The release of VRAM, made from the daemon's own parts: its upstreams, its supervisor and its probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from epad.configuration.schema import Config
from epad.control_loop.step import StepFailedError
from epad.gateway.upstream import Upstream
from epad.response.release_vram import Measure, ModelServer, ReleaseLimits, VramRelease
from epad.storage.event_log import EventKind, EventLog
from epad.supervisor.errors import SupervisorError
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import Clock
from statemachine.containment import Rung

REASON = "its VRAM is being released"


class Holder(Protocol):
    """The part of `Supervisor` that is used."""

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool = False) -> str: ...

    def snapshots(self) -> Sequence[SubsystemSnapshot]: ...


class HeldAtStop:
    """Ends a subsystem by holding it at STOP: nothing starts it again until somebody gives it another hold.

    A hold at STOP is TERM, the subsystem's own grace, then KILL of the rest; here the two are told apart.
    """

    def __init__(self, holder: Holder, grace_of: Callable[[str], float]) -> None:
        self._holder = holder
        self._grace_of = grace_of
        self._stopping: dict[str, asyncio.Task[str]] = {}

    async def terminate(self, subsystem: str) -> bool:
        task = asyncio.create_task(self._holder.hold(subsystem, Rung.STOP, REASON), name=f"stop {subsystem}")
        self._stopping[subsystem] = task
        done, _ = await asyncio.wait({task}, timeout=self._grace_of(subsystem))
        return bool(done) and await self.kill(subsystem)

    async def kill(self, subsystem: str) -> bool:
        """Wait for the KILL that a hold at STOP ends with."""
        try:
            await self._stopping.pop(subsystem)
        except (KeyError, SupervisorError):
            return False  # nothing is being stopped, or it could not be
        snapshot = next(s for s in self._holder.snapshots() if s.name == subsystem)
        return snapshot.pid is None and snapshot.state is not SubsystemState.FAILED


class VramReleaseStep:
    """The ladder as a part of containment: an event with every rung, and one sentence for the journal."""

    def __init__(self, ladder: VramRelease, events: EventLog) -> None:
        self._ladder = ladder
        self._events = events

    async def release(self, subsystem: str) -> str:
        """Take its VRAM back. Raises StepFailedError where it is not back though every rung was taken."""
        released = await self._ladder.release(subsystem)
        self._events.emit(EventKind.VRAM_RELEASED, subsystem, **released.evidence(), note=released.note)
        if released.released is False:
            raise StepFailedError(released.sentence)
        return released.sentence


def make_vram_release(
    configured: Callable[[], Config],
    *,
    upstreams: Callable[[], Sequence[Upstream]],
    holder: Holder,
    measure: Measure,
    clock: Clock,
) -> VramRelease:
    """Join the parts. `subsystems.NAME.serves`, as configured at that time, says which upstream a subsystem is."""
    release = configured().release_vram
    limits = ReleaseLimits(
        request_seconds=release.request_seconds,
        settle_seconds=release.settle_seconds,
        keep_ratio=release.keep_ratio,
        sleep_level=release.sleep_level,
    )

    def server_of(subsystem: str) -> ModelServer | None:
        name = configured().subsystems[subsystem].serves
        found = next((upstream for upstream in upstreams() if upstream.name == name), None)
        return None if found is None else ModelServer(found.base, found.key, found.origin.path)

    return VramRelease(
        limits,
        server_of=server_of,
        measure=measure,
        processes=HeldAtStop(holder, lambda subsystem: configured().subsystems[subsystem].stop_seconds),
        clock=clock,
    )
