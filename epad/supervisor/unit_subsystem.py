"""A subsystem that is a unit systemd has already: ollama.service, started, frozen and stopped over D-Bus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from enum import Enum, auto
from functools import cache
from typing import Any

from epad.configuration.schema import SubsystemConfig
from epad.supervisor.causes import OUT_OF_MEMORY, was_killed, with_cause
from epad.supervisor.cgroup import Cgroup, mount_point
from epad.supervisor.engine import UNSEEN, ExitStatus
from epad.supervisor.errors import SupervisorError
from epad.supervisor.footprints import Workload
from epad.supervisor.health import Health
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.intent import Held, Room, held_state
from epad.supervisor.records import ProcessRecord
from epad.supervisor.restart import SUCCEEDED
from epad.supervisor.systemd_engine import status_of
from epad.supervisor.systemd_manager import Manager, ManagerError
from epad.supervisor.unit_lives import DOWN, OOM_KILL, RUNNING, UnitFacts, deaths_between, life_between
from probes.subsystems import SubsystemExited, SubsystemSnapshot, SubsystemState
from statemachine.containment import Rung

# Until then the watchdog's time runs on while a unit is frozen, and ends it: systemd#38517.
FREEZE_STOPS_WATCHDOG_SINCE = 258
_mount_point = cache(mount_point)


class UnitStep(Enum):
    """Names one move that brings a unit under its hold."""

    NOTHING = auto()
    START = auto()
    FREEZE = auto()
    THAW = auto()
    STOP = auto()


def unit_step(rung: Rung, facts: UnitFacts, *, to_start: bool, freezable: bool) -> UnitStep:
    """Return the next step of a unit towards its hold.

    Thawed before it is stopped: systemd#37569 is stuck otherwise.
    """
    up = facts.active not in DOWN
    stop = rung is Rung.STOP or (rung is Rung.FREEZE and facts.watchdog and not freezable)
    if stop:
        return UnitStep.THAW if facts.frozen else UnitStep.STOP if up else UnitStep.NOTHING
    if rung is Rung.FREEZE:
        return UnitStep.FREEZE if up and not facts.frozen else UnitStep.NOTHING
    if facts.frozen:
        return UnitStep.THAW
    return UnitStep.START if to_start and not up else UnitStep.NOTHING


class UnitSubsystem:
    """Supervises one such unit. Its restarts are systemd's, and are reported; epad starts again only its own stops."""

    def __init__(self, name: str, spec: SubsystemConfig, room: Room, manager: Manager) -> None:
        self.name = name
        self.spec = spec
        self.settled = asyncio.Event()
        self._room = room
        self._manager = manager
        self._log = room.log.bind(subsystem=name, unit=spec.unit)
        self._lock = asyncio.Lock()
        self._held = Held()
        self._to_start = False
        self._begun = False
        self._left = False
        self._facts = UnitFacts("inactive", frozen=False, watchdog=False, pid=None)
        self._looked = False
        self._told_early = 0
        self._restarts = 0
        self._shown = SubsystemState.STOPPED
        self._since = room.clock.monotonic()
        self._said = ""
        self._last_exit = ""
        self._health = Health(room.clock.monotonic())
        self._asking = False

    async def begin(self, _: ProcessRecord | None, __: Collection[ProcessIdentity]) -> None:
        """Bring it under its hold. A manager that does not answer is said, and keeps no other from starting."""
        self._begun = True
        await self._try(self.converge())

    def configure(self, spec: SubsystemConfig) -> None:
        """Go by a changed configuration from now on."""
        self._looked = self._looked and spec.unit == self.spec.unit
        self.spec = spec

    async def launch(self) -> None:
        self._to_start = True
        await self._try(self.converge())

    async def hold(self, held: Held) -> None:
        """Come under a hold. Raises SupervisorError where systemd refuses; before `begin` it is only remembered."""
        self._held = held
        if self._begun:
            await self.converge()

    async def isolate(self, *, cut: bool) -> str:
        return f"network not cut: {self.spec.unit} is not epad's own" if cut else ""

    async def restart(self, *, trial: bool = False) -> None:  # noqa: ARG002 (its failures are systemd's to count)
        """Stop it, and start it afresh. Raises SupervisorError."""
        async with self._lock:
            if (await self._look()).frozen:
                await self._manager.thaw(self.spec.unit)
            await self._manager.stop(self.spec.unit)
            await self._manager.reset_failed(self.spec.unit)
            self._to_start = True
        await self.converge()

    async def end(self) -> None:
        """Leave it as it is: it was there before epad, and is others' too."""
        self.leave()

    def leave(self) -> None:
        self._left = True

    def check(self, now: float) -> None:
        """Check its state against its hold; called at every beat of the supervisor's watch."""
        if not self._left and not self._lock.locked():
            self._room.tasks.start(self._try(self.converge()), f"look at {self.name}")
        health = self.spec.health
        due = now - self._health.checked_at >= health.interval_seconds
        if health.ways and due and self._is_let_run() and not self._asking:
            self._asking = True
            self._room.tasks.start(self._ask(), f"health of {self.name}")

    async def _ask(self) -> None:
        try:
            failure = await self._room.checker.check(self.spec.health)
        finally:
            self._asking = False
        # What was frozen or stopped meanwhile has not been asked.
        if self._is_let_run():
            self._health = self._health.after(failure, self._room.clock.monotonic())
            if failure:
                self._log.info("subsystem.unwell", failure=failure, failures=self._health.failures)
            self._note()

    def _is_let_run(self) -> bool:
        return self._facts.active in RUNNING and self._held.rung < Rung.FREEZE

    def _hung(self) -> str:
        """Say why it counts as hanging; empty if it does not."""
        failures = self._health.failures
        if not self._is_let_run() or failures < self.spec.health.failures:
            return ""
        return f"{failures} health checks failed: {self._health.reason}"

    @property
    def has_failed(self) -> bool:
        return self._facts.active == "failed" and self._held.rung is not Rung.STOP

    def workload(self) -> Workload | None:
        """Return its processes, where it has any: systemd keeps each unit's in a control group."""
        if not self._facts.group or self._facts.active in DOWN or (mounted := _mount_point()) is None:
            return None
        return Workload(self.name, None, Cgroup(mounted / self._facts.group.lstrip("/")))

    def snapshot(self) -> SubsystemSnapshot:
        return SubsystemSnapshot(
            name=self.name,
            kind=self.spec.kind,
            state=self._state(),
            essential=self.spec.essential,
            since=self._since,
            pid=self._facts.pid,
            restarts=self._restarts,
            hung=bool(self._hung()),
            hung_reason=self._hung(),
            status_text=self._said or f"{self.spec.unit} {self._facts.active}",
            last_exit=self._last_exit,
        )

    async def converge(self) -> None:
        """Take steps until the unit is as it should be. Raises SupervisorError."""
        async with self._lock:
            facts = await self._look()
            freezable = not facts.watchdog or await self._version() >= FREEZE_STOPS_WATCHDOG_SINCE
            if self._held.rung is not Rung.FREEZE or facts.frozen:
                self._said = ""
            elif not freezable:  # once it is stopped, systemd may forget that it has a watchdog
                self._said = (
                    f"{self.spec.unit} stopped, not frozen: its watchdog would end it (systemd#38517)"
                )
            step, taken = self._next(facts, freezable=freezable), 0
            while step is not UnitStep.NOTHING and taken < len(UnitStep):
                await self._take(step)
                facts = await self._look()
                step, taken = self._next(facts, freezable=freezable), taken + 1

    def _next(self, facts: UnitFacts, *, freezable: bool) -> UnitStep:
        return unit_step(self._held.rung, facts, to_start=self._to_start, freezable=freezable)

    async def _take(self, step: UnitStep) -> None:
        unit = self.spec.unit
        self._log.info("unit.step", step=step.name.lower(), reason=self._held.reason)
        match step:
            case UnitStep.FREEZE:
                await self._manager.freeze(unit)
            case UnitStep.THAW:
                await self._manager.thaw(unit)
            case UnitStep.STOP:
                self._to_start = True
                await self._manager.stop(unit)
            case UnitStep.START:
                self._to_start = False
                if (result := await self._manager.start(unit)) != "done":
                    raise SupervisorError(f"{unit}: systemd could not start it: {result}")

    async def _look(self) -> UnitFacts:
        found = await self._manager.properties(self.spec.unit)
        if not found:
            raise SupervisorError(f"systemd has no {self.spec.unit}: see subsystems.{self.name}.unit")
        before, self._facts = self._facts, UnitFacts.read(found)
        if self._looked:  # what was before the first look is not ours to tell
            self._tell_deaths(before, found)
        self._looked = True
        if self._is_let_run():
            self._to_start = False  # it is up: who stops it from now on is not us
        if not self._is_let_run() or before.pid != self._facts.pid:
            self._health = Health(self._room.clock.monotonic())
        self._note()
        if self._facts.active in RUNNING or self._held.rung >= Rung.FREEZE:
            self.settled.set()
        else:
            self.settled.clear()
        return self._facts

    def _note(self) -> None:
        if (state := self._state()) is not self._shown:
            self._log.info("subsystem.state", state=state.value, before=self._shown.value)
            self._shown, self._since = state, self._room.clock.monotonic()

    def _tell_deaths(self, before: UnitFacts, found: Mapping[str, Any]) -> None:
        """Tell the observer of every run that has ended since the last look, whoever starts the next one."""
        deaths = deaths_between(before, self._facts, self._told_early)
        self._told_early = deaths.told_early
        # What epad stopped, or holds still, has not crashed.
        wanted = self._held.rung >= Rung.FREEZE or self._to_start
        restarted = self._facts.active not in DOWN
        status = self._status(found)
        reason = f"{self.spec.unit}: {self._facts.result}"
        life = life_between(before, self._facts, deaths.crashes)
        for number in range(deaths.crashes + deaths.orderly):
            orderly = number >= deaths.crashes
            self._last_exit = status.text
            if restarted and not orderly:
                self._restarts += 1
            self._room.observer.exited(
                SubsystemExited(
                    self.name,
                    self._room.clock.monotonic(),
                    status.text,
                    wanted or (orderly and restarted),
                    will_restart=restarted and not wanted and not orderly,
                    reason=SUCCEEDED if orderly else reason,
                    life_seconds=life,
                )
            )

    def _status(self, found: Mapping[str, Any]) -> ExitStatus:
        status = status_of(found) or UNSEEN
        killed = was_killed(status) and self._room.oom_kills.look(self._room.clock.monotonic())
        return with_cause(status, OUT_OF_MEMORY if killed or self._facts.result == OOM_KILL else "")

    def _state(self) -> SubsystemState:
        if self.has_failed:
            return SubsystemState.FAILED
        if self._facts.active in DOWN and self._held.rung is Rung.OPEN:
            return SubsystemState.STOPPED
        if self._hung():
            return held_state(self._held, SubsystemState.HUNG)
        if self._facts.active in RUNNING:
            return held_state(self._held, SubsystemState.RUNNING)
        again = SubsystemState.RECOVERING if self._restarts else SubsystemState.STARTING
        return held_state(self._held, again)

    async def _version(self) -> int:
        found = re.match(r"\d+", await self._manager.version())
        return int(found[0]) if found else 0

    async def _try(self, work: Any) -> None:
        """Run work that must not raise; report a refusal by systemd in the place that a person looks at."""
        try:
            await work
        except SupervisorError as error:
            hint = (
                "; see docs/systemd.md, polkit"
                if isinstance(error, ManagerError) and error.is_refusal
                else ""
            )
            if self._said != (text := f"{error}{hint}"):
                self._log.error("unit.refused", error=text)
            self._said = text
