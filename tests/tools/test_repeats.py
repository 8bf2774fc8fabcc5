"""Calls that are repeated with their key: answered again, in flight and later, in this run and the next."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import open_ledger
from scripted_worker import ScriptedStarter, catalogue

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.gateway.access import Access
from epad.ledger.export import records_from
from epad.ledger.record import ToolClosed, ToolOpened
from epad.ledger.rows import open_reader
from epad.ledger.store import Ledger
from epad.storage.database import Database, DatabaseError
from epad.tools import repeats
from epad.tools.call import CallContext, ToolCalls
from epad.tools.protocol import ToolAnswer
from epad.tools.rates import CallRates
from epad.tools.repeats import KEPT_SECONDS, TOOL_ANSWER_SCHEMA, Repeats
from epad.tools.sessions import Sessions
from epad.tools.worker_cell import Started
from epad.tools.workers import Workers
from statemachine.clock import ManualClock
from statemachine.phase import Phase
from statemachine.rung import Rung


class NoStarter(ScriptedStarter):
    """Starts no worker while it is told not to."""

    broken = False

    async def start(self, subsystem: str, category: str, ended: Callable[[], None]) -> Started:
        if self.broken:
            raise OSError("no memory")
        return await super().start(subsystem, category, ended)


@dataclass
class Run:
    """One run of a daemon, as far as calls go; the next one opens the same files."""

    directory: Path
    process: str = "boot/1/2"
    phase: Phase = Phase.NORMAL
    clock: ManualClock = field(default_factory=ManualClock)
    starter: NoStarter = field(default_factory=NoStarter)
    ledger: Ledger = field(init=False)
    database: Database = field(init=False)
    access: Access = field(init=False)
    calls: ToolCalls = field(init=False)

    async def begin(self) -> Run:
        self.ledger = await open_ledger(self.directory / "ledger.db")
        self.database = Database(self.directory / "state.db", TOOL_ANSWER_SCHEMA)
        await self.database.open()
        self.access, log = Access(self.clock), structlog.get_logger()
        context = CallContext(
            ledger=self.ledger,
            workers=Workers(self.starter, log),
            sessions=Sessions(lambda _: self.process, lambda _: Tier.AUTHOR, f"run {self.ledger.epoch}"),
            rates=CallRates(lambda _: 0, self.clock),
            access=self.access,
            phase=lambda: self.phase,
            profile=lambda _: Profile(None),
            clock=self.clock,
            log=log,
            repeats=Repeats(self.database, self.ledger, self.clock, log),
        )
        self.calls = ToolCalls(context, catalogue())
        return self

    async def end(self) -> None:
        await self.calls.close()
        await self.ledger.close()
        await self.database.close()

    async def next(self) -> Run:
        """The next run, after an orderly end of this one."""
        await self.end()
        return await Run(self.directory, self.process, clock=self.clock).begin()

    async def call(
        self,
        tool: str = "write",
        key: str | None = "k",
        parent: str = "",
        subsystem: str = "chat",
        **arguments: Any,
    ) -> ToolAnswer:
        caller = self.calls.caller(subsystem)
        return await self.calls.call(caller, tool, arguments, key=key, parent=parent)

    def records(self, kind: type[Any]) -> list[Any]:
        with contextlib.closing(open_reader(self.directory / "ledger.db")) as connection:
            shown = [one.record for one in records_from(connection, 1)]
        return [record for record in shown if isinstance(record, kind)]

    @property
    def done(self) -> int:
        """How many calls were begun, of all runs."""
        return len(self.records(ToolOpened))


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    made = await Run(tmp_path).begin()
    yield made
    with contextlib.suppress(DatabaseError):
        await made.end()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of another task."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def hanging(run: Run) -> asyncio.Task[ToolAnswer]:
    """A call that a worker has, and that does not end by itself."""
    task = asyncio.create_task(run.call("hang"))
    await until(lambda: run.starter.workers and run.starter.workers[-1].busy)
    return task


async def test_a_repeat_gets_the_same_answer_and_nothing_is_done(run: Run) -> None:
    """To the byte, with the turn that did it; another key is another call."""
    first = await run.call(path="a.txt")
    assert not first.is_error
    assert await run.call(path="a.txt") == first
    assert run.done == 1
    assert (await run.call(path="a.txt", key="other")).turn != first.turn
    assert run.done == 2


async def test_a_failure_is_an_answer_too(run: Run) -> None:
    """What a worker had may have been done in part: it is not tried again under its key."""
    task = await hanging(run)
    task.cancel()
    await until(lambda: not run.calls._tasks)
    again = await run.call("hang")
    assert (again.is_error, again.reason_code) == (True, "cancelled")
    assert run.done == 1


async def test_a_call_without_a_key_is_done_each_time(run: Run) -> None:
    """The benign twin; a call that only reads is so with a key too."""
    for _ in range(2):
        assert not (await run.call(key=None)).is_error
        assert not (await run.call("echo", text="x")).is_error
    assert run.done == 4


async def test_a_repeat_in_flight_waits_for_the_same_answer(run: Run) -> None:
    """One that comes later keeps the call from ending with its first caller."""
    first = await hanging(run)
    second = asyncio.create_task(run.call("hang"))
    await until(lambda: any(one.joined for one in _claims(run)))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    run.access.hold("chat", Rung.BLOCK, "it loops")
    run.access.sever("chat")
    answer = await second
    assert answer.reason_code == "held"
    assert run.done == 1
    run.access.release("chat")
    assert await run.call("hang") == answer


def _claims(run: Run) -> list[repeats.Claim]:
    known = run.calls._context.repeats
    assert known is not None
    return list(known._under_way.values())


async def test_a_key_is_for_one_call(run: Run) -> None:
    """With other arguments, or another tool, it is refused, and that is recorded; in flight as well."""
    await run.call(path="a.txt")
    for tool, arguments in (("write", {"path": "b.txt"}), ("hang", {"path": "a.txt"})):
        answer = await run.call(tool, **arguments)
        assert (answer.is_error, answer.reason_code) == (True, "key_reused")
        assert answer.content["hint"]
    task = asyncio.create_task(run.call("hang", key="h"))
    await until(lambda: len(_claims(run)) == 1)
    assert (await run.call("hang", key="h", other=1)).reason_code == "key_reused"
    task.cancel()
    assert [one.reason for one in run.records(ToolClosed) if one.outcome == "refused"] == ["key_reused"] * 3


async def test_the_models_turn_is_a_key_with_tool_and_arguments(run: Run) -> None:
    """A parent that asks for two different calls has both done."""
    first = await run.call(key=None, parent="f" * 32, path="a.txt")
    assert await run.call(key=None, parent="f" * 32, path="a.txt") == first
    assert (await run.call(key=None, parent="f" * 32, path="b.txt")).turn != first.turn
    assert (await run.call(key=None, parent="e" * 32, path="a.txt")).turn != first.turn
    assert run.done == 3


async def test_a_key_belongs_to_its_session(run: Run) -> None:
    """An agent that is started anew may count its keys from one again; another subsystem has its own."""
    first = await run.call(path="a.txt")
    assert (await run.call(path="a.txt", subsystem="other")).turn != first.turn
    run.process = "boot/3/4"
    assert (await run.call(path="a.txt")).turn != first.turn
    run.process = "boot/1/2"
    assert await run.call(path="a.txt") == first


@pytest.mark.parametrize("process", ["boot/1/2", ""])
async def test_the_answer_outlasts_the_daemon(run: Run, process: str) -> None:
    """That of a client too, whose session is another one after each start."""
    run.process = process
    first = await run.call(path="a.txt")
    later = await run.next()
    try:
        assert await later.call(path="a.txt") == first
        assert later.starter.started == []
        assert (await later.call(path="b.txt")).reason_code == "key_reused"
        assert not (await later.call(path="b.txt", key="other")).is_error
    finally:
        await later.end()


@pytest.mark.parametrize("process", ["boot/1/2", ""])
async def test_a_call_that_a_crash_has_cut_is_not_done_again(run: Run, process: str) -> None:
    """Its end is unknown, which is said; under another key it is done."""
    run.process = process
    task = await hanging(run)
    await run.ledger.close()  # as far as the files go, the daemon is gone
    later = await Run(run.directory, process, clock=run.clock).begin()
    try:
        answer = await later.call("hang")
        assert (answer.is_error, answer.reason_code) == (True, "end_unknown")
        assert "its end is unknown" in str(answer.content["error"])
        assert later.starter.started == []
        assert not (await later.call(key="other")).is_error
    finally:
        task.cancel()
        await later.end()


async def test_an_answer_that_is_lost_is_told_by_the_ledger(run: Run) -> None:
    """That it was done, and what it changed; or that it failed. Neither is done again."""
    first = await run.call(path="a.txt")
    failed = await _cancelled(run, "f")
    await run.database.write(lambda connection: connection.execute("DELETE FROM tool_answer"))
    later = await run.next()
    try:
        answer = await later.call(path="a.txt")
        assert (answer.is_error, answer.reason_code, answer.turn) == (True, "already_done", first.turn)
        assert "it changed 'a.txt'" in str(answer.content["error"])
        again = await later.call("hang", key="f")
        assert (again.reason_code, again.turn) == ("already_ended", failed)
        assert later.starter.started == []
    finally:
        await later.end()


async def _cancelled(run: Run, key: str) -> str:
    """The turn of a call whose caller has gone."""
    task = asyncio.create_task(run.call("hang", key=key))
    await until(lambda: run.starter.workers and run.starter.workers[-1].busy)
    task.cancel()
    await until(lambda: not run.calls._tasks)
    return str(run.records(ToolOpened)[-1].turn)


async def test_what_was_not_begun_is_done_later(run: Run) -> None:
    """A refusal, and a worker that could not be started, use no key up."""
    run.phase = Phase.LIFEBOAT
    assert (await run.call()).reason_code == "phase"
    run.phase = Phase.NORMAL
    run.starter.broken = True
    assert (await run.call()).reason_code == "no_worker"
    later = await run.next()
    try:
        assert not (await later.call()).is_error
    finally:
        await later.end()


async def test_a_disk_that_takes_no_answer_lets_nothing_be_done_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: Callable[[apsw.Connection], object]) -> None:
        raise DatabaseError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(run.database, "write", full)
        first = await run.call()
    again = await run.call()
    assert (again.reason_code, again.turn) == ("already_done", first.turn)


async def test_where_keys_cannot_be_looked_up_nothing_is_done(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Callable[[apsw.Connection], object]) -> None:
        raise DatabaseError("the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(run.database, "read", broken)
        assert (await run.call()).reason_code == "ledger_unavailable"
    assert run.done == 0
    assert not (await run.call()).is_error


async def test_a_key_is_known_for_a_day(run: Run) -> None:
    first = await run.call()
    run.clock.advance(KEPT_SECONDS - 60)
    assert await run.call() == first
    run.clock.advance(120)
    assert (await run.call()).turn != first.turn


async def test_the_newest_calls_of_a_subsystem_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many, and so many bytes of answers; another subsystem loses nothing by it."""
    monkeypatch.setattr(repeats, "_TIDY_CALLS", 1)
    monkeypatch.setattr(repeats, "MOST_CALLS", 4)
    monkeypatch.setattr(repeats, "MOST_BYTES", 250)
    other = await run.call(key="o", subsystem="other")
    answers = [await run.call(key=f"k{number}") for number in range(6)]
    assert await run.call(key="k5") == answers[5]
    lost = await run.call(key="k2")
    assert (lost.reason_code, lost.turn) == ("already_done", answers[2].turn)
    assert (await run.call(key="k0")).turn != answers[0].turn
    assert await run.call(key="o", subsystem="other") == other


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "next", "lose"]), st.sampled_from("ab"), st.integers(0, 1)
    ),
    max_size=10,
)


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_whatever_comes_in_between_a_key_is_done_once(steps: list[tuple[str, str, int]]) -> None:
    """Starts of the daemon, and lost answers at one: the first call of a key is the only one that is done."""

    async def play(directory: Path) -> None:
        run = await Run(directory).begin()
        made: dict[str, int] = {}
        for step, key, argument in steps:
            if step == "call":
                answer = await run.call(key=key, number=argument)
                reused = made.setdefault(key, argument) != argument
                assert (answer.reason_code == "key_reused") is reused
                assert run.done == len(made)
                continue
            if step == "lose":
                await run.database.write(lambda connection: connection.execute("DELETE FROM tool_answer"))
            run = await run.next()
        await run.end()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory)))
