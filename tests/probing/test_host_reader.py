"""What the kernel tells of the machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

from epad.probing.host_reader import HostReader, disk_of, parse_pressure, watch_lag
from probes.host import Pressure
from probes.loop_lag import LoopLag
from statemachine.clock import ManualClock

PSI = "some avg10=12.50 avg60=3.00 avg300=1.00 total=1\nfull avg10=1.25 avg60=0.10 avg300=0.00 total=1\n"


def test_pressure_is_a_share() -> None:
    """The kernel writes per cent; a kernel before 5.13 has no "full" for the CPU."""
    assert parse_pressure(PSI) == Pressure(0.125, 0.0125)
    assert parse_pressure(PSI.splitlines()[0]) == Pressure(0.125, 0.0)


@pytest.mark.parametrize("text", ["", "full avg10=1.00", "some avg10=x", "some avg60=1.0"])
def test_what_is_no_pressure_is_refused(text: str) -> None:
    """Rather than read as none."""
    with pytest.raises(ValueError, match="some"):
        parse_pressure(text)


async def test_the_reader_takes_what_there_is(tmp_path: Path) -> None:
    """Files that are missing or garbled are left out; the room is that of the directory."""
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/memory").write_text(PSI)
    (tmp_path / "pressure/io").write_text("Operation not supported")
    reading = await HostReader(tmp_path, tmp_path).read()
    assert (reading.memory_bytes, reading.available_bytes) == (None, None)
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:   10 kB\n")
    reading = await HostReader(tmp_path, tmp_path).read()
    assert (reading.memory_bytes, reading.available_bytes) == (1_024_000, 10_240)
    assert reading.pressure == {"memory": Pressure(0.125, 0.0125)}
    assert reading.disk.total_bytes >= reading.disk.free_bytes > 0


async def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """The probe says that it is blind, with the name."""
    with pytest.raises(FileNotFoundError) as caught:
        await HostReader(tmp_path / "gone").read()
    assert caught.value.filename == str(tmp_path / "gone")


def test_the_room_is_what_we_may_use(tmp_path: Path) -> None:
    """Not what is kept for root."""
    disk = disk_of(tmp_path)
    assert (disk.free_inodes is None) == (disk.total_inodes is None)


async def test_a_loop_that_stood_still_is_told_of() -> None:
    """With how long, at the first beat after it."""
    clock, told = ManualClock(), list[float]()
    lag = LoopLag(beat_seconds=0.001, lag_seconds=1.0, settle_seconds=10.0, clock=clock)
    heard = asyncio.Event()

    def lagged(seconds: float) -> None:
        told.append(seconds)
        heard.set()

    watching = asyncio.create_task(watch_lag(lag, lagged))
    await asyncio.sleep(0)
    clock.advance(4.001)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await heard.wait()
    watching.cancel()
    assert told == [pytest.approx(4.0)]
