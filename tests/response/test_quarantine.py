"""Containment: the gateway's door and the process, in the order that lets nothing through."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName
from epad.gateway.access import Access
from epad.response.quarantine import Containment
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import ManualClock
from statemachine.containment import Hold, Rung

OPERATION = Operation(1, "20260101T000000Z-000001", Lane.CONTAINMENT, "a test", ())


class Doors:
    """The doors of cells; those of "chat" alone."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self._asked = asked

    async def shut(self, subsystem: str) -> str:
        self._asked.append(("shut", subsystem))
        return "its door shut" if subsystem == "chat" else ""

    async def open(self, subsystem: str) -> str:
        self._asked.append(("open", subsystem))
        return "its door open" if subsystem == "chat" else ""


class Recorder:
    """A supervisor and a gateway in one, that remember the order in which they were asked."""

    def __init__(self) -> None:
        self.access = Access(ManualClock())
        self.asked: list[tuple[object, ...]] = []
        self.failing = ""
        self.gate: asyncio.Event | None = None
        self.wanted = Hold(Rung.OPEN)
        self.containment = Containment(
            self.access, cast("Supervisor", self), lambda _: self.wanted, cells=Doors(self.asked)
        )
        self.access.enter("chat", self)

    def sever(self, why: Any) -> None:
        self.asked.append(("severed", why.code))

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool = False) -> None:
        self.asked.append(("process", rung, paused, self.shut()))
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise SupervisorError(self.failing)

    def snapshots(self) -> list[SubsystemSnapshot]:
        state = SubsystemState.QUARANTINED
        return [
            SubsystemSnapshot("chat", "process", state, essential=False, since=0.0, pid=7),
            SubsystemSnapshot("guest", "client", state, essential=False, since=0.0),
        ]

    def shut(self) -> bool:
        return self.access.shut("chat") is not None

    async def do(self, rung: Rung, reason: str = "it loops", target: str = "chat") -> str:
        self.wanted = Hold(rung, reason)
        return await self.step(rung, target)

    async def step(self, rung: Rung, target: str = "chat") -> str:
        """Do a step that was decided some time ago, whatever is wanted by now."""
        arguments = {"rung": rung.label, "reason": "", "paused": False}
        return await self.containment.hold(Step(StepName.HOLD, target, arguments), OPERATION)


@pytest.fixture
def bench() -> Recorder:
    return Recorder()


async def test_the_door_closes_and_the_turns_end_before_the_process_is_touched(bench: Recorder) -> None:
    """Between the two nothing may be forwarded."""
    result = await bench.do(Rung.FREEZE)
    assert bench.asked == [
        ("severed", "subsystem_quarantined"),
        ("shut", "chat"),
        ("process", Rung.FREEZE, False, True),
    ]
    assert result == "gateway closed, 1 turn(s) severed; its door shut; process 7 quarantined"


async def test_the_door_opens_only_once_the_process_is_ready_to_use_it(bench: Recorder) -> None:
    """A frozen process with an open door would be neither."""
    await bench.do(Rung.FREEZE)
    bench.asked.clear()
    assert await bench.do(Rung.OPEN, "") == "gateway open; its door open; process 7 quarantined"
    assert bench.asked == [("process", Rung.OPEN, False, True), ("open", "chat")]
    assert not bench.shut()


async def test_a_throttle_severs_nothing(bench: Recorder) -> None:
    """What is under way may end."""
    assert (await bench.do(Rung.THROTTLE)).startswith("gateway throttled")
    assert bench.asked == [("process", Rung.THROTTLE, False, False), ("open", "chat")]


async def test_a_process_that_does_not_obey_leaves_the_door_closed(bench: Recorder) -> None:
    """On the way in and on the way out."""
    bench.failing = "chat does not thaw"
    with pytest.raises(StepFailedError, match="chat does not thaw"):
        await bench.do(Rung.FREEZE)
    assert bench.shut()
    with pytest.raises(StepFailedError):
        await bench.do(Rung.OPEN)
    assert bench.shut()


async def test_a_hold_that_came_while_it_was_released_stays(bench: Recorder) -> None:
    """LIFEBOAT stops everything in another lane; a release that is still thawing must not open the door after."""
    await bench.do(Rung.FREEZE)
    bench.gate = asyncio.Event()
    releasing = asyncio.create_task(bench.do(Rung.OPEN))
    await asyncio.sleep(0)
    bench.wanted = Hold(Rung.STOP, "LIFEBOAT")
    bench.gate.set()
    assert "gateway still closed: LIFEBOAT" in await releasing
    assert bench.shut()


@pytest.mark.parametrize(("late", "wanted"), [(Rung.FREEZE, Rung.OPEN), (Rung.OPEN, Rung.FREEZE)])
async def test_a_step_that_comes_late_does_what_is_wanted_by_now(
    bench: Recorder, late: Rung, wanted: Rung
) -> None:
    """Steps of two lanes may overtake each other; the last decision in the journal is what holds."""
    bench.wanted = Hold(wanted, "the last word")
    await bench.step(late)
    assert [rung for asked, rung, *_ in bench.asked if asked == "process"] == [wanted]
    assert bench.shut() == (wanted is Rung.FREEZE)


async def test_done_twice_is_done_once(bench: Recorder) -> None:
    """A step that is resumed may have been done already."""
    for rung in (Rung.FREEZE, Rung.FREEZE, Rung.OPEN, Rung.OPEN):
        await bench.do(rung)
    assert not bench.shut()


async def test_a_client_has_no_process_of_ours(bench: Recorder) -> None:
    """And the result says so."""
    assert await bench.do(Rung.BLOCK, target="guest") == (
        "gateway closed, 0 turn(s) severed; it has no process of ours"
    )


class Freeing:
    """A way to free GPU memory, or none that works."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.asked: list[str] = []

    async def release(self, subsystem: str) -> str:
        self.asked.append(subsystem)
        if self.failure:
            raise StepFailedError(self.failure)
        return "2 models unloaded, 8 GiB freed"


async def test_memory_is_freed_gently_while_the_process_runs(bench: Recorder) -> None:
    """The door is shut first; the process is let run, for a frozen one frees nothing."""
    freeing = Freeing()
    bench.containment = Containment(bench.access, cast("Supervisor", bench), lambda _: bench.wanted, freeing)
    said = await bench.do(Rung.RELEASE_VRAM)
    assert bench.asked == [("severed", "subsystem_quarantined"), ("process", Rung.RELEASE_VRAM, False, True)]
    assert freeing.asked == ["chat"]
    assert "2 models unloaded, 8 GiB freed" in said


async def test_where_nothing_gentle_helps_the_process_is_stopped(bench: Recorder) -> None:
    """And so it is where no gentle way is known; the result says why."""
    said = await bench.do(Rung.RELEASE_VRAM)
    assert [asked[1] for asked in bench.asked if asked[0] == "process"] == [Rung.RELEASE_VRAM, Rung.STOP]
    assert "no way to free the GPU memory of chat but to end it" in said
