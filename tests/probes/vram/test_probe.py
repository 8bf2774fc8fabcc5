"""GPU memory: what is said of it, of whom, and when nothing is."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.probe import ProbeError
from probes.vram import GpuReading, GpuSample, VramThresholds
from probes.vram.attribution import GpuState
from probes.vram.nvidia import NvidiaGpus
from probes.vram.probe import HeldVram, Vram
from probes.vram.source import ABSENT_RETRY_SECONDS
from probes.vram.verdict import judge
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding, Severity

MIB = 1 << 20


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

    def __init__(self, *answers: Mapping[str, Any] | Exception, fills_by_design: Sequence[str] = ()) -> None:
        self.clock = ManualClock()
        self.notices: list[str] = []
        self.prober = Told(*answers)
        self.owners: dict[int, str] = {}
        self.probe = Vram(
            VramThresholds(),
            sources=[NvidiaGpus(self.prober, self.clock)],
            owner_of=self.owners.get,
            clock=self.clock,
            tell=self.notices.append,
            fills_by_design=lambda: fills_by_design,
        )


def gpu(index: int = 0, used: int = 800, **changes: Any) -> dict[str, Any]:
    return {
        "gpu": str(index),
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
    return {"gpu": str(index), "code": code, "message": message}


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (8_599, Severity.OK),
        (8_600, Severity.WARNING),
        (9_300, Severity.WARNING),
    ],
)
async def test_fullness_counts_the_drivers_reserve(used: int, severity: Severity) -> None:
    """Used and reserved together are compared with the ratios: no allocation can have either."""
    finding = (await Bench(gpus(gpu(used=used, processes=[[7, used * MIB]]))).probe.sample())[0]
    assert (finding.subsystem, finding.severity) == (HOST, severity)
    assert finding.evidence["gpu"] == "0"
    assert finding.evidence["used_bytes"] == used * MIB
    assert finding.evidence["total_bytes"] == 10_000 * MIB


async def test_one_full_card_among_many_is_the_one_stated() -> None:
    """One finding a sample: cards that are fine must not outvote the full one."""
    bench = Bench(gpus(gpu(0), gpu(1, used=9_590), gpu(2), gpu(3)))
    findings = await bench.probe.sample()
    assert [(f.severity, f.evidence["gpu"]) for f in findings] == [(Severity.WARNING, "1")]


def state(index: int, used: int, total: int) -> GpuState:
    reading = GpuReading(str(index), f"GPU-{index}", "Card", total, used, 0, None, 0.0)
    return GpuState(reading, {}, 0, {}, 0.0, None)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(100, 200)), min_size=1, max_size=16))
def test_the_verdict_is_that_of_the_fullest(cards: list[tuple[int, int]]) -> None:
    """Whatever the cards, the severity is the worst one's."""
    thresholds = VramThresholds()
    finding = judge([state(n, used, total) for n, (used, total) in enumerate(cards)], thresholds, 0.0)[0]
    worst = max(used / total for used, total in cards)
    assert finding.value == worst
    assert not finding.bad  # full, and nobody was seen to fill it
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
    assert [r.gpu for r in bench.probe.readings()] == ["0"]


async def test_a_gpu_that_could_not_be_read_is_unknown() -> None:
    """Unless another is in trouble already, which must not be hidden."""
    filled = gpu(0, used=9_500, processes=[[7, 9_500 * MIB]])
    bench = Bench(gpus(gpu(0), failed(1, 17, "Operating System")), gpus(filled, failed(1, 17)))
    bench.owners[7] = "chat"
    with pytest.raises(ProbeError, match="GPU 1 could not be read: Operating System"):
        await bench.probe.sample()
    assert [f.severity for f in await bench.probe.sample()] == [Severity.WARNING, Severity.ANOMALY]


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
    assert bench.probe.is_fresh(bench.probe.readings()[0])
    bench.clock.advance(30)
    with pytest.raises(ProbeError):
        await bench.probe.sample()
    assert [r.at for r in bench.probe.readings()] == [at]
    assert bench.probe.readings()[0].age_seconds(bench.clock.monotonic()) == 30
    assert not bench.probe.is_fresh(bench.probe.readings()[0])


async def test_closing_the_probe_closes_its_prober() -> None:
    """No worker outlives the daemon's orderly stop."""
    bench = Bench(gpus(gpu()))
    await bench.probe.close()
    assert bench.prober.closed


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"warn_ratio": 0.98}, "warn_ratio"),
        ({"limit_ratio": 1.1}, "limit_ratio"),
        ({"limit_ratio": 0.8}, "warn_ratio"),
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"growth_window_seconds": 0}, "growth_window_seconds"),
        ({"exhaustion_seconds": 0}, "exhaustion_seconds"),
        ({"ghost_bytes": 0}, "ghost_bytes"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(values: dict[str, Any], key: str) -> None:
    """The error names the key to change."""
    with pytest.raises(ValueError, match=f"probes.vram.{key}"):
        VramThresholds(**values)


async def test_memory_is_bounded() -> None:
    """Hundreds of samples leave one reading a GPU behind, and a window's points."""
    bench = Bench(gpus(gpu(0), gpu(1)))
    for _ in range(200):
        bench.clock.advance(5)
        await bench.probe.sample()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(300):
            bench.clock.advance(5)
            await bench.probe.sample()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 32 * 1024
    finally:
        tracemalloc.stop()
    assert len(bench.probe.readings()) == 2


# Whose it is, and how fast it fills.


class Filling(Bench):
    """A card of 10,000 MiB whose processes hold what the test says, sample after sample."""

    def __init__(self, owners: Mapping[int, str], fills_by_design: Sequence[str] = ()) -> None:
        super().__init__(gpus(gpu()), fills_by_design=fills_by_design)
        self.owners.update(owners)

    async def samples(self, *mebibytes: Mapping[int, int], seconds: float = 20) -> list[Finding]:
        findings: list[Finding] = []
        for held in mebibytes:
            rows = [[pid, size * MIB] for pid, size in held.items()]
            self.prober.answers = [gpus(gpu(used=sum(held.values()), processes=rows, reserved_bytes=0))]
            self.clock.advance(seconds)
            findings = list(await self.probe.sample())
        return findings


def verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.subsystem: finding.severity.label for finding in findings}


async def test_who_gained_most_is_blamed_not_who_holds_most() -> None:
    """A server that has had its 6 GiB for hours is not the one that filled the card."""
    bench = Filling({1: "server", 2: "trainer"})
    steady = [{1: 6_000, 2: 100}] * 3
    findings = await bench.samples(*steady, {1: 6_000, 2: 2_000}, {1: 6_050, 2: 3_700})
    assert verdicts(findings) == {HOST: "warning", "server": "ok", "trainer": "anomaly"}
    assert "trainer gained 3600 MiB in 80 s" in findings[-1].reason
    assert findings[-1].evidence["subsystems"] == {"server": 6_050 * MIB, "trainer": 3_700 * MIB}


async def test_a_full_card_that_nobody_of_ours_filled_is_the_hosts() -> None:
    """A stranger's program is not ours to hold: a warning; its pid is in the evidence."""
    bench = Filling({1: "server"})
    findings = await bench.samples({1: 5_000}, {1: 5_000, 77: 4_900})
    assert verdicts(findings) == {HOST: "warning", "server": "ok"}
    assert "programs that epad did not start gained 4900 MiB" in findings[0].reason
    assert [77, 4_900 * MIB] in findings[0].evidence["processes"]


async def test_one_that_was_blamed_hears_that_it_is_over() -> None:
    """Else two bad samples hours apart would count as two in a row."""
    bench = Filling({1: "server", 2: "trainer"})
    await bench.samples({1: 5_000}, {1: 5_000, 2: 4_900})
    assert verdicts(await bench.samples({1: 5_000})) == {HOST: "ok", "server": "ok", "trainer": "ok"}
    assert verdicts(await bench.samples({1: 5_000})) == {HOST: "ok", "server": "ok"}


async def test_a_released_subsystem_is_not_blamed_for_what_it_gained_before() -> None:
    """`epactl release` starts afresh."""
    bench = Filling({1: "server", 2: "trainer"})
    full = {1: 5_000, 2: 4_900}
    assert verdicts(await bench.samples({1: 5_000}, full))["trainer"] == "anomaly"
    bench.probe.forget("trainer")
    assert verdicts(await bench.samples(full, full)) == {HOST: "warning", "server": "ok", "trainer": "ok"}


async def test_steady_growth_is_forecast_and_acted_on_only_where_little_is_left() -> None:
    """50 MiB every 20 s: a warning while there is room, an anomaly above warn_ratio."""
    bench = Filling({1: "trainer"})
    room = await bench.samples(*({1: 7_000 + 50 * n} for n in range(31)))
    assert verdicts(room) == {HOST: "warning", "trainer": "ok"}
    assert room[0].evidence["exhaustion_seconds"] == 600
    late = await bench.samples(*({1: 8_550 + 50 * n} for n in range(14)))
    assert verdicts(late) == {HOST: "warning", "trainer": "anomaly"}
    assert "none left in" in late[1].reason


async def test_a_model_that_was_loaded_is_no_leak() -> None:
    """One step of 8 GiB, wherever in the window it stands, leaves no forecast behind."""
    for before in range(1, 31):
        bench = Filling({1: "server"})
        await bench.samples(*[{1: 500}] * before, {1: 4_000}, {1: 8_000}, *[{1: 8_500}] * 10)
        assert bench.probe.states()[0].exhaustion_seconds is None


async def test_a_server_that_fills_a_card_by_design_is_not_blamed_for_that() -> None:
    """VLLM at 0.95, all night: a warning. Should it leak steadily, that is its own all the same."""
    bench = Filling({1: "vllm"}, fills_by_design=["vllm"])
    for held in (500, 9_800, *[9_800] * 90):
        findings = await bench.samples({1: held})
        assert all(not finding.bad for finding in findings)
    leak = await bench.samples(*({1: 9_000 + 20 * n} for n in range(40)))
    assert verdicts(leak) == {HOST: "warning", "vllm": "anomaly"}


async def test_a_card_that_is_full_and_stays_so_is_no_lasting_anomaly() -> None:
    """Else the policy would take the house to LIFEBOAT over a card that serves well."""
    bench = Filling({1: "server", 2: "trainer"})
    full = {1: 5_000, 2: 4_900}
    assert verdicts(await bench.samples({1: 5_000}, full))["trainer"] == "anomaly"
    assert verdicts(await bench.samples(*[full] * 32)) == {HOST: "warning", "server": "ok", "trainer": "ok"}


async def test_ghosts_that_grow_steadily_are_the_hosts_anomaly() -> None:
    """The driver leaks: nobody to hold, and little time."""
    bench = Bench(gpus(gpu()))
    for number in range(45):
        used = 8_600 + 20 * number
        bench.prober.answers = [gpus(gpu(used=used, processes=[[7, 500 * MIB]], reserved_bytes=0))]
        bench.clock.advance(20)
        findings = await bench.probe.sample()
    assert verdicts(findings) == {HOST: "anomaly"}
    assert "no process that the driver names gained" in findings[0].reason


async def test_ghost_memory_is_a_warning_with_its_size() -> None:
    """Used, and nobody's: no subsystem to hold, so nothing is held."""
    bench = Bench(gpus(gpu(used=5_000, processes=[[7, 500 * MIB]])))
    (finding,) = await bench.probe.sample()
    assert (finding.subsystem, finding.severity) == (HOST, Severity.WARNING)
    assert "4500 MiB belong to no process" in finding.reason
    assert finding.evidence["unattributed_bytes"] == 4_500 * MIB


async def test_what_is_held_is_read_afresh_and_unknown_without_a_table() -> None:
    """What the release of VRAM is judged by."""
    bench = Filling({1: "server", 2: "server"})
    await bench.samples({1: 500, 2: 300, 9: 40})
    assert await bench.probe.measure("server") == HeldVram(800 * MIB, 0)
    assert await bench.probe.measure("chat") == HeldVram(0, 0)
    for answer in (gpus(gpu(processes=None)), gpus(gpu(0, processes=[]), failed(1, 999)), ProbeError("hung")):
        bench.prober.answers = [answer]
        assert await bench.probe.measure("server") == HeldVram(None, None)


# Several vendors.


class Source:
    """A vendor whose GPUs are what the test says."""

    def __init__(self, sample: GpuSample | Exception, absence: str = "") -> None:
        self.answer = sample
        self.absence = absence
        self.closed = False

    async def read(self) -> GpuSample:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed = True


def both(first: Source, second: Source) -> tuple[Vram, list[str]]:
    told: list[str] = []
    clock = ManualClock(0.0)
    vram = Vram(
        VramThresholds(), sources=[first, second], owner_of=lambda _: None, clock=clock, tell=told.append
    )
    return vram, told


async def test_one_driver_that_hangs_leaves_the_other_vendors_figures() -> None:
    """The probe says that it is blind in part; what it saw is there, fresh."""
    card = GpuReading("card1", "u", "AMD", 100, 10, 0, (), 0.0, "amd")
    vram, _ = both(Source(ProbeError("the NVIDIA driver did not answer")), Source(GpuSample((card,))))
    with pytest.raises(ProbeError, match="NVIDIA"):
        await vram.sample()
    assert [r.gpu for r in vram.readings()] == ["card1"]
    assert vram.is_fresh(card)


async def test_nothing_at_all_is_one_line_for_both_vendors() -> None:
    """Said once, and shown for as long as it is so; a GPU ends it."""
    first, second = Source(GpuSample(), "no NVIDIA driver here"), Source(GpuSample(), "no AMD GPU")
    vram, told = both(first, second)
    assert await vram.sample() == await vram.sample() == []
    assert told == [vram.notice] == ["no NVIDIA driver here and no AMD GPU: VRAM is not watched"]
    second.answer = GpuSample((GpuReading("card1", "u", "AMD", 100, 10, 0, (), 0.0, "amd"),))
    await vram.sample()
    assert vram.notice == ""


async def test_a_bug_in_a_source_is_not_taken_for_a_blind_probe() -> None:
    """It is told as what it is."""
    vram, _ = both(Source(KeyError("gpu")), Source(GpuSample()))
    with pytest.raises(KeyError):
        await vram.sample()


class Late(Source):
    """A driver that answers when the test lets it."""

    def __init__(self, sample: GpuSample) -> None:
        super().__init__(sample)
        self.let = asyncio.Event()
        self.asked = 0

    async def read(self) -> GpuSample:
        self.asked += 1
        await self.let.wait()
        return await super().read()


async def test_a_late_driver_is_not_waited_for_nor_asked_twice() -> None:
    """The other vendor's figures stay as fresh as ever; its own come when they come."""
    card = GpuReading("card1", "u", "AMD", 100, 10, 0, (), 0.0, "amd")
    late = Late(GpuSample((GpuReading("0", "u", "NVIDIA", 100, 10, 0, (), 0.0),)))
    clock = ManualClock(0.0)
    vram = Vram(
        VramThresholds(timeout_seconds=0.01),
        sources=[late, Source(GpuSample((card,)))],
        owner_of=lambda _: None,
        clock=clock,
        tell=lambda _: None,
    )
    for _ in range(3):
        with pytest.raises(ProbeError, match=r"did not answer within 0\.01 s"):
            await vram.sample()
        assert [r.gpu for r in vram.readings()] == ["card1"]
    assert late.asked == 1
    late.let.set()
    await asyncio.sleep(0)
    await vram.sample()
    assert [r.gpu for r in vram.readings()] == ["0", "card1"]
    await vram.close()


async def test_a_measurement_beside_a_sample_is_a_look_of_its_own() -> None:
    """The release of VRAM does not wait for the schedule, nor disturb it."""
    bench = Bench(gpus(gpu(used=500, processes=[[7, 500 * MIB]])))
    bench.owners[7] = "server"
    findings, held = await asyncio.gather(bench.probe.sample(), bench.probe.measure("server"))
    assert verdicts(findings) == {HOST: "ok", "server": "ok"}
    assert held == HeldVram(500 * MIB, 0)
    assert bench.prober.asked == 2


async def test_an_xid_that_a_measurement_came_upon_is_said_with_the_next_sample() -> None:
    """The driver tells it once only."""
    bench = Bench(gpus(gpu()) | {"xids": [["0", 48]]}, gpus(gpu()))
    await bench.probe.measure("server")
    said = [f.evidence["xid"] for f in await bench.probe.sample() if "xid" in f.evidence]
    assert said == [48]
    assert [f for f in await bench.probe.sample() if "xid" in f.evidence] == []
