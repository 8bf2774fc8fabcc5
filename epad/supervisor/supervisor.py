"""The subsystems together: started in the order of their dependencies, stopped in the reverse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from structlog.typing import FilteringBoundLogger

from epad.config import SubsystemConfig
from epad.database import Database
from epad.directories import Directories
from epad.supervisor.engine import Engine
from epad.supervisor.errors import SupervisorError
from epad.supervisor.intent import ClientSubsystem, Environment, Held, Room, Settings
from epad.supervisor.launch import inherited
from epad.supervisor.records import ProcessRecords
from epad.supervisor.subsystem import ProcessSubsystem
from epad.supervisor.tasks import Tasks
from probes.subsystems import SubsystemObserver, SubsystemSnapshot, SubsystemState
from statemachine.clock import Clock
from statemachine.containment import Rung


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a supervisor works with. `environment` is asked for a subsystem's extra variables at each start."""

    database: Database
    directories: Directories
    environment: Environment
    engine: Engine
    clock: Clock
    observer: SubsystemObserver
    log: FilteringBoundLogger
    boot_id: str
    settings: Settings = field(default_factory=Settings)


class Supervisor:
    """Starts, adopts, holds, restarts and stops the configured subsystems."""

    def __init__(self, specs: Mapping[str, SubsystemConfig], surroundings: Surroundings) -> None:
        """Raises SupervisorError where dependencies are unknown or run in a circle."""
        self._layers = _layers(specs)
        self._engine = surroundings.engine
        self._clock = surroundings.clock
        self._log = surroundings.log
        self._settings = surroundings.settings
        self._state_mark = {"EPAD_STATE": str(surroundings.directories.state)}
        self._tasks = Tasks(surroundings.log)
        self._records = ProcessRecords(surroundings.database, surroundings.boot_id)
        room = _room(surroundings, self._records, self._tasks)
        self._order = tuple(specs)
        self._processes = {
            name: ProcessSubsystem(name, spec, room) for name, spec in specs.items() if spec.kind == "process"
        }
        self._clients = {
            name: ClientSubsystem(name, spec, self._clock.monotonic())
            for name, spec in specs.items()
            if spec.kind == "client"
        }

    @property
    def engine_name(self) -> str:
        """The word for how processes are held here."""
        return self._engine.name

    async def start(self) -> None:
        """Adopt what runs, and start what does not; returns when all that can be started have been.

        A subsystem waits for its dependencies to be ready, or for as long as they are given to become so.
        Holds given before apply from the first moment. Raises SupervisorError, DatabaseError.
        """
        self._engine.prepare()
        records = await self._records.load()
        marked = await self._engine.bearing(self._state_mark)
        for name, process in self._processes.items():
            await process.begin(records.get(name), marked)
        self._tasks.start(self._watch(), "supervisor watch")
        launches = [self._launch(process) for layer in self._layers for process in self._in(layer)]
        await asyncio.gather(*launches)

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool = False) -> None:
        """Hold a subsystem exactly this firmly; asking again changes nothing. Raises SupervisorError.

        `paused` says that it is held for everybody's sake, not for anything of its own: PAUSED, not QUARANTINED.
        """
        held = Held(rung, reason, paused)
        if (client := self._clients.get(name)) is not None:
            client.hold(held, self._clock.monotonic())
        else:
            await self._finish(self._process(name).hold(held), f"hold {name}")

    async def restart(self, name: str) -> None:
        """Stop a subsystem's tree and start it afresh, its restart budget whole. Raises SupervisorError."""
        if name not in self._clients:
            await self._finish(self._process(name).restart(), f"restart {name}")

    async def ask_to_save(self) -> list[str]:
        """Let each process that declares a checkpoint signal write out its state; say who did not answer."""
        asked = [p for p in self._processes.values() if p.spec.state.checkpoint_signal]
        answers = await asyncio.gather(*(process.ask_to_save() for process in asked))
        return [answer for answer in answers if answer]

    async def stop_all(self) -> None:
        """Stop every tree, dependents before what they depend on."""
        for layer in reversed(self._layers):
            await asyncio.gather(*(process.end() for process in self._in(layer)))
        await self._tasks.cancel()
        self._engine.sweep()
        self._engine.sweep()

    async def detach(self) -> None:
        """Go, and let the processes live: the next daemon adopts them."""
        await self._tasks.cancel()
        for process in self._processes.values():
            process.leave()

    def snapshots(self) -> tuple[SubsystemSnapshot, ...]:
        """Every subsystem as of now, in the order of the configuration."""
        return tuple(
            self._clients[name].snapshot() if name in self._clients else self._processes[name].snapshot()
            for name in self._order
        )

    def failed(self) -> frozenset[str]:
        """Name the subsystems that will not come back by themselves."""
        return frozenset(s.name for s in self.snapshots() if s.state is SubsystemState.FAILED)

    async def _launch(self, process: ProcessSubsystem) -> None:
        for name in process.spec.depends_on:
            if (dependency := self._processes.get(name)) is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(dependency.settled.wait(), dependency.spec.ready_seconds)
        await process.launch()

    async def _watch(self) -> None:
        """Look at what no event tells: hung children, dead orphans, deleted sockets."""
        while True:
            await asyncio.sleep(self._settings.watch_seconds)
            for process in self._processes.values():
                process.check(self._clock.monotonic())
            self._engine.sweep()

    async def _finish(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """See an order through even if whoever gave it has gone."""
        await asyncio.shield(self._tasks.start(work, name))

    def _process(self, name: str) -> ProcessSubsystem:
        try:
            return self._processes[name]
        except KeyError:
            known = ", ".join(self._order) or "none"
            raise SupervisorError(f"no subsystem {name!r}; configured are: {known}") from None

    def _in(self, layer: Iterable[str]) -> list[ProcessSubsystem]:
        return [self._processes[name] for name in layer if name in self._processes]


def _layers(specs: Mapping[str, SubsystemConfig]) -> tuple[tuple[str, ...], ...]:
    """Sort the subsystems so that each stands after the layers of what it depends on."""
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
        inherited=inherited(os.environ),
        clock=surroundings.clock,
        observer=surroundings.observer,
        log=surroundings.log,
        boot_id=surroundings.boot_id,
        tasks=tasks,
        settings=surroundings.settings,
    )
