from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.probe import ProbeError
from probes.vram import GpuReading, VramThresholds, judge
from probes.vram.nvidia import ABSENT_RETRY_SECONDS, NvidiaVram, NvmlProber, Spawn, worker
from probes.vram.nvml_worker import MAX_PID, MAX_PROCESSES, believable
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Severity

MIB = 1 << 20
SOURCE = Path(__file__).parent / "fake_nvml" / "fake_nvml.c"


class Told:
    """A prober that answers what the test tells it to."""

    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.rested = 0
        self.closed = False

    async def ask(self) -> Mapping[str, Any]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def rest(self) -> None:
        self.rested += 1

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A probe, its clock, and what it said once."""

    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.clock = ManualClock()
        self.notices: list[str] = []
        self.prober = Told(*answers)
        self.probe = NvidiaVram(
            VramThresholds(), prober=self.prober, clock=self.clock, tell=self.notices.append
        )


def gpu(index: int = 0, used: int = 800, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "Card",
        "total_bytes": 10_000 * MIB,
        "used_bytes": used * MIB,
        "reserved_bytes": 400 * MIB,
        "processes": [],
    } | changes


def gpus(*several: dict[str, Any]) -> dict[str, Any]:
    return {"id": 1, "gpus": list(several)}


def failed(index: int, code: int, message: str = "GPU is lost") -> dict[str, Any]:
    return {"index": index, "code": code, "message": message}


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (8_599, Severity.OK),
        (8_600, Severity.WARNING),
        (9_299, Severity.WARNING),
        (9_300, Severity.ANOMALY),
    ],
)
async def test_fullness_counts_the_drivers_reserve(used: int, severity: Severity) -> None:
    """Used and reserved together are compared with the ratios: no allocation can have either."""
    finding = (await Bench(gpus(gpu(used=used))).probe.sample())[0]
    assert (finding.subsystem, finding.severity) == (HOST, severity)
    assert finding.evidence["gpu"] == 0
    assert finding.evidence["used_bytes"] == used * MIB
    assert finding.evidence["total_bytes"] == 10_000 * MIB


async def test_one_full_card_among_many_is_the_one_stated() -> None:
    """One finding a sample: cards that are fine must not outvote the full one."""
    bench = Bench(gpus(gpu(0), gpu(1, used=9_590), gpu(2), gpu(3)))
    findings = await bench.probe.sample()
    assert [(f.severity, f.evidence["gpu"]) for f in findings] == [(Severity.ANOMALY, 1)]


def reading(index: int, used: int, total: int) -> GpuReading:
    return GpuReading(index, f"GPU-{index}", "Card", total, used, 0, None, 0.0)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(100, 200)), min_size=1, max_size=16))
def test_the_verdict_is_that_of_the_fullest(cards: list[tuple[int, int]]) -> None:
    """Whatever the cards, the severity is the worst one's."""
    thresholds = VramThresholds()
    finding = judge([reading(n, used, total) for n, (used, total) in enumerate(cards)], thresholds, 0.0)
    worst = max(used / total for used, total in cards)
    assert finding.value == worst
    assert finding.bad == (worst >= thresholds.limit_ratio)
    assert (finding.severity is Severity.OK) == (worst < thresholds.warn_ratio)


async def test_memory_that_no_process_owns_to_is_in_the_evidence() -> None:
    """A ghost: used grows, the table does not."""
    bench = Bench(*(gpus(gpu(used=used, processes=[[7, 500 * MIB]])) for used in (500, 4_000, 9_500)))
    leaks = [(await bench.probe.sample())[0].evidence["unattributed_bytes"] for _ in range(3)]
    assert leaks == [0, 3_500 * MIB, 9_000 * MIB]


async def test_without_a_believable_table_nothing_is_called_a_leak() -> None:
    """An unknown size, or no table, leaves the leak unknown."""
    bench = Bench(gpus(gpu(processes=[[7, None]])), gpus(gpu(processes=None)))
    for _ in range(2):
        assert (await bench.probe.sample())[0].evidence["unattributed_bytes"] is None


@pytest.mark.parametrize(("code", "word"), [(12, "libnvidia-ml.so.1 not found"), (9, "not loaded")])
async def test_no_driver_is_said_once_and_asked_again_later(code: int, word: str) -> None:
    """It is one line, not an error; a driver installed later is found without a restart."""
    absent = {"id": 1, "code": code, "message": "x"}
    bench = Bench(absent, absent, gpus(gpu()))
    for _ in range(3):
        assert await bench.probe.sample() == []
    assert bench.prober.asked == 1
    bench.clock.advance(ABSENT_RETRY_SECONDS)
    assert await bench.probe.sample() == []
    assert len(bench.notices) == 1
    assert word in bench.notices[0]
    assert bench.prober.rested == 2
    bench.clock.advance(ABSENT_RETRY_SECONDS)
    assert len(await bench.probe.sample()) == 1


async def test_a_driver_that_disappears_is_unknown_not_absent() -> None:
    """What was watched before and cannot be seen now must not look fine."""
    bench = Bench(gpus(gpu()), {"id": 2, "code": 9, "message": "x"}, gpus())
    await bench.probe.sample()
    for _ in range(2):
        with pytest.raises(ProbeError, match="GPU 0 was here before"):
            await bench.probe.sample()
    assert bench.notices == []


async def test_a_driver_without_a_gpu_is_one_line() -> None:
    """As where there is no driver: said once, and shown by the status for as long as it is so."""
    bench = Bench(gpus())
    assert bench.probe.notice == ""
    assert await bench.probe.sample() == []
    assert bench.notices == ["an NVIDIA driver is here, but no GPU: VRAM is not watched"]
    assert bench.probe.notice == bench.notices[0]


@pytest.mark.parametrize("code", [15, 16])
async def test_a_lost_gpu_is_critical(code: int) -> None:
    """One of several is enough, it is a fact, and the reason names it; the others are still read."""
    bench = Bench(gpus(gpu(0), failed(1, code)))
    finding = (await bench.probe.sample())[0]
    assert (finding.subsystem, finding.severity, finding.hard) == (HOST, Severity.CRITICAL, True)
    assert "GPU 1: GPU is lost" in finding.reason
    assert [r.index for r in bench.probe.readings()] == [0]


async def test_a_gpu_that_could_not_be_read_is_unknown() -> None:
    """Unless another is in trouble already, which must not be hidden."""
    bench = Bench(gpus(gpu(0), failed(1, 17, "Operating System")), gpus(gpu(0, used=9_500), failed(1, 17)))
    with pytest.raises(ProbeError, match="GPU 1 could not be read: Operating System"):
        await bench.probe.sample()
    assert (await bench.probe.sample())[0].severity is Severity.ANOMALY


async def test_a_gpu_without_a_memory_figure_is_one_line() -> None:
    """Cards that share the host's memory do not support the question."""
    bench = Bench(gpus(failed(0, 3, "Not Supported")))
    assert await bench.probe.sample() == []
    assert await bench.probe.sample() == []
    assert len(bench.notices) == 1


async def test_a_library_that_does_not_fit_its_driver_is_unknown() -> None:
    """After a driver update without a reboot nothing can be seen, and the error says what it is."""
    bench = Bench({"id": 1, "code": 18, "message": "Driver/library version mismatch"})
    with pytest.raises(ProbeError, match="version mismatch"):
        await bench.probe.sample()


async def test_stale_readings_are_never_fresh() -> None:
    """They are kept with the time at which they were true."""
    bench = Bench(gpus(gpu()), ProbeError("hung"))
    await bench.probe.sample()
    at = bench.clock.monotonic()
    assert len(bench.probe.fresh_readings()) == 1
    bench.clock.advance(30)
    with pytest.raises(ProbeError):
        await bench.probe.sample()
    assert [r.at for r in bench.probe.readings()] == [at]
    assert bench.probe.readings()[0].age_seconds(bench.clock.monotonic()) == 30
    assert bench.probe.fresh_readings() == ()


async def test_closing_the_probe_closes_its_prober() -> None:
    """No worker outlives the daemon's orderly stop."""
    bench = Bench(gpus(gpu()))
    await bench.probe.close()
    assert bench.prober.closed


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"warn_ratio": 0.98}, "warn_ratio"),
        ({"limit_ratio": 1.1}, "warn_ratio"),
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(values: dict[str, float], key: str) -> None:
    """The error names the key to change."""
    with pytest.raises(ValueError, match=f"probes.vram.{key}"):
        VramThresholds(**values)


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


async def test_memory_is_bounded() -> None:
    """Thousands of samples leave one reading a GPU behind."""
    bench = Bench(gpus(gpu(0), gpu(1)))
    for _ in range(100):
        await bench.probe.sample()
    tracemalloc.start()
    try:
        for _ in range(5_000):
            await bench.probe.sample()
        assert tracemalloc.get_traced_memory()[0] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert len(bench.probe.readings()) == 2


# The prober, against children that misbehave.


def script(source: str) -> Spawn:
    """A worker that is another program."""

    async def spawn() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    return spawn


ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "gpus": []}), flush=True)
"""


async def test_a_worker_that_dies_is_named_by_how_it_died() -> None:
    """A crash of the driver's library is the worker's, not the daemon's."""
    prober = NvmlProber(script("import os; os.abort()"), timeout_seconds=10)
    with pytest.raises(ProbeError, match="ended with signal 6"):
        await prober.ask()
    await prober.close()


async def test_nonsense_is_an_error_and_the_next_question_gets_a_new_worker() -> None:
    """What is not JSON is not read on."""
    programs = [script("input(); print('Xid 79!', flush=True); input()"), script(ECHO)]

    async def spawn() -> Any:
        return await programs.pop(0)()

    prober = NvmlProber(spawn, timeout_seconds=10)
    with pytest.raises(ProbeError, match="nonsense"):
        await prober.ask()
    assert (await prober.ask())["gpus"] == []
    await prober.close()


async def test_a_program_that_cannot_be_started_is_unknown() -> None:
    """The error says why."""

    async def spawn() -> Any:
        raise FileNotFoundError("no such file")

    with pytest.raises(ProbeError, match="could not be started: no such file"):
        await NvmlProber(spawn, timeout_seconds=1).ask()


async def test_a_cancelled_question_does_not_answer_the_next() -> None:
    """Answers carry the number of their question."""
    slow = "import sys, time, json\nfor line in sys.stdin:\n    n = json.loads(line)['id']\n"
    slow += "    time.sleep(0.5 if n == 1 else 0)\n    print(json.dumps({'id': n}), flush=True)"
    prober = NvmlProber(script(slow), timeout_seconds=10)
    first = asyncio.create_task(prober.ask())
    while prober._line is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await prober.ask())["id"] == 2
    await prober.close()


async def test_closing_wakes_a_waiting_question_and_no_worker_starts_again() -> None:
    """An orderly stop does not wait for a hung driver."""
    prober = NvmlProber(script("input(); input()"), timeout_seconds=60)
    waiting = asyncio.create_task(prober.ask())
    while prober._line is None:
        await asyncio.sleep(0.01)
    await prober.close()
    with pytest.raises(ProbeError):
        await waiting
    with pytest.raises(ProbeError, match="closed"):
        await prober.ask()


class Unkillable:
    """A child in D state: it does not answer, and a kill does nothing until the driver lets it go."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.kills = 0
        self.released = asyncio.Event()

    @property
    def returncode(self) -> int | None:
        return -9 if self.released.is_set() else None

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        return self._child.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._child.stdout

    def kill(self) -> None:
        self.kills += 1

    async def wait(self) -> int:
        await self.released.wait()
        return -9


async def test_an_unkillable_worker_is_left_alone_and_no_other_is_started() -> None:
    """One process stuck in the driver is enough; once it is gone, the next sample works."""
    spawned: list[Unkillable] = []

    async def spawn() -> Any:
        if spawned:
            return await script(ECHO)()
        spawned.append(Unkillable(await script("input(); input()")()))
        return spawned[0]

    prober = NvmlProber(spawn, timeout_seconds=0.1, start_seconds=0.1)
    for _ in range(3):
        with pytest.raises(ProbeError, match=r"unkillable \(D state\)"):
            await prober.ask()
    assert spawned[0].kills == 1
    spawned[0].released.set()
    prober._start_seconds = 10
    assert (await prober.ask())["gpus"] == []
    await prober.close()
    spawned[0]._child.kill()
    await spawned[0]._child.wait()


# The real worker, against a library of our own.


class Machine:
    """A machine whose GPUs are what a text file says."""

    def __init__(self, libraries: Path, state: Path, timeout_seconds: float = 30) -> None:
        self._state = state
        self.notices: list[str] = []
        self.is_as("")
        environment = {"LD_LIBRARY_PATH": str(libraries), "FAKE_NVML_STATE": str(state)}
        self.prober = NvmlProber(worker(environment), timeout_seconds=timeout_seconds, start_seconds=30)
        self.probe = NvidiaVram(
            VramThresholds(), prober=self.prober, clock=ManualClock(), tell=self.notices.append
        )

    def is_as(self, state: str) -> None:
        """Replace the file at once: the library may be reading it."""
        new = self._state.with_suffix(".new")
        new.write_text(state)
        new.replace(self._state)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here: the NVML worker is not tested against a library")
    directory = tmp_path_factory.mktemp("nvml")
    target = directory / "libnvidia-ml.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([compiler, *options, "-o", str(target), str(SOURCE)], check=True)
    return directory


@pytest.fixture
async def machine(library: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    here = Machine(library, tmp_path / "state")
    yield here
    await here.probe.close()


async def test_nvml_normal(machine: Machine) -> None:
    """Every figure arrives as the library gave it."""
    machine.is_as("count 2\n0.process 1234 512\n0.process 99 -1\n1.total_mib 8000\n1.used_mib 7900\n")
    finding = (await machine.probe.sample())[0]
    assert (finding.severity, finding.evidence["gpu"]) == (Severity.ANOMALY, 1)
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
    """The driver's used figure grows with no process behind it: OK, WARNING, ANOMALY, and whose it is not."""
    severities = []
    for used in (2000, 11000, 11700):
        machine.is_as(f"0.used_mib {used}\n0.process 1234 1000\n")
        finding = (await machine.probe.sample())[0]
        severities.append(finding.severity)
        assert finding.evidence["unattributed_bytes"] == (used - 1000) * MIB
    assert severities == [Severity.OK, Severity.WARNING, Severity.ANOMALY]


async def test_nvml_gpu_lost(machine: Machine) -> None:
    """Xid 79: one card falls off the bus while the daemon runs."""
    machine.is_as("count 2\n")
    assert (await machine.probe.sample())[0].severity is Severity.OK
    machine.is_as("count 2\n1.error 15\n")
    finding = (await machine.probe.sample())[0]
    assert (finding.severity, finding.evidence["gpu"]) == (Severity.CRITICAL, 1)


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
    child = await worker(environment)()
    assert isinstance(child, asyncio.subprocess.Process)
    assert child.stdin is not None
    assert os.getsid(child.pid) == child.pid
    child.stdin.close()
    assert await child.wait() == 0
