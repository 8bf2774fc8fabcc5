"""The subsystems together: started in the order of their dependencies, stopped in the reverse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import count
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from epad.configuration.directories import Directories
from epad.configuration.schema import SubsystemConfig
from epad.runtime.environment_marks import STATE_MARK
from epad.runtime.side_tasks import Tasks
from epad.runtime.timers import sleep_to_beat
from epad.storage.database import Database
from epad.supervisor.cell_maker import CellMaker, NoCells
from epad.supervisor.engine import Engine
from epad.supervisor.errors import SupervisorError
from epad.supervisor.footprints import Workload
from epad.supervisor.health import Checker, NoChecker
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.intent import (
    ClientSubsystem,
    Environment,
    Held,
    Remember,
    Room,
    Settings,
    remember_nothing,
)
from epad.supervisor.process_subsystem import ProcessSubsystem
from epad.supervisor.records import ProcessRecord, ProcessRecords
from epad.supervisor.start_check import NoStartCheck, StartCheck
from epad.supervisor.systemd_bus import SYSTEM_BUS
from probes.subsystems import SubsystemObserver, SubsystemSnapshot
from statemachine.clock import Clock
from statemachine.containment import Rung

if TYPE_CHECKING:
    from epad.supervisor.systemd_manager import Manager
    from epad.supervisor.unit_subsystem import UnitSubsystem

# A few are looked at in every beat; of many, each comes to its turn within so many beats.
_LOOKS_PER_BEAT = 10
_MAX_BEATS = 10
# A count that was read just before an exit tells whether the kernel's killing is of now.
_BEATS_PER_OOM_LOOK = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Holds the parts a supervisor works with.

    At each start of a subsystem `environment` is asked for its extra variables, and `output` for its output file: its
    log file by default.
    """

    database: Database
    directories: Directories
    environment: Environment
    engine: Engine
    clock: Clock
    observer: SubsystemObserver
    log: FilteringBoundLogger
    boot_id: str
    settings: Settings = field(default_factory=Settings)
    checker: Checker = field(default_factory=NoChecker)
    remember: Remember = remember_nothing
    output: Callable[[str], Path] | None = None
    cells: CellMaker = field(default_factory=NoCells)
    start_check: StartCheck = field(default_factory=NoStartCheck)


class Supervisor:
    """Starts, adopts, holds, restarts and stops the configured subsystems."""

    def __init__(self, specs: Mapping[str, SubsystemConfig], surroundings: Surroundings) -> None:
        """Raises SupervisorError where dependencies are unknown or run in a circle."""
        self._layers = _layers(specs)
        self._engine = surroundings.engine
        self._clock = surroundings.clock
        self._log = surroundings.log
        self._settings = surroundings.settings
        self._state_mark = {STATE_MARK: str(surroundings.directories.state)}
        self._tasks = Tasks(surroundings.log)
        self._records = ProcessRecords(surroundings.database, surroundings.boot_id)
        self._room = _room(surroundings, self._records, self._tasks)
        self._order: tuple[str, ...] = tuple(specs)
        self._processes: dict[str, ProcessSubsystem | UnitSubsystem] = {}
        self._clients: dict[str, ClientSubsystem] = {}
        self._manager: Manager | None = None
        self._admit(specs)

    @property
    def engine(self) -> str:
        """Say how processes are held here."""
        return f"{self._engine.name}: {self._engine.describe()}"

    async def start(self) -> None:
        """Adopt the running processes, and start the others; returns when all that can be started have been.

        A subsystem waits for its dependencies to be ready, or for as long as they are given to become so.
        Holds given before apply from the first moment. Raises SupervisorError, DatabaseError.
        """
        await self._engine.prepare()
        records = await self._records.load()
        marked = await self._engine.bearing(self._state_mark)
        await self._end_strangers(records, marked)
        for name, process in self._processes.items():
            await process.begin(records.get(name), marked)
        self._tasks.start(self._watch(), "supervisor watch")
        launches = [self._launch(process) for layer in self._layers for process in self._in(layer)]
        await asyncio.gather(*launches)

    async def _end_strangers(
        self, records: Mapping[str, ProcessRecord], marked: frozenset[ProcessIdentity]
    ) -> None:
        """Stop the subsystems removed from the configuration while no daemon ran, as a reload would have done then."""
        strangers = [records[name] for name in records.keys() - set(self._order)]
        await asyncio.gather(*(self._end_stranger(record, marked) for record in strangers))

    async def _end_stranger(self, record: ProcessRecord, marked: frozenset[ProcessIdentity]) -> None:
        stranger = ProcessSubsystem(record.subsystem, SubsystemConfig(), self._room)
        await stranger.begin(record, marked)
        pid = stranger.snapshot().pid
        await stranger.end()
        if pid is not None:
            why = "it is configured no more: stopped"
            self._log.warning("subsystem.left_over", subsystem=record.subsystem, pid=pid, reason=why)

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool = False) -> str:
        """Hold a subsystem exactly this firmly; asking again changes nothing. Raises SupervisorError.

        From BLOCK upwards it is also cut off the network, if the engine can; returns the result. `paused` marks a hold
        for everybody's sake, not for its own fault: PAUSED, not QUARANTINED.
        """
        held = Held(rung, reason, paused)
        if (client := self._clients.get(name)) is not None:
            client.hold(held, self._clock.monotonic())
            return ""
        process = self._process(name)
        await self._finish(process.hold(held), f"hold {name}")
        return await process.isolate(cut=rung >= Rung.BLOCK)

    async def restart(self, name: str, *, trial: bool = False) -> None:
        """Stop a subsystem's tree and start it afresh, its restart budget whole. Raises SupervisorError.

        A recovery's restart is a `trial`: failures in a row are counted on, until a run is healthy.
        """
        if name not in self._clients:
            await self._finish(self._process(name).restart(trial=trial), f"restart {name}")

    async def reconfigure(self, specs: Mapping[str, SubsystemConfig], holds: Mapping[str, Held]) -> None:
        """Supervise these from now on: end the removed ones, adjust the rest, start the new ones.

        A running process is left alone, regardless of its changes: `restart` gives it a new command. A new one comes
        under its hold of `holds` before it starts. Raises SupervisorError, DatabaseError.
        """
        layers = _layers(specs)
        for layer in reversed(self._layers):
            ended = [self._processes[name] for name in layer if name in self._processes and name not in specs]
            await asyncio.gather(*(process.end() for process in ended))
        fresh = [name for name in specs if name not in self._order]
        self._processes = {name: process for name, process in self._processes.items() if name in specs}
        self._clients = {name: client for name, client in self._clients.items() if name in specs}
        self._layers, self._order = layers, tuple(specs)
        self._admit(specs)
        for name in fresh:
            if name in holds:
                held = holds[name]
                await self.hold(name, held.rung, held.reason, paused=held.paused)
        begun = [self._processes[name] for name in fresh if name in self._processes]
        for process in begun:
            await process.begin(None, ())
        await asyncio.gather(*(self._launch(process) for process in begun))

    async def ask_to_save(self) -> list[str]:
        """Let each process that declares a checkpoint signal write out its state; say who did not answer."""
        processes = (p for p in self._processes.values() if isinstance(p, ProcessSubsystem))
        asked = [process for process in processes if process.spec.state.checkpoint_signal]
        answers = await asyncio.gather(*(process.ask_to_save() for process in asked))
        return [answer for answer in answers if answer]

    async def stop_all(self, helpers: Collection[int] = ()) -> None:
        """Stop every tree, users before providers, and name the escaped processes; `helpers` are ours."""
        for layer in reversed(self._layers):
            await asyncio.gather(*(process.end() for process in self._in(layer)))
        await self._tasks.cancel()
        self._engine.sweep()
        self._engine.sweep()
        for stray in sorted(self._engine.strays(helpers), key=lambda stray: stray.pid):
            self._log.warning(
                "subsystem.escaped",
                pid=stray.pid,
                reason="an orphan of a child, it has shed all that tells of which: left alone, and it lives on",
            )
        await self._close()

    async def detach(self) -> None:
        """Go, and let the processes live: the next daemon adopts them."""
        await self._tasks.cancel()
        for process in self._processes.values():
            process.leave()
        await self._close()

    async def _close(self) -> None:
        if self._manager is not None:
            self._manager.close()
        await self._engine.close()

    def snapshots(self) -> tuple[SubsystemSnapshot, ...]:
        """Return every subsystem as of now, in the order of the configuration."""
        found = (self.snapshot(name) for name in self._order)
        return tuple(one for one in found if one is not None)

    def snapshot(self, name: str) -> SubsystemSnapshot | None:
        """Return one subsystem as of now; None if none of this name is configured."""
        known = self._clients.get(name) or self._processes.get(name)
        return None if known is None else known.snapshot()

    def workloads(self) -> tuple[Workload, ...]:
        """Return the processes of every subsystem that has any."""
        found = (process.workload() for process in self._processes.values())
        return tuple(workload for workload in found if workload is not None)

    def failed(self) -> frozenset[str]:
        """Name the subsystems that will not come back by themselves."""
        return frozenset(name for name, process in self._processes.items() if process.has_failed)

    async def _launch(self, process: ProcessSubsystem | UnitSubsystem) -> None:
        for name in process.spec.depends_on:
            if (dependency := self._processes.get(name)) is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(dependency.settled.wait(), dependency.spec.ready_seconds)
        await process.launch()

    async def _watch(self) -> None:
        """Check for states that no event reports: hung children, dead orphans, deleted sockets."""
        looked = 0
        for beat in count():
            await sleep_to_beat(self._settings.watch_seconds)
            if beat % _BEATS_PER_OOM_LOOK == 0:
                self._room.oom_kills.look(self._clock.monotonic())
            processes = tuple(self._processes.values())  # a reload may change them between two beats
            for _ in range(_looks(len(processes))):
                processes[looked % len(processes)].check(self._clock.monotonic())
                looked += 1
            self._engine.sweep()

    async def _finish(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """See an order through even if whoever gave it has gone."""
        await asyncio.shield(self._tasks.start(work, name))

    def _admit(self, specs: Mapping[str, SubsystemConfig]) -> None:
        """Take in new specifications, of subsystems that are here and of those that are not yet."""
        for name, spec in specs.items():
            if name in self._processes:
                self._processes[name].configure(spec)
            elif name in self._clients:
                self._clients[name].spec = spec
            elif spec.kind == "process":
                self._processes[name] = ProcessSubsystem(name, spec, self._room)
            elif spec.kind == "unit":
                self._processes[name] = self._unit(name, spec)
            else:
                self._clients[name] = ClientSubsystem(name, spec, self._clock.monotonic())

    def _unit(self, name: str, spec: SubsystemConfig) -> UnitSubsystem:
        """Make a subsystem that is a unit of the system's manager; all of them share one connection to it."""
        # The D-Bus library costs 4 MiB, and is loaded only where a unit is configured.
        from epad.supervisor.systemd_manager import Manager  # noqa: PLC0415
        from epad.supervisor.unit_subsystem import UnitSubsystem  # noqa: PLC0415

        self._manager = self._manager or Manager(SYSTEM_BUS)
        return UnitSubsystem(name, spec, self._room, self._manager)

    def _process(self, name: str) -> ProcessSubsystem | UnitSubsystem:
        try:
            return self._processes[name]
        except KeyError:
            known = ", ".join(self._order) or "none"
            raise SupervisorError(f"no subsystem {name!r}; configured are: {known}") from None

    def _in(self, layer: Iterable[str]) -> list[ProcessSubsystem | UnitSubsystem]:
        return [self._processes[name] for name in layer if name in self._processes]


def _looks(count: int) -> int:
    """Say how many subsystems are looked at in one beat: a look costs 60 to 120 us, so with many they take turns."""
    return min(count, max(_LOOKS_PER_BEAT, ceil(count / _MAX_BEATS)))


def _layers(specs: Mapping[str, SubsystemConfig]) -> tuple[tuple[str, ...], ...]:
    """Sort the subsystems so that each stands after the layers of its providers."""
    for name, spec in specs.items():
        for dependency in spec.depends_on:
            if dependency not in specs:
                raise SupervisorError(f"subsystems.{name}.depends_on: no subsystem {dependency!r}")
    sorter = TopologicalSorter({name: spec.depends_on for name, spec in specs.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise SupervisorError(f"subsystems: depends_on runs in a circle: {circle}") from error
    layers: list[tuple[str, ...]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        layers.append(tuple(name for name in specs if name in ready))
        sorter.done(*ready)
    return tuple(layers)


def _room(surroundings: Surroundings, records: ProcessRecords, tasks: Tasks) -> Room:
    return Room(
        engine=surroundings.engine,
        records=records,
        directories=surroundings.directories,
        environment=surroundings.environment,
        output=surroundings.output or surroundings.directories.log,
        environ=os.environ,
        clock=surroundings.clock,
        observer=surroundings.observer,
        log=surroundings.log,
        boot_id=surroundings.boot_id,
        tasks=tasks,
        settings=surroundings.settings,
        checker=surroundings.checker,
        remember=surroundings.remember,
        cells=surroundings.cells,
        start_check=surroundings.start_check,
    )
