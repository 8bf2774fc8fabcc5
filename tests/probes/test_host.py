"""The machine itself, and when it is in trouble."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.host import NO_PRESSURE, Disk, Host, HostReading, HostThresholds, Pressure
from probes.loop_lag import LoopLag
from probes.probe import ProbeError
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding, Severity

GIB = 1 << 30
ROOMY = Disk(1_000 * GIB, 500 * GIB, 1_000_000, 900_000)
CALM = Pressure(0.0, 0.0)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lag = LoopLag(beat_seconds=0.25, lag_seconds=1.0, settle_seconds=10.0, clock=self.clock)
        self.disk = ROOMY
        self.pressure: Mapping[str, Pressure] = {"cpu": CALM, "memory": CALM, "io": CALM}
        self.memory: tuple[int | None, int | None] = (64 * GIB, 32 * GIB)
        self.blamed = ""
        self.error: OSError | None = None
        self.host = Host(
            HostThresholds(), read=self.read, lag=self.lag, clock=self.clock, blamed=lambda: self.blamed
        )

    async def read(self) -> HostReading:
        if self.error is not None:
            raise self.error
        return HostReading(self.pressure, self.disk, *self.memory)

    async def finding(self) -> Finding:
        (finding,) = await self.host.sample()
        assert (finding.probe, finding.subsystem) == ("host", HOST)
        return finding


async def test_a_calm_machine_is_ok_and_its_figures_are_in_the_evidence() -> None:
    """As base units."""
    bench = Bench()
    finding = await bench.finding()
    assert finding.severity is Severity.OK
    assert finding.evidence["disk_free_bytes"] == 500 * GIB
    assert finding.evidence["pressure"]["memory"] == {"some": 0.0, "full": 0.0}


@pytest.mark.parametrize(
    ("resource", "pressure", "severity"),
    [
        ("memory", Pressure(0.9, 0.19), Severity.OK),
        ("memory", Pressure(0.9, 0.2), Severity.WARNING),
        ("memory", Pressure(0.9, 0.6), Severity.CRITICAL),
        ("io", Pressure(1.0, 0.59), Severity.OK),
        ("io", Pressure(1.0, 1.0), Severity.WARNING),
        ("cpu", Pressure(0.94, 0.0), Severity.OK),
        ("cpu", Pressure(1.0, 1.0), Severity.WARNING),
    ],
)
async def test_only_memory_is_reason_to_act(resource: str, pressure: Pressure, severity: Severity) -> None:
    """A machine that works hard is no machine in trouble; one that thrashes is."""
    bench = Bench()
    bench.pressure = {**bench.pressure, resource: pressure}
    assert (await bench.finding()).severity is severity


async def test_a_kernel_without_pressure_figures_is_watched_all_the_same() -> None:
    """The room is; and what cannot be seen is said in one line."""
    bench = Bench()
    assert bench.host.notice == ""
    bench.pressure = {}
    assert (await bench.finding()).severity is Severity.OK
    assert bench.host.notice == NO_PRESSURE
    bench.pressure = {"memory": CALM}
    await bench.finding()
    assert bench.host.notice == ""


@pytest.mark.parametrize(
    ("total", "left", "pressure", "severity"),
    [
        (64 * GIB, 2 * GIB, True, Severity.OK),  # below 5 %, but more than 1 GiB
        (8 * GIB, int(0.5 * GIB), True, Severity.OK),  # below 1 GiB, but more than 5 %
        (64 * GIB, int(0.9 * GIB), True, Severity.WARNING),
        (64 * GIB, 0, True, Severity.WARNING),  # nobody lacks it, says the pressure
        (64 * GIB, int(0.9 * GIB), False, Severity.WARNING),
        (64 * GIB, int(0.2 * GIB), False, Severity.CRITICAL),
        (None, None, False, Severity.OK),
    ],
)
async def test_memory_left_is_a_warning_unless_nothing_else_tells(
    total: int | None, left: int | None, pressure: bool, severity: Severity
) -> None:
    """What is not used is wasted; whether anybody lacks it is the pressure's to say, where the kernel keeps any."""
    bench = Bench()
    bench.memory = (total, left)
    if not pressure:
        bench.pressure = {}
    finding = await bench.finding()
    assert finding.severity is severity
    assert ("memory" in finding.evidence["short"]) is (severity > Severity.OK)


async def test_who_took_the_memory_is_held_first() -> None:
    """The machine's want of it is told, and left to that one's own finding; a full disk is not excused by it."""
    bench = Bench()
    bench.pressure, bench.blamed = {"memory": Pressure(0.9, 0.9)}, "agent"
    finding = await bench.finding()
    assert finding.severity is Severity.WARNING
    assert "agent has taken most of it" in finding.reason
    bench.disk = Disk(20 * GIB, 0, None, None)
    assert (await bench.finding()).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("total", "free", "severity"),
    [
        (4_000 * GIB, 6 * GIB, Severity.OK),  # far below 10 %, but plenty
        (4_000 * GIB, 4 * GIB, Severity.WARNING),
        (20 * GIB, 3 * GIB, Severity.OK),  # below 5 GiB, but 15 %
        (20 * GIB, int(1.9 * GIB), Severity.WARNING),
        (20 * GIB, int(0.9 * GIB), Severity.ANOMALY),
        (20 * GIB, int(0.3 * GIB), Severity.CRITICAL),
        (4_000 * GIB, int(0.4 * GIB), Severity.CRITICAL),
        (4_000 * GIB, 0, Severity.CRITICAL),
    ],
)
async def test_room_is_short_when_it_is_so_as_a_share_and_in_bytes(
    total: int, free: int, severity: Severity
) -> None:
    """The smaller mark of both."""
    bench = Bench()
    bench.disk = dataclasses.replace(ROOMY, total_bytes=total, free_bytes=free)
    finding = await bench.finding()
    assert finding.severity is severity
    if severity is not Severity.OK:
        assert f"{free >> 20} MiB are free for epad's state" in finding.reason


@given(st.integers(1, 1 << 45), st.floats(0, 1), st.floats(0, 1))
def test_less_room_is_never_better(total: int, one: float, other: float) -> None:
    """Whatever the size of the disk."""
    less, more = sorted((int(one * total), int(other * total)))
    assert severity_of(total, less) >= severity_of(total, more)


def severity_of(total: int, free: int) -> Severity:
    bench = Bench()
    bench.disk = dataclasses.replace(ROOMY, total_bytes=total, free_bytes=free)
    work = bench.host.sample()
    try:
        work.send(None)
    except StopIteration as ended:
        severity: Severity = ended.value[0].severity
        return severity
    raise AssertionError("it waited for something")


@pytest.mark.parametrize(
    ("free", "total", "severity"),
    [
        (100_000, 1_000_000, Severity.OK),
        (99_999, 1_000_000, Severity.WARNING),
        (29_999, 1_000_000, Severity.ANOMALY),
        (None, None, Severity.OK),
    ],
)
async def test_inodes_run_out_too(free: int | None, total: int | None, severity: Severity) -> None:
    """Btrfs has no fixed number of them."""
    bench = Bench()
    bench.disk = dataclasses.replace(ROOMY, free_inodes=free, total_inodes=total)
    assert (await bench.finding()).severity is severity


async def test_a_jump_of_the_wall_clock_is_said_once() -> None:
    """A warning: nothing is decided by that clock."""
    bench = Bench()
    bench.host.clock_jumped(-3_600.0)
    finding = await bench.finding()
    assert (finding.severity, finding.reason) == (
        Severity.WARNING,
        "the wall clock was set by -3600 s: stamps before and after do not compare",
    )
    assert (await bench.finding()).severity is Severity.OK


async def test_epads_own_lag_is_a_warning_with_its_size() -> None:
    """Of the time since the last look."""
    bench = Bench()
    bench.lag.beat()
    bench.clock.advance(3.25)
    bench.lag.beat()
    finding = await bench.finding()
    assert (finding.severity, finding.value, finding.unit) == (Severity.WARNING, 3.0, "seconds")
    assert (await bench.finding()).severity is Severity.OK


async def test_the_worst_is_stated_and_the_rest_is_told_with_it() -> None:
    """One finding for the machine, gravest first."""
    bench = Bench()
    bench.pressure = {"cpu": Pressure(1.0, 0.0), "memory": Pressure(0.7, 0.7)}
    finding = await bench.finding()
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["short"] == {"memory": "critical", "cpu": "warning"}
    assert finding.reason.index("memory") < finding.reason.index("CPU")


async def test_a_directory_that_cannot_be_looked_at_is_unknown() -> None:
    """And what was read before is soon no longer shown."""
    bench = Bench()
    await bench.finding()
    assert bench.host.fresh_reading() is not None
    bench.error = FileNotFoundError(2, "No such file or directory", "/state")
    bench.clock.advance(11)
    with pytest.raises(ProbeError, match="/state: No such file"):
        await bench.host.sample()
    assert bench.host.fresh_reading() is None


@pytest.mark.parametrize(
    "values",
    [
        {"interval_seconds": 0},
        {"memory_warn_ratio": 0.7},
        {"disk_limit_ratio": 0.2},
        {"disk_critical_bytes": 3 * GIB},
        {"inodes_limit_ratio": 0.2},
    ],
)
def test_marks_in_the_wrong_order_are_refused(values: dict[str, Any]) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"probes.host.{next(iter(values))}"):
        HostThresholds(**values)
