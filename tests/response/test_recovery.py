"""The steps that make things whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, bundle_id, create, verify
from epad.checkpoint.source import BytesSource
from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName
from epad.gateway.access import Access
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.repair import RepairOutcome
from epad.response.recovery import Recovery
from epad.supervisor.errors import SupervisorError
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import ManualClock
from statemachine.containment import Hold, Rung

OPERATION = Operation(1, "20260101T000000Z-000001", Lane.PHASE, "a test", ())
RESTART = Step(StepName.RESTART, "chat")


class Bench:
    """A supervisor and a ledger that remember what they were asked."""

    def __init__(self, checkpoints: Path) -> None:
        self.access = Access(ManualClock())
        self.access.hold("chat", Rung.FREEZE, "it loops")
        self.asked: list[tuple[Any, ...]] = []
        self.trials: list[bool] = []
        self.failing = ""
        self.pid: int | None = 8
        self.gate: asyncio.Event | None = None
        self.outcome = RepairOutcome()
        self.wanted = Hold(Rung.OPEN)
        supervisor = cast("Supervisor", self)
        self.policies: list[str] = []
        self.recovery = Recovery(
            self.access, supervisor, lambda _: self.wanted, self.repair, checkpoints, self
        )

    def fall_back(self, subsystem: str) -> str:
        self.policies.append("last good")
        return "under the policy of its last good run"

    def take_back(self, subsystem: str) -> None:
        self.policies.append("configured")

    async def shut(self, subsystem: str) -> str:
        raise AssertionError("a restart shuts no door")

    async def open(self, subsystem: str) -> str:
        return ""

    async def hold(self, name: str, rung: Rung, reason: str, *, paused: bool = False) -> None:
        self.asked.append(("hold", name, rung))

    async def restart(self, name: str, *, trial: bool = False) -> None:
        self.trials.append(trial)
        self.asked.append(("restart", name, self.access.shut("chat") is not None))
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise SupervisorError(self.failing)

    def snapshots(self) -> list[SubsystemSnapshot]:
        state = SubsystemState.RECOVERING
        return [SubsystemSnapshot("chat", "process", state, essential=False, since=0.0, pid=self.pid)]

    async def repair(self, copies: Sequence[Path]) -> RepairOutcome:
        self.asked.append(("repair", [path.parent.name for path in copies]))
        if self.failing:
            raise LedgerUnavailableError(self.failing)
        return self.outcome


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(("lane", "trial"), [(Lane.PHASE, True), (Lane.CONTAINMENT, False)])
async def test_a_recovery_tries_and_a_person_forgives(bench: Bench, lane: Lane, trial: bool) -> None:
    """Only a person's order ends a row of failures; a recovery's restart must show itself to be healthy first."""
    await bench.recovery.restart(RESTART, Operation(1, "key", lane, "a test", ()))
    assert bench.trials == [trial]
    assert bench.policies == (["last good"] if trial else ["configured"])


async def test_a_restart_opens_the_door_last(bench: Bench) -> None:
    """Nothing of the old process is forwarded, and the new one finds the gateway open."""
    result = await bench.recovery.restart(RESTART, OPERATION)
    assert bench.asked == [
        ("hold", "chat", Rung.OPEN),
        ("restart", "chat", True),
        ("hold", "chat", Rung.OPEN),
    ]
    assert bench.access.shut("chat") is None
    assert result == "restarted; under the policy of its last good run; process 8 recovering; gateway open"


async def test_what_is_stopped_is_started_once(bench: Bench) -> None:
    """Opened first, it would be started, ended again, and started afresh."""
    bench.pid = None
    await bench.recovery.restart(RESTART, OPERATION)
    assert bench.asked == [("restart", "chat", True), ("hold", "chat", Rung.OPEN)]


async def test_a_restart_that_fails_leaves_the_door_closed(bench: Bench) -> None:
    """The message is the supervisor's own."""
    bench.failing = "chat: no such command"
    with pytest.raises(StepFailedError, match="no such command"):
        await bench.recovery.restart(RESTART, OPERATION)
    assert bench.access.shut("chat") is not None


async def test_a_hold_that_came_during_the_restart_stays(bench: Bench) -> None:
    """A person or a probe may hold what is being restarted, in the other lane."""
    bench.gate = asyncio.Event()
    restarting = asyncio.create_task(bench.recovery.restart(RESTART, OPERATION))
    await asyncio.sleep(0)
    bench.wanted = Hold(Rung.FREEZE, "held by a person")
    bench.gate.set()
    assert "gateway still closed: held by a person" in await restarting
    assert bench.asked[-1] == ("hold", "chat", Rung.FREEZE)
    assert bench.access.shut("chat") is not None


async def test_what_is_held_by_now_is_not_restarted(bench: Bench) -> None:
    """A hold that was decided after the restart is the newer word."""
    bench.wanted = Hold(Rung.STOP, "held by a person")
    assert await bench.recovery.restart(RESTART, OPERATION) == "not restarted: held by a person"
    assert bench.asked == []


async def test_the_ledger_is_repaired_from_verified_copies_first_newest_first(
    bench: Bench, tmp_path: Path
) -> None:
    """A bundle without a ledger in it has no copy to give."""
    clock = ManualClock()
    for number, content in enumerate((b"old", b"new", b"unverified"), start=1):
        label = Label(bundle_id(clock.utc(), number), "checkpoint", "a test", clock.utc())
        sources = [BytesSource("ledger.db", content)]
        bundle = await create(tmp_path, sources, label, deadline_seconds=PATIENCE_SECONDS)
        if content != b"unverified":
            await verify(bundle.path, deadline_seconds=PATIENCE_SECONDS)
    label = Label(bundle_id(clock.utc(), 4), "checkpoint", "a test", clock.utc())
    await create(tmp_path, [BytesSource("config.json", b"{}")], label, deadline_seconds=PATIENCE_SECONDS)
    bench.outcome = RepairOutcome(restored=(7, 8), lost=())
    result = await bench.recovery.repair_ledger(Step(StepName.REPAIR_LEDGER, "ledger"), OPERATION)
    ((_, copies),) = bench.asked
    assert [(tmp_path / str(name) / "ledger.db").read_bytes() for name in copies] == [
        b"new",
        b"old",
        b"unverified",
    ]
    assert result == "restored records 7, 8; lost for good none"


async def test_a_repair_that_fails_is_a_failed_step(bench: Bench) -> None:
    """The reason goes into the journal."""
    bench.failing = "the disk is gone"
    with pytest.raises(StepFailedError, match="the disk is gone"):
        await bench.recovery.repair_ledger(Step(StepName.REPAIR_LEDGER, "ledger"), OPERATION)
