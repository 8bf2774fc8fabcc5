"""Start or adopt one process of a subsystem, keep its record ahead of every act, and judge its end.

`record.stage` is the state; `child` is the process, if this daemon holds one.

| stage | child | entered by | left by |
|---|---|---|---|
| WAITING | none | the first start, `_follow` (restart, or a wanted stop), `renew` | `spawn`, once `may_start` |
| SPAWNING | none | `spawn`, before the process is made | `spawn`: RUNNING, or judged as a failed start |
| RUNNING | one, frozen or not | `spawn`, `adopt` | `stop`, or its exit (`bury`) |
| STOPPING | one | `stop`, before the first signal | `bury` |
| FINISHED | none | `_follow`: its policy does not start it again | `renew` |
| FAILED | none | `_fail`: no restarts left, no such program, or survivors of SIGKILL | `renew` |

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
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from epad.configuration.schema import SubsystemConfig
from epad.runtime.environment_marks import INSTANCE_MARK
from epad.storage.database import DatabaseError
from epad.supervisor.causes import OUT_OF_MEMORY, cause_in_last_words, was_killed, with_cause
from epad.supervisor.engine import UNSEEN, Child, ExitStatus
from epad.supervisor.errors import ProcessGoneError, SpawnError
from epad.supervisor.health import Health
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.intent import Room
from epad.supervisor.launch import launch, marks
from epad.supervisor.notify import Notification
from epad.supervisor.records import ProcessRecord, Stage
from epad.supervisor.restart import Decision, Ending, History, Verdict, decide, in_words
from epad.supervisor.self_report import Report
from probes.subsystems import SubsystemExited

# When a tree is empty the kernel still has to say how its root ended; it does within a millisecond.
_STATUS_SECONDS = 1.0
_NO_HISTORY = History()
# Below this a write between an exit and the next spawn would be most of what there is to wait for.
_SOON_SECONDS = 0.05
# From the third death in a row its log is read for the cause: the back-off is longer than the reading by then.
_DEATHS_BEFORE_READING = 3


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
    """Holds the process of one subsystem, if it has one, and the facts about the last.

    Every method is a step that its owner takes under a lock; none decides whether it should be taken.
    """

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
        self._backoff: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def configure(self, spec: SubsystemConfig) -> None:
        """Go by this specification from now on."""
        self._spec = spec

    @property
    def may_start(self) -> bool:
        return self.child is None and self.record.stage is Stage.WAITING and self._backoff is None

    @property
    def is_ready(self) -> bool:
        return self.child is not None and self.report.ready

    async def adopt(self, root: ProcessIdentity) -> bool:
        """Take over a process that runs; False if it has ended."""
        try:
            child = await self._room.engine.adopt(root, self.marks)
        except ProcessGoneError:
            return False
        was_stopping = self.record.stage is Stage.STOPPING
        self.adopted = True
        self.record = self.record.of(root)
        self.report = Report(
            ready=self.record.ready or self._spec.ready_at_once,
            beating=self.record.beating,
            heard_at=self._room.clock.monotonic(),
        )
        if self.record.frozen or self._room.engine.is_stopped(child):
            self.record = replace(self.record, frozen=True)
        self._watch(child)
        self._log.info("subsystem.adopted", pid=root.pid, frozen=self.record.frozen)
        if was_stopping:
            await self.stop()
        elif self.record.frozen:
            await self.freeze()  # the last daemon may have died before it was done
        else:
            await self.save()
        return True

    async def miss(self, look_for_strays: bool) -> None:
        """Handle a recorded process that no longer exists: end the rest of its tree, and judge its end."""
        status = UNSEEN
        if self.record.stage is Stage.RUNNING:
            # Before its tree is cleared away: systemd keeps a status as long as the unit.
            status = await self._room.engine.last_exit({**self.marks, INSTANCE_MARK: self.record.instance})
        if look_for_strays and await self._clear():
            return
        if self.record.stage is Stage.RUNNING:
            await self._judge(status)
        elif self.record.stage in {Stage.SPAWNING, Stage.STOPPING}:
            self.record = self._fresh(Stage.WAITING, self.record.history, self.record.restarts)

    async def spawn(self) -> None:
        now = self._room.clock.monotonic()
        self.report = Report(ready=self._spec.ready_at_once, beating=False, heard_at=now)
        self.health = Health(now)
        self.adopted, self.hung = False, ""
        self.record = replace(
            self._fresh(Stage.SPAWNING, self.record.history, self.record.restarts),
            instance=uuid.uuid4().hex,
            started_at=now,
            ready=self.report.ready,
        )
        try:
            if not self._spec.working_directory:
                self._room.directories.work(self._name).mkdir(mode=0o700, parents=True, exist_ok=True)
            # The intent first: a daemon that dies right after the spawn finds the process by this instance.
            extra, _ = await asyncio.gather(
                self._room.environment(self._name), self._room.records.write(self.record)
            )
            what = launch(self._name, self._spec, self._room, extra, self.record.instance)
            child = await self._room.engine.spawn(replace(what, cut_off=self.cut_off))
        except SpawnError as error:
            reason = f"{error}: see subsystems.{self._name}.command"
            await (self._fail(reason) if error.permanent else self._judge(_failure(reason)))
        except Exception as error:
            await self._judge(_failure(f"could not be started: {error}"))
        else:
            self._watch(child)
            self.record = self.record.of(child.identity)
            self._log.info("subsystem.spawned", pid=child.identity.pid)
            await self.save()

    async def freeze(self) -> None:
        if self.child is None:
            return
        self.record = replace(self.record, frozen=True)
        self.hung = ""
        await self.save()
        if not await self._room.engine.freeze(self.child):
            self._log.warning("subsystem.freeze_incomplete", pid=self.child.identity.pid)

    async def thaw(self) -> None:
        if self.child is None:
            return
        await self._room.engine.thaw(self.child)
        self.report.heard_at = self._room.clock.monotonic()
        self.record = replace(self.record, frozen=False)
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
        self.record = replace(self.record, stage=Stage.STOPPING)
        await self.save()
        return await self.bury(self.child, wanted=True)

    async def renew(self, *, trial: bool = False) -> None:
        """Stop it, whatever it does, and make it as if it had never failed.

        A `trial` forgets less: only a healthy run ends the row of failures.
        """
        history = self.record.history.for_trial() if trial else _NO_HISTORY
        survivors = await self.stop() if self.child else await self._clear()
        if not survivors:
            self.cancel_timers()
            self.record = self._fresh(Stage.WAITING, history, self.record.restarts)
            await self.save()

    async def give_up_waiting(self, child: Child) -> None:
        """Deal with a process that has not become ready in its time."""
        if self.child is not child or self.report.ready or self.record.frozen:
            return
        if self.adopted:
            # Its READY may have been sent while no daemon listened.
            self.report.ready = True
            self.record = replace(self.record, ready=True)
            await self.save()
            return
        await self.bury(child, wanted=False, reason=self._why_not_ready())

    def _why_not_ready(self) -> str:
        raise_it = f"raise subsystems.{self._name}.ready_seconds"
        if self._spec.notifies:
            said = f"no READY=1 within {self._spec.ready_seconds:g} s"
            return f"{said}: {raise_it}, or set notifies = false if it does not speak sd_notify"
        why = self.health.reason or "it has not been asked yet"
        return f"its health check did not pass within {self._spec.ready_seconds:g} s ({why}): {raise_it}"

    async def replace_hung(self, child: Child) -> None:
        """End a process that hangs, and let the restart policy judge it as one that failed."""
        if self.child is child and self.hung:
            self._log.warning("subsystem.hung_too_long", pid=child.identity.pid, reason=self.hung)
            await self.bury(child, wanted=False, status=_failure(f"hung: {self.hung}"))

    def asked(self, failure: str) -> None:
        """Take in one health check's answer; the first that passes makes it ready, if it does not say so itself."""
        self.health = self.health.after(failure, self._room.clock.monotonic())
        if not failure and not self.report.ready and not self._spec.notifies:
            self.report.ready = True
            self.record = replace(self.record, ready=True)
            self._cancel_deadline()

    def why_hung(self) -> str:
        """Say why it counts as hanging now; empty if it does not."""
        now, watchdog = self._room.clock.monotonic(), self._room.settings.watchdog_seconds
        if self.child is None or self.record.frozen:
            return ""
        if self._room.engine.is_stopped(self.child):
            return "it was stopped by a signal that is not epad's"
        if self.report.is_silent(now, watchdog):
            return f"no WATCHDOG=1 for over {watchdog:g} s"
        if self.report.ready and self.health.failures >= self._spec.health.failures:
            return f"{self.health.failures} health checks failed: {self.health.reason}"
        return ""

    async def _clear(self) -> bool:
        """End the rest of a tree whose root is gone; True if some of it survived."""
        survivors = await self._room.engine.clear(self.marks, self._spec.stop_seconds)
        if survivors:
            await self._fail(_unkillable(survivors))
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
        self.cancel_timers()
        self.hung = ""
        await self._judge(status, wanted=wanted, reason=_unkillable(survivors) if survivors else reason)
        return bool(survivors)

    async def _judge(self, status: ExitStatus, *, wanted: bool = False, reason: str = "") -> None:
        """Decide the step after an exit. A given `reason` is the cause of its failure, regardless of its budget."""
        now = self._room.clock.monotonic()
        verdict = decide(
            self._spec.restart,
            self.record.history,
            Ending(now, self.record.started_at, wanted, self._has_succeeded(status), self.record.ready),
            self._room.chance(),
        )
        if not wanted and not status.succeeded and self._is_worth_reading(verdict, status):
            status = with_cause(
                status, await asyncio.to_thread(cause_in_last_words, self._room.directories, self._name)
            )
        gives_up = verdict.decision is Decision.GIVE_UP
        why = reason or (in_words(self._spec.restart, verdict) if gives_up else verdict.reason)
        again = verdict.decision is Decision.RESTART and not reason
        self.last_exit = status.text
        self._log.info("subsystem.exited", status=status.text, wanted=wanted, reason=why)
        life = 0.0 if wanted else now - self.record.started_at
        self._room.observer.exited(SubsystemExited(self._name, now, status.text, wanted, again, why, life))
        if reason:
            await self._fail(reason)
        else:
            await self._follow(verdict, status, wanted=wanted)

    @staticmethod
    def _is_worth_reading(verdict: Verdict, status: ExitStatus) -> bool:
        """Tell if its log should be searched for the cause: it keeps dying, and nothing else has named one."""
        keeps_dying = verdict.history.in_a_row >= _DEATHS_BEFORE_READING
        return not status.text.endswith(")") and (keeps_dying or verdict.decision is Decision.GIVE_UP)

    def _has_succeeded(self, status: ExitStatus) -> bool | None:
        if status.code is None:
            return status.succeeded
        return status.code in self._spec.restart.success_exit_codes

    async def _follow(self, verdict: Verdict, status: ExitStatus, *, wanted: bool) -> None:
        restarts = self.record.restarts
        match verdict.decision:
            case Decision.GIVE_UP:
                words = in_words(self._spec.restart, verdict)
                self.record = replace(self.record, history=verdict.history)
                name = self._name
                again = f"`epactl release {name}` and `epactl restart {name}`"
                await self._fail(f"{status.text}; {words}; mend that, then {again}")
                return
            case Decision.RESTART:
                self.record = self._fresh(Stage.WAITING, verdict.history, restarts + 1)
                loop = asyncio.get_running_loop()
                self._backoff = loop.call_later(verdict.delay_seconds, self._back_off_ended)
                if verdict.delay_seconds < _SOON_SECONDS:
                    # The next spawn writes the same, and a daemon that dies before it judges this exit again.
                    return
            case Decision.LEAVE:
                stage = Stage.WAITING if wanted else Stage.FINISHED
                self.record = self._fresh(stage, verdict.history, restarts)
        await self.save()

    async def _fail(self, reason: str) -> None:
        self._log.error("subsystem.failed", reason=reason)
        self.record = replace(
            self._fresh(Stage.FAILED, self.record.history, self.record.restarts), reason=reason
        )
        await self.save()

    def _fresh(self, stage: Stage, history: History = _NO_HISTORY, restarts: int = 0) -> ProcessRecord:
        return ProcessRecord(self._name, self._room.boot_id, stage, history=history, restarts=restarts)

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
            self._cancel_deadline()
        return news

    def leave(self) -> None:
        """Let go of it as it is."""
        self.cancel_timers()
        if self.child is not None:
            self._room.engine.release(self.child)

    def _watch(self, child: Child) -> None:
        self.child = child
        child.exited.add_done_callback(lambda ended: None if ended.cancelled() else self._owner.exited(child))
        self._await_ready(child)

    def _await_ready(self, child: Child) -> None:
        if not self.report.ready and not self.record.frozen:
            self._cancel_deadline()
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._spec.ready_seconds, self._owner.overdue, child)

    def _back_off_ended(self) -> None:
        self._backoff = None
        self._owner.due()

    def cancel_timers(self) -> None:
        self._cancel_deadline()
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _failure(text: str) -> ExitStatus:
    return ExitStatus(text, succeeded=False)


def _unkillable(survivors: Collection[ProcessIdentity]) -> str:
    pids = ", ".join(str(identity.pid) for identity in sorted(survivors, key=lambda i: i.pid))
    return f"SIGKILL does not end pid {pids}: stuck in the kernel; nothing is started in its place"
