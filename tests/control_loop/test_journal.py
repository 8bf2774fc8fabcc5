"""The write-ahead journal: all of a decision or nothing, whatever instant the daemon dies at."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import apsw
import pytest
import structlog
from epad_story import finding

from epad.control_loop.journal import JOURNAL_SCHEMA, Decision, Journal, Loaded
from epad.control_loop.step import Lane, Plan, Step, StepName, StepState
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.assessor import Anomaly, Cleared, Raised
from statemachine.clock import ManualClock
from statemachine.finding import Severity
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.table import TABLE, Row

BOOT = "this-boot"
ISOLATE = next(row for row in TABLE if row.guard == "troubled")
PRESERVE = next(row for row in TABLE if row.guard == "outlasted")
HOLD = Step(StepName.HOLD, "chat", {"rung": "freeze", "reason": "it loops", "paused": False})
CHECKPOINT = Step(StepName.CHECKPOINT, "host", {"reason": "why"})


@asynccontextmanager
async def opened(path: Path, clock: ManualClock, boot_id: str = BOOT) -> AsyncIterator[Journal]:
    """A journal, as one life of the daemon has it."""
    database = Database(path, JOURNAL_SCHEMA)
    await database.open()
    yield Journal(database, clock, boot_id)
    await database.close()


async def reload(path: Path, clock: ManualClock, boot_id: str = BOOT) -> Loaded:
    async with opened(path, clock, boot_id) as journal:
        return await journal.load()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def raised(clock: ManualClock, severity: Severity = Severity.ANOMALY, raises: int = 1) -> Raised:
    found = finding(clock, "chat", severity=severity)
    return Raised(Anomaly(found, clock.monotonic(), clock.monotonic(), raises))


def decision(clock: ManualClock, row: Row = ISOLATE, *plans: Plan) -> Decision:
    """A decision with something in each of its fields."""
    both = plans or (Plan(Lane.CONTAINMENT, "hold", [HOLD]), Plan(Lane.PHASE, "save", [CHECKPOINT]))
    return Decision(
        [raised(clock)], row, {"situation": {"anomalies": 1}}, both, {"incident": {"attempts": 1}}
    )


async def test_a_new_file_is_a_daemon_that_has_never_run(path: Path, clock: ManualClock) -> None:
    """NORMAL, and nothing to do."""
    loaded = await reload(path, clock)
    assert loaded == Loaded(Phase.NORMAL, clock.monotonic(), None, (), (), None, {})


async def test_what_is_committed_is_what_is_loaded(path: Path, clock: ManualClock) -> None:
    """Phase and its time, the anomaly with everything in it, the operations with their steps, the notes."""
    clock.advance(7)
    async with opened(path, clock) as journal:
        made = decision(clock)
        operations = await journal.commit(made)
    loaded = await reload(path, clock)
    assert loaded.phase is Phase.QUARANTINE
    assert loaded.entered_monotonic == clock.monotonic()
    assert loaded.entered_utc == clock.utc()
    assert loaded.anomalies == (made.changes[0].anomaly,)
    assert loaded.open_operations == operations
    assert [o.lane for o in operations] == [Lane.CONTAINMENT, Lane.PHASE]
    assert [r.step for o in operations for r in o.steps] == [HOLD, CHECKPOINT]
    assert len({o.key for o in operations}) == 2
    assert loaded.notes == {"incident": {"attempts": 1}}


@pytest.mark.parametrize("rung", [None, *Rung])
async def test_the_rung_of_a_finding_is_read_back(path: Path, clock: ManualClock, rung: Rung | None) -> None:
    """And it is written as any version of the journal has it, so that either reads the other's."""
    found = replace(finding(clock, "chat", rung=rung), evidence={"detector": "loop"})
    anomaly = Anomaly(found, clock.monotonic(), clock.monotonic())
    async with opened(path, clock) as journal:
        await journal.commit(Decision([Raised(anomaly)]))
    [(written,)] = apsw.Connection(str(path)).execute("SELECT evidence FROM anomaly")
    named = {} if rung is None else {"rung": rung.label}
    assert json.loads(written) == {"detector": "loop", **named}
    assert (await reload(path, clock)).anomalies == (anomaly,)


@pytest.mark.parametrize("named", ["frezee", "FREEZE", 3])
async def test_a_rung_that_there_is_not_is_told_and_not_taken(
    path: Path, clock: ManualClock, named: object
) -> None:
    """The daemon starts: the anomaly holds by its probe's rung, as it did, and says what was written."""
    async with opened(path, clock) as journal:
        await journal.commit(Decision([raised(clock)]))
    evidence = json.dumps({"rung": named, "detector": "loop"})
    apsw.Connection(str(path)).execute("UPDATE anomaly SET evidence = ?", (evidence,))
    with structlog.testing.capture_logs() as logs:
        [anomaly] = (await reload(path, clock)).anomalies
    assert anomaly.finding.rung is None
    assert anomaly.finding.evidence == {"unknown_rung": named, "detector": "loop"}
    [told] = logs
    assert (told["event"], told["subsystem"]) == ("journal.unknown_rung", "chat")
    assert told["error"].startswith(f"{named!r} is no rung; there are: open, ")


async def test_a_transition_names_the_anomalies_it_came_from(path: Path, clock: ManualClock) -> None:
    """The ids join what was found to what was done: those that changed now, and those that still hold."""
    async with opened(path, clock) as journal:
        await journal.commit(decision(clock))
        await journal.commit(Decision([Cleared(raised(clock).anomaly, "quiet")], cause={"why": "time"}))
        second = raised(clock)
        await journal.commit(
            Decision([second], PRESERVE, {"why": "again"}, [Plan(Lane.PHASE, "x", [CHECKPOINT])])
        )
        rows = await journal._database.read(
            lambda c: fetch(c, "SELECT cause FROM transition UNION ALL SELECT cause FROM operation")
        )
    assert [json.loads(row[0])["anomalies"] for row in rows] == [[1], [2], [1], [1], [2]]


async def test_what_still_holds_is_a_cause_too(path: Path, clock: ManualClock) -> None:
    """Two troubles make a PRESERVATION; only the second is new."""
    async with opened(path, clock) as journal:
        await journal.commit(decision(clock))
        found = finding(clock, "game", "vram")
        other = Raised(Anomaly(found, clock.monotonic(), clock.monotonic()))
        await journal.commit(Decision([other], PRESERVE))
        rows = await journal._database.read(lambda c: fetch(c, "SELECT cause FROM transition ORDER BY id"))
    assert [json.loads(row[0])["anomalies"] for row in rows] == [[1], [1, 2]]


async def test_an_anomaly_that_grows_worse_stays_one(path: Path, clock: ManualClock) -> None:
    """Its severity and reason are the latest; when it was raised is not."""
    async with opened(path, clock) as journal:
        first = raised(clock)
        await journal.commit(Decision([first]))
        clock.advance(60)
        await journal.commit(Decision([raised(clock, Severity.CRITICAL)]))
        (anomaly,) = (await journal.load()).anomalies
    assert anomaly.severity is Severity.CRITICAL
    assert anomaly.raised_at == first.anomaly.raised_at


async def test_an_anomaly_that_cleared_is_history(path: Path, clock: ManualClock) -> None:
    """Not loaded, and not forgotten; when it comes back it is another one."""
    async with opened(path, clock) as journal:
        await journal.commit(Decision([raised(clock)]))
        await journal.commit(Decision([Cleared(raised(clock).anomaly, "quiet for 60 s")]))
        assert (await journal.load()).anomalies == ()
        await journal.commit(Decision([raised(clock, raises=2)]))
        (anomaly,) = (await journal.load()).anomalies
        rows = await journal._database.read(
            lambda c: fetch(c, "SELECT cleared_reason FROM anomaly ORDER BY id")
        )
    assert anomaly.raises == 2
    assert rows == [("quiet for 60 s",), (None,)]


async def test_quiet_begins_anew_in_the_next_life(path: Path, clock: ManualClock) -> None:
    """Nobody was looking while the daemon was away."""
    async with opened(path, clock) as journal:
        await journal.commit(Decision([raised(clock)]))
    clock.advance(500)
    (anomaly,) = (await reload(path, clock)).anomalies
    assert anomaly.raised_at == clock.monotonic() - 500
    assert anomaly.last_bad_at == clock.monotonic()


async def test_times_of_another_boot_are_taken_by_their_age(path: Path, clock: ManualClock) -> None:
    """A monotonic stamp of a former boot means nothing; how long ago it was does. Never in the future."""
    async with opened(path, clock) as journal:
        await journal.commit(decision(clock))
    later = ManualClock(monotonic=50.0, utc=clock.utc())
    later.jump_wall_clock(600)
    loaded = await reload(path, later, "another-boot")
    assert loaded.entered_monotonic == 50.0 - 600
    assert loaded.anomalies[0].raised_at == 50.0 - 600
    later.jump_wall_clock(-3_600)
    assert (await reload(path, later, "another-boot")).entered_monotonic == 50.0


async def test_a_wall_clock_that_was_set_changes_no_time_of_this_boot(path: Path, clock: ManualClock) -> None:
    """Durations are monotonic."""
    async with opened(path, clock) as journal:
        await journal.commit(decision(clock))
    clock.jump_wall_clock(-86_400)
    assert (await reload(path, clock)).entered_monotonic == clock.monotonic()


async def test_a_retry_does_not_begin_the_phase_anew(path: Path, clock: ManualClock) -> None:
    """The time limit of RECOVERY counts from its first attempt."""
    async with opened(path, clock) as journal:
        for trigger in ("degraded", "unhealed"):
            await journal.commit(Decision(row=next(row for row in TABLE if row.guard == trigger)))
            clock.advance(100)
        loaded = await journal.load()
    assert loaded.phase is Phase.RECOVERY
    assert loaded.entered_monotonic == clock.monotonic() - 200


async def test_an_abort_closes_what_is_open_and_nothing_else(path: Path, clock: ManualClock) -> None:
    """What is done stays done, and the operations of the same decision are not aborted by it."""
    async with opened(path, clock) as journal:
        two = Plan(Lane.CONTAINMENT, "two", [HOLD, HOLD])
        (old,) = await journal.commit(Decision(plans=[two]))
        await journal.step_ended(old.steps[0].id, StepState.DONE, "frozen")
        (new,) = await journal.commit(Decision(plans=[two], abort_open="the phase moved on"))
        assert not await journal.is_open(old.id)
        assert await journal.is_open(new.id)
        await journal.step_ended(old.steps[1].id, StepState.DONE, "too late")
        await journal.operation_ended(old.id, StepState.DONE)
        rows = await journal._database.read(lambda c: fetch(c, "SELECT state, result FROM step ORDER BY id"))
        assert rows[:2] == [("done", "frozen"), ("aborted", "the phase moved on")]
        assert (await journal.load()).open_operations == (new,)


async def test_the_last_operation_of_the_phase_lane_tells_how_it_ended(
    path: Path, clock: ManualClock
) -> None:
    """That of another lane does not stand for it."""
    async with opened(path, clock) as journal:
        first, second = await journal.commit(decision(clock))
        await journal.operation_ended(second.id, StepState.FAILED)
        await journal.operation_ended(first.id, StepState.DONE)
        assert (await journal.load()).last_phase_state is StepState.FAILED


async def test_attempts_are_counted_before_they_are_made(path: Path, clock: ManualClock) -> None:
    """A step that kills the daemon each time does not do so for ever."""
    async with opened(path, clock) as journal:
        (operation, _) = await journal.commit(decision(clock))
        await journal.step_tried(operation.steps[0].id)
    loaded = await reload(path, clock)
    assert loaded.open_operations[0].steps[0].attempts == 1
    assert loaded.open_operations[0].steps[0].state is StepState.PENDING


async def test_a_note_is_replaced(path: Path, clock: ManualClock) -> None:
    """One value a key."""
    async with opened(path, clock) as journal:
        await journal.note("gateway_port", 1)
        await journal.note("gateway_port", 8700)
        assert (await journal.load()).notes == {"gateway_port": 8700}


async def _life(journal: Journal, clock: ManualClock) -> AsyncIterator[Loaded]:
    """A short life of the daemon; what is durable after each of its awaits."""
    yield await journal.load()
    first, second = await journal.commit(decision(clock))
    yield await journal.load()
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: journal.step_tried(first.steps[0].id),
        lambda: journal.step_ended(first.steps[0].id, StepState.DONE, "frozen"),
        lambda: journal.operation_ended(first.id, StepState.DONE),
        lambda: journal.step_tried(second.steps[0].id),
        lambda: journal.step_ended(second.steps[0].id, StepState.FAILED, "no room"),
    ]
    for act in acts:
        await act()
        yield await journal.load()
    last = decision(clock, PRESERVE)
    await journal.commit(
        Decision(last.changes, last.row, last.cause, last.plans, {"incident": {}}, "moved on")
    )
    yield await journal.load()


async def test_killed_at_any_statement_the_file_holds_one_decision_or_the_next(
    path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """The files as kill -9 would leave them, before each statement: always a state that was committed."""
    images: list[Path] = []

    def photograph(*_: object) -> bool:
        image = tmp_path / f"image-{len(images)}"
        image.mkdir()
        for file in (path, path.with_name("state.db-wal")):
            if file.exists():
                shutil.copy(file, image)
        images.append(image / path.name)
        return True

    async with opened(path, clock) as journal:
        await journal._database.read(lambda c: c.set_exec_trace(photograph))
        states = [state async for state in _life(journal, clock)]
        await journal._database.read(lambda c: c.set_exec_trace(None))
    found = [await reload(image, clock) for image in images]
    assert len(images) > 40
    assert all(state in states for state in found)
    numbers = [states.index(state) for state in found]
    assert numbers == sorted(numbers)
    assert set(numbers) >= set(range(len(states) - 1))


async def test_a_statement_that_fails_takes_the_whole_decision_back(path: Path, clock: ManualClock) -> None:
    """A disk that fills up halfway leaves nothing of it, whichever statement it hits; then it is written whole."""
    async with opened(path, clock) as journal:
        database = journal._database
        await journal.commit(decision(clock))
        before = await journal.load()
        for number in itertools.count():
            await database.read(partial(fail_at_statement, number=number))
            try:
                await journal.commit(decision(clock, PRESERVE))
                break
            except DatabaseError:
                await database.read(partial(fail_at_statement, number=-1))
                assert await journal.load() == before
        await database.read(partial(fail_at_statement, number=-1))
        assert number > 8
        assert (await journal.load()).phase is Phase.PRESERVATION


def fail_at_statement(connection: apsw.Connection, number: int) -> None:
    countdown = itertools.count(number, -1)

    def trace(_: object, statement: str, __: object) -> bool:
        return "SAVEPOINT" in statement or next(countdown) != 0

    connection.exec_trace = trace


async def test_a_commit_that_fails_takes_the_whole_decision_back(path: Path, clock: ManualClock) -> None:
    """The last moment of all: every statement went well, and the transaction did not reach the disk."""
    async with opened(path, clock) as journal:
        before = await journal.load()
        await journal._database.read(lambda c: c.set_commit_hook(lambda: True))
        with pytest.raises(DatabaseError, match=re.escape(str(path))):
            await journal.commit(decision(clock))
        await journal._database.read(lambda c: c.set_commit_hook(None))
        assert await journal.load() == replace(before, entered_monotonic=clock.monotonic())
        await journal.commit(decision(clock))
        assert (await journal.load()).phase is Phase.QUARANTINE
