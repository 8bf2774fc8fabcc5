"""Start or adopt one process of a subsystem, keep its record ahead of every act, and judge its end.

`stage` is the state; `stage.py` has the table of what may happen in it. `child` is the process in the stages that have
one (HAS_PROCESS), and None in the others.

Invariants: the record is written before the act it announces, so the next daemon knows of every process that may run.
At most one process of a subsystem runs: with survivors known, it is FAILED and nothing is spawned. Every method is a
step that the owner takes under its lock (`process_subsystem.py`); none decides whether it should be taken.

A crash of the daemon, by the await it falls into:

- `spawn`: before its record, nothing was started; after it, the next daemon finds the process by its instance mark;
- `freeze`: the record says frozen, and `adopt` freezes again; `thaw`: it says frozen still, and the hold decides;
- `stop`: the record says STOPPING; `adopt` stops again, or `miss` ends the rest of the tree;
- `bury`, `_judge`: the record says RUNNING; `miss` judges the exit, by the status that the engine has kept, if it
  has.

A cancellation (the daemon leaves) is as a crash at that await, but for `save`, which is shielded: the exit has been
told already. A disk that takes no record stops no containment: `save` reports it and goes on.

Rejected: knowing a process by its pid alone, since pids are used again (start time and boot tell it apart); judging an
exit where it is seen, since it would run between two steps of the owner; waiting for READY within `spawn`, since no
hold could be applied meanwhile.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from epad.configuration.schema import SubsystemConfig
from epad.confinement.errors import ConfinementError
from epad.runtime.environment_marks import INSTANCE_MARK
from epad.storage.database import DatabaseError
from epad.supervisor.causes import (
    OUT_OF_MEMORY,
    cause_in_last_words,
    is_worth_reading,
    was_killed,
    with_cause,
)
from epad.supervisor.engine import UNSEEN, Child, ExitStatus, Launch, failure, unkillable
from epad.supervisor.errors import ProcessGoneError, SpawnError
from epad.supervisor.health import Health
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.intent import Room
from epad.supervisor.launch import launch, let_in, marks
from epad.supervisor.liveness import why_hung, why_not_ready
from epad.supervisor.notify import Notification
from epad.supervisor.records import ProcessRecord
from epad.supervisor.restart import Decision, Ending, History, Verdict, decide, in_words, way_back, why_so
from epad.supervisor.self_report import Report
from epad.supervisor.stage import Event, Stage, after
from probes.subsystems import SubsystemExited
from runners.cell.plan import CellPlan

# When a tree is empty the kernel still has to say how its root ended; it does within a millisecond.
_STATUS_SECONDS = 1.0
# Below this a write between an exit and the next spawn would be most of what there is to wait for.
_SOON_SECONDS = 0.05


class ProcessOwner(Protocol):
    """Receives the events that a process brings about by itself."""

    def exited(self, child: Child) -> None: ...

    def overdue(self, child: Child) -> None:
        """Handle a process that has not become ready in its time."""
        ...

    def due(self) -> None:
        """Its back-off is over."""
        ...


class Process:
    """Holds the process of one subsystem, if it has one, and the facts about the last."""

    def __init__(self, name: str, spec: SubsystemConfig, room: Room, owner: ProcessOwner) -> None:
        self.marks = marks(room.directories, name)
        self.record = ProcessRecord(name, room.boot_id, Stage.WAITING)
        self.report = Report(ready=False, beating=False, heard_at=room.clock.monotonic())
        self.child: Child | None = None
        self.health = Health(room.clock.monotonic())
        self.adopted = False
        self.hung = ""
        self.cut_off = False
        self.last_exit = ""
        self._name = name
        self._spec = spec
        self._room = room
        self._owner = owner
        self._log = room.log.bind(subsystem=name)
        self._timer: asyncio.TimerHandle | None = None

    def configure(self, spec: SubsystemConfig) -> None:
        """Go by this specification from now on."""
        self._spec = spec

    @property
    def stage(self) -> Stage:
        return self.record.stage

    @property
    def is_ready(self) -> bool:
        return self.child is not None and self.report.ready

    async def adopt(self, root: ProcessIdentity) -> bool:
        """Take over a process that runs; False if it has ended."""
        try:
            child = await self._room.engine.adopt(root, self.marks)
        except ProcessGoneError:
            return False
        self.adopted = True
        self._enter(Event.ADOPT)
        self.record = self.record.of(root)
        self.report = Report(
            ready=self.record.ready or self._spec.ready_at_once,
            beating=self.record.beating,
            heard_at=self._room.clock.monotonic(),
        )
        if self.stage is Stage.RUNNING and self._room.engine.is_stopped(child):
            self._enter(Event.FREEZE)
        self._watch(child)
        self._log.info("subsystem.adopted", pid=root.pid, frozen=self.stage is Stage.FROZEN)
        if self.stage is Stage.STOPPING:
            await self.stop()
        elif self.stage is Stage.FROZEN:
            await self.freeze()  # the last daemon may have died before it was done
        else:
            await self.save()
        return True

    async def miss(self, look_for_strays: bool) -> None:
        """Handle a recorded process that no longer exists: end the rest of its tree, and judge its end."""
        status = UNSEEN
        if ran := self.stage in {Stage.RUNNING, Stage.FROZEN}:
            # Before its tree is cleared away: systemd keeps a status as long as the unit.
            status = await self._room.engine.last_exit({**self.marks, INSTANCE_MARK: self.record.instance})
        if look_for_strays and await self._clear():
            return
        if ran:
            await self._judge(status)
        elif self.stage in {Stage.SPAWNING, Stage.STOPPING}:
            self._enter_afresh(Event.VANISH, self.record.history, self.record.restarts)

    async def spawn(self) -> None:
        now = self._room.clock.monotonic()
        self.report = Report(ready=self._spec.ready_at_once, beating=False, heard_at=now)
        self.health = Health(now)
        self.adopted, self.hung = False, ""
        self._enter_afresh(Event.SPAWN, self.record.history, self.record.restarts)
        self.record = replace(self.record, instance=uuid.uuid4().hex, started_at=now, ready=self.report.ready)
        try:
            if not self._spec.working_directory:
                self._room.directories.work(self._name).mkdir(mode=0o700, parents=True, exist_ok=True)
            # The intent first: a daemon that dies right after the spawn finds the process by this instance.
            extra, _ = await asyncio.gather(
                self._room.environment(self._name), self._room.records.write(self.record)
            )
            what = launch(self._name, self._spec, self._room, extra, self.record.instance)
            cell = await self._plan_cell(what)
            await self._room.start_check.check(self._name, self._spec, what)
            child = await self._room.engine.spawn(replace(what, cut_off=self.cut_off, cell=cell))
        except SpawnError as error:
            reason = f"{error}: see subsystems.{self._name}.{error.key}"
            await (self._fail(reason) if error.permanent else self._judge(failure(reason)))
        except Exception as error:
            await self._judge(failure(f"could not be started: {error}"))
        else:
            self._enter(Event.SPAWNED)
            self._watch(child)
            self.record = self.record.of(child.identity)
            self._log.info("subsystem.spawned", pid=child.identity.pid)
            await self.save()

    async def _plan_cell(self, what: Launch) -> CellPlan | None:
        """Plan the walls around a launch. Raises SpawnError: a wall that is missing now is missing the next time."""
        try:
            cell = await self._room.cells.plan(self._name, what.command, what.environment, what.directory)
        except ConfinementError as error:
            raise SpawnError(str(error), permanent=True, key="confine") from error
        let_in(self._room, self._name, self._spec, what, cell)
        return cell

    async def freeze(self) -> None:
        if self.child is None:
            return
        self._enter(Event.FREEZE)
        self.hung = ""
        await self.save()
        if not await self._room.engine.freeze(self.child):
            self._log.warning("subsystem.freeze_incomplete", pid=self.child.identity.pid)

    async def thaw(self) -> None:
        if self.child is None:
            return
        await self._room.engine.thaw(self.child)
        self.report.heard_at = self._room.clock.monotonic()
        self._enter(Event.THAW)
        await self.save()
        self._await_ready(self.child)

    async def isolate(self, *, cut: bool) -> str:
        """Cut it off every network but loopback, this process and later ones; return the result."""
        if not (cut or self.cut_off):
            return ""
        self.cut_off = cut
        if self.child is None:
            return "network to be cut at the next start" if cut else ""
        why_not = await self._room.engine.isolate(self.child, cut=cut)
        done = "network cut, but for loopback" if cut else "network joined"
        return f"network not cut: {why_not}" if why_not else done

    async def stop(self) -> bool:
        """End the tree on purpose; True if some of it survived."""
        if self.child is None:
            return False
        self._enter(Event.STOP)
        await self.save()
        return await self.bury(self.child, wanted=True)

    async def renew(self, *, trial: bool = False) -> None:
        """Stop it, whatever it does, and make it as if it had never failed.

        A `trial` forgets less: only a healthy run ends the row of failures.
        """
        history = self.record.history.for_trial() if trial else History()
        survivors = await self.stop() if self.child else await self._clear()
        if not survivors:
            self.cancel_timer()
            self._enter_afresh(Event.RENEW, history, self.record.restarts)
            await self.save()

    async def give_up_waiting(self, child: Child) -> None:
        """Deal with a process that has not become ready in its time."""
        if self.child is not child or self.report.ready or self.stage is Stage.FROZEN:
            return
        if self.adopted:
            # Its READY may have been sent while no daemon listened.
            self._is_ready_now()
            await self.save()
            return
        await self.bury(child, wanted=False, reason=why_not_ready(self._name, self._spec, self.health))

    async def replace_hung(self, child: Child) -> None:
        """End a process that hangs, and let the restart policy judge it as one that failed."""
        if self.child is child and self.hung:
            self._log.warning("subsystem.hung_too_long", pid=child.identity.pid, reason=self.hung)
            await self.bury(child, wanted=False, status=failure(f"hung: {self.hung}"))

    def asked(self, failure: str) -> None:
        """Take in one health check's answer; the first that passes makes it ready, if it does not say so itself."""
        self.health = self.health.after(failure, self._room.clock.monotonic())
        if not failure and not self.report.ready and not self._spec.notifies:
            self._is_ready_now()

    def _is_ready_now(self) -> None:
        self.report.ready = True
        self.record = replace(self.record, ready=True)
        self.cancel_timer()

    def why_hung(self) -> str:
        """Say why it counts as hanging now; empty if it does not."""
        now, watchdog = self._room.clock.monotonic(), self._room.settings.watchdog_seconds
        if self.child is None or self.stage is Stage.FROZEN:
            return ""
        if self._room.engine.is_stopped(self.child):
            return "it was stopped by a signal that is not epad's"
        return why_hung(self.report, self.health, self._spec, now, watchdog)

    async def _clear(self) -> bool:
        """End the rest of a tree whose root is gone; True if some of it survived."""
        survivors = await self._room.engine.clear(self.marks, self._spec.stop_seconds)
        if survivors:
            await self._fail(unkillable(survivors))
        return bool(survivors)

    async def bury(
        self, child: Child, *, wanted: bool, reason: str = "", status: ExitStatus | None = None
    ) -> bool:
        """End the rest of a tree, take its root's status, and settle the next step; True if some survived.

        A given `status` decides the judgement, regardless of the exit status under the kill.
        """
        killed_inside = not wanted and child.tree.was_out_of_memory()
        survivors = await self._room.engine.stop(child, self._spec.stop_seconds)
        await asyncio.wait([child.exited], timeout=_STATUS_SECONDS)
        status = status or (child.exited.result() if child.exited.done() else UNSEEN)
        if not wanted and was_killed(status):
            killed = killed_inside or self._room.oom_kills.look(self._room.clock.monotonic())
            status = with_cause(status, OUT_OF_MEMORY if killed else "")
        self._room.engine.release(child)
        self.child = None
        self.cancel_timer()
        self.hung = ""
        await self._judge(status, wanted=wanted, reason=unkillable(survivors) if survivors else reason)
        return bool(survivors)

    async def _judge(self, status: ExitStatus, *, wanted: bool = False, reason: str = "") -> None:
        """Decide the step after an exit. A given `reason` is the cause of its failure, regardless of its budget."""
        now = self._room.clock.monotonic()
        self._enter(Event.EXIT)
        succeeded = status.counts_as_success(self._spec.restart.success_exit_codes)
        ending = Ending(now, self.record.started_at, wanted, succeeded, self.record.ready)
        verdict = decide(self._spec.restart, self.record.history, ending, self._room.chance())
        if not wanted and not status.succeeded and is_worth_reading(verdict, status):
            cause = await asyncio.to_thread(cause_in_last_words, self._room.directories, self._name)
            status = with_cause(status, cause)
        why = reason or why_so(self._spec.restart, verdict)
        again = verdict.decision is Decision.RESTART and not reason
        self.last_exit = status.text
        self._log.info("subsystem.exited", status=status.text, wanted=wanted, reason=why)
        life = 0.0 if wanted else now - self.record.started_at
        self._room.observer.exited(SubsystemExited(self._name, now, status.text, wanted, again, why, life))
        if reason:
            await self._fail(reason)
        else:
            await self._follow(verdict, status, wanted=wanted)

    async def _follow(self, verdict: Verdict, status: ExitStatus, *, wanted: bool) -> None:
        restarts = self.record.restarts
        match verdict.decision:
            case Decision.GIVE_UP:
                self.record = replace(self.record, history=verdict.history)
                words = in_words(self._spec.restart, verdict)
                await self._fail(f"{status.text}; {words}; {way_back(self._name)}")
                return
            case Decision.RESTART:
                self._enter_afresh(Event.RESTART, verdict.history, restarts + 1)
                self._start_timer(verdict.delay_seconds, self._back_off_ended)
                if verdict.delay_seconds < _SOON_SECONDS:
                    # The next spawn writes the same, and a daemon that dies before it judges this exit again.
                    return
            case Decision.LEAVE:
                self._enter_afresh(Event.REST if wanted else Event.FINISH, verdict.history, restarts)
        await self.save()

    async def _fail(self, reason: str) -> None:
        self._log.error("subsystem.failed", reason=reason)
        self.cancel_timer()
        self._enter_afresh(Event.FAIL, self.record.history, self.record.restarts)
        self.record = replace(self.record, reason=reason)
        await self.save()

    def _enter(self, event: Event) -> None:
        """Enter the stage that an event leads to. Raises StageError for one that cannot come."""
        self.record = replace(self.record, stage=after(self.stage, event))

    def _enter_afresh(self, event: Event, history: History, restarts: int) -> None:
        """Enter a stage, and forget all of the process before but its history. Raises StageError."""
        stage = after(self.stage, event)
        self.record = ProcessRecord(self._name, self._room.boot_id, stage, history=history, restarts=restarts)

    async def save(self) -> None:
        """Write the record down. A disk that fails stops no containment: it is said, and gone on from.

        A write once begun is ended, even if its task is cancelled: a daemon that leaves has already told of the exit.
        """
        try:
            await asyncio.shield(self._room.records.write(self.record))
        except DatabaseError as error:
            self._log.error("subsystem.unrecorded", error=str(error))

    def hear(self, notification: Notification) -> bool:
        """Take in a notification; True if the record has changed and should be saved."""
        news = self.report.add(notification, self._room.clock.monotonic())
        if news:
            if self.report.ready and not self.record.ready:
                # What failed while it was not yet ready says nothing against it.
                self.health = Health(self.health.checked_at)
            self.record = replace(self.record, ready=self.report.ready, beating=self.report.beating)
        if self.report.ready:
            self.cancel_timer()
        return news

    def leave(self) -> None:
        """Let go of it as it is."""
        self.cancel_timer()
        if self.child is not None:
            self._room.engine.release(self.child)

    def _watch(self, child: Child) -> None:
        self.child = child
        child.exited.add_done_callback(lambda ended: None if ended.cancelled() else self._owner.exited(child))
        self._await_ready(child)

    def _await_ready(self, child: Child) -> None:
        if not self.report.ready and self.stage is not Stage.FROZEN:
            self._start_timer(self._spec.ready_seconds, lambda: self._owner.overdue(child))

    def _back_off_ended(self) -> None:
        self._timer = None
        self._enter(Event.BACKED_OFF)
        self._owner.due()

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        """Start the timer of this stage: the end of its back-off, or of the time in which it is to become ready."""
        self.cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
