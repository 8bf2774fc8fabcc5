"""Run one process subsystem: take orders, and step its process towards them.

An order changes the intent; `converge` compares the intent with the process and takes one step after another until
they agree (`next_step` in `intent.py`). So an order that comes during a step is neither lost nor queued: the loop sees
the newest intent after each step.

| intent | from | the process is to be |
|---|---|---|
| RUN | no hold, or any rung but FREEZE and STOP | running; spawned once it is launched and nothing bars it |
| FREEZE | a hold at FREEZE | frozen if there is one; none is started |
| DOWN | a hold at STOP, or `end` | ended |
| LEAVE | `leave` | untouched, for the next daemon |

Invariants: all steps, and all reactions to the process's own events, run under `_lock`, one at a time. An event names
the child it is about, and is dropped if another is in its place once it has the lock. `leave` and `end` are final.

A cancellation while waiting for the lock: nothing has happened. Within a step: its record is ahead of the process
(`process.py`), and the next `converge`, of this daemon or the next, goes on from there. A crash is the same. Reactions
to events (exit, readiness, refreezing) are tasks of the supervisor, so no caller's cancellation ends them.

Health checks and `ask_to_save` run without the lock, since they may take long. A check changes nothing if its child
was replaced or frozen meanwhile; `ask_to_save` changes nothing at all.

Rejected: a queue of orders, since a freeze would wait behind a slow start; a task for each subsystem that polls its
intent, since idle subsystems would wake the daemon.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection, Mapping

from epad.configuration.schema import SubsystemConfig
from epad.storage.database import DatabaseError
from epad.supervisor.engine import Child, Engine
from epad.supervisor.errors import SupervisorError
from epad.supervisor.footprints import Workload
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.intent import Facts, Held, Intent, Room, Step, next_step, shown_state
from epad.supervisor.notify import Notification, NotifySocket
from epad.supervisor.process import Process
from epad.supervisor.records import ProcessRecord
from epad.supervisor.stage import Stage
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.containment import Rung

_ENDED_STAGES = frozenset({Stage.FINISHED, Stage.FAILED})


class ProcessSubsystem:
    """A subsystem that is a process tree.

    An order only changes the intent; `converge` acts, step by step, and one lock keeps the steps apart.
    """

    def __init__(self, name: str, spec: SubsystemConfig, room: Room) -> None:
        self.name = name
        self.spec = spec
        self.settled = asyncio.Event()
        self._room = room
        self._log = room.log.bind(subsystem=name)
        self._process = Process(name, spec, room, self)
        self._socket = NotifySocket(room.directories.notify_socket(name), self._hear, self._log)
        self._lock = asyncio.Lock()
        self._saved = asyncio.Event()
        self._held: Held | None = None
        self._ending: Intent | None = None
        self._launched = False
        self._asking = False
        self._hung_since = 0.0
        self._shown = SubsystemState.STOPPED
        self._since = room.clock.monotonic()

    # What others ask.

    async def begin(self, record: ProcessRecord | None, marked: Collection[ProcessIdentity]) -> None:
        """Listen, and take over the process that an earlier daemon left running. Raises SupervisorError.

        `marked` are the processes that bear this state directory's mark; if none do, none are looked for.
        """
        self._socket.open()
        process = self._process
        async with self._lock:
            if record is not None:
                process.record = record
                self._room.remember(self.name, record.history.failed_at)
            looked_for = record is not None or bool(marked)
            root = await find_root(self._room.engine, record, process.marks) if looked_for else None
            if root is None or not await process.adopt(root):
                await process.miss(look_for_strays=bool(marked))
            elif process.stage is Stage.FROZEN and self._held is None:
                self._held = Held(Rung.FREEZE, "it was found frozen, and no hold has been given yet")
        await self.converge()

    def configure(self, spec: SubsystemConfig) -> None:
        """Apply this specification from now on; settings that are read only at a process's start wait for that."""
        self.spec = spec
        self._process.configure(spec)

    async def launch(self) -> None:
        """Start it, unless it runs, has ended for good, or is held."""
        self._launched = True
        await self.converge()

    async def hold(self, held: Held) -> None:
        """Come under a hold; returns when the process is as it demands, or has been found not to obey."""
        if held != self._held and (self._held or held.rung is not Rung.OPEN):
            self._log.info("subsystem.held", rung=held.rung.label, reason=held.reason)
        self._held = held
        await self.converge()

    async def isolate(self, *, cut: bool) -> str:
        """Cut it off the network, or join it again; return the result."""
        async with self._lock:
            return await self._process.isolate(cut=cut)

    async def restart(self, *, trial: bool = False) -> None:
        """Begin afresh: a new process, an unspent budget; a `trial` goes on counting failures in a row."""
        async with self._lock:
            await self._process.renew(trial=trial)
        await self.converge()

    async def ask_to_save(self) -> str:
        """Send the checkpoint signal and wait for X_EPAD_SAVED=1; say why it did not come, if it did not.

        A frozen or absent process is not asked: the state on the disk is all there is.
        """
        child, state = self._process.child, self.spec.state
        if child is None or self._process.stage is Stage.FROZEN:
            return ""
        self._saved.clear()
        try:
            self._room.engine.signal(child, signal.Signals[state.checkpoint_signal])
            async with asyncio.timeout(state.deadline_seconds):
                await self._saved.wait()
        except TimeoutError:
            return f"{self.name} did not say X_EPAD_SAVED=1 within {state.deadline_seconds:g} s"
        except OSError as error:
            return f"{self.name} could not be asked to save: {error.strerror}"
        return ""

    async def end(self) -> None:
        """Stop it for good, and forget it."""
        self._ending = Intent.DOWN
        self._process.cancel_timer()
        await self.converge()
        try:
            await self._room.records.forget(self.name)
        except DatabaseError as error:
            self._log.error("subsystem.unrecorded", error=str(error))
        self._socket.close()

    def leave(self) -> None:
        """Let go of it as it is, for the next daemon to adopt."""
        self._ending = Intent.LEAVE
        self._process.leave()
        self._socket.close()

    def check(self, now: float) -> None:
        """Look whether it hangs, or runs though frozen; called at every beat of the supervisor's watch."""
        if self._ending is not None:
            return
        try:
            self._socket.ensure()
        except SupervisorError as error:
            self._log.error("notify.unbound", error=str(error))
        child = self._process.child
        if child is None or self._lock.locked():
            return
        if self._process.stage is Stage.FROZEN:
            if self._room.engine.is_loose(child):
                self._room.tasks.start(self._freeze_again(child), f"refreeze {self.name}")
        else:
            self._check_life(child, now)
            self._ask_when_due(child, now)

    @property
    def has_failed(self) -> bool:
        return self._process.stage is Stage.FAILED

    def workload(self) -> Workload | None:
        """Return its processes, where it has any."""
        child = self._process.child
        return None if child is None else Workload(self.name, child.identity, child.tree.group)

    def snapshot(self) -> SubsystemSnapshot:
        process = self._process
        progress = process.report.progress
        failed = process.stage is Stage.FAILED
        return SubsystemSnapshot(
            name=self.name,
            kind=self.spec.kind,
            state=self._state(),
            essential=self.spec.essential,
            since=self._since,
            pid=process.child.identity.pid if process.child else None,
            restarts=process.record.restarts,
            hung=bool(process.hung),
            hung_reason=process.hung,
            status_text=process.record.reason if failed else process.report.status,
            progress_done=progress.done if progress else None,
            progress_total=progress.total if progress else None,
            progressed_at=process.report.progressed_at,
            last_exit=process.last_exit,
            vram_wanted_bytes=process.report.vram_wanted if process.child else None,
        )

    async def converge(self) -> None:
        """Take steps until the process is as it should be."""
        async with self._lock:
            while (step := self._next_step()) is not Step.NOTHING:
                match step:
                    case Step.SPAWN:
                        await self._process.spawn()
                    case Step.FREEZE:
                        await self._process.freeze()
                    case Step.THAW:
                        await self._process.thaw()
                    case Step.STOP:
                        await self._process.stop()
            self._note()

    # What the process tells its owner.

    def exited(self, child: Child) -> None:
        if self._ending is not Intent.LEAVE:
            self._room.tasks.start(self._mourn(child), f"exit of {self.name}")

    def overdue(self, child: Child) -> None:
        self._room.tasks.start(self._unready(child), f"readiness of {self.name}")

    def due(self) -> None:
        self._room.tasks.start(self.converge(), f"restart of {self.name}")

    def _hear(self, notification: Notification) -> None:
        if self._process.child is None or self._ending is not None:
            return
        if notification.saved:
            self._saved.set()
        if self._process.hear(notification):
            self._room.tasks.start(self._process.save(), f"record of {self.name}")
        self._note()

    async def _mourn(self, child: Child) -> None:
        async with self._lock:
            if self._process.child is child:
                await self._process.bury(child, wanted=False)
        await self.converge()

    async def _unready(self, child: Child) -> None:
        async with self._lock:
            await self._process.give_up_waiting(child)
        await self.converge()

    async def _replace_hung(self, child: Child) -> None:
        async with self._lock:
            await self._process.replace_hung(child)
        await self.converge()

    async def _freeze_again(self, child: Child) -> None:
        async with self._lock:
            if self._process.child is child and self._process.stage is Stage.FROZEN:
                self._log.warning("subsystem.ran_though_frozen", pid=child.identity.pid)
                await self._room.engine.freeze(child)

    # What follows from it all.

    def _check_life(self, child: Child, now: float) -> None:
        reason, before = self._process.why_hung(), self._process.hung
        self._process.hung = reason
        if bool(reason) is not bool(before):
            self._log.warning("subsystem.hung" if reason else "subsystem.moves", reason=reason or before)
            self._hung_since = now
            self._note()
        limit = self.spec.restart.hung_seconds
        if reason and limit and now - self._hung_since >= limit:
            self._room.tasks.start(self._replace_hung(child), f"replacement of {self.name}")

    def _ask_when_due(self, child: Child, now: float) -> None:
        """Begin a health check: at every beat until it is ready, then at its interval."""
        health, process = self.spec.health, self._process
        since = now - process.health.checked_at
        if (
            health.ways
            and not self._asking
            and (not process.report.ready or since >= health.interval_seconds)
        ):
            self._asking = True
            self._room.tasks.start(self._ask(child), f"health of {self.name}")

    async def _ask(self, child: Child) -> None:
        process = self._process
        try:
            failure = await self._room.checker.check(self.spec.health)
        finally:
            self._asking = False
        # What was frozen or replaced meanwhile has not been asked.
        if process.child is not child or process.stage is Stage.FROZEN:
            return
        was_ready = process.report.ready
        process.asked(failure)
        if failure:
            self._log.info("subsystem.unwell", failure=failure, failures=process.health.failures)
        if process.report.ready is not was_ready:
            await process.save()
        self._check_life(child, self._room.clock.monotonic())
        self._note()

    def _intent(self) -> Intent:
        if self._ending is not None:
            return self._ending
        match self._held.rung if self._held else Rung.OPEN:
            case Rung.STOP:
                return Intent.DOWN
            case Rung.FREEZE:
                return Intent.FREEZE
            case _:
                return Intent.RUN

    def _next_step(self) -> Step:
        return next_step(
            self._intent(),
            self._process.stage,
            may_spawn=self._launched and not self._bars_start(),
        )

    def _bars_start(self) -> bool:
        """Tell if an ended process stays away: freed GPU memory must not be taken again."""
        return self._held is not None and self._held.rung is Rung.RELEASE_VRAM

    def _state(self) -> SubsystemState:
        process = self._process
        facts = Facts(process.report.ready, bool(process.hung), bool(process.record.restarts))
        return shown_state(process.stage, facts, self._held, is_ended=self._ending is Intent.DOWN)

    def _note(self) -> None:
        """Record its present state; called after every change."""
        state = self._state()
        if state is not self._shown:
            self._log.info("subsystem.state", state=state.value, before=self._shown.value)
            self._shown, self._since = state, self._room.clock.monotonic()
        ended = self._process.stage in _ENDED_STAGES
        if self._process.is_ready or ended or self._bars_start() or self._intent() is not Intent.RUN:
            self.settled.set()
        else:
            self.settled.clear()


async def find_root(
    engine: Engine, record: ProcessRecord | None, own_marks: Mapping[str, str]
) -> ProcessIdentity | None:
    """Find the process a record speaks of: by its identity, else by the marks it was to be started with."""
    if record is None:
        return await engine.find(own_marks)
    if record.stage is Stage.SPAWNING:
        return await engine.find({**own_marks, "EPAD_INSTANCE": record.instance})
    return record.identity
