"""Days of crash loops on a fake clock: restart policy, cascade probe and hysteresis, as they are shipped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pytest

from epad.configuration.load import load
from epad.configuration.schema import RestartConfig
from epad.configuration.thresholds import cascade_thresholds
from epad.probing.build import make_assessor
from epad.supervisor.restart import SUCCEEDED, Decision, Ending, History, decide, in_words
from probes.cascade import Cascade
from probes.subsystems import SubsystemExited
from statemachine.assessor import Raised
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding
from statemachine.rung import Rung

HOUR = 3_600.0
SHIPPED = load()


class House:
    """Subsystems that die and are started again, and everybody who counts them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.began = self.clock.monotonic()
        self.assessor = make_assessor(SHIPPED.hysteresis)
        self.raised: list[Finding] = []
        self.histories: dict[str, History] = {}
        self.given_up_at: float | None = None
        self.start_probe()

    @property
    def seconds(self) -> float:
        return self.clock.monotonic() - self.began

    def start_probe(self) -> None:
        """As a daemon does that has just been started: what it is told of is what the records hold."""
        self.probe = Cascade(
            cascade_thresholds(SHIPPED.probes.cascade),
            clock=self.clock,
            push=self.take,
            completed=lambda event: event.reason == SUCCEEDED,
        )
        for name, history in self.histories.items():
            self.probe.remember(name, history.failed_at)

    def take(self, finding: Finding) -> None:
        changes = self.assessor.observe(finding)
        self.raised += [change.anomaly.finding for change in changes if isinstance(change, Raised)]

    async def wait(self, seconds: float) -> None:
        """Let time pass, with a look now and then."""
        while seconds > 0:
            step = min(seconds, 5.0)
            self.clock.advance(step)
            seconds -= step
            for finding in await self.probe.sample():
                self.take(finding)
            self.assessor.sweep(self.clock.monotonic())

    async def die(
        self,
        name: str,
        life: float,
        config: RestartConfig | None = None,
        *,
        ready: bool = True,
        succeeded: bool = False,
    ) -> Decision:
        """Live so long, die, and wait for the next start."""
        config = config or RestartConfig()
        started = self.clock.monotonic()
        await self.wait(life)
        ending = Ending(self.clock.monotonic(), started, wanted=False, succeeded=succeeded, ready=ready)
        verdict = decide(config, self.histories.get(name, History()), ending, 0.5)
        self.histories[name] = verdict.history
        again = verdict.decision is Decision.RESTART
        why = in_words(config, verdict) if verdict.decision is Decision.GIVE_UP else verdict.reason
        status = "exit 0" if succeeded else "exit 1"
        self.probe.exited(SubsystemExited(name, ending.at, status, False, again, why, life))
        if verdict.decision is Decision.GIVE_UP:
            self.given_up_at = self.seconds
        await self.wait(verdict.delay_seconds)
        return verdict.decision

    async def loop(self, lives: Sequence[float], seconds: float, **how: Any) -> None:
        """Die after each of these lives in turn until it is given up or the time is over."""
        for life in cycle(lives):
            if self.seconds >= seconds or self.given_up_at is not None:
                return
            await self.die("vllm", life, **how)


LOOPS: list[tuple[float, ...]] = [
    *((life,) for life in (
        0.2, 1.0, 5.0, 12.0, 20.0, 33.0, 45.0, 61.0, 120.0, 300.0, 420.0, 599.0, 600.0, 601.0, 840.0, 900.0, 1_140.0,
        1_199.0,
    )),
    (1.0, 1_100.0),
    (5.0, 1_140.0),
    (33.0, 420.0, 720.0),
    (45.0, 700.0),
    (10.0, 100.0, 1_000.0),
]  # fmt: skip


@pytest.mark.parametrize("lives", LOOPS)
@pytest.mark.parametrize("ready", [True, False])
async def test_a_loop_is_told_and_held_within_the_hour(lives: tuple[float, ...], ready: bool) -> None:
    """Whatever its life, and whether it becomes ready or not."""
    house = House()
    await house.loop(lives, HOUR, ready=ready)
    told = [finding for finding in house.raised if finding.subsystem == "vllm"]
    held = [finding for finding in told if finding.rung is None]
    assert held
    assert held[0].at - house.began <= HOUR
    assert {finding.subsystem for finding in house.raised} == {"vllm"}


@pytest.mark.parametrize("life", [45.0, 599.0, 1_199.0])
async def test_with_exit_status_0_too(life: float) -> None:
    """A service that is always restarted, and ends by itself again and again."""
    house = House()
    await house.loop([life], HOUR, config=RestartConfig(policy="always"), succeeded=True)
    assert house.raised[-1].rung is None


@pytest.mark.parametrize("life", [45.0, 300.0, 1_199.0])
async def test_a_restart_of_the_daemon_hides_no_loop(life: float) -> None:
    """One after every death: rows and the crashes of the last hour are in the records."""
    house = House()
    while house.seconds < HOUR and house.given_up_at is None:
        await house.die("vllm", life)
        house.start_probe()
    assert house.raised
    assert house.raised[0].at - house.began <= HOUR


async def test_a_loop_of_long_lives_is_given_up_in_the_end() -> None:
    """It is held and let go again, each time for longer; eleven lives of 20 minutes are enough."""
    house = House()
    await house.loop([1_199.0], 24 * HOUR)
    assert house.given_up_at is not None
    assert house.given_up_at < 5 * HOUR
    assert "is not restarted: it never ran healthily: died 11 times in a row" in house.raised[-1].reason


async def test_a_crash_now_and_then_is_never_held() -> None:
    """Three in the first hour of a new service, then one every other hour of a day."""
    house = House()
    for life in (120.0, 900.0, 2_000.0):
        await house.die("vllm", life)
    while house.seconds < 24 * HOUR:
        await house.die("vllm", 2 * HOUR)
    assert house.given_up_at is None
    assert all(finding.rung is Rung.OPEN for finding in house.raised)


async def test_honest_crashes_of_a_day_are_nothing() -> None:
    """One that healed; two of different causes; two subsystems at once that are back at the next look; a late third."""
    house = House()
    await house.die("agent", 7_200.0)
    for name in ("agent", "model"):
        await house.die(name, 5.0)
    await house.wait(2 * HOUR)
    for _ in range(6):
        await house.die("agent", 1_900.0)
    assert house.raised == []
    assert house.assessor.active == ()


async def test_several_that_burst_together_are_the_hosts_trouble() -> None:
    """Each dies again as soon as it is started: a driver that is gone, a disk that is full."""
    house = House()
    for _ in range(2):
        for name in ("agent", "model"):
            await house.die(name, 0.5)
    await house.wait(5)
    assert [finding.subsystem for finding in house.raised] == [HOST]
