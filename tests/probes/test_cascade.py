from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from shipped_settings import PROBES, refused

from probes.cascade import (
    MAX_REMEMBERED,
    Cascade,
    CascadeSettings,
    DependencyGraph,
    Look,
    Neighbourhood,
)
from probes.subsystems import SubsystemExited
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Finding, Severity
from statemachine.rung import Rung


class Bench:
    """A probe that hears of exits at the time of its clock."""

    def __init__(self, thresholds: CascadeSettings | None = None) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.probe = Cascade(thresholds or PROBES.cascade, clock=self.clock, push=self.pushed.append)

    def exit(
        self,
        subsystem: str = "agent",
        *,
        status: str = "exit 1",
        wanted: bool = False,
        will_restart: bool = True,
        life: float = 0.0,
    ) -> None:
        at = self.clock.monotonic()
        self.probe.exited(SubsystemExited(subsystem, at, status, wanted, will_restart, "as configured", life))

    async def look(self) -> list[Finding]:
        """Whatever a sample finds that is not quiet."""
        return [finding for finding in await self.probe.sample() if finding.severity is not Severity.OK]

    async def quiet(self) -> set[str]:
        findings = await self.probe.sample()
        assert all(finding.severity is Severity.OK for finding in findings)
        return {finding.subsystem for finding in findings}


def test_crashes_within_the_window_raise_at_once() -> None:
    """The third crash in a minute is a fact, and says how it ended."""
    bench = Bench()
    bench.exit()
    bench.exit()
    assert bench.pushed == []
    bench.exit(status="signal SIGSEGV")
    finding = bench.pushed[0]
    assert (finding.subsystem, finding.severity, finding.hard) == ("agent", Severity.ANOMALY, True)
    assert finding.reason == "crashed 3 times in 60 s, last with signal SIGSEGV"


@pytest.mark.parametrize("life", [31.0, 45.0, 120.0, 599.0, 601.0, 899.0])
def test_a_slow_loop_is_told_and_holds_nobody(life: float) -> None:
    """From the third crash in an hour on, until it is clear that it goes on."""
    bench = Bench()
    for _ in range(3):
        assert bench.pushed == []
        bench.clock.advance(life)
        bench.exit(life=life)
    (finding,) = bench.pushed
    assert (finding.severity, finding.hard, finding.rung) == (Severity.ANOMALY, True, Rung.OPEN)
    assert finding.reason == f"crashed 3 times in 60 min, lives of about {life:.0f} s, last with exit 1"


HELD_ROWS = [
    ((33.0,), 5), ((45.0,), 5), ((300.0,), 5), ((899.0,), 4), ((900.0,), 3), ((1_000.0,), 3), ((1_200.0,), 3),
    ((1_140.0, 5.0), 5), ((300.0, 1_195.0, 1_200.0), 4), ((601.0, 1_100.0), 4), ((60.0, 900.0), 5),
]  # fmt: skip


@pytest.mark.parametrize(("lives", "crashes"), HELD_ROWS)
def test_a_row_that_goes_on_is_held_within_the_hour(lives: tuple[float, ...], crashes: int) -> None:
    """Its finding names no rung of its own, and so calls for the probe's: of lives of 1 s to 20 min, alike or not."""
    bench = Bench()
    for number in range(crashes):
        assert all(finding.rung is Rung.OPEN for finding in bench.pushed)
        life = lives[number % len(lives)]
        bench.clock.advance(life)
        bench.exit(life=life)
    assert bench.clock.monotonic() - 1_000.0 <= 3_600.0
    assert bench.pushed[-1].rung is None
    assert bench.pushed[-1].reason.startswith(f"crashed {crashes} times in a row in ")


def test_a_long_run_ends_a_row() -> None:
    """Two crashes, half an hour of work, and three more are five crashes, and no row of five."""
    bench = Bench()
    for life in (100.0, 100.0, 1_801.0, 100.0, 100.0, 100.0):
        bench.clock.advance(life)
        bench.exit(life=life)
    assert [finding.rung for finding in bench.pushed] == [Rung.OPEN] * len(bench.pushed)
    bench.clock.advance(100.0)
    bench.exit(life=100.0)
    assert bench.pushed[-1].reason.startswith("crashed 5 times in a row in 400 s")


def test_what_crashes_again_after_a_hold_is_held_again_at_once() -> None:
    """The row goes on though the time that it was held for lies in between; after a long rest it does not."""
    bench = Bench()
    for _ in range(5):
        bench.clock.advance(300.0)
        bench.exit(life=300.0)
    bench.clock.advance(1_800.0 + 300.0)
    bench.exit(life=300.0)
    assert bench.pushed[-1].reason.startswith("crashed 6 times in a row in ")
    bench.clock.advance(3_601.0)
    told = len(bench.pushed)
    bench.exit(life=300.0)
    assert len(bench.pushed) == told


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_what_was_asked_to_end_has_not_crashed(signal: str) -> None:
    """A developer's `pkill`. Nine times within the hour no person does that."""
    bench = Bench()
    for _ in range(8):
        bench.clock.advance(5)
        bench.exit(status=f"signal {signal}")
    assert bench.pushed == []
    for _ in range(3):
        bench.clock.advance(5)
        bench.exit(status=f"signal {signal}")
    assert bench.pushed[-1].reason == f"crashed 3 times in 60 s, last with signal {signal}"


def test_what_was_asked_to_end_and_is_not_restarted_is_told() -> None:
    bench = Bench()
    bench.exit(status="signal SIGTERM", will_restart=False)
    assert bench.pushed[0].evidence["given_up"]


def test_one_death_after_each_wake_of_the_machine_is_none() -> None:
    """Its device was taken away. What dies again after it, or a minute later, has crashed."""
    bench, woke = Bench(), float("-inf")
    bench.probe = Cascade(
        PROBES.cascade, clock=bench.clock, push=bench.pushed.append, slept_until=lambda _: woke
    )
    for _ in range(4):
        bench.clock.advance(300)
        woke = bench.clock.monotonic()
        bench.clock.advance(59)
        bench.exit()
    assert bench.pushed == []
    for _ in range(3):
        bench.exit()
    assert bench.pushed[-1].reason == "crashed 3 times in 60 s, last with exit 1"


def test_a_death_long_after_a_wake_counts() -> None:
    bench = Bench()
    bench.probe = Cascade(
        PROBES.cascade, clock=bench.clock, push=bench.pushed.append, slept_until=lambda at: at - 61
    )
    for _ in range(3):
        bench.exit()
    assert len(bench.pushed) == 1


def test_lives_of_many_lengths_are_one_loop() -> None:
    """A load that fails now early and now late."""
    bench = Bench()
    for life in (900.0, 70.0, 1_100.0):
        bench.clock.advance(life)
        bench.exit(life=life)
    (finding,) = bench.pushed
    assert "lives of 70 to 1100 s" in finding.reason


def test_two_crashes_in_an_hour_are_nothing() -> None:
    """Nor are three in two hours."""
    bench = Bench()
    for _ in range(5):
        bench.exit()
        bench.clock.advance(1_801)
    assert bench.pushed == []


def test_a_slow_loop_that_becomes_a_burst_is_held() -> None:
    """The burst names no rung of its own, and so calls for the probe's, which climbs above none."""
    bench = Bench()
    for _ in range(3):
        bench.clock.advance(600)
        bench.exit()
    for _ in range(2):
        bench.clock.advance(1)
        bench.exit()
    slow, burst = bench.pushed[0], bench.pushed[-1]
    assert burst.reason == "crashed 3 times in 60 s, last with exit 1"
    assert burst.rung is None
    assert burst.climbs_above(slow)


def test_what_was_before_the_daemon_counts() -> None:
    """It says nothing by itself; the next crash is the third."""
    bench = Bench()
    now = bench.clock.monotonic()
    bench.probe.remember("agent", [now - 2_000, now - 1_000])
    assert bench.pushed == []
    bench.exit()
    assert bench.pushed[0].value == 3
    bench.probe.remember("other", [now - 3_000])
    bench.clock.advance(700)
    bench.exit("other")
    assert len(bench.pushed) == 1


def test_what_may_have_been_a_victims_is_not_remembered() -> None:
    """Its root crashed as well then; who was whose victim is not known any more."""
    cluster = Cluster()
    now = cluster.clock.monotonic()
    for name in ("a", "model"):
        cluster.probe.remember(name, [now - 20, now - 10])
    cluster.clock.advance(1)
    cluster.exit("a")
    assert cluster.raised == []
    cluster.exit("model")
    assert cluster.raised == ["model"]


def test_wanted_exits_and_finished_work_are_no_crashes() -> None:
    """What the daemon ended, and what ended well, is not held against anyone."""
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.exit(name, wanted=True, will_restart=False)
        bench.exit(name, status="exit 0", will_restart=False)
    assert bench.pushed == []


def test_a_clean_exit_that_is_restarted_counts() -> None:
    """A service that ends at once with exit code 0, and is started again, is a crash loop as well."""
    bench = Bench()
    for _ in range(3):
        bench.exit(status="exit 0")
    assert len(bench.pushed) == 1


def test_giving_up_is_an_anomaly_by_itself() -> None:
    """One crash that is not restarted is enough, and the reason says why it is not."""
    bench = Bench()
    bench.exit(will_restart=False)
    assert bench.pushed[0].severity is Severity.ANOMALY
    assert bench.pushed[0].reason == "it ended with exit 1 and is not restarted: as configured"
    assert bench.pushed[0].hard


async def test_several_subsystems_crashing_together_are_critical() -> None:
    """Once both have had their settle time, the host's finding names them in the order of their first crash."""
    bench = Bench()
    for name in ("model", "agent", "model", "agent"):
        bench.exit(name)
        assert await bench.look() == []
        bench.clock.advance(0.7)
    bench.clock.advance(1)
    (finding,) = await bench.look()
    assert await bench.look() == []
    assert (finding.subsystem, finding.severity, finding.hard) == (HOST, Severity.CRITICAL, True)
    assert finding.evidence["subsystems"] == ["model", "agent"]
    assert "model first: model, agent" in finding.reason


@pytest.mark.parametrize("names", ["ab", "abcd", "aab"])
async def test_crashes_that_have_healed_are_no_cascade(names: str) -> None:
    """Each died once and was started again: nothing is known to be wrong any more, however many they are."""
    bench = Bench()
    for name in names:
        bench.exit(name)
    for _ in range(60):
        bench.clock.advance(1)
        assert await bench.look() == []
    assert bench.pushed == []


def test_one_subsystem_alone_is_no_cascade() -> None:
    """However often it crashes."""
    bench = Bench()
    for _ in range(50):
        bench.exit()
    assert {finding.subsystem for finding in bench.pushed} == {"agent"}


async def test_quiet_is_stated_once_the_window_is_empty() -> None:
    """While it is not quiet a sample says nothing of it, so that it cannot contradict what was pushed."""
    bench = Bench()
    for name in "abab":
        bench.exit(name)
    assert await bench.quiet() == set()
    bench.clock.advance(60)
    assert await bench.quiet() == {HOST}
    bench.clock.advance(PROBES.cascade.window_seconds - 60)
    assert await bench.quiet() == {"a", "b", HOST}
    assert await bench.quiet() == {HOST}


async def test_what_was_given_up_is_not_called_quiet() -> None:
    """It is down, and stays so until it is released."""
    bench = Bench()
    bench.exit(will_restart=False)
    bench.clock.advance(3600)
    assert await bench.quiet() == {HOST}
    bench.probe.forget("agent")
    bench.probe.forget("nobody")
    bench.exit()
    assert len(bench.pushed) == 1


def _row_of(crashes: list[float], seconds: float) -> int:
    """How many of the last crashes followed each other within half a window; of no run the life is known."""
    row = 1
    while row < len(crashes) and crashes[-row] - crashes[-row - 1] <= seconds / 2:
        row += 1
    return row


EXITS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=60)


@given(EXITS, st.integers(1, 4), st.integers(2, 3))
def test_counts_are_those_of_a_naive_reader(
    exits: list[tuple[str, float]], crashes: int, subsystems: int
) -> None:
    """Each exit states exactly what a recount of the whole history would."""
    thresholds = replace(
        PROBES.cascade,
        crashes=crashes,
        subsystems=subsystems,
        settle_seconds=0,
        window_seconds=200,
        row_crashes=max(crashes, 5),
    )
    bench = Bench(thresholds)
    history: list[tuple[str, float]] = []
    for name, gap in exits:
        bench.clock.advance(gap)
        now = bench.clock.monotonic()
        history.append((name, now))
        before = len(bench.pushed)
        bench.exit(name)
        recent, burst = ([n for n, at in history if at > now - seconds] for seconds in (200, 60))
        mine = [at for n, at in history if n == name]
        row = _row_of(mine, seconds=200)
        gaps = [later - earlier for earlier, later in pairwise(mine[-row:])]
        lasted = row >= crashes and now - mine[-row] >= 150
        goes_on = row >= max(crashes, 5) or (lasted and (row > crashes or max(gaps) <= 4 * min(gaps)))
        is_loop = recent.count(name) >= crashes or goes_on
        expected = {name: burst.count(name) < crashes and not goes_on} if is_loop else {}
        if sum(burst.count(n) >= 2 for n in set(burst)) >= subsystems:
            expected[HOST] = False
        told = {finding.subsystem: finding.rung is not None for finding in bench.pushed[before:]}
        assert told == expected


async def test_it_looks_seldom_until_something_is_wrong() -> None:
    """And often again until the node has been well for a while."""
    clock, seen = ManualClock(), [Look("a", 0.0)]
    probe = Cascade(
        PROBES.cascade,
        clock=clock,
        push=lambda _: None,
        neighbourhood=Neighbourhood(looks=lambda: list(seen)),
    )
    calm = probe.interval_seconds
    await probe.sample()
    assert probe.interval_seconds == calm == 2 * PROBES.cascade.interval_seconds
    seen[:] = [Look("a", 1.0, "it hangs")]
    await probe.sample()
    assert probe.interval_seconds == PROBES.cascade.interval_seconds
    seen[:] = [Look("a", 2.0)]
    for _ in range(PROBES.cascade.of_looks):
        assert probe.interval_seconds == PROBES.cascade.interval_seconds
        await probe.sample()
    assert probe.interval_seconds == calm


async def test_memory_is_bounded() -> None:
    """20,000 crashes leave a bounded number behind, and after a quiet time none."""
    clock = ManualClock()
    probe = Cascade(PROBES.cascade, clock=clock, push=lambda _: None)
    for n in range(20_000):
        probe.exited(SubsystemExited(f"s{n % 4}", clock.monotonic(), "exit 1", False, True, ""))
    assert len(probe._crashes) == 4 * MAX_REMEMBERED
    clock.advance(PROBES.cascade.window_seconds + 1)
    await probe.sample()
    assert probe._crashes.names() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crashes", 0),
        ("crashes", MAX_REMEMBERED + 1),
        ("subsystems", 1),
        ("window_seconds", 0),
        ("burst_seconds", 0),
        ("settle_seconds", 60),
        ("bad_looks", 4),
        ("of_looks", 22),
        ("good_looks", 0),
        ("blast_ratio", 0),
    ],
)
def test_a_threshold_that_is_never_or_always_reached_is_refused(key: str, value: int) -> None:
    """The error names the key to change."""
    assert key in refused(PROBES.cascade, **{key: value})


class Cluster:
    """A model server, an upstream that it serves, two clients of it and one that has nothing to do with it."""

    PROVIDERS: ClassVar = {"model": (), "upstream/x": ("model",), "a": ("upstream/x",), "b": ("a",), "c": ()}

    def __init__(self, *, served: bool = True, ratio: float = 0.8) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.bad: dict[str, str] = {}
        self.told = False
        self.void = False
        upstream = "model" if served else HOST
        self.probe = Cascade(
            replace(PROBES.cascade, blast_ratio=ratio),
            clock=self.clock,
            push=self.pushed.append,
            neighbourhood=Neighbourhood(
                DependencyGraph(self.PROVIDERS), self.looks, lambda n: upstream if "/" in n else n, lambda: 4
            ),
            void=lambda since, until: self.void and since < until,
        )

    def looks(self) -> list[Look]:
        now = self.clock.monotonic()
        return [Look(name, now, self.bad.get(name, ""), told=self.told) for name in self.PROVIDERS]

    def exit(self, name: str, *, will_restart: bool = True) -> None:
        at = self.clock.monotonic()
        self.probe.exited(
            SubsystemExited(name, at, "exit 1", wanted=False, will_restart=will_restart, reason="so")
        )

    async def pass_seconds(self, seconds: int) -> list[Finding]:
        """Sample every second; what was found at the last one, quiet aside."""
        found: list[Finding] = []
        for _ in range(seconds):
            self.clock.advance(1)
            found = [f for f in await self.probe.sample() if f.severity is not Severity.OK]
        return found

    @property
    def raised(self) -> list[str]:
        return [finding.subsystem for finding in self.pushed if finding.bad]


async def test_what_was_before_the_daemon_is_no_cascade() -> None:
    """A root and its victims, of which only their crashes are remembered."""
    bench = Bench()
    now = bench.clock.monotonic()
    for name in ("model", "agent", "writer"):
        bench.probe.remember(name, [now - 2, now - 1])
    bench.clock.advance(1)
    bench.exit("other")
    for _ in range(10):
        bench.clock.advance(1)
        assert await bench.look() == []


async def test_a_root_is_stated_once_it_has_settled_and_as_long_as_it_fails() -> None:
    """Two looks to fail, three seconds to settle; its victims are in the evidence, and nobody else is stated."""
    cluster = Cluster()
    cluster.bad = {"upstream/x": "no answer", "a": "its turns fail", "b": "its turns fail"}
    assert await cluster.pass_seconds(4) == []
    assert cluster.probe.victims() == {"a": "model", "b": "model"}
    assert cluster.probe.waiting() == {}
    for _ in range(3):
        (finding,) = await cluster.pass_seconds(1)
        assert (finding.subsystem, finding.severity) == ("model", Severity.ANOMALY)
        assert finding.reason == "upstream/x fails: no answer; a, b suffer from it"
        assert (finding.evidence["victims"], finding.rung) == (["a", "b"], Rung.OPEN)
    cluster.bad = {}
    await cluster.pass_seconds(3)
    assert cluster.probe.victims() == {}
    assert cluster.probe.incidents() == []


async def test_an_upstream_that_is_not_ours_is_a_warning_and_holds_nobody() -> None:
    """Nobody here can mend it, and the gateway's breaker answers for it already."""
    cluster = Cluster(served=False)
    cluster.bad = {"upstream/x": "no answer", "a": "its turns fail"}
    (finding,) = await cluster.pass_seconds(6)
    assert (finding.subsystem, finding.severity) == (HOST, Severity.WARNING)
    assert cluster.probe.victims() == {}
    assert [incident.victims for incident in cluster.probe.incidents()] == [("a",)]


async def test_trouble_that_others_state_sorts_and_raises_nothing() -> None:
    """A hung server is the progress probe's to tell; its clients are its victims all the same."""
    cluster = Cluster()
    cluster.told, cluster.bad = True, {"model": "it hangs", "a": "its turns fail"}
    assert await cluster.pass_seconds(10) == []
    assert cluster.probe.victims() == {"a": "model"}


async def test_crashes_of_a_victim_are_held_against_nobody() -> None:
    """Neither by number, nor by giving up, nor together with its root's."""
    cluster = Cluster()
    cluster.exit("model")
    for _ in range(5):
        cluster.exit("a")
    assert await cluster.pass_seconds(5) == []
    assert cluster.raised == []
    assert cluster.probe.victims() == {}  # the looks were good again


@pytest.mark.parametrize("first", ["model", "a"])
async def test_a_victim_that_is_not_restarted_is_stated_once_its_root_is_well(first: str) -> None:
    """It does not come back by itself, whichever exit was noticed first; a person's release forgets it."""
    cluster = Cluster()
    cluster.bad, cluster.told = {"model": "it is not ready", "a": "down"}, True
    order = ("model", "a") if first == "model" else ("a", "model")
    for name in order:
        cluster.exit(name, will_restart=name != "a")
    cluster.pushed.clear()
    await cluster.pass_seconds(5)
    assert cluster.raised == []
    cluster.bad = {"a": "down"}
    await cluster.pass_seconds(3)
    assert cluster.raised == ["a"]
    cluster.probe.forget("a")
    await cluster.pass_seconds(1)
    assert cluster.raised == ["a"]


async def test_crashes_before_the_root_is_known_are_excused() -> None:
    """The clients' exits are noticed first: they are no cascade of their own once the server's is."""
    cluster = Cluster()
    cluster.exit("a")
    cluster.exit("b")
    cluster.exit("model")
    assert cluster.probe.victims() == {"a": "model", "b": "model"}
    told = {f.subsystem: f.reason for f in cluster.pushed}
    assert told == {"a": "a victim of model", "b": "a victim of model"}
    cluster.bad = dict.fromkeys(("model", "a", "b"), "down")
    cluster.told = True
    assert await cluster.pass_seconds(10) == []


async def test_a_crash_loop_names_its_victims_and_is_critical_when_it_takes_too_many_along() -> None:
    """One root and two victims are three of four: more than 0.67 of them, less than 0.8."""
    for ratio, severity in ((0.8, Severity.ANOMALY), (0.67, Severity.CRITICAL)):
        cluster = Cluster(ratio=ratio)
        cluster.exit("a")
        cluster.exit("b")
        for _ in range(3):
            cluster.exit("model")
        (finding,) = [f for f in cluster.pushed if f.bad]
        assert (finding.subsystem, finding.severity) == ("model", severity)
        assert finding.evidence["victims"] == ["a", "b"]


async def test_work_that_ended_well_takes_nobody_along() -> None:
    """A provider that has crashed and then finished is not failed for ever."""
    cluster = Cluster()
    cluster.exit("model")
    at = cluster.clock.monotonic()
    cluster.probe.exited(
        SubsystemExited("model", at, "exit 0", wanted=False, will_restart=False, reason="done")
    )
    assert cluster.probe.incidents() == []


async def test_a_void_stretch_is_no_evidence() -> None:
    """Looks that epad itself was late for fail nobody, and no root settles meanwhile."""
    cluster = Cluster()
    cluster.bad, cluster.void = {"c": "no answer"}, True
    assert await cluster.pass_seconds(30) == []
    cluster.void = False
    await cluster.pass_seconds(2)
    cluster.void = True
    assert await cluster.pass_seconds(30) == []
    cluster.void = False
    (finding,) = await cluster.pass_seconds(3)
    assert finding.subsystem == "c"
