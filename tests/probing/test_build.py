"""The probes and their hysteresis, made from the configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import pytest
from epad_house import configured
from epad_story import finding, memory_database, shipped

from epad.configuration.directories import Directories
from epad.configuration.schema import BudgetConfig, Config, SubsystemConfig
from epad.ledger.integrity import Integrity
from epad.probing.build import Senses, Watchers, make_assessor, make_watchers
from epad.storage.event_log import EventLog
from probes.cascade.probe import CALM_INTERVALS
from probes.datastore import STATED_SECONDS
from probes.ledger_integrity import LedgerCheck
from probes.subsystems import SubsystemExited, SubsystemSnapshot, SubsystemState
from probes.turns import TurnRefused
from statemachine.assessor import Raised
from statemachine.clock import ManualClock
from statemachine.finding import OPERATOR, Finding, Severity


class Bench:
    def __init__(self, config: Config) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.events = EventLog(memory_database(), self.clock)
        self.watchers: Watchers = make_watchers(
            config,
            Senses(self.snapshots, cast("Integrity", self), Directories(Path("/tmp"), Path("/tmp"))),
            self.clock,
            self.pushed.append,
            self.events,
        )

    def snapshots(self) -> list[SubsystemSnapshot]:
        return [SubsystemSnapshot("chat", "process", SubsystemState.RUNNING, essential=False, since=0.0)]

    async def check(self) -> LedgerCheck:
        return LedgerCheck(records=9, checked=9, faults=[(4, "hash", "it differs")])


@pytest.fixture
def bench() -> Bench:
    return Bench(configured(chat=SubsystemConfig(command=("x",), budget=BudgetConfig(tokens_per_minute=500))))


def test_every_probe_is_configured_and_has_a_name_of_its_own(bench: Bench) -> None:
    """Its interval is the configured one, but for cascade in calm; those of datastore and vault are of their looks."""
    config = shipped()
    intervals = {probe.name: probe.interval_seconds for probe in bench.watchers.all()}
    said = {name: getattr(config.probes, name).interval_seconds for name in config.probes.__struct_fields__}
    looking = dict.fromkeys(("datastore", "vault"), STATED_SECONDS)
    assert intervals == {**said, "cascade": said["cascade"] * CALM_INTERVALS, **looking}
    assert set(intervals) <= set(config.containment)


async def test_they_speak_to_whom_they_were_given(bench: Bench) -> None:
    """The gateway's refusals and the supervisor's exits are pushed; ledger and progress are asked."""
    at = bench.clock.monotonic()
    for second in range(30):
        bench.watchers.token_burn.refused(
            TurnRefused(
                "chat", at + second, "budget_exceeded", "tokens_per_minute", 500, retry_after_seconds=60.0
            )
        )
    bench.watchers.cascade.exited(SubsystemExited("chat", at, "exit 1", False, False, "its budget is spent"))
    assert {found.probe for found in bench.pushed} == {"token_burn", "cascade"}
    (ledger,) = await bench.watchers.ledger.sample()
    assert (ledger.severity, ledger.evidence["seqs"]) == (Severity.CRITICAL, [4])
    (progress,) = await bench.watchers.progress.sample()
    assert progress.subsystem == "chat"
    await bench.watchers.vram.close()


def test_hysteresis_is_the_probes_own_or_the_default() -> None:
    """As the file says."""
    rules = shipped().hysteresis
    assessor = make_assessor(rules)
    assert assessor.rule("token_burn").raise_after == rules["token_burn"].raise_after
    assert assessor.rule("vram").clear_after_seconds == rules["default"].clear_after_seconds


def test_a_persons_hold_is_raised_at_once_and_never_by_time_cleared() -> None:
    """However much passes."""
    clock, assessor = ManualClock(), make_assessor(shipped().hysteresis)
    (raised,) = assessor.observe(finding(clock, "chat", OPERATOR, hard=False))
    assert isinstance(raised, Raised)
    assert math.isinf(assessor.quiet_needed(raised.anomaly))
    assert assessor.sweep(clock.monotonic() + 1e12) == []
    assert len(assessor.acknowledge("chat", "released")) == 1
