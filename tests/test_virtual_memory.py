"""Memory in the real daemon on virtual time: what grows slowly, what jumps, and a host that is short of it."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENCE_SECONDS
from virtual_daemon import VirtualDaemon, virtual_daemon
from virtual_memory import GIB, MIB, Course, VirtualMemory
from virtual_time import VirtualTime

from statemachine.containment import Cause, Rung
from statemachine.finding import HOST, Finding, Severity
from statemachine.phase import Phase

TOML = """
[subsystems.grower]
command = ["lives", "1e9", "0"]
{limits}
[subsystems.model]
command = ["lives", "1e9", "0"]
[subsystems.agent]
command = ["lives", "1e9", "0"]
depends_on = ["model"]
[subsystems.night]
command = ["lives", "1e9", "0"]
background = true
"""
OTHERS = ("model", "agent", "night")


def leak(mib_a_minute: float) -> Course:
    return lambda lived: 200 * MIB + lived / 60 * mib_a_minute * MIB


def jump(at: float, to: float, until: float = float("inf")) -> Course:
    return lambda lived: to if at <= lived < until else 200 * MIB


def rungs(daemon: VirtualDaemon) -> dict[str, Rung]:
    return {name: daemon.hold_of(name).rung for name in ("grower", *OTHERS)}


HELD: list[tuple[str, Course, str, float, Rung, str]] = [
    ("grows slowly to its maximum", leak(100), 'memory_max = "4GiB"', 2_700.0, Rung.STOP, "memory_max of 4.0 GiB"),
    ("jumps above its maximum", jump(300, 6 * GIB), 'memory_max = "4GiB"', 360.0, Rung.STOP, "memory_max of 4.0 GiB"),
    ("stays high", jump(60, 3 * GIB), 'memory_high = "2GiB"', 180.0, Rung.THROTTLE, "memory_high of 2.0 GiB"),
    ("takes the last of the machine", leak(1_200), "", 2_900.0, Rung.FREEZE, "frozen, it takes no more"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("course", "limits", "seconds", "rung", "why"), [row[1:] for row in HELD], ids=[row[0] for row in HELD]
)
async def test_what_takes_too_much_is_held_and_nobody_else(
    virtual_time: VirtualTime, course: Course, limits: str, seconds: float, rung: Rung, why: str
) -> None:
    """Before its time it is not, by the same figures."""
    memory = VirtualMemory({"grower": course})
    async with virtual_daemon(virtual_time, TOML.format(limits=limits), memory=memory) as daemon:
        await asyncio.sleep(50.0)
        assert set(rungs(daemon).values()) == {Rung.OPEN}
        held = asyncio.ensure_future(_first_hold(daemon))
        await asyncio.wait({held}, timeout=seconds)
        assert held.done()
        assert daemon.hold_of("grower").rung is rung
        assert why in daemon.hold_of("grower").reason
        assert {name: found for name, found in rungs(daemon).items() if name != "grower"} == dict.fromkeys(
            OTHERS, Rung.OPEN
        )
        if rung is Rung.FREEZE:
            taken = memory.taken[-1][1]
            await asyncio.sleep(60.0)
            assert memory.taken[-1][1] <= taken + 200 * MIB


async def _first_hold(daemon: VirtualDaemon) -> None:
    while daemon.hold_of("grower").rung is Rung.OPEN:
        await asyncio.sleep(1.0)


HONEST: list[tuple[str, Course, str]] = [
    ("a model that is loaded and stays", lambda lived: min(40.0, lived / 1.5) * GIB, ""),
    (
        "what swings below its maximum",
        lambda lived: (1 + 2.8 * (lived % 60) / 60) * GIB,
        'memory_max = "4GiB"',
    ),
    ("a peak above its high mark", jump(100, 3 * GIB, until=140), 'memory_high = "2GiB"'),
]


@pytest.mark.parametrize(("course", "limits"), [row[1:] for row in HONEST], ids=[row[0] for row in HONEST])
async def test_honest_memory_holds_nobody(virtual_time: VirtualTime, course: Course, limits: str) -> None:
    memory = VirtualMemory({"grower": course})
    async with virtual_daemon(virtual_time, TOML.format(limits=limits), memory=memory) as daemon:
        for _ in range(60):
            await asyncio.sleep(10.0)
            assert set(rungs(daemon).values()) == {Rung.OPEN}
        assert daemon.phase is Phase.NORMAL


async def test_what_strangers_take_is_nobodys_fault_here(virtual_time: VirtualTime) -> None:
    """The machine has nothing left, and no subsystem has taken it."""
    memory = VirtualMemory({"grower": leak(0)}, strangers=lambda at: min(63.6, 8 + at / 10) * GIB)
    async with virtual_daemon(virtual_time, TOML.format(limits=""), memory=memory) as daemon:
        await asyncio.sleep(900.0)
        assert set(rungs(daemon).values()) == {Rung.OPEN}


async def test_a_host_that_is_short_pauses_the_background_and_what_nobody_needs(
    virtual_time: VirtualTime,
) -> None:
    """As long as it is short; a provider runs on, or its users would stand still for nothing."""
    async with virtual_daemon(virtual_time, TOML.format(limits=""), memory=VirtualMemory({})) as daemon:
        await _grave(daemon, HOST, "host", "bytes")
        assert rungs(daemon) == {
            "grower": Rung.FREEZE, "model": Rung.OPEN, "agent": Rung.FREEZE, "night": Rung.FREEZE,
        }  # fmt: skip
        assert daemon.hold_of("night").cause is Cause.BACKGROUND
        assert daemon.hold_of("grower").cause is Cause.SHORTAGE


async def test_other_grave_trouble_pauses_the_background_alone(virtual_time: VirtualTime) -> None:
    """Nobody's memory is short: to freeze others would help nobody."""
    async with virtual_daemon(virtual_time, TOML.format(limits=""), memory=VirtualMemory({})) as daemon:
        await _grave(daemon, "model", "alerts", "alerts")
        assert daemon.hold_of("night").cause is Cause.BACKGROUND
        assert {name: rungs(daemon)[name] for name in ("grower", "agent")} == {
            "grower": Rung.OPEN,
            "agent": Rung.OPEN,
        }


async def _grave(daemon: VirtualDaemon, subsystem: str, probe: str, unit: str) -> None:
    now = daemon.clock.monotonic()
    daemon.house._joints.push(
        Finding(probe, subsystem, Severity.CRITICAL, now, "a test", unit=unit, hard=True)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while daemon.phase is not Phase.PRESERVATION:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
