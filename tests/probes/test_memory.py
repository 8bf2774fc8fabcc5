"""Memory against a subsystem's own limits, and against what the machine has left: hogs are held, loads are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from probes.memory import (
    URGENT_SECONDS,
    Footprint,
    HostMemory,
    Memory,
    MemoryLimits,
    MemoryReading,
    MemoryThresholds,
)
from probes.probe import ProbeError
from statemachine.assessor import Anomaly, Assessor, Hysteresis
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

MIB, GIB = 1 << 20, 1 << 30
TOTAL = 64 * GIB
Course = Callable[[float], float]


class Machine:
    """Subsystems whose memory is a course over time, on a machine that others use too."""

    def __init__(self, total: int = TOTAL, others: Course = lambda _: 4 * GIB) -> None:
        self.clock = ManualClock()
        self.began = self.clock.monotonic()
        self.total, self.others = total, others
        self.courses: dict[str, Course] = {}
        self.limits: dict[str, MemoryLimits] = {}
        self.kernel_max = 0
        self.host_is_known = True
        self.error: OSError | None = None
        self.probe = Memory(
            MemoryThresholds(),
            read=self.read,
            limits=lambda name: self.limits.get(name, MemoryLimits()),
            clock=self.clock,
        )
        self.assessor = Assessor({"memory": Hysteresis(raise_after=2, out_of=3)})
        self.findings: list[Finding] = []

    @property
    def now(self) -> float:
        return self.clock.monotonic() - self.began

    async def read(self) -> MemoryReading:
        if self.error is not None:
            raise self.error
        taken = {name: int(course(self.now)) for name, course in self.courses.items()}
        left = self.total - sum(taken.values()) - int(self.others(self.now))
        host = HostMemory(self.total, max(0, left)) if self.host_is_known else None
        footprints = {
            name: Footprint(size, self.now, 1, kernel_max_bytes=self.kernel_max)
            for name, size in taken.items()
            if size
        }
        return MemoryReading(footprints, host)

    async def run(self, seconds: float) -> list[Finding]:
        """Look as often as the probe wants to; return what was found, OK aside."""
        found: list[Finding] = []
        end = self.now + seconds
        while self.now < end:
            for finding in await self.probe.sample():
                self.assessor.observe(finding)
                if finding.severity is not Severity.OK:
                    found.append(finding)
            self.clock.advance(self.probe.interval_seconds)
        self.findings += found
        return found

    @property
    def held(self) -> dict[str, Rung | None]:
        """The rung of each anomaly, by subsystem; None is the probe's own."""
        return {a.key.subsystem: a.finding.rung for a in self.active}

    @property
    def active(self) -> tuple[Anomaly, ...]:
        return self.assessor.active


def flat(size: float) -> Course:
    return lambda _: size


def load(size: float, rate: float, start: float = 0.0) -> Course:
    """A model: it rises fast to its size, and stays."""
    return lambda at: max(0.0, min(size, (at - start) * rate))


def saw(low: float, high: float, period: float) -> Course:
    """A worker that fills and empties: batches, a garbage collector's heap."""
    return lambda at: low + (high - low) * ((at % period) / period)


HONEST: list[tuple[str, Course]] = [
    ("idle", flat(50 * MIB)),
    ("an agent of 3 GB", flat(3 * GIB)),
    ("a large server at rest", flat(50 * GIB)),
    ("a model from an SSD", load(40 * GIB, 2 * GIB)),
    ("a model from a hard disk", load(40 * GIB, 100 * MIB)),
    ("a model that leaves little", load(56 * GIB, 2 * GIB)),
    ("a model that comes after a quiet time", load(40 * GIB, 3 * GIB, start=100)),
    ("batches", saw(1 * GIB, 20 * GIB, 60)),
    ("a heap that is collected late", saw(1 * GIB, 30 * GIB, 1_800)),
    ("a quantizer, layer after layer", saw(4 * GIB, 12 * GIB, 25)),
    ("a slow cache that fills", load(20 * GIB, 5 * MIB)),
]


@pytest.mark.parametrize("course", [course for _, course in HONEST], ids=[name for name, _ in HONEST])
async def test_honest_work_is_never_held(course: Course) -> None:
    """Two hours of it, without a limit; a forecast may warn, and no more."""
    machine = Machine()
    machine.courses["it"] = course
    await machine.run(7_200)
    assert machine.active == ()
    assert all(finding.severity is Severity.WARNING for finding in machine.findings)


@pytest.mark.parametrize("rate", [20 * MIB, 100 * MIB, 500 * MIB, 1 * GIB])
async def test_who_takes_the_last_of_the_machine_is_frozen(rate: float) -> None:
    """It, and nobody else; frozen it takes no more, and is so before there is nothing left."""
    machine = Machine()
    machine.courses |= {"server": flat(20 * GIB), "agent": lambda at: 3 * GIB + at * rate}
    while not machine.held:
        await machine.run(URGENT_SECONDS)
        assert machine.now < 6_000
    assert machine.held == {"agent": Rung.FREEZE}
    (anomaly,) = machine.active
    assert anomaly.finding.evidence["available_bytes"] > 0
    assert "frozen, it takes no more" in anomaly.finding.reason
    assert machine.probe.blamed == "agent"
    frozen_at = machine.courses["agent"](machine.now)
    machine.courses["agent"] = flat(frozen_at)
    await machine.run(300)  # the machine is no better for it: it stays to blame
    assert machine.probe.blamed == "agent"
    machine.courses["agent"] = flat(1 * GIB)
    await machine.run(30)
    assert machine.probe.blamed == ""


async def test_a_slow_leak_is_forecast_before_it_is_held() -> None:
    """With how fast and how soon; held only when it is near the end."""
    machine = Machine(total=16 * GIB)
    machine.courses["agent"] = lambda at: 1 * GIB + at * 10 * MIB
    warned = await machine.run(700)
    assert warned
    assert machine.active == ()
    assert "grows by 600 MiB a minute: the machine's memory is full in" in warned[-1].reason
    while not machine.held:
        await machine.run(URGENT_SECONDS)
        assert machine.now < 1_300
    assert machine.held == {"agent": Rung.FREEZE}


async def test_too_late_to_freeze_is_stopped() -> None:
    """Somebody else eats the rest: what it holds is needed back. The firmer rung climbs above the first."""
    machine = Machine(total=32 * GIB)
    machine.courses["agent"] = lambda at: min(1 * GIB + at * 200 * MIB, 27.3 * GIB)
    await machine.run(160)
    assert machine.held == {"agent": Rung.FREEZE}
    machine.others = flat(5 * GIB)
    await machine.run(5)
    assert machine.held == {"agent": Rung.STOP}


async def test_nobody_here_is_to_blame_for_what_strangers_take() -> None:
    """A browser ate it: the host's own probe says so. Nor is who had it before the daemon came."""
    machine = Machine(others=lambda at: min(1 * GIB + at * 300 * MIB, 43.5 * GIB))
    machine.courses |= {"server": flat(20 * GIB), "agent": lambda at: 100 * MIB + at * 0.1 * MIB}
    await machine.run(600)
    assert machine.active == ()
    assert machine.probe.blamed == ""


async def test_a_full_machine_at_the_start_blames_nobody() -> None:
    """The daemon was restarted beside a server that has run for days."""
    machine = Machine()
    machine.courses["server"] = flat(59.5 * GIB)
    await machine.run(600)
    assert machine.active == ()


async def test_above_its_own_maximum_it_is_stopped() -> None:
    """By the probe's own rung: a frozen process keeps its memory. Once stopped it is well."""
    machine = Machine()
    machine.limits["agent"] = MemoryLimits(max_bytes=2 * GIB)
    machine.courses["agent"] = lambda at: at * 50 * MIB
    await machine.run(60)
    (anomaly,) = machine.active
    assert anomaly.finding.rung is None
    assert "above its memory_max of 2.0 GiB; stopped, it gives it back" in anomaly.finding.reason
    assert machine.courses["agent"](machine.now) < 3.5 * GIB  # seen a second apart near the limit
    machine.courses["agent"] = flat(0)
    assert await machine.run(60) == []


async def test_one_peak_above_a_maximum_is_none() -> None:
    """A single look; the hysteresis waits for the second of three."""
    machine = Machine()
    machine.limits["agent"] = MemoryLimits(max_bytes=2 * GIB)
    machine.courses["agent"] = lambda at: 3 * GIB if 20 <= at < 20.5 else 1 * GIB
    await machine.run(600)
    assert machine.active == ()


async def test_what_the_kernel_holds_is_left_to_it() -> None:
    """Near its maximum a warning says what will happen; the kill itself is told as an exit."""
    machine = Machine()
    machine.kernel_max = 2 * GIB
    machine.limits["agent"] = MemoryLimits(max_bytes=2 * GIB)
    machine.courses["agent"] = flat(1.9 * GIB)
    found = await machine.run(60)
    assert {f.severity for f in found} == {Severity.WARNING}
    assert "and is ended by the kernel there" in found[0].reason
    machine.courses["agent"] = flat(2.1 * GIB)
    await machine.run(60)
    assert machine.active == ()
    machine.limits["agent"] = MemoryLimits(
        max_bytes=1 * GIB
    )  # lowered by a reload: the kernel learns of it later
    await machine.run(30)
    assert machine.held == {"agent": None}


async def test_above_its_high_mark_for_long_it_is_throttled() -> None:
    """Not for a peak; and again from the beginning once it has been below."""
    machine = Machine()
    machine.limits["agent"] = MemoryLimits(high_bytes=1 * GIB)
    machine.courses["agent"] = saw(0.6 * GIB, 1.4 * GIB, 100)
    await machine.run(1_000)
    assert machine.active == ()
    machine.courses["agent"] = flat(1.1 * GIB)
    await machine.run(100)
    assert machine.held == {"agent": Rung.THROTTLE}


async def test_without_the_machines_figures_its_own_limits_hold() -> None:
    """A kernel that tells nothing of the machine."""
    machine = Machine()
    machine.host_is_known = False
    machine.limits["agent"] = MemoryLimits(max_bytes=1 * GIB)
    machine.courses |= {"agent": flat(2 * GIB), "other": lambda at: at * GIB}
    await machine.run(60)
    assert machine.held == {"agent": None}


async def test_it_looks_seldom_while_nothing_is_near() -> None:
    """And every second while something is."""
    machine = Machine()
    machine.courses["it"] = flat(3 * GIB)
    await machine.run(100)
    assert machine.probe.interval_seconds == MemoryThresholds().interval_seconds
    machine.courses["it"] = lambda at: 3 * GIB + (at - 100) * 2 * GIB
    await machine.run(15)
    assert machine.probe.interval_seconds == URGENT_SECONDS


async def test_a_release_begins_afresh() -> None:
    """What it gained before counts no more."""
    machine = Machine(total=16 * GIB)
    machine.courses["agent"] = lambda at: min(1 * GIB + at * 200 * MIB, 11.5 * GIB)
    await machine.run(100)
    assert machine.probe.blamed == "agent"
    machine.probe.forget("agent")
    assert machine.probe.blamed == ""
    await machine.run(30)
    assert machine.probe.blamed == ""


async def test_what_cannot_be_read_is_unknown_and_soon_not_shown() -> None:
    """A probe that is blind states nothing."""
    machine = Machine()
    machine.courses["it"] = flat(3 * GIB)
    await machine.run(10)
    assert machine.probe.footprints()["it"].memory_bytes == 3 * GIB
    machine.error = PermissionError(13, "Permission denied", "/proc")
    with pytest.raises(ProbeError, match="/proc: Permission denied"):
        await machine.probe.sample()
    machine.clock.advance(20)
    assert machine.probe.footprints() == {}


@pytest.mark.parametrize("values", [{"interval_seconds": 0}, {"growth_window_seconds": 15}])
def test_a_threshold_that_cannot_be_is_refused(values: dict[str, Any]) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"probes.memory.{next(iter(values))}"):
        MemoryThresholds(**values)
