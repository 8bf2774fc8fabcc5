"""What the cascade probe is shown: processes as they are, clients by their turns, upstreams by the gateway's looks."""

from __future__ import annotations

import pytest

from epad.answers.status import Upstream
from epad.configuration.schema import SubsystemConfig, UpstreamConfig
from epad.probing.cascade_signals import (
    MAX_TURN_LOOKS,
    UPSTREAM_LOOK_SECONDS,
    Looks,
    Sights,
    needs,
    upstream_node,
)
from probes.blame import Fault
from probes.cascade import DependencyGraph, Look
from probes.subsystems import SubsystemSnapshot, SubsystemState
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import ManualClock
from statemachine.containment import Hold, Rung
from statemachine.finding import HOST

SUBSYSTEMS = {
    "model": SubsystemConfig(command=("x",), gateway=False),
    "agent": SubsystemConfig(command=("x",), depends_on=("model",)),
    "guest": SubsystemConfig(kind="client"),
}
UPSTREAMS = {
    "ours": UpstreamConfig(url="unix:/m", dialects=("openai",), models=("llama*",), served_by="model"),
    "cloud": UpstreamConfig(url="https://x", dialects=("openai",)),
}


class Bench:
    """Looks over a house whose facts a test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.snapshots: list[SubsystemSnapshot] = []
        self.held = Hold(Rung.OPEN)
        self.reasons = {"ours": "", "cloud": ""}
        self.graph = DependencyGraph(needs(SUBSYSTEMS, UPSTREAMS))
        self.looks = Looks(
            UPSTREAMS,
            self.graph,
            lambda: self.snapshots,
            Sights(self.upstreams, lambda _: self.held),
            self.clock,
        )
        list(self.looks())

    def upstreams(self) -> list[Upstream]:
        return [
            {**shown(name, "well", reason), "healthy": not reason} for name, reason in self.reasons.items()
        ]

    def see(self, state: SubsystemState, *, pid: int | None = 7, hung: bool = False) -> list[Look]:
        self.snapshots = [SubsystemSnapshot("agent", "process", state, False, 0.0, pid=pid, hung=hung)]
        return list(self.looks())

    def finish(self, outcome: str, http_status: int = 0) -> None:
        self.looks.finished(TurnFinished("agent", 0.0, "t", outcome, 1, 1, 2, http_status))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SubsystemState.STARTING, None),
        (SubsystemState.RUNNING, ""),
        (SubsystemState.THROTTLED, ""),
        (SubsystemState.QUARANTINED, None),
        (SubsystemState.PAUSED, None),
        (SubsystemState.STOPPED, None),
        (SubsystemState.FAILED, "it failed and is not restarted"),
        (SubsystemState.RECOVERING, "it is not ready again yet"),
    ],
)
def test_every_state_is_well_bad_or_nothing_to_judge(
    bench: Bench, state: SubsystemState, reason: str | None
) -> None:
    """What is held or has not begun says nothing of its health; only what failed for good is a fact."""
    looks = bench.see(state)
    assert [look.reason for look in looks] == ([] if reason is None else [reason])
    assert all(look.hard is (state is SubsystemState.FAILED) for look in looks)


def test_a_hung_process_is_bad_and_told_by_the_progress_probe(bench: Bench) -> None:
    """So the cascade probe itself raises nothing for it."""
    (look,) = bench.see(SubsystemState.RUNNING, hung=True)
    assert (look.reason, look.told, look.hard) == ("it hangs", True, False)


@pytest.mark.parametrize(
    ("turns", "bad"),
    [
        ([("failed", 0)], True),
        ([("failed", 503)], True),
        ([("failed", 400)], False),
        ([("cut", 0)], False),
        ([("done", 200)], False),
        ([("failed", 0), ("done", 200)], False),
    ],
)
def test_turns_that_the_upstream_does_not_answer_are_bad_once(
    bench: Bench, turns: list[tuple[str, int]], bad: bool
) -> None:
    """A bad request and a client that leaves are no sign; one answer shows that all is well; each counts once."""
    for outcome, status in turns:
        bench.finish(outcome, status)
    bench.looks.refused(TurnRefused("agent", 0.0, "budget_exceeded"))
    (look,) = bench.see(SubsystemState.RUNNING)
    assert (look.reason == "its turns are not answered") is bad
    (look,) = bench.see(SubsystemState.RUNNING)
    assert look.ok


def test_a_client_without_a_process_is_seen_by_its_turns_alone(bench: Bench) -> None:
    """Silence is no sign of health."""
    assert bench.see(SubsystemState.RUNNING, pid=None) == []
    bench.finish("done", 200)
    assert [look.ok for look in bench.see(SubsystemState.RUNNING, pid=None)] == [True]
    bench.finish("failed")
    assert [look.ok for look in bench.see(SubsystemState.RUNNING, pid=None)] == [False]


def test_an_upstream_is_shown_as_often_as_the_gateway_looks_at_it(bench: Bench) -> None:
    """The same answer seen twice is no more evidence."""
    bench.reasons["ours"] = "no answer"
    assert list(bench.looks()) == []
    bench.clock.advance(UPSTREAM_LOOK_SECONDS)
    assert {look.node: look.reason for look in bench.looks()} == {
        "upstream/ours": "no answer",
        "upstream/cloud": "",
    }
    assert list(bench.looks()) == []


def test_a_client_comes_to_need_the_upstream_that_serves_its_model(bench: Bench) -> None:
    """By name before the one for everything, as turns are routed; and through it the subsystem that is its server."""
    for subsystem, model in (("guest", "llama3"), ("agent", "gpt")):
        bench.looks.admitted(TurnAdmitted(subsystem, 0.0, "t", model, 10, b""))
    assert bench.graph.above("guest") == {"upstream/ours", "model"}
    assert bench.graph.above("agent") == {"upstream/cloud", "model"}


def test_trouble_of_an_upstream_is_its_servers_or_nobodys_here(bench: Bench) -> None:
    """An upstream that is not ours is the host's to show."""
    nodes = ("agent", upstream_node("ours"), upstream_node("cloud"))
    assert [bench.looks.answers_for(node) for node in nodes] == ["agent", "model", HOST]


def test_a_model_that_several_serve_depends_on_none_of_them() -> None:
    """Where one is down, the gateway asks the other."""
    both = {name: UpstreamConfig(url="http://x", dialects=("openai",), served_by="model") for name in "xy"}
    graph = DependencyGraph(needs(SUBSYSTEMS, both))
    looks = Looks(both, graph, list, Sights(), ManualClock())
    looks.admitted(TurnAdmitted("guest", 0.0, "t", "llama3", 10, b""))
    assert graph.above("guest") == frozenset()


def test_a_turn_without_any_answer_is_a_bad_look_at_its_upstream_too(bench: Bench) -> None:
    """Sooner than the gateway's own next look; an error that came is not, since the request may be at fault."""
    for outcome, status in (("failed", 0), ("failed", 500), ("cut", 0), ("done", 200)):
        bench.looks.admitted(TurnAdmitted("agent", 0.0, "t", "llama3", 10, b""))
        bench.finish(outcome, status)
    looks = [(look.node, look.ok, look.told) for look in bench.looks()]
    assert looks == [("upstream/ours", False, True), ("upstream/ours", True, True)]
    assert list(bench.looks()) == []


def test_turns_between_two_looks_leave_a_bounded_number_behind(bench: Bench) -> None:
    """A storm of them is no more evidence than a few."""
    for _ in range(10 * MAX_TURN_LOOKS):
        bench.looks.admitted(TurnAdmitted("agent", 0.0, "t", "llama3", 10, b""))
        bench.finish("failed")
    assert len(list(bench.looks())) == MAX_TURN_LOOKS


def test_what_is_held_for_its_own_sake_is_bad_and_what_is_paused_for_everybodys_is_not(bench: Bench) -> None:
    """Else the clients of a stopped server would be roots, also in the daemon's next life."""
    bench.held = Hold(Rung.STOP, "crashed 3 times")
    (look,) = bench.see(SubsystemState.STOPPED, pid=None)
    assert (look.reason, look.told, look.hard) == ("it is held: crashed 3 times", True, True)
    bench.held = Hold(Rung.FREEZE, "PRESERVATION", paused=True)
    assert bench.see(SubsystemState.PAUSED) == []


def shown(name: str, state: str, reason: str = "") -> Upstream:
    breaker = "open" if state not in {"well", "limiting"} else "closed"
    healthy = breaker == "closed"
    return {
        "name": name,
        "url": "http://127.0.0.1:11434",
        "healthy": healthy,
        "reason": reason,
        "state": state,
        "breaker": breaker,
        "seconds": 0.0,
        "retry_seconds": 0.0,
        "server": "",
    }


def test_an_open_breaker_is_seen_at_every_look_and_its_closing_is_a_fact() -> None:
    """The gateway has seen enough by then: nobody waits for a turn, or for ten seconds more."""
    now = [shown("ours", "gone", "refused")]
    looks = Looks(UPSTREAMS, DependencyGraph(), list, Sights(lambda: now), ManualClock())
    for _ in range(3):
        assert [(look.node, look.reason, look.told) for look in looks()] == [
            ("upstream/ours", "refused", False)
        ]
    now[0] = shown("ours", "well")
    assert [(look.ok, look.hard) for look in looks()] == [(True, True)]
    assert list(looks()) == []


def test_a_server_that_loads_has_no_trouble_to_be_told_of_and_one_that_limits_has_none() -> None:
    now = [shown("ours", "loading", "it loads"), shown("cloud", "limiting", "429")]
    looks = Looks(UPSTREAMS, DependencyGraph(), list, Sights(lambda: now), ManualClock())
    assert [(look.node, look.ok, look.told) for look in looks()] == [
        ("upstream/ours", False, True),
        ("upstream/cloud", True, False),
    ]


def test_who_is_refused_for_an_upstream_suffers_from_it(bench: Bench) -> None:
    """Also one that was never let through to it; a limit's refusal says nothing."""
    bench.looks.refused(TurnRefused("agent", 0.0, "budget_exceeded"))
    (look,) = bench.see(SubsystemState.RUNNING)
    assert look.ok
    refusal = TurnRefused("agent", 0.0, "upstream_unavailable", fault=Fault.UPSTREAM, upstream="cloud")
    bench.looks.refused(refusal)
    (look,) = bench.see(SubsystemState.RUNNING)
    assert look.reason == "its turns are not answered"
    assert "upstream/cloud" in bench.graph.above("agent")
    bench.looks.refused(TurnRefused("agent", 0.0, "x", fault=Fault.UPSTREAM, upstream="made up"))
    assert "upstream/made up" not in bench.graph.above("agent")


@pytest.mark.parametrize("fault", [Fault.CLIENT, Fault.HOST, Fault.EPAD])
def test_what_is_not_the_upstreams_fault_is_no_look_at_it(bench: Bench, fault: Fault) -> None:
    bench.looks.admitted(TurnAdmitted("agent", 0.0, "t", "llama3", 10, b""))
    bench.looks.finished(TurnFinished("agent", 0.0, "t", "failed", 0, 0, 0, 0, fault=fault))
    assert list(bench.looks()) == []
