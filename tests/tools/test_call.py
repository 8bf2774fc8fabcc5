"""Calls of tools: decided, recorded before they begin and at their end, and ended by whoever may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
from ledger_world import open_ledger
from scripted_worker import ScriptedStarter, catalogue

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.gate.tool_table import Taint
from epad.gateway.access import Access
from epad.ledger.entry import CloseTool
from epad.ledger.export import records_from
from epad.ledger.query import records_of_turn
from epad.ledger.record import Effect, Record, Session, ToolClosed, ToolOpened, ToolOutcome
from epad.ledger.rows import open_reader
from epad.ledger.store import Ledger
from epad.ledger.verify import Verdict, verify
from epad.tools.answers import MOST_EFFECTS, MOST_RESULT_BYTES, end_of
from epad.tools.call import OUTPUT_BYTES, CallContext, ToolCalls
from epad.tools.output_budget import OutputBudget
from epad.tools.protocol import ToolAnswer
from epad.tools.rates import CallRates
from epad.tools.running import Running
from epad.tools.sessions import Sessions
from epad.tools.worker import WorkerAnswer
from epad.tools.workers import Workers
from statemachine.clock import ManualClock
from statemachine.containment import Rung
from statemachine.phase import Phase


@dataclass
class Scene:
    """Calls, and all that they depend on; `close` ends them."""

    path: Path
    ledger: Ledger
    calls: ToolCalls
    starter: ScriptedStarter
    access: Access
    clock: ManualClock
    sessions: Sessions
    phase: Phase = Phase.NORMAL
    tier: Tier = Tier.AUTHOR
    limit: int = 0
    output_limit: int = 0
    patterns: tuple[str, ...] | None = None
    process: str = "boot/1/2"

    async def call(self, name: str, **arguments: object) -> ToolAnswer:
        return await self.calls.call(self.calls.caller("chat"), name, arguments, key=None)

    def records(self, turn: str) -> list[Record]:
        with contextlib.closing(open_reader(self.path)) as connection:
            return list(records_of_turn(connection, turn))

    def all_records(self) -> list[Record]:
        with contextlib.closing(open_reader(self.path)) as connection:
            return [shown.record for shown in records_from(connection, 1) if shown.record is not None]

    async def end(self, turn: str) -> ToolClosed:
        """The record of a turn's end, once it is written."""
        while self.calls._closing:
            await asyncio.wait(self.calls._closing)
        closed = self.records(turn)[-1]
        assert isinstance(closed, ToolClosed)
        return closed


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = await make_scene(tmp_path / "ledger.db")
    yield made
    await made.calls.close()
    await made.ledger.close()


async def make_scene(path: Path) -> Scene:
    ledger, clock = await open_ledger(path), ManualClock()
    access, starter = Access(clock), ScriptedStarter()
    holder: list[Scene] = []
    sessions = Sessions(lambda _: holder[0].process, lambda _: holder[0].tier, "run")
    context = CallContext(
        ledger=ledger,
        workers=Workers(starter, structlog.get_logger()),
        sessions=sessions,
        rates=CallRates(lambda _: holder[0].limit, clock),
        output=OutputBudget(lambda _: holder[0].output_limit, clock),
        access=access,
        phase=lambda: holder[0].phase,
        profile=lambda _: Profile(holder[0].patterns),
        clock=clock,
        log=structlog.get_logger(),
        grace_seconds=0.05,
    )
    made = Scene(path, ledger, ToolCalls(context, catalogue(silent=0.05)), starter, access, clock, sessions)
    holder.append(made)
    return made


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of another task."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def hanging(scene: Scene) -> asyncio.Task[ToolAnswer]:
    """A call that a worker has, and that does not end by itself."""
    task = asyncio.create_task(scene.call("hang"))
    await until(lambda: scene.starter.workers and scene.starter.workers[-1].busy)
    return task


async def test_a_call_is_recorded_with_everything_that_decided_about_it(scene: Scene) -> None:
    """Session, opening and end, in this order, with the tier, the row and the hashes."""
    answer = await scene.calls.call(
        scene.calls.caller("chat"), "write", {"b": 1, "a": 2}, key="k", parent="f" * 32
    )
    await scene.end(answer.turn)

    assert (answer.is_error, answer.content, answer.reason_code) == (False, {"ok": True}, "")
    session, opened, closed = scene.all_records()[1:]
    assert isinstance(session, Session)
    assert isinstance(opened, ToolOpened)
    assert isinstance(closed, ToolClosed)
    assert (session.session, session.tier, session.began) == (opened.session, 2, True)
    assert (opened.tool, opened.tier, opened.risk, opened.row) == ("write", 2, "W1", "W1/NORMAL")
    assert (opened.parent, opened.idempotency_key, opened.taint) == ("f" * 32, "k", 0)
    assert opened.arguments_sha256 == sha256(b'{"a":2,"b":1}').digest()
    assert opened.definition_sha256.hex() == scene.calls.catalogue.definitions["write"].sha256
    assert (closed.turn, closed.outcome, closed.cpu_ms, closed.wall_ms) == (opened.turn, "done", 1, 3)
    assert closed.effects == (Effect("a.txt", None, b"\x22" * 32),)
    assert closed.result_sha256 == sha256(b'{"ok":true}').digest()


async def test_a_session_is_recorded_once(scene: Scene) -> None:
    """Until its process is started anew."""
    await scene.call("echo")
    await scene.call("echo")
    scene.process = "boot/3/4"
    await scene.call("echo")
    await scene.calls.close()

    records = [record for record in scene.all_records() if isinstance(record, Session)]
    sessions = [record.session for record in records if record.began]
    assert len(sessions) == len(set(sessions)) == 2
    assert [record.session for record in records if not record.began] == sessions[:1]


async def test_the_opening_is_on_the_disk_before_a_worker_is_asked(scene: Scene) -> None:
    """Whoever looks into the file while the worker has the call finds it there, without an end."""
    task = await hanging(scene)
    with contextlib.closing(open_reader(scene.path)) as connection:
        records = [shown.record for shown in records_from(connection, 1)]
    task.cancel()

    assert isinstance(records[-1], ToolOpened)


async def test_a_refusal_is_recorded_and_no_worker_is_started(scene: Scene) -> None:
    """The agent reads why; the ledger has the row."""
    answer = await scene.call("remove", path="a.txt")

    assert (answer.is_error, answer.reason_code) == (True, "tier_too_low")
    assert "takes the tier operator" in str(answer.content["error"])
    [closed] = scene.records(answer.turn)
    assert isinstance(closed, ToolClosed)
    assert (closed.outcome, closed.row, closed.reason) == ("refused", "W2/tier", "tier_too_low")
    assert scene.starter.started == []


@pytest.mark.parametrize(
    ("change", "tool", "code"),
    [
        ({"tier": Tier.READER}, "write", "tier_too_low"),
        ({"tier": Tier.OPERATOR}, "remove", "consent_needed"),
        ({"phase": Phase.LIFEBOAT}, "echo", "phase"),
        ({"patterns": ("git.*",)}, "echo", "tool_not_given"),
    ],
)
async def test_each_refusal_has_its_code(scene: Scene, change: dict[str, Any], tool: str, code: str) -> None:
    """Each fact that the gate asks about reaches it."""
    for name, value in change.items():
        setattr(scene, name, value)
    answer = await scene.call(tool)

    assert (answer.is_error, answer.reason_code) == (True, code)
    assert answer.content["hint"]
    assert scene.starter.started == []


@pytest.mark.parametrize("change", [{}, {"phase": Phase.PRESERVATION}])
async def test_what_is_not_concerned_goes_on(scene: Scene, change: dict[str, Any]) -> None:
    """The trouble of others keeps nobody from its tools."""
    for name, value in change.items():
        setattr(scene, name, value)

    assert not (await scene.call("echo")).is_error


async def test_a_held_subsystem_calls_nothing_and_keeps_its_list(scene: Scene) -> None:
    """The hold is the same as at the gateway; the list is no different, to the byte."""
    before = scene.calls.definitions(scene.calls.caller("chat"))
    scene.access.hold("chat", Rung.FREEZE, "it burns tokens")
    answer = await scene.call("echo")

    assert answer.reason_code == "held"
    assert "it burns tokens" in str(answer.content["error"])
    assert scene.calls.definitions(scene.calls.caller("chat")) is before
    scene.access.release("chat")
    assert not (await scene.call("echo")).is_error


async def test_a_throttled_subsystem_calls_now_and_then(scene: Scene) -> None:
    """As it does at the gateway, where it shares the one allowance."""
    scene.access.hold("chat", Rung.THROTTLE, "it is slow")
    first, second = await scene.call("echo"), await scene.call("echo")

    assert (first.is_error, second.reason_code) == (False, "throttled")


async def test_what_is_cut_in_preservation_changes_nothing(scene: Scene) -> None:
    """A throttled one is cut: PRESERVATION's column is its own, and reading goes on."""
    scene.phase = Phase.PRESERVATION
    scene.access.hold("chat", Rung.THROTTLE, "PRESERVATION")

    assert (await scene.call("write")).reason_code == "phase"


async def test_the_end_of_the_caller_is_the_end_of_the_call(scene: Scene) -> None:
    """Its process is killed, and the record has the effects that it had so far."""
    task = await hanging(scene)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not scene.calls._tasks)
    turn = next(record for record in scene.all_records() if isinstance(record, ToolOpened)).turn
    closed = await scene.end(turn)

    assert (closed.outcome, closed.reason) == (ToolOutcome.CANCELLED, "cancelled")
    assert closed.effects == (Effect("half.txt", None, b"\x11" * 32),)


async def test_a_hold_ends_the_call_under_way(scene: Scene) -> None:
    """Severed as the subsystem's turns at models are."""
    task = await hanging(scene)
    scene.access.hold("chat", Rung.FREEZE, "it loops")
    assert scene.access.sever("chat") == 1
    answer = await task
    closed = await scene.end(answer.turn)

    assert (answer.is_error, answer.reason_code) == (True, "held")
    assert "it loops" in str(answer.content["error"])
    assert closed.outcome is ToolOutcome.KILLED


@pytest.mark.parametrize("target", ["tools-files", "tool:hang", "tools-files@chat", "tool:hang@chat"])
async def test_a_hold_on_its_tool_or_category_ends_the_call_and_refuses_the_next(
    scene: Scene, target: str
) -> None:
    """Killed by the hold, and recorded so; every other subsystem's and tool's calls go on."""
    task = await hanging(scene)
    scene.access.hold(target, Rung.BLOCK, "it loops")
    assert scene.access.sever(target) == 1
    answer, refused = await task, await scene.call("hang")
    closed, record = await scene.end(answer.turn), await scene.end(refused.turn)

    assert (answer.reason_code, refused.reason_code) == ("held", "held")
    assert (closed.outcome, closed.effects[0].target) == (ToolOutcome.KILLED, "half.txt")
    assert (record.outcome, record.row) == (ToolOutcome.REFUSED, "hold/block")
    assert not (await scene.call("host")).is_error
    assert (await scene.call("echo")).is_error is target.startswith("tools-")


@pytest.mark.parametrize("change", [{"limit": 10}, {"output_limit": 10 * OUTPUT_BYTES}])
async def test_of_200_calls_at_once_exactly_as_many_pass_as_have_room(
    scene: Scene, change: dict[str, int]
) -> None:
    """By their number as by their output; what they did not use is there for the next."""
    for name, value in change.items():
        setattr(scene, name, value)
    told = await asyncio.gather(*(scene.call("echo") for _ in range(200)))
    codes = [one.reason_code for one in told if one.is_error]

    assert len(codes) == 190
    assert codes[0] == ("tool_calls_per_minute" if "limit" in change else "tool_output_tokens_per_hour")
    scene.clock.advance(61)
    assert not (await scene.call("echo")).is_error


async def test_a_call_out_of_time_says_so(scene: Scene) -> None:
    """The worker has ended it."""
    answer = await scene.call("late")

    assert answer.reason_code == "timeout"
    assert (await scene.end(answer.turn)).outcome is ToolOutcome.TIMED_OUT


async def test_a_worker_that_answers_nothing_is_killed(scene: Scene) -> None:
    """It loses its calls, and the next one has another worker."""
    answer = await scene.call("silent")

    assert answer.reason_code == "timeout"
    assert not (await scene.call("echo")).is_error
    assert len(scene.starter.started) == 2


async def test_the_end_of_a_worker_fails_its_calls_alone(scene: Scene) -> None:
    """It is said that nobody knows what was done, and the next call is served."""
    answer = await scene.call("die")

    assert answer.reason_code == "worker_lost"
    assert "unknown" in str(answer.content["error"])
    assert (await scene.end(answer.turn)).outcome is ToolOutcome.FAILED
    assert not (await scene.call("echo")).is_error


async def test_an_error_of_a_tool_is_an_answer(scene: Scene) -> None:
    """With the tool's own hint."""
    answer = await scene.call("fail")

    assert (answer.is_error, answer.reason_code) == (True, "failed")
    assert answer.content == {"error": "no such file", "hint": "look first"}


async def test_a_large_result_is_cut(scene: Scene) -> None:
    """An agent's context is bounded, whatever a worker says."""
    answer = await scene.call("large")

    assert answer.reason_code == "output_too_large"
    assert str(MOST_RESULT_BYTES) in str(answer.content["error"])
    assert (await scene.end(answer.turn)).outcome is ToolOutcome.CUT


async def test_without_a_record_nothing_is_done(scene: Scene) -> None:
    """A ledger that takes no record keeps the worker from being asked."""
    scene.ledger.guard(str, lambda: "the disk is full")
    answer = await scene.call("write")

    assert (answer.is_error, answer.reason_code, answer.turn) == (True, "ledger_unavailable", "")
    assert scene.starter.started == []


async def test_two_hundred_at_once_with_room_for_ten_are_ten(scene: Scene) -> None:
    """Counted before anything is awaited; the others read when to come again, and leave no record."""
    scene.limit = 10
    answers = await asyncio.gather(*(scene.call("echo", number=number) for number in range(200)))
    served = [answer for answer in answers if not answer.is_error]
    refused = {answer.reason_code for answer in answers if answer.is_error}

    assert (len(served), refused) == (10, {"tool_calls_per_minute"})
    await scene.calls.close()
    assert len([record for record in scene.all_records() if isinstance(record, ToolOpened)]) == 10
    assert verify(scene.path).verdict is Verdict.OK


async def test_an_unknown_tool_and_an_ended_session_are_said(scene: Scene) -> None:
    """Neither leaves a record: nothing was asked of the gate."""
    stale = scene.calls.caller("chat")
    scene.process = "boot/9/9"

    assert (await scene.call("nonsense")).reason_code == "unknown_tool"
    assert (await scene.calls.call(stale, "echo", {}, key=None)).reason_code == "session_ended"
    assert len(scene.all_records()) == 1


async def test_taint_grows_and_is_recorded(scene: Scene) -> None:
    """What reads the host leaves its label in each later record."""
    await scene.call("host")
    answer = await scene.call("echo")
    await scene.end(answer.turn)
    opened = scene.records(answer.turn)[0]

    assert isinstance(opened, ToolOpened)
    assert opened.taint == Taint.PRIVATE


async def test_the_list_is_the_profile_in_order(scene: Scene) -> None:
    """Sorted by name, and nothing else decides about it."""
    names = [one.name for one in scene.calls.definitions(scene.calls.caller("chat"))]
    scene.patterns = ("odd.*", "write")
    fewer = [one.name for one in scene.calls.definitions(scene.calls.caller("chat"))]

    assert names == sorted(catalogue().definitions)
    assert fewer == ["host", "write"]


async def test_the_end_of_the_daemon_ends_every_call(scene: Scene) -> None:
    """Each has its record before the ledger is closed."""
    task = await hanging(scene)
    await scene.calls.close()
    answer = await task

    assert answer.reason_code == "cancelled"
    assert await scene.ledger.unclosed_tools() == []
    assert scene.starter.workers[0].is_lost


async def test_a_crash_leaves_the_end_unknown(tmp_path: Path) -> None:
    """The next run finds what was under way, once, and the run after it no more."""
    path = tmp_path / "ledger.db"
    before = await make_scene(path)
    task = await hanging(before)
    turn = (await before.ledger.unclosed_tools())[0].turn
    await before.ledger.close()  # as far as the file goes, the daemon is gone
    after = await make_scene(path)

    assert [(one.turn, one.tool) for one in await after.calls.unknown_since_crash()] == [(turn, "hang")]
    task.cancel()
    await before.calls.close()
    await after.ledger.close()
    last = await make_scene(path)
    assert await last.calls.unknown_since_crash() == []
    await last.ledger.close()


def test_many_effects_are_counted_beyond_a_number() -> None:
    """A record stays small, whatever a tool has changed."""
    told = tuple((f"{number}.txt", None, "33" * 32) for number in range(MOST_EFFECTS + 5))
    end = end_of(WorkerAnswer(1, {}, effects=told), Running())

    assert len(end.effects) == MOST_EFFECTS + 1
    assert end.effects[-1].target == "and 5 more"


async def test_the_end_of_a_read_may_wait_for_the_next_beginning(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To share its commit; that of a change, and a refusal, are on the disk before the answer."""
    lazily: dict[str, bool] = {}
    close = scene.ledger.close_tool

    def closing(tool: CloseTool, **how: bool) -> asyncio.Future[int]:
        lazily[tool.tool] = how["lazily"]
        return close(tool, **how)

    monkeypatch.setattr(scene.ledger, "close_tool", closing)
    for name in ("echo", "write", "remove"):
        await scene.call(name)
    assert lazily == {"echo": True, "write": False, "remove": False}
