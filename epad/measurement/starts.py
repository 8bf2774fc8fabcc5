"""Compare each start of a subsystem with the one before it: tell what has changed, or hold it for a person.

| `on_change` | measured | a change |
|---|---|---|
| tell | beside the start, which waits for nothing | is an event, and what later starts are compared with |
| hold | before the start | is an event; nothing is started until `epactl changes accept` |

The first start of a subsystem has nothing to be compared with: it is what later ones are compared with. A file may be
changed between its measurement and its use; the next start finds that. The parts of a subsystem lie in a file each,
written by the child that reads them (`runners/measure`), so none of them comes into the daemon's memory.

| a crash comes | the next start |
|---|---|
| while it is measured | is compared with the same start as this one |
| between the event and the keeping of the new parts | tells of the same change again |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from epad.configuration.schema import SubsystemConfig
from epad.copying.child import ask_child
from epad.copying.errors import CheckpointError
from epad.measurement.words import sentence_of
from epad.runtime.side_tasks import Tasks
from epad.storage.event_log import EventKind
from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError
from runners.measure.request import ENVIRONMENT, Change, Measured, Start

DEADLINE_SECONDS: Final = 600.0
"""A model of 70 billion parameters is read at the disk's speed, once."""
_NEW: Final = ".new"


class Emit(Protocol):
    """The part of `epad.storage.event_log.EventLog` that tells of changes."""

    def emit(self, kind: EventKind, subsystem: str = "", **fields: object) -> object: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Holds the newest measurement of a subsystem. `is_held`: it waits to be accepted. `at`: seconds since 1970."""

    subsystem: str
    at: float
    measured: Measured
    is_held: bool

    @property
    def sentence(self) -> str:
        """Say how it differs from the start before it."""
        return sentence_of(self.subsystem, self.measured)


class Starts:
    """Implements `epad.supervisor.start_check.StartCheck`."""

    def __init__(
        self, directory: Path, events: Emit, now: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        self._directory = directory
        self._events = events
        self._now = now
        self._log = log
        self._tasks = Tasks(log)
        self._measuring: dict[str, asyncio.Lock] = {}
        self._waiting: set[str] = set()
        self._seen: dict[str, Seen] = {}

    def seen(self) -> list[Seen]:
        """Return the newest measurement of each subsystem that this run of the daemon has started."""
        return [self._seen[name] for name in sorted(self._seen)]

    async def check(self, subsystem: str, spec: SubsystemConfig, launch: Launch) -> None:
        """Measure a start. Raises SpawnError for a change that nobody has accepted, where it is to be held."""
        start = Start(launch.command, str(launch.directory), _shown(launch.environment), spec.made_of)
        if spec.on_change == "tell":
            if subsystem in self._waiting:
                return  # a loop of restarts: one of them is measured, and then the newest
            self._waiting.add(subsystem)
            self._tasks.start(self._tell(subsystem, start), f"measure {subsystem}")
            return
        try:
            measured = await self._measure(subsystem, start)
        except (CheckpointError, OSError) as error:
            text = f"what it runs could not be measured: {error}"
            raise SpawnError(text, permanent=False, key="on_change") from error
        if not measured.changed:
            self._keep(subsystem, measured)
            return
        known = self._seen.get(subsystem)
        self._see(subsystem, measured, is_held=True)
        if known is None or not known.is_held or known.measured.digest != measured.digest:
            self._report(subsystem, measured, is_held=True)
        text = (
            f"{sentence_of(subsystem, measured)}; `epactl changes accept {subsystem}` starts it as it is now"
        )
        raise SpawnError(text, permanent=True, key="on_change")

    def waits(self, subsystem: str) -> bool:
        """Tell if a change of a subsystem waits to be accepted."""
        seen = self._seen.get(subsystem)
        return seen is not None and seen.is_held

    def accept(self, subsystem: str) -> str:
        """Take a subsystem as it is for what it is to be; return a sentence. Raises OSError."""
        seen = self._seen[subsystem]
        self._keep(subsystem, seen.measured)
        return f"accepted: {seen.sentence}"

    async def close(self) -> None:
        """End what is being measured; the next start is compared with the same one."""
        await self._tasks.cancel()

    async def _tell(self, subsystem: str, start: Start) -> None:
        try:
            measured = await self._measure(subsystem, start)
            if measured.changed:
                self._report(subsystem, measured, is_held=False)
            self._keep(subsystem, measured)
        except (CheckpointError, OSError) as error:
            self._log.warning("subsystem.not_measured", subsystem=subsystem, error=str(error))

    async def _measure(self, subsystem: str, start: Start) -> Measured:
        """Have a child measure a start, into the file of the new parts. Raises CheckpointError, OSError."""
        # A subsystem that is started again while it is measured waits: both write the same file.
        async with self._measuring.setdefault(subsystem, asyncio.Lock()):
            self._waiting.discard(subsystem)
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = self._file(subsystem)
            return await ask_child(
                "runners.measure",
                *(msgspec.json.encode(start).decode(), str(kept), f"{kept}{_NEW}"),
                answer=Measured,
                deadline_seconds=DEADLINE_SECONDS,
            )

    def _report(self, subsystem: str, measured: Measured, *, is_held: bool) -> None:
        self._events.emit(
            EventKind.SUBSYSTEM_CHANGED,
            subsystem,
            sentence=sentence_of(subsystem, measured),
            held=is_held,
            changed=measured.changed,
            changes=[_fields(change) for change in measured.changes],
            digest=measured.digest,
            before=measured.before,
        )
        self._log.warning(
            "subsystem.changed",
            subsystem=subsystem,
            changed=measured.changed,
            held=is_held,
            digest=measured.digest,
        )

    def _keep(self, subsystem: str, measured: Measured) -> None:
        """Compare later starts with this one. Raises OSError."""
        kept = self._file(subsystem)
        Path(f"{kept}{_NEW}").replace(kept)
        self._see(subsystem, measured, is_held=False)

    def _see(self, subsystem: str, measured: Measured, *, is_held: bool) -> None:
        self._seen[subsystem] = Seen(subsystem, self._now(), measured, is_held)

    def _file(self, subsystem: str) -> Path:
        return self._directory / f"{subsystem}.json"


def _shown(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in ENVIRONMENT if name in environment}


def _fields(change: Change) -> dict[str, str]:
    return {"path": change.path, "how": change.how, "role": change.role}
