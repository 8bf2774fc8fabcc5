"""The real NVML worker, against a shared library of our own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_gpus import fake_nvml
from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import PROBES

from probes.probe import ProbeError
from probes.vram.nvidia import NvidiaGpus
from probes.vram.nvml_worker import MAX_PID, MAX_PROCESSES, believable
from probes.vram.probe import Vram
from probes.vram.prober import DriverProber, worker
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Severity

MIB = 1 << 20

ROWS = st.lists(st.tuples(st.integers(-5, MAX_PID + 5), st.none() | st.integers(-5, 1100)), max_size=20)


@given(ROWS)
def test_a_process_table_is_believed_whole_or_not_at_all(rows: list[tuple[int, int | None]]) -> None:
    """One impossible row discredits all; else every process is there once, with its largest size."""
    table = believable(rows, total=1000)
    plausible = all(0 < pid <= MAX_PID and (used is None or 0 <= used <= 1000) for pid, used in rows)
    assert (table is not None) == plausible
    if table is not None:
        sizes: dict[int, int | None] = {}
        for pid, used in rows:
            known = [size for size in (sizes.get(pid), used) if size is not None]
            sizes[pid] = max(known) if known else None
        assert {pid: used for pid, used in table if pid is not None} == sizes


def test_an_endless_process_table_is_not_passed_on() -> None:
    """The answer must fit in a line."""
    assert believable([(pid, 1) for pid in range(1, MAX_PROCESSES + 2)], total=10) is None


class Machine:
    """A machine whose GPUs are what a text file says."""

    def __init__(self, libraries: Path, state: Path, timeout_seconds: float = 30) -> None:
        self._state = state
        self.notices: list[str] = []
        self.is_as("")
        environment = {"LD_LIBRARY_PATH": str(libraries), "FAKE_NVML_STATE": str(state)}
        spawn = worker("nvml_worker", environment)
        self.prober = DriverProber(spawn, "NVIDIA", timeout_seconds=timeout_seconds, start_seconds=30)
        clock = ManualClock()
        self.probe = Vram(
            PROBES.vram,
            sources=[NvidiaGpus(self.prober, clock)],
            owner_of={1234: "chat"}.get,
            clock=clock,
            tell=self.notices.append,
        )

    def is_as(self, state: str) -> None:
        """Replace the file at once: the library may be reading it."""
        new = self._state.with_suffix(".new")
        new.write_text(state)
        new.replace(self._state)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
async def machine(library: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    here = Machine(library, tmp_path / "state")
    yield here
    await here.probe.close()


async def test_nvml_normal(machine: Machine) -> None:
    """Every figure arrives as the library gave it."""
    machine.is_as("count 2\n0.process 1234 512\n0.process 99 -1\n1.total_mib 8000\n1.used_mib 7900\n")
    finding = (await machine.probe.sample())[0]
    assert (finding.severity, finding.evidence["gpu"]) == (Severity.WARNING, "1")
    first, second = machine.probe.readings()
    assert (first.name, first.uuid, first.total_bytes) == ("Fake GPU 0", "GPU-fake-0", 12227 * MIB)
    assert (first.used_bytes, first.reserved_bytes) == (800 * MIB, 400 * MIB)
    assert first.processes is not None
    assert {p.pid: p.used_bytes for p in first.processes} == {1234: 512 * MIB, 99: None}
    assert second.processes == ()


async def test_nvml_without_the_second_memory_version(machine: Machine) -> None:
    """An older driver counts its reserve as used; the fullness is the same."""
    machine.is_as("0.used_mib 800\n")
    new = (await machine.probe.sample())[0]
    machine.is_as("v2_error 25\n0.used_mib 800\n")
    old = (await machine.probe.sample())[0]
    assert old.value == new.value
    assert (old.evidence["used_bytes"], old.evidence["reserved_bytes"]) == (1200 * MIB, 0)


async def test_nvml_leak_grows(machine: Machine) -> None:
    """The driver's used figure grows with no process behind it: a warning, and how much is nobody's."""
    severities = []
    for used in (2200, 11000, 11700):
        machine.is_as(f"0.used_mib {used}\n0.process 1234 1000\n")
        finding = (await machine.probe.sample())[0]
        severities.append(finding.severity)
        assert finding.evidence["unattributed_bytes"] == (used - 1000) * MIB
        assert finding.subsystem == HOST
    assert severities == [Severity.WARNING] * 3


async def test_nvml_leak_of_a_subsystem_is_its_own(machine: Machine) -> None:
    """The one that gained is named; the host is only warned, and the next sample clears neither by itself."""
    machine.is_as("0.used_mib 2000\n0.process 1234 1000\n0.process 99 900\n")
    assert {f.subsystem: f.severity for f in await machine.probe.sample()} == {
        HOST: Severity.OK,
        "chat": Severity.OK,
    }
    machine.is_as("0.used_mib 11800\n0.process 1234 10700\n0.process 99 950\n")
    host, chat = await machine.probe.sample()
    assert (host.subsystem, host.severity) == (HOST, Severity.WARNING)
    assert (chat.subsystem, chat.severity) == ("chat", Severity.ANOMALY)
    assert chat.evidence["grown_bytes"] == {
        "chat": 9_700 * MIB,
        "(foreign)": 50 * MIB,
        "(unattributed)": 50 * MIB,
    }
    assert "chat gained 9700 MiB" in chat.reason


async def test_nvml_xids_are_told_once(machine: Machine) -> None:
    """A grave one is a fact about the host, a program's own fault a warning; 79 is critical."""
    await machine.probe.sample()
    seen = []
    for number in (48, 13, 79):
        machine.is_as(f"count 2\nxid_serial {number}\n1.xid {number}\n")
        seen.append([f for f in await machine.probe.sample() if "xid" in f.evidence])
        assert [f for f in await machine.probe.sample() if "xid" in f.evidence] == []
    assert [[(f.evidence["gpu"], f.evidence["xid"], f.severity) for f in found] for found in seen] == [
        [("1", 48, Severity.ANOMALY)],
        [("1", 13, Severity.WARNING)],
        [("1", 79, Severity.CRITICAL)],
    ]
    assert all(f.hard and f.subsystem == HOST for found in seen for f in found)
    assert {xid.number for xid in machine.probe.xids} == {48, 13, 79}


async def test_nvml_without_events_is_read_all_the_same(machine: Machine) -> None:
    """WSL and virtual GPUs report none."""
    machine.is_as("no_events 1\n0.used_mib 700\n")
    await machine.probe.sample()
    assert machine.probe.readings()[0].used_bytes == 700 * MIB


async def test_nvml_gpu_lost(machine: Machine) -> None:
    """Xid 79: one card falls off the bus while the daemon runs."""
    machine.is_as("count 2\n")
    assert (await machine.probe.sample())[0].severity is Severity.OK
    machine.is_as("count 2\n1.error 15\n")
    finding = (await machine.probe.sample())[0]
    assert (finding.severity, finding.evidence["gpu"]) == (Severity.CRITICAL, "1")


async def test_nvml_garbage_process_table(machine: Machine) -> None:
    """Pid and size swapped: the table is dropped, the card's own figures stand."""
    machine.is_as(f"0.process 1234 512\n0.raw_process {512 * MIB} 1234\n")
    await machine.probe.sample()
    assert machine.probe.readings()[0].processes is None
    assert machine.probe.readings()[0].used_bytes == 800 * MIB


@pytest.mark.parametrize("error", [1, 999])
async def test_nvml_is_initialised_again_when_it_forgets(machine: Machine, error: int) -> None:
    """A driver reload under a running worker costs no sample."""
    await machine.probe.sample()
    machine.is_as(f"epoch 1\nepoch_error {error}\n0.used_mib 900\n")
    await machine.probe.sample()
    assert machine.probe.readings()[0].used_bytes == 900 * MIB


async def test_nvml_unknown_error_that_stays_is_unknown(machine: Machine) -> None:
    """Initialising again is tried once, then the probe says that it cannot see."""
    machine.is_as("0.error 999\n")
    with pytest.raises(ProbeError, match="code 999"):
        await machine.probe.sample()


async def test_nvml_crash_is_survived(machine: Machine) -> None:
    """nvitop#139: the library may crash its process when a card is gone; the next sample works."""
    await machine.probe.sample()
    machine.is_as("crash 1\n")
    with pytest.raises(ProbeError, match="signal 11"):
        await machine.probe.sample()
    machine.is_as("")
    assert (await machine.probe.sample())[0].severity is Severity.OK


async def test_nvml_hung_call_is_killed(library: Path, tmp_path: Path) -> None:
    """The sample ends at its limit, the process is gone, its reading is old, and the next sample works."""
    machine = Machine(library, tmp_path / "state", timeout_seconds=0.5)
    await machine.probe.sample()
    line = machine.prober._line
    assert line is not None
    machine.is_as("hang_seconds 600\n")
    with pytest.raises(ProbeError, match=r"did not answer within 0\.5 s"):
        await machine.probe.sample()
    assert line.child.returncode == -9
    assert machine.probe.readings()[0].used_bytes == 800 * MIB
    machine.is_as("0.used_mib 900\n")
    await machine.probe.sample()
    assert machine.probe.readings()[0].used_bytes == 900 * MIB
    await machine.probe.close()


async def test_nvml_module_not_loaded(machine: Machine) -> None:
    """A library without its kernel module is a machine without a driver."""
    machine.is_as("init_error 9\n")
    assert await machine.probe.sample() == []
    assert machine.notices == ["no NVIDIA driver here (its kernel module is not loaded): VRAM is not watched"]


async def test_no_library_at_all(tmp_path: Path) -> None:
    """One line, no finding, no error, and no process left running."""
    # An empty file of its name ends the loader's search, on a machine that has the real one too.
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    machine = Machine(tmp_path, tmp_path / "state")
    assert await machine.probe.sample() == []
    assert machine.notices == ["no NVIDIA driver here (libnvidia-ml.so.1 not found): VRAM is not watched"]
    assert machine.prober._line is None
    await machine.probe.close()


async def test_the_worker_ends_with_its_parent(library: Path, tmp_path: Path) -> None:
    """A session of its own keeps it from the terminal's signals; when the daemon is gone its pipe closes."""
    (tmp_path / "state").write_text("")
    environment = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML_STATE": str(tmp_path / "state")}
    child = await worker("nvml_worker", environment)()
    assert isinstance(child, asyncio.subprocess.Process)
    assert child.stdin is not None
    assert os.getsid(child.pid) == child.pid
    child.stdin.close()
    assert await child.wait() == 0
