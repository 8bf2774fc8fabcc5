"""What processes take, read from real ones and from a /proc of our own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from epad.supervisor.cgroup import Cgroup
from epad.supervisor.footprints import FootprintReader, Workload
from epad.supervisor.identity import ProcessIdentity, ProcessTable
from probes.memory import Footprint

MIB = 1 << 20
TABLE = ProcessTable("boot")
STATE = "/state/of/this/test"
# Each waits until all that it is to hold is there, says so, and sleeps.
ALLOCATES = "x = bytearray(b'a') * ({size} << 20)\nprint('ready', flush=True)\nimport time; time.sleep(600)"
FORKS = """
x = bytearray(b'a') * (300 << 20)
import os, time
os.fork(); os.fork()
os.write(1, b'ready\\n')
time.sleep(600)
"""
MAPS = """
import mmap, sys, time
with open(sys.argv[1], "rb") as file:
    m = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
n = sum(m[i] for i in range(0, len(m), 4096))
print('ready', flush=True)
time.sleep(600)
"""
# It ends with its parent, whose end of the pipe closes then: nothing is left of the test.
CHILD = "x = bytearray(b'a') * (50 << 20)\nimport sys; sys.stdin.read()"
STRAY = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-S', '-c', {CHILD!r}], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
BURNS = "while True: pass"


@contextmanager
def running(source: str, *arguments: str, ready: int = 1, mark: str = "") -> Iterator[ProcessIdentity]:
    environment = {**os.environ, **({"EPAD_STATE": STATE, "EPAD_SUBSYSTEM": mark} if mark else {})}
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", source, *arguments],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        for _ in range(ready):
            assert process.stdout.readline() == b"ready\n"
        identity = TABLE.identity(process.pid)
        assert identity is not None
        yield identity
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def look(*roots: ProcessIdentity, reader: FootprintReader | None = None) -> list[Footprint]:
    workloads = [Workload(f"s{number}", root) for number, root in enumerate(roots)]
    found = (reader or FootprintReader(STATE)).read(workloads).footprints
    return [found[workload.name] for workload in workloads]


def test_what_a_process_allocates_is_its_own() -> None:
    """And nobody else's."""
    with running(ALLOCATES.format(size=200)) as large, running(ALLOCATES.format(size=1)) as small:
        first, second = look(large, small)
        assert 200 * MIB <= first.memory_bytes < 260 * MIB
        assert second.memory_bytes < 60 * MIB
        assert (first.processes, second.processes) == (1, 1)
        assert first.kernel_max_bytes == 0


def test_shared_pages_count_once() -> None:
    """Four processes after two forks have the 300 MiB of the first together, not 1200."""
    with running(FORKS, ready=4) as root:
        (found,) = look(root)
        assert found.processes == 4
        assert 300 * MIB <= found.memory_bytes < 420 * MIB


def test_a_mapped_file_is_nobodys_memory(tmp_path: Path) -> None:
    """A model's weights, read in full: the kernel may drop them at any time."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * (200 * MIB))
    with running(MAPS, str(weights)) as root:
        (found,) = look(root)
        assert found.memory_bytes < 60 * MIB


def test_shared_memory_is_counted() -> None:
    """Tensors in /dev/shm are not to be dropped: they are the subsystem's."""
    source = (
        "import mmap, time\nm = mmap.mmap(-1, 100 << 20)\nm.write(b'a' * (100 << 20))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    with running(source) as root:
        (found,) = look(root)
        assert 100 * MIB <= found.memory_bytes < 170 * MIB


def test_who_left_its_session_is_told_by_its_descent_or_mark() -> None:
    """A helper in a session of its own; found once and remembered."""
    reader = FootprintReader(STATE)
    with running(STRAY, ready=0, mark="s0") as root:
        deadline = time.monotonic() + 60
        while (found := look(root, reader=reader)[0]).processes < 2 or found.memory_bytes < 50 * MIB:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_cpu_time_is_summed_and_shown_as_cores() -> None:
    """One busy process; at the first look nobody knows how many cores that is."""
    reader = FootprintReader(STATE)
    with running(BURNS, ready=0) as root:
        assert look(root, reader=reader)[0].cpu_cores is None
        deadline = time.monotonic() + 60
        while (found := look(root, reader=reader)[0]).cpu_seconds < 0.3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found.cpu_cores is not None


def test_what_has_ended_takes_nothing() -> None:
    """Nor does who has its pid now."""
    with running(ALLOCATES.format(size=1)) as root:
        other = ProcessIdentity(root.pid, root.start_ticks - 1, root.boot_id)
        reader = FootprintReader(STATE)
        assert reader.read([Workload("s", other)]).footprints == {}
    assert reader.read([Workload("s", root)]).footprints == {}


def group_of(path: Path, **files: str) -> Cgroup:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return Cgroup(path)


def test_a_control_group_is_asked_itself(tmp_path: Path) -> None:
    """Anonymous and shared memory and the kernel's for it, and the swap; no cache of files."""
    stat = (
        "anon 1000\nfile 900000\nkernel 77\nkernel_stack 20\npagetables 3\nshmem 500\nslab_reclaimable 9000\n"
    )
    group = group_of(
        tmp_path / "it",
        memory__stat=stat,
        memory__swap__current="40000\n",
        memory__max="max\n",
        cpu__stat="usage_usec 2500000\nuser_usec 1\n",
        pids__current="7\n",
    )
    now = [0.0]
    reader = FootprintReader(STATE, clock=lambda: now[0])
    (found,) = reader.read([Workload("it", None, group)]).footprints.values()
    assert found == Footprint(41_523, 2.5, 7)
    group_of(tmp_path / "it", memory__max="1048576\n", cpu__stat="usage_usec 4500000\n")
    now[0] = 4.0
    (found,) = reader.read([Workload("it", None, group)]).footprints.values()
    assert (found.kernel_max_bytes, found.cpu_seconds, found.cpu_cores) == (1 << 20, 4.5, 0.5)
    group_of(tmp_path / "it", cpu__stat="usage_usec 100000\n")  # a new group after a restart
    now[0] = 5.0
    (found,) = reader.read([Workload("it", None, group)]).footprints.values()
    assert (found.cpu_seconds, found.cpu_cores) == (4.5, 0.0)
    group_of(tmp_path / "it", cpu__stat="usage_usec 600000\n")
    now[0] = 6.0
    (found,) = reader.read([Workload("it", None, group)]).footprints.values()
    assert found.cpu_seconds == pytest.approx(5.0)


def test_a_group_without_a_memory_controller_is_walked(tmp_path: Path) -> None:
    """Its processes are told by it all the same."""
    with running(ALLOCATES.format(size=50)) as root:
        group = group_of(tmp_path / "it", cgroup__procs=f"{root.pid}\n")
        (found,) = FootprintReader(STATE).read([Workload("it", None, group)]).footprints.values()
        assert found.memory_bytes >= 50 * MIB


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    """No /proc/meminfo, or one without the line."""
    reader = FootprintReader(STATE, proc=str(tmp_path))
    assert reader.read([]).host is None
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemFree:        10 kB\n")
    assert reader.host() is None
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemAvailable:        10 kB\n")
    host = reader.host()
    assert host is not None
    assert (host.total_bytes, host.available_bytes) == (1_024_000, 10_240)


async def test_limits_are_written_where_there_is_a_controller(tmp_path: Path) -> None:
    """And the counts that the kernel keeps are read; without one it says so."""
    group = group_of(
        tmp_path / "it", memory__max="", memory__high="", memory__events="low 0\noom 2\noom_kill 1\n"
    )
    assert group.limit_memory(1_000, 0)
    assert ((tmp_path / "it/memory.max").read_text(), (tmp_path / "it/memory.high").read_text()) == (
        "1000",
        "max",
    )
    assert group.oom_kills == 1
    gone = Cgroup(tmp_path / "gone")
    assert not await asyncio.to_thread(gone.limit_memory, 1_000, 0)
    assert (gone.oom_kills, gone.memory_bytes(("anon",)), gone.cpu_seconds(), gone.processes()) == (
        0,
        None,
        0.0,
        0,
    )
