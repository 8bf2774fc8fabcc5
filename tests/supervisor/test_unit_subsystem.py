"""What is done to a unit that systemd has already, decided from what systemd says of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import structlog
from shipped_settings import PROBES
from supervisor_world import World

from epad.configuration.schema import SubsystemConfig
from epad.runtime.clock import SystemClock
from epad.runtime.side_tasks import Tasks
from epad.supervisor.intent import Held, Room, Settings
from epad.supervisor.records import ProcessRecords
from epad.supervisor.restart import SUCCEEDED
from epad.supervisor.systemd_bus import SYSTEM_BUS
from epad.supervisor.systemd_manager import Manager
from epad.supervisor.unit_lives import UnitFacts
from epad.supervisor.unit_subsystem import UnitStep, UnitSubsystem, unit_step
from probes.cascade import Cascade
from probes.subsystems import SubsystemState
from statemachine.clock import ManualClock
from statemachine.containment import Rung
from statemachine.finding import Finding

STATES = ("active", "reloading", "activating", "deactivating", "inactive", "failed")
EVERYTHING = [
    (rung, UnitFacts(active, frozen=frozen, watchdog=watchdog, pid=1), to_start, freezable)
    for rung, active, frozen, watchdog, to_start, freezable in itertools.product(
        Rung, STATES, (False, True), (False, True), (False, True), (False, True)
    )
]


def after(facts: UnitFacts, step: UnitStep) -> tuple[UnitFacts, bool]:
    """What a step makes of a unit, and whether it is still to be started."""
    match step:
        case UnitStep.START:
            return UnitFacts("active", facts.frozen, facts.watchdog, 1), False
        case UnitStep.STOP:
            return UnitFacts("inactive", facts.frozen, facts.watchdog, None), True
        case _:
            return UnitFacts(facts.active, step is UnitStep.FREEZE, facts.watchdog, facts.pid), True


@pytest.mark.parametrize(("rung", "facts", "to_start", "freezable"), EVERYTHING)
def test_every_unit_comes_to_rest_as_it_is_held(
    rung: Rung, facts: UnitFacts, to_start: bool, freezable: bool
) -> None:
    """In at most two steps; never stopped while frozen, never frozen where a watchdog would undo it."""
    for _ in range(3):
        step = unit_step(rung, facts, to_start=to_start, freezable=freezable)
        if step is UnitStep.NOTHING:
            break
        assert not (step is UnitStep.STOP and facts.frozen)
        assert not (step is UnitStep.FREEZE and facts.watchdog and not freezable)
        facts, starting = after(facts, step)
        to_start = to_start and starting
    else:
        raise AssertionError("it does not come to rest")
    down = facts.active in {"inactive", "failed"}
    if rung is Rung.STOP:
        assert down
    elif rung is Rung.FREEZE:
        assert down or facts.frozen
    else:
        assert not facts.frozen
        assert not (down and to_start)


@pytest.mark.parametrize(("usec", "watchdog"), [(0, False), (2**64 - 1, False), (3_000_000, True)])
def test_a_watchdog_is_read_as_systemd_writes_it(usec: int, watchdog: bool) -> None:
    """Infinity is none."""
    found = {"ActiveState": "active", "FreezerState": "running", "WatchdogUSec": usec, "MainPID": 7}
    assert UnitFacts.read(found) == UnitFacts("active", frozen=False, watchdog=watchdog, pid=7)


class OneUnit(Manager):
    """A service manager with one unit, that others start and stop too."""

    def __init__(self, active: str) -> None:
        super().__init__(SYSTEM_BUS)
        self.active = active
        self.started = 0

    async def properties(self, _: str) -> dict[str, Any]:
        return {"ActiveState": self.active, "MainPID": 7 if self.active == "active" else 0}

    async def version(self) -> str:
        return "258"

    async def start(self, _: str) -> str:
        self.active = "active"
        self.started += 1
        return "done"

    async def stop(self, _: str) -> str:
        self.active = "inactive"
        return "done"

    async def reset_failed(self, _: str) -> None:
        """Nothing of it is kept."""


def unit_of(world: World, manager: Manager) -> UnitSubsystem:
    log = structlog.get_logger()
    room = Room(
        engine=world.engine,
        records=ProcessRecords(world.database, world.boot_id),
        directories=world.directories,
        environment=world.environment,
        output=world.directories.log,
        environ={},
        clock=SystemClock(),
        observer=world,
        log=log,
        boot_id=world.boot_id,
        tasks=Tasks(log),
        settings=Settings(),
    )
    return UnitSubsystem("ollama", SubsystemConfig(kind="unit", unit="ollama.service"), room, manager)


@pytest.mark.parametrize("at_first", ["active", "inactive"])
@pytest.mark.parametrize("then", ["failed", "inactive"])
async def test_what_others_stop_stays_stopped(world: World, at_first: str, then: str) -> None:
    """Up before epad or by epad: a crash is told as one, and an administrator's stop is not undone."""
    manager = OneUnit(at_first)
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    assert (manager.active, manager.started) == ("active", int(at_first == "inactive"))
    manager.active, manager.started = then, 0
    await unit.converge()
    assert (manager.active, manager.started) == (then, 0)
    assert [exit_.wanted for exit_ in world.exits] == [False]


class Forgetful(OneUnit):
    """A manager before 258, which knows of a watchdog only while its unit is up."""

    async def properties(self, name: str) -> dict[str, Any]:
        return {**await super().properties(name), "WatchdogUSec": 3_000_000 if self.active == "active" else 0}

    async def version(self) -> str:
        return "252"


async def test_why_a_unit_is_stopped_instead_of_frozen_is_said_as_long_as_it_is_held(world: World) -> None:
    """Also when systemd has forgotten the stopped unit's watchdog; seen on a machine under load."""
    manager = Forgetful("active")
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.hold(Held(Rung.FREEZE, "a test"))
    for _ in range(2):
        assert (manager.active, "systemd#38517" in unit.snapshot().status_text) == ("inactive", True)
        await unit.converge()
    await unit.hold(Held())
    assert (manager.active, unit.snapshot().status_text) == ("active", "ollama.service active")


async def test_what_epad_stops_it_starts_again(world: World) -> None:
    """Held and released, or restarted: that it was seen up before does not keep it down."""
    manager = OneUnit("active")
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    await unit.hold(Held(Rung.STOP, "a test"))
    await unit.converge()
    assert manager.active == "inactive"
    await unit.hold(Held())
    assert (manager.active, manager.started) == ("active", 1)
    await unit.restart()
    assert (manager.active, manager.started) == ("active", 2)


class Looping(OneUnit):
    """A unit that systemd itself restarts, by looks."""

    def __init__(self) -> None:
        super().__init__("active")
        self.found: dict[str, Any] = {
            "ActiveState": "active",
            "MainPID": 100,
            "NRestarts": 0,
            "Result": "success",
        }

    async def properties(self, _: str) -> dict[str, Any]:
        return self.found

    async def stop(self, _: str) -> str:
        self.found = {"ActiveState": "inactive", "MainPID": 0, "NRestarts": 0, "Result": "success"}
        return "done"

    async def start(self, _: str) -> str:
        self.found = {"ActiveState": "active", "MainPID": 900, "NRestarts": 0, "Result": "success"}
        return "done"

    async def freeze(self, _: str) -> None:
        self.found = {**self.found, "FreezerState": "frozen"}


async def test_restarts_of_systemd_are_told_and_counted(world: World) -> None:
    """Three between two looks are three; each is restarted, though not by us."""
    manager = Looping()
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    manager.found = {**manager.found, "MainPID": 103, "NRestarts": 3}
    await unit.converge()
    assert [(e.wanted, e.will_restart, e.reason) for e in world.exits] == [
        (False, True, "ollama.service: success")
    ] * 3
    assert unit.snapshot().restarts == 3
    manager.found = {**manager.found, "ActiveState": "activating", "MainPID": 0, "Result": "oom-kill"}
    await unit.converge()
    assert unit.snapshot().state is SubsystemState.RECOVERING
    assert unit.snapshot().last_exit == "unknown (out of memory: killed by the kernel)"
    manager.found = {**manager.found, "ActiveState": "failed", "Result": "start-limit-hit"}
    await unit.converge()
    assert not world.exits[-1].will_restart
    assert unit.has_failed


@pytest.mark.parametrize("life", [3.0, 33.0, 420.0, 1_140.0, 1_200.0])
@pytest.mark.parametrize("result", ["core-dump", "success"])
@pytest.mark.parametrize("seen_waiting", [True, False])
async def test_a_loop_that_systemd_keeps_up_is_told_and_held_within_the_hour(
    world: World, life: float, result: str, seen_waiting: bool
) -> None:
    """`Restart=always`: it does not matter how the runs end, how long they last, and whether a look falls between."""
    clock, pushed = ManualClock(), list[Finding]()
    probe = Cascade(PROBES.cascade, clock=clock, push=pushed.append)
    manager = Looping()
    manager.found["ExecMainStartTimestampMonotonic"] = int(clock.monotonic() * 1e6)
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    while not pushed or pushed[-1].rung is not None:
        clock.advance(life)
        found, now = manager.found, int(clock.monotonic() * 1e6)
        if seen_waiting:
            waits = {"ActiveState": "activating", "SubState": "auto-restart", "Result": result}
            how = {"ExecMainCode": 1, "ExecMainStatus": int(result != "success")}
            manager.found = {**found, **waits, **how, "ExecMainExitTimestampMonotonic": now}
            await unit.converge()
        again = {"MainPID": found["MainPID"] + 1, "NRestarts": found["NRestarts"] + 1}
        manager.found = {**found, **again, "ExecMainStartTimestampMonotonic": now}
        await unit.converge()
        for event in world.exits:
            probe.exited(replace(event, at=clock.monotonic()))
        world.exits.clear()
        assert clock.monotonic() - 1_000.0 <= 3_600.0


async def test_a_persons_restart_is_no_crash(world: World) -> None:
    """Neither `systemctl restart`, nor `reset-failed`, nor a stop in good order; nor what was before epad."""
    manager = Looping()
    manager.found["NRestarts"] = 40
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    manager.found = {**manager.found, "NRestarts": 0}
    await unit.converge()
    assert world.exits == []
    manager.found = {**manager.found, "MainPID": 101}
    await unit.converge()
    assert [e.wanted for e in world.exits] == [True]
    manager.found = {**manager.found, "ActiveState": "inactive", "MainPID": 0}
    await unit.converge()
    assert world.exits[-1].reason == SUCCEEDED
    assert unit.snapshot().restarts == 0


async def test_what_epad_does_to_a_unit_is_wanted(world: World) -> None:
    """Its own stop, start and restart; and the death of what it has frozen."""
    manager = Looping()
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    await unit.launch()
    await unit.restart()
    await unit.hold(Held(Rung.STOP, "a test"))
    await unit.hold(Held())
    await unit.hold(Held(Rung.FREEZE, "a test"))
    manager.found = {**manager.found, "MainPID": 901, "NRestarts": 1, "Result": "watchdog"}
    await unit.converge()
    assert all(e.wanted and not e.will_restart for e in world.exits)
    assert len(world.exits) == 3


async def test_another_unit_under_the_same_name_is_no_death(world: World) -> None:
    """The configuration was changed: its process and its count are another's."""
    manager = Looping()
    unit = unit_of(world, manager)
    await unit.begin(None, ())
    unit.configure(SubsystemConfig(kind="unit", unit="other.service"))
    manager.found = {**manager.found, "MainPID": 7, "NRestarts": 5}
    await unit.converge()
    assert world.exits == []
