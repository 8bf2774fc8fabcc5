"""Asks each probe on its own schedule, and never lets a slow or broken one harm another.

Plain loops on the event loop's monotonic clock. APScheduler computes from the wall clock: set back an hour, it
ran nothing for an hour (agronholm/apscheduler#752, measured in research), so it serves wall-clock jobs only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from epad.answers import status
from epad.metrics.registry import Metrics
from epad.probing.metrics import PROBE_DURATION, PROBE_LAST, PROBE_SUCCESS
from epad.runtime.timers import sleep_to_beat
from epad.storage.event_log import EventKind, EventLog
from probes.probe import Probe, ProbeError, Push
from statemachine.clock import Clock

# A probe is given this many of its own intervals, and at least MIN_TIMEOUT_SECONDS, before it counts as blind.
TIMEOUT_INTERVALS = 3.0
MIN_TIMEOUT_SECONDS = 10.0


@dataclass(slots=True)
class Sight:
    """Tells if a probe could see at its last look, and when it last could."""

    success: bool = False
    looked: bool = False
    last_success_at: float | None = None
    note: str = ""


class ProbeLoops:
    """Runs the probes and remembers which of them can see."""

    def __init__(
        self, probes: Sequence[Probe], push: Push, clock: Clock, events: EventLog, metrics: Metrics
    ) -> None:
        self._probes = probes
        self._push = push
        self._clock = clock
        self._events = events
        self._metrics = metrics
        self._log = structlog.get_logger("epad.probes")
        self._sights = {probe.name: Sight() for probe in probes}

    def blind(self) -> frozenset[str]:
        """Probes whose last look failed."""
        return frozenset(name for name, sight in self._sights.items() if sight.looked and not sight.success)

    def snapshot(self) -> list[status.Probe]:
        """Return one row a probe, for status."""
        now = self._clock.monotonic()
        return [
            {
                "name": name,
                "success": sight.success,
                "age_seconds": None if sight.last_success_at is None else now - sight.last_success_at,
                "note": sight.note,
            }
            for name, sight in self._sights.items()
        ]

    def loops(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """Return a named loop for each probe, to be run as a task."""
        return [(f"probe:{probe.name}", self._run(probe)) for probe in self._probes]

    async def _run(self, probe: Probe) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._look(probe)
            # A look that took longer than its interval is followed by the next at once, but by one only.
            due = max(due + probe.interval_seconds, loop.time())
            await sleep_to_beat(due - loop.time())

    async def _look(self, probe: Probe) -> None:
        started = self._clock.monotonic()
        limit = max(probe.interval_seconds * TIMEOUT_INTERVALS, MIN_TIMEOUT_SECONDS)
        failure = ""
        try:
            async with asyncio.timeout(limit):
                findings = await probe.sample()
        except TimeoutError:
            failure = f"no answer within {limit:.0f} s"
        except ProbeError as error:
            failure = str(error)
        except Exception as error:
            # A bug in one probe must not take the daemon along; it is blind, and says so once.
            failure = f"{type(error).__name__}: {error}"
            if self._sights[probe.name].note != failure:
                self._log.exception("probe.crashed", probe=probe.name)
        else:
            for finding in findings:
                self._push(finding)
        self._note(probe, failure, self._clock.monotonic() - started)

    def _note(self, probe: Probe, failure: str, seconds: float) -> None:
        sight = self._sights[probe.name]
        success = not failure
        if sight.success != success or not sight.looked:
            self._tell(probe.name, failure)
        sight.success, sight.looked = success, True
        sight.note = failure or getattr(probe, "notice", "")
        if success:
            sight.last_success_at = self._clock.monotonic()
            self._metrics.of(PROBE_LAST).labels(probe.name).set(self._clock.utc().timestamp())
        self._metrics.of(PROBE_SUCCESS).labels(probe.name).set(success)
        self._metrics.of(PROBE_DURATION).labels(probe.name).set(seconds)

    def _tell(self, name: str, failure: str) -> None:
        if failure:
            self._log.warning(EventKind.PROBE_BLIND, probe=name, reason=failure)
            self._events.emit(EventKind.PROBE_BLIND, probe=name, reason=failure)
        else:
            self._events.emit(EventKind.PROBE_SEES, probe=name)
