"""Operations run: in order, three times at most, resumed where a former life left them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import apsw
import pytest
import structlog
from epad_story import BOOT, memory_database
from patience import until

from epad.control_loop import responder as module
from epad.control_loop.journal import Decision, Journal
from epad.control_loop.responder import MAX_ATTEMPTS, Responder
from epad.control_loop.step import (
    MUST_BE_ON_DISK,
    WAVE,
    Lane,
    Operation,
    OperationEnded,
    Plan,
    Step,
    StepFailedError,
    StepName,
    StepState,
)
from epad.metrics.registry import Metrics
from epad.storage.database import DatabaseError, fetch
from epad.storage.event_log import EventLog
from statemachine.clock import ManualClock


class Bench:
    """A responder over a real journal; what each target's step does is up to the test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.database = memory_database()
        self.journal = Journal(self.database, self.clock, BOOT)
        self.metrics = Metrics()
        self.events = EventLog(self.database, self.clock)
        self.done: list[tuple[str, str]] = []
        self.ended: list[OperationEnded] = []
        self.refusals: dict[str, int] = {}
        self.during: dict[str, Callable[[], Awaitable[object]]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.journal_failures: list[str] = []
        self.responder = self.another()

    def another(self) -> Responder:
        work = dict.fromkeys(StepName, self._work)
        return Responder(
            self.journal, work, self.events, self.metrics, self.ended.append, self._journal_failed
        )

    async def _journal_failed(self, reason: str) -> None:
        self.journal_failures.append(reason)

    async def _work(self, step: Step, operation: Operation) -> str:
        self.done.append((step.target, operation.key))
        if step.target in self.during:
            await self.during[step.target]()
        if step.target in self.gates:
            await self.gates[step.target].wait()
        if self.refusals.get(step.target, 0) > 0:
            self.refusals[step.target] -= 1
            raise StepFailedError(f"{step.target} says no")
        return f"{step.target} is done"

    async def plan(self, lane: Lane, *targets: str) -> Operation:
        return await self.planned(lane, [Step(StepName.HOLD, target) for target in targets])

    async def waves(self, *waves: str) -> Operation:
        """Plan a step for each letter, those of a word at once."""
        steps = [Step(StepName.HOLD, name, {WAVE: n}) for n, names in enumerate(waves) for name in names]
        return await self.planned(Lane.CONTAINMENT, steps)

    async def planned(self, lane: Lane, steps: list[Step]) -> Operation:
        (operation,) = await self.journal.commit(Decision(plans=[Plan(lane, "a test", steps)]))
        return operation

    @asynccontextmanager
    async def at_work(self, *lanes: Lane, responder: Responder | None = None) -> AsyncIterator[Responder]:
        responder = responder or self.responder
        tasks = [asyncio.create_task(responder.run(lane)) for lane in lanes]
        yield responder
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task

    async def targets(self) -> list[str]:
        return [target for target, _ in self.done]

    async def states(self) -> list[tuple[str, str, int, str]]:
        query = "SELECT target, state, attempts, result FROM step ORDER BY id"
        return await self.database.read(lambda c: fetch(c, query))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    return Bench()


@pytest.fixture(autouse=True)
def _quiet() -> object:
    with structlog.testing.capture_logs() as logs:
        yield logs


def test_the_end_of_every_step_is_counted_from_0(bench: Bench) -> None:
    """A counter that is born at 1 has not increased, and the rule on it would not fire."""
    labels = {"step": "first_tier", "result": "failed"}
    assert bench.metrics.registry.get_sample_value("epad_response_steps_total", labels) == 0


async def test_steps_are_done_in_order_and_their_end_is_told_three_times(bench: Bench) -> None:
    """In the journal, to the controller, and to whoever waits."""
    operation = await bench.plan(Lane.CONTAINMENT, "chat", "game")
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        ended = await responder.submit(operation)
    assert await bench.targets() == ["chat", "game"]
    assert await bench.states() == [("chat", "done", 1, "chat is done"), ("game", "done", 1, "game is done")]
    assert ended == OperationEnded(operation, StepState.DONE)
    assert bench.ended == [ended]
    assert not await bench.journal.is_open(operation.id)
    await bench.events.flush()
    events = await bench.events.since(0, 10)
    assert [(e["kind"], e["subsystem"], e["fields"]["state"]) for e in events] == [
        ("step.ended", "chat", "done"),
        ("step.ended", "game", "done"),
    ]
    assert events[0]["fields"]["operation"] == operation.id
    assert b'epad_response_steps_total{result="done",step="hold"} 2.0' in bench.metrics.render()


async def test_steps_of_a_wave_are_done_at_once_and_waves_one_after_the_other(bench: Bench) -> None:
    """Each of the first can wait for the other; the second begins when both are done, and failed ones are told."""
    met = asyncio.Barrier(2)
    bench.during["a"] = bench.during["b"] = met.wait
    bench.refusals["c"] = 99
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        ended = await responder.submit(await bench.waves("ab", "cd"))
    assert set((await bench.targets())[:2]) == {"a", "b"}
    assert ended.failures == ("hold c: c says no",)
    assert [state[1] for state in await bench.states()] == ["done", "done", "failed", "done"]


async def test_a_fault_of_our_own_fails_the_step_and_spares_the_lane(bench: Bench) -> None:
    """Tried as often as any other, named for what it is, and the next operation is done."""

    async def break_down() -> None:
        raise KeyError("no such subsystem")

    bench.during["chat"] = break_down
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        ended = await responder.submit(await bench.plan(Lane.CONTAINMENT, "chat"))
        after = await responder.submit(await bench.plan(Lane.CONTAINMENT, "game"))
    assert ended.failures == ("hold chat: epad is at fault: KeyError: 'no such subsystem'",)
    assert [state[1:3] for state in await bench.states()] == [("failed", MAX_ATTEMPTS), ("done", 1)]
    assert after.state is StepState.DONE


async def test_containment_waits_for_what_was_begun_for_the_same_subsystem_alone(bench: Bench) -> None:
    """However long one takes to give its VRAM back, another is contained at once; and one never in two ways at once."""
    slow, other, same = [await bench.plan(Lane.CONTAINMENT, name) for name in ("slow", "game", "slow")]
    bench.gates["slow"] = asyncio.Event()
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        ends = [responder.submit(operation) for operation in (slow, other, same)]
        await ends[1]
        assert await bench.targets() == ["slow", "game"]
        bench.gates["slow"].set()
        await asyncio.gather(*ends)
    assert [end.operation for end in bench.ended] == [other, slow, same]


async def test_work_of_another_lane_is_done_one_after_the_other(bench: Bench) -> None:
    """Two checkpoints at once would only slow each other down."""
    first, second = await bench.plan(Lane.MAINTENANCE, "a"), await bench.plan(Lane.MAINTENANCE, "b")
    bench.gates["a"] = asyncio.Event()
    async with bench.at_work(Lane.MAINTENANCE) as responder:
        ends = [responder.submit(operation) for operation in (first, second)]
        await asyncio.sleep(0)
        while not bench.done:
            await asyncio.sleep(0.001)
        assert await bench.targets() == ["a"]
        bench.gates["a"].set()
        await asyncio.gather(*ends)
    assert await bench.targets() == ["a", "b"]


async def test_of_a_wave_only_what_was_not_done_is_resumed(bench: Bench) -> None:
    """The next life of the daemon finishes it, and then begins the next."""
    operation = await bench.waves("ab", "c")
    await bench.journal.step_ended(operation.steps[0].id, StepState.DONE, "")
    (loaded,) = (await bench.journal.load()).open_operations
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        assert (await responder.submit(loaded)).state is StepState.DONE
    assert await bench.targets() == ["b", "c"]


async def test_a_step_is_tried_again(bench: Bench) -> None:
    """Twice it fails, then it is done: the operation is none the worse."""
    bench.refusals["chat"] = MAX_ATTEMPTS - 1
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(await bench.plan(Lane.PHASE, "chat"))
    assert ended.state is StepState.DONE
    assert await bench.states() == [("chat", "done", MAX_ATTEMPTS, "chat is done")]


async def test_three_failures_are_recorded_and_the_next_step_is_done_all_the_same(bench: Bench) -> None:
    """One child that cannot be stopped does not keep the others running."""
    bench.refusals["chat"] = 99
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(await bench.plan(Lane.PHASE, "chat", "game"))
    assert (await bench.targets()).count("chat") == MAX_ATTEMPTS
    assert ended.state is StepState.FAILED
    assert ended.failures == ("hold chat: chat says no",)
    assert [state[1] for state in await bench.states()] == ["failed", "done"]
    rows = await bench.database.read(lambda c: c.execute("SELECT state FROM operation").fetchall())
    assert rows == [("failed",)]


async def test_an_attempt_is_in_the_journal_while_it_is_made(bench: Bench) -> None:
    """Else a step that kills the daemon would be tried for ever."""
    seen: list[tuple[str, str, int, str]] = []

    async def look() -> None:
        seen.extend(await bench.states())

    bench.during["chat"] = look
    async with bench.at_work(Lane.PHASE) as responder:
        await responder.submit(await bench.plan(Lane.PHASE, "chat"))
    assert seen == [("chat", "pending", 1, "")]


def _reach(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def reach() -> None:
        event.set()

    return reach


async def test_a_cancelled_step_is_resumed_and_what_was_done_is_not_done_again(bench: Bench) -> None:
    """The next life takes the operation up where it was, under the same key."""
    operation = await bench.plan(Lane.PHASE, "chat", "game", "model")
    bench.gates["game"] = asyncio.Event()
    reached = asyncio.Event()
    bench.during["game"] = _reach(reached)
    async with bench.at_work(Lane.PHASE) as responder:
        responder.submit(operation)
        await reached.wait()
    bench.gates.clear()
    (loaded,) = (await bench.journal.load()).open_operations
    async with bench.at_work(Lane.PHASE, responder=bench.another()) as responder:
        ended = await responder.submit(loaded)
    assert bench.done == [(target, operation.key) for target in ("chat", "game", "game", "model")]
    assert ended.state is StepState.DONE
    assert [state[2] for state in await bench.states()] == [1, 1, 1]


async def test_orderly_ends_spend_no_attempts(bench: Bench) -> None:
    """As many upgrades as there are attempts, each in the middle of the same checkpoint, are no failure of it."""
    operation = await bench.plan(Lane.PHASE, "chat")
    bench.gates["chat"] = asyncio.Event()
    for _ in range(MAX_ATTEMPTS + 1):
        reached = asyncio.Event()
        bench.during["chat"] = _reach(reached)
        async with bench.at_work(Lane.PHASE, responder=bench.another()) as responder:
            responder.submit(operation)
            await reached.wait()
        (operation,) = (await bench.journal.load()).open_operations
    bench.gates.clear()
    async with bench.at_work(Lane.PHASE, responder=bench.another()) as responder:
        ended = await responder.submit(operation)
    assert ended.state is StepState.DONE


async def test_attempts_of_former_lives_count(bench: Bench) -> None:
    """A step that took the daemon along three times is not tried a fourth."""
    operation = await bench.plan(Lane.PHASE, "chat")
    for _ in range(MAX_ATTEMPTS):
        await bench.journal.step_tried(operation.steps[0].id)
    (loaded,) = (await bench.journal.load()).open_operations
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(loaded)
    assert bench.done == []
    assert ended.state is StepState.FAILED
    assert "before the daemon was restarted" in ended.failures[0]


async def test_a_failure_of_a_former_life_is_not_forgotten(bench: Bench) -> None:
    """It died between the step's end and the operation's: a failed checkpoint must not become a good one."""
    operation = await bench.plan(Lane.PHASE, "chat", "game")
    await bench.journal.step_ended(operation.steps[0].id, StepState.FAILED, "no room")
    (loaded,) = (await bench.journal.load()).open_operations
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(loaded)
    assert await bench.targets() == ["game"]
    assert ended.state is StepState.FAILED
    assert ended.failures == ("hold chat: no room",)


async def test_what_was_aborted_is_not_run(bench: Bench) -> None:
    """Neither from the beginning nor from the middle; whoever waits is told."""
    waiting = await bench.plan(Lane.CONTAINMENT, "chat")

    async def abort() -> None:
        await bench.journal.commit(Decision(abort_open="the phase moved on"))

    bench.during["chat"] = abort
    operation = await bench.plan(Lane.CONTAINMENT, "chat", "model")
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        first = responder.submit(operation)
        second = responder.submit(waiting)
        assert (await first).state is StepState.ABORTED
        assert (await second).state is StepState.ABORTED
    assert await bench.targets() == ["chat"]
    assert [state[1] for state in await bench.states()] == ["aborted"] * 3
    assert [ended.state for ended in bench.ended] == [StepState.ABORTED] * 2


async def test_an_operation_aborted_during_its_last_step_is_aborted(bench: Bench) -> None:
    """What is told is what the journal says."""

    async def abort() -> None:
        await bench.journal.commit(Decision(abort_open="the phase moved on"))

    bench.during["chat"] = abort
    async with bench.at_work(Lane.CONTAINMENT) as responder:
        ended = await responder.submit(await bench.plan(Lane.CONTAINMENT, "chat"))
    assert ended.state is StepState.ABORTED


async def test_lanes_do_not_wait_for_each_other_and_each_keeps_its_order(bench: Bench) -> None:
    """A containment is done while a checkpoint is under way; the next checkpoint waits."""
    bench.gates["model"] = asyncio.Event()
    async with bench.at_work(*Lane) as responder:
        slow = responder.submit(await bench.plan(Lane.PHASE, "model"))
        later = responder.submit(await bench.plan(Lane.PHASE, "later"))
        await responder.submit(await bench.plan(Lane.CONTAINMENT, "chat"))
        await responder.submit(await bench.plan(Lane.MAINTENANCE, "game"))
        assert not slow.done()
        assert "later" not in await bench.targets()
        bench.gates["model"].set()
        assert (await later).state is StepState.DONE
        assert slow.done()


async def test_an_operation_without_steps_ends_at_once(bench: Bench) -> None:
    """A recovery with nothing left to try ends its attempt."""
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(await bench.plan(Lane.PHASE))
    assert ended.state is StepState.DONE


async def test_nobody_needs_to_wait(bench: Bench) -> None:
    """An order whose asker has gone is carried out, and so is the next."""
    async with bench.at_work(Lane.PHASE) as responder:
        responder.submit(await bench.plan(Lane.PHASE, "chat")).cancel()
        await responder.submit(await bench.plan(Lane.PHASE, "game"))
    assert await bench.targets() == ["chat", "game"]
    assert len(bench.ended) == 2


async def test_a_full_disk_holds_a_step_up_and_does_not_end_its_lane(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is tried until it is made: nothing is done before its attempt is counted, or twice.

    Whoever saves what is irreplaceable, and has room to give, hears of it once for each write that had to wait.
    """
    monkeypatch.setattr(module, "JOURNAL_RETRY_SECONDS", 0.0)
    operation = await bench.plan(Lane.PHASE, "chat", "game")
    write, refused = bench.database.write, 0

    async def full_at_first(work: Callable[[apsw.Connection], object]) -> object:
        nonlocal refused
        refused += 1
        if refused % 3:
            raise DatabaseError("state.db: database or disk is full")
        return await write(work)

    monkeypatch.setattr(bench.database, "write", full_at_first)
    async with bench.at_work(Lane.PHASE) as responder:
        ended = await responder.submit(operation)
    assert ended.state is StepState.DONE
    assert await bench.targets() == ["chat", "game"]
    assert await bench.states() == [("chat", "done", 1, "chat is done"), ("game", "done", 1, "game is done")]
    assert len(bench.journal_failures) == refused // 3
    assert "database or disk is full" in bench.journal_failures[0]


@pytest.mark.parametrize("name", StepName)
async def test_what_spends_or_starts_waits_until_the_journal_is_on_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: StepName
) -> None:
    """A hold does not wait: it is what a full disk must not keep from anybody."""
    monkeypatch.setattr(module, "JOURNAL_RETRY_SECONDS", 0.001)
    reason, asked = "state.db is full", 0

    def stands_by(_: Journal) -> str:
        nonlocal asked
        asked += 1
        return reason

    monkeypatch.setattr(Journal, "stands_by", property(stands_by))
    async with bench.at_work(Lane.PHASE) as responder:
        ended = responder.submit(await bench.planned(Lane.PHASE, [Step(name, "chat")]))
        if name in MUST_BE_ON_DISK:
            await until(lambda: asked >= 20, "the journal to be asked again and again")
            assert not bench.done
        else:
            await until(lambda: bench.done, "the step")
        reason = ""
        assert (await ended).state is StepState.DONE
    assert await bench.targets() == ["chat"]


async def test_a_step_that_waits_for_the_disk_is_called_off_like_any_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lifeboat must not wait behind a restart that cannot begin."""
    monkeypatch.setattr(module, "JOURNAL_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(Journal, "stands_by", property(lambda _: "state.db is full"))
    async with bench.at_work(Lane.PHASE) as responder:
        restart = responder.submit(await bench.planned(Lane.PHASE, [Step(StepName.RESTART, "chat")]))
        await asyncio.sleep(0.01)
        plan = Plan(Lane.PHASE, "leave", [Step(StepName.LIFEBOAT, "host")])
        (leave,) = await bench.journal.commit(Decision(plans=[plan], abort_open="the phase moved on"))
        left = responder.submit(leave)
        assert (await restart).state is StepState.ABORTED
        assert (await left).state is StepState.DONE
    assert await bench.targets() == ["host"]
