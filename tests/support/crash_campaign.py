"""One phase transition, killed at one operation, resumed, killed again, resumed: it must end as if it never was.

The journal, the responder, the plans and the bundles are the real ones; the subsystems are a toy world that
outlives the daemon. A case names every broken promise it sees; a campaign is all cases of one transition.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_disk import CrashDisk, CrashVfs, Death, FullDisk, Killed, Plug, mounted
from epad_story import BOOT, SUBSYSTEMS, memory_database
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, create
from epad.checkpoint.manifest import BundleKind
from epad.checkpoint.source import BytesSource
from epad.checkpoint.verify import verify_bundle
from epad.control_loop.journal import JOURNAL_SCHEMA, Decision, Journal
from epad.control_loop.plans import LEDGER, Target, containment_steps, plan_for
from epad.control_loop.responder import Responder, StepWork
from epad.control_loop.step import Operation, Step, StepFailedError, StepName
from epad.copying.disk import Disk
from epad.copying.errors import CheckpointError
from epad.metrics.registry import Metrics
from epad.storage.database import Database, DatabaseError, fetch
from epad.storage.event_log import EventLog
from statemachine.clock import ManualClock
from statemachine.containment import Hold, Rung, desired_holds
from statemachine.phase import Phase
from statemachine.table import Row

TARGETS = (Target.datastore("memory", "chat"), LEDGER, Target.subsystem("chat"))
CASE_NOTE = "case"
MOST_TRIES = 20


@dataclass
class ToyHouse:
    """What outlives the daemon: how each subsystem is held, what runs, what was done and for which step."""

    holds: dict[str, str] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=lambda: {s.name: 1 for s in SUBSYSTEMS})
    ledger_is_whole: bool = False
    store_is_whole: bool = False
    began: list[tuple[int, StepName, str]] = field(default_factory=list)

    def settled(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "running": self.running,
            "ledger": self.ledger_is_whole,
            "store": self.store_is_whole,
        }


class Hands:
    """Does the steps: with boundaries inside them, for a kill may fall between a stop and a start."""

    def __init__(self, house: ToyHouse, disk: CrashDisk, checkpoints: Path, clock: ManualClock) -> None:
        self.house = house
        self.disk = disk
        self.checkpoints = checkpoints
        self.clock = clock

    def work(self) -> dict[StepName, StepWork]:
        return {
            StepName.HOLD: self.hold,
            StepName.CHECKPOINT: self.bundle,
            StepName.LIFEBOAT: self.bundle,
            StepName.FIRST_TIER: self.first_tier,
            StepName.REPLAY: self.replay,
            StepName.RESTART: self.restart,
            StepName.REPAIR_LEDGER: self.repair,
            StepName.RESTORE_DATASTORE: self.restore,
        }

    def begin(self, step: Step, operation: Operation) -> None:
        self.disk.plug.tick("step begins")
        self.house.began.append((operation.id, step.name, step.target))

    async def hold(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.house.holds[step.target] = step.arguments["rung"]
        self.disk.plug.tick("held")
        return "held"

    async def restart(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.house.running[step.target] = 0
        self.disk.plug.tick("stopped")
        self.house.running[step.target] += 1
        self.disk.plug.tick("started")
        return "restarted"

    async def repair(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.house.ledger_is_whole = True
        self.disk.plug.tick("repaired")
        return "repaired"

    async def restore(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.house.running[step.arguments["writer"]] = 0
        self.disk.plug.tick("stopped")
        self.house.store_is_whole = True
        self.disk.plug.tick("restored")
        return "restored"

    async def first_tier(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.disk.plug.tick("first tier written over")
        return "written"

    async def replay(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        self.disk.plug.tick("asked again under its key")
        return "answered"

    async def bundle(self, step: Step, operation: Operation) -> str:
        self.begin(step, operation)
        kind: BundleKind = "lifeboat" if step.name is StepName.LIFEBOAT else "checkpoint"
        sources = [BytesSource("REPORT.md", b"why\n" * 300), BytesSource("state.json", b"{}")]
        label = Label(self.key(operation), kind, "a reason", self.clock.utc())
        try:
            bundle = await create(
                self.checkpoints, sources, label, deadline_seconds=PATIENCE_SECONDS, disk=self.disk
            )
        except CheckpointError as error:
            raise StepFailedError(str(error)) from error
        verification = verify_bundle(bundle.path, self.disk)
        return "verified" if verification.ok else f"NOT verified: {verification.faults}"

    def key(self, operation: Operation) -> str:
        return operation.key


JournalOf = Callable[[Database, ManualClock], Journal]
HandsOf = Callable[[ToyHouse, CrashDisk, Path, ManualClock], Hands]
DiskOf = Callable[[Plug, Path], CrashDisk]


def _journal(database: Database, clock: ManualClock) -> Journal:
    return Journal(database, clock, BOOT)


@dataclass(frozen=True)
class Build:
    """What the daemon of a campaign is made of; a planted bug is another part."""

    journal: JournalOf = _journal
    hands: HandsOf = Hands
    disk: DiskOf = CrashDisk
    lies: bool = False


@dataclass
class Outcome:
    """What a campaign has seen."""

    kills: int = 0
    recoveries_killed: int = 0
    operations: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


class MortalDatabase(Database):
    """The journal's file: a kill in the middle of a statement is a kill, whatever SQLite makes of it."""

    def __init__(self, path: Path, plug: Plug) -> None:
        super().__init__(path, JOURNAL_SCHEMA)
        self._plug = plug

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await super()._run(work)
        except DatabaseError as error:
            if self._plug.pulled:
                raise Killed(str(error)) from error
            raise


class Case:
    """One transition on one disk, through as many lives as it takes."""

    def __init__(self, row: Row, build: Build, vfs: CrashVfs, template: Path, root: Path) -> None:
        self.row, self.build, self.vfs, self.root = row, build, vfs, root
        self.clock = ManualClock()
        self.house = ToyHouse()
        self.checkpoints, graveyard = root / "checkpoints", root / "graves"
        for directory in (self.checkpoints, graveyard, root / "0"):
            directory.mkdir()
        self.disk = build.disk(Plug(), graveyard)
        self.life = 0
        self.promised = False
        self.broken: list[str] = []
        self.ended_steps: list[int] = []
        vfs.plug = Plug()
        vfs.load(template, self.path)

    @property
    def path(self) -> Path:
        return self.root / str(self.life) / "state.db"

    async def live(self, pull_at: int = 0, plug: Plug | None = None) -> Plug:
        """One life of the daemon, up to its end or to the chosen operation."""
        self.disk.plug = self.vfs.plug = plug = plug or Plug(pull_at)
        database = MortalDatabase(self.path, plug)
        try:
            with suppress(Killed):
                await database.open()
                await self._resume(database)
        except DatabaseError as error:
            self.broken.append(f"the journal cannot be used: {error}")
        with suppress(Killed, DatabaseError):  # full while the log is copied over: it stays, and is read next
            await database.close()
        return plug

    async def _resume(self, database: Database) -> None:
        journal = self.build.journal(database, self.clock)
        loaded = await journal.load()
        operations = loaded.open_operations
        if CASE_NOTE not in loaded.notes:  # the finding is still there, so the decision is taken again
            if self.promised:
                self.broken.append("an acknowledged transition is lost")
            operations = await self._commit(journal)
            self.promised = True
        await self._check_promises(database)
        hands = self.build.hands(self.house, self.disk, self.checkpoints, self.clock)
        for operation in operations:
            await self._run(_NotingJournal(journal, self.ended_steps), hands, operation)

    async def _commit(self, journal: Journal) -> tuple[Operation, ...]:
        """As the controller does: until it is written."""
        for _ in range(MOST_TRIES):
            try:
                return await journal.commit(decision_of(self.row))
            except DatabaseError as error:
                last = error
        raise last

    async def _run(self, journal: Any, hands: Hands, operation: Operation) -> None:
        events = EventLog(memory_database(), self.clock)
        responder = Responder(journal, hands.work(), events, _METRICS, lambda _: None)
        future = responder.submit(operation)
        lane = asyncio.create_task(responder.run(operation.lane))
        either: list[asyncio.Future[Any]] = [future, lane]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if lane.done() and (error := lane.exception()) is not None:
            raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        lane.cancel()
        with suppress(asyncio.CancelledError):
            await lane

    async def _check_promises(self, database: Database) -> None:
        """What was done must have been journalled before, what was said to be done must still be done."""
        tried = {(o, n, t) for o, n, t, attempts, _, _ in await steps(database) if attempts}
        for done in set(self.house.began) - tried:
            self.broken.append(f"done before it was journalled: {done}")
        pending = {number for *_, state, number in await steps(database) if state == "pending"}
        for step in set(self.ended_steps) & pending:
            self.broken.append(f"step {step} was acknowledged as ended and is pending again")

    def die(self, death: Death, dice: random.Random) -> None:
        """Leave the next life what this death leaves."""
        before = self.path
        self.life += 1
        self.path.parent.mkdir()
        self.vfs.leave(before, self.path, death, dice)
        self.disk.die(death, dice)
        for bundle in self.checkpoints.iterdir():
            if not bundle.name.endswith(".partial") and not is_whole(bundle):
                self.broken.append(f"{bundle.name} has its name and is not whole")

    async def end(self) -> dict[str, Any]:
        """What it has come to: all that a person could see."""
        self.disk.plug = self.vfs.plug = plug = Plug()
        database = MortalDatabase(self.path, plug)
        try:
            await database.open()
            return await self._seen(database)
        except DatabaseError as error:
            self.broken.append(f"the journal cannot be read: {error}")
            return {}
        finally:
            await database.close()

    async def _seen(self, database: Database) -> dict[str, Any]:
        loaded = await self.build.journal(database, self.clock).load()
        return {
            "phase": loaded.phase,
            "open": loaded.open_operations,
            "steps": [(o, n, t, state) for o, n, t, _, state, _ in await steps(database)],
            "transitions": await database.read(lambda c: fetch(c, "SELECT count(*) FROM transition")),
            "integrity": await database.read(lambda c: fetch(c, "PRAGMA integrity_check")),
            "bundles": {
                b.name: (b / "VERIFIED").exists() and is_whole(b) for b in self.checkpoints.iterdir()
            },
            **self.house.settled(),
        }


class _NotingJournal:
    """The journal as the responder has it; notes which ends it was promised."""

    def __init__(self, journal: Journal, ended: list[int]) -> None:
        self._journal = journal
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def step_ended(self, step: int, state: Any, result: str) -> None:
        await self._journal.step_ended(step, state, result)
        self._ended.append(step)


async def steps(database: Database) -> list[tuple[Any, ...]]:
    query = "SELECT operation, name, target, attempts, state, id FROM step ORDER BY id"
    return await database.read(lambda connection: fetch(connection, query))


def is_whole(bundle: Path) -> bool:
    """Whether each file of it is as the manifest says; the mark VERIFIED may be missing."""
    return verify_bundle(bundle, _LookOnly()).ok


class _LookOnly(Disk):
    def write(self, path: Path, data: bytes) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass

    def remove_file(self, path: Path) -> None:
        pass


def decision_of(row: Row) -> Decision:
    """The decision that a transition comes with: its holds, its response, in their lanes."""
    before = desired_holds(SUBSYSTEMS, (), row.source, {}, {})
    after = desired_holds(SUBSYSTEMS, (), row.destination, {}, {})
    if row.destination is Phase.QUARANTINE:
        after["chat"] = Hold(Rung.FREEZE, "it loops")
    skip = TARGETS if row.destination is Phase.RECOVERY else ()
    plans = plan_for(row, containment_steps(SUBSYSTEMS, before, after, skip), TARGETS)
    return Decision((), row, {}, plans, {CASE_NOTE: 1})


@contextmanager
def workshop(*, lies: bool = False) -> Iterator[tuple[CrashVfs, Path, Path]]:
    """A mounted disk, a directory in memory and an empty journal to begin with."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="epad-campaign-", dir=memory if memory.is_dir() else None))
    try:
        with mounted(CrashVfs(lies=lies)) as vfs:
            yield vfs, _template(root), root
    finally:
        shutil.rmtree(root)


def _template(root: Path) -> Path:
    async def make() -> None:
        database = Database(root / "template.db", JOURNAL_SCHEMA)
        await database.open()
        await database.close()

    asyncio.run(make())
    return root / "template.db"


def campaign(row: Row, build: Build | None = None, *, deaths: int = 1, until: str | None = None) -> Outcome:
    """Kill a transition once at each operation, in turn by each kind of death, or by `deaths` of them.

    Each recovery is killed once too, somewhere; the life after that is left alone. It ends early when a broken
    promise has the words `until` in it.
    """
    build = build or Build()
    with workshop(lies=build.lies) as (vfs, template, root):
        return asyncio.run(_campaign(lambda: Case(row, build, vfs, template, _place(root)), deaths, until))


def _place(root: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=root))


async def _campaign(another: Callable[[], Case], deaths: int, until: str | None) -> Outcome:
    undisturbed = another()
    last = (await undisturbed.live()).ticks
    wanted = await undisturbed.end()
    outcome = Outcome()
    for first, turn in itertools.product(range(1, last + 1), range(deaths)):
        death = tuple(Death)[(first + turn) % len(Death)]
        case = another()
        name = await _kill_twice(case, first, last, death, outcome)
        end = await case.end()
        wrong = [key for key in wanted if end.get(key) != wanted[key]]
        case.broken += [f"{key} is {end.get(key)}, not {wanted[key]}" for key in wrong]
        outcome.broken += [f"{case.row.guard}, {death} at {name}: {each}" for each in case.broken]
        shutil.rmtree(case.root)
        if until is not None and any(until in each for each in case.broken):
            break
    return outcome


def full_disk(row: Row) -> Outcome:
    """Let a transition find the disk full at each of its writes, for a while."""

    async def walk(another: Callable[[], Case]) -> Outcome:
        undisturbed, outcome = another(), Outcome()
        last = (await undisturbed.live()).ticks
        wanted = await undisturbed.end()
        for first in range(1, last + 1):
            case = another()
            await case.live(plug=FullDisk(first))
            outcome.kills += 1
            end = await case.end()
            # One that is whole and could not be marked VERIFIED is a stated outcome: it counts as unverified.
            end["bundles"] = {bundle.name: is_whole(bundle) for bundle in case.checkpoints.iterdir()}
            case.broken += [f"{key} is {end.get(key)}" for key in wanted if end.get(key) != wanted[key]]
            outcome.broken += [f"{row.guard}, full at {first} of {last}: {each}" for each in case.broken]
            shutil.rmtree(case.root)
        return outcome

    with workshop() as (vfs, template, root):
        return asyncio.run(walk(lambda: Case(row, Build(), vfs, template, _place(root))))


async def _kill_twice(case: Case, first: int, last: int, death: Death, outcome: Outcome) -> str:
    """Kill the transition, kill its recovery at one of the operations left to it, let the third life be."""
    dice = random.Random(f"{case.row}{first}{death}")
    plug = await case.live(first)
    outcome.kills += 1
    outcome.operations.update(plug.trace)
    case.die(death, dice)
    again = await case.live(1 + dice.randrange(last - first + 1))
    outcome.recoveries_killed += again.pulled
    if again.pulled:
        case.die(death, dice)
        await case.live()
    return f"{first} of {last} ({plug.trace[-1]}), then {again.ticks if again.pulled else 'never'}"


_METRICS = Metrics()
