"""Roots against victims: the graph, a node's health, and how the two are sorted."""

from __future__ import annotations

import graphlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import PROBES

from probes.cascade import Attribution, CascadeIncident, DependencyGraph, Look, NodeHealth

NAMES = "abcdef"
DIAMOND = {"gpu": [], "model": ["gpu"], "index": ["gpu"], "agent": ["model", "index"], "web": []}
SETTLE = 15.0
RULE = PROBES.cascade.look_rule


class Ward:
    """An attribution over the diamond, and a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.attribution = Attribution(DependencyGraph(DIAMOND), RULE, SETTLE)

    def look(self, name: str, *, ok: bool, times: int = 1, hard: bool = False) -> None:
        for _ in range(times):
            self.attribution.observe(Look(name, self.now, "" if ok else "it is silent", hard=hard))

    def fail(self, name: str) -> None:
        self.look(name, ok=False, times=2)

    def heal(self, name: str) -> None:
        self.look(name, ok=True, times=3)

    def seen(self) -> dict[str, tuple[str, ...]]:
        """The victims of each root."""
        return {incident.root: incident.victims for incident in self.incidents()}

    def incidents(self) -> list[CascadeIncident]:
        return self.attribution.incidents(self.now)


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_a_circle_is_refused_and_named() -> None:
    """In the order in which people read it."""
    with pytest.raises(
        ValueError, match=r"a needs b needs c needs a|b needs c needs a needs b|c needs a needs b"
    ):
        DependencyGraph({"a": ["b"], "b": ["c"], "c": ["a"]})


def test_an_edge_that_would_close_a_circle_is_not_learnt() -> None:
    """A model server that asks a model of its own is no provider of itself."""
    graph = DependencyGraph({"agent": ["model"], "model": []})
    assert not graph.learn("model", "agent")
    assert not graph.learn("agent", "agent")
    assert not graph.learn("agent", "model")
    assert graph.learn("guest", "agent")
    assert graph.above("guest") == {"agent", "model"}
    assert graph.below("model") == {"agent", "guest"}


EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30)


@given(EDGES)
def test_what_is_learnt_never_closes_a_circle_and_reaches_as_far_as_a_walk(
    edges: list[tuple[str, str]],
) -> None:
    """However edges come: the closure is what walking the accepted ones finds, and none leads back."""
    graph = DependencyGraph()
    accepted: dict[str, set[str]] = {name: set() for name in NAMES}
    for name, provider in edges:
        if graph.learn(name, provider):
            accepted[name].add(provider)
    tuple(graphlib.TopologicalSorter(accepted).static_order())
    for name in NAMES:
        reached, waiting = set(), list(accepted[name])
        while waiting:
            reached.add(at := waiting.pop())
            waiting += accepted[at] - reached
        assert graph.above(name) == reached
        assert all(name in graph.below(provider) for provider in reached)


@pytest.mark.parametrize(
    ("looks", "failed"),
    [
        ("x", False),
        ("x..x", False),
        ("xx", True),
        ("x.x", True),
        ("xx..", True),
        ("xx...", False),
        ("xx..x..", True),
        ("xx...x", False),
        ("xx...xx", True),
    ],
)
def test_two_of_three_fail_a_node_and_three_good_ones_bring_it_back(looks: str, failed: bool) -> None:
    """One bad look alone is noise, one good look alone is luck."""
    node = NodeHealth(RULE)
    for look in looks:
        node.add(Look("n", 0.0, "bad" if look == "x" else ""))
    assert node.failed is failed


def test_a_fact_fails_a_node_at_once() -> None:
    """An exit needs no second look."""
    node = NodeHealth(RULE)
    node.add(Look("n", 0.0, "it ended", hard=True))
    assert node.failed


def test_what_flaps_stays_failed_until_it_is_calm() -> None:
    """Three good looks between failures bring nothing back any more; a calm window does."""
    node = NodeHealth(RULE)
    for look in "xx...xx...xx...xx":
        node.add(Look("n", 0.0, "bad" if look == "x" else ""))
    assert node.flapping
    for _ in range(10):
        node.add(Look("n", 0.0))
    assert node.failed
    for _ in range(RULE.flap_looks):
        node.add(Look("n", 0.0))
    assert not node.flapping
    assert not node.failed


def test_what_fails_below_a_failed_node_is_its_victim_however_far_below(ward: Ward) -> None:
    """Through a node that is well, too; what is not below it is a root of its own."""
    for name in ("agent", "gpu", "web"):
        ward.fail(name)
    assert ward.seen() == {"gpu": ("agent",), "web": ()}


def test_a_root_found_late_takes_over(ward: Ward) -> None:
    """The client shows its trouble before the server does: once both do, there is one incident, the server's."""
    ward.fail("agent")
    assert ward.seen() == {"agent": ()}
    ward.now += SETTLE - 1
    ward.fail("model")
    assert ward.seen() == {"model": ("agent",)}
    ward.fail("gpu")
    assert ward.seen() == {"gpu": ("model", "agent")}


def test_a_root_stands_after_its_settle_time_and_a_fact_at_once(ward: Ward) -> None:
    """Until then something above it may still show itself."""
    ward.fail("agent")
    assert [incident.settled for incident in ward.incidents()] == [False]
    ward.now += SETTLE
    assert [incident.settled for incident in ward.incidents()] == [True]
    ward.look("web", ok=False, hard=True)
    assert {incident.root: incident.settled for incident in ward.incidents()}["web"]


def test_the_settle_time_begins_when_it_becomes_the_root(ward: Ward) -> None:
    """Time spent as a victim is no time as a root; nor is time that was no evidence."""
    ward.fail("gpu")
    ward.now += SETTLE
    ward.fail("model")
    ward.heal("gpu")
    ward.fail("model")
    assert [(i.root, i.settled) for i in ward.incidents()] == [("model", False)]
    ward.now += SETTLE - 1
    ward.attribution.postpone(ward.now)
    ward.now += SETTLE - 1
    assert [(i.root, i.settled) for i in ward.incidents()] == [("model", False)]


def test_victims_are_looked_at_afresh_once_their_root_is_well(ward: Ward) -> None:
    """They come back by themselves; the one that stays bad becomes a root of its own."""
    for name in ("gpu", "model", "agent"):
        ward.fail(name)
    ward.heal("gpu")
    assert ward.seen() == {}
    ward.fail("model")
    ward.look("agent", ok=True, times=3)
    assert ward.seen() == {"model": ()}


def test_a_victim_of_two_waits_for_both(ward: Ward) -> None:
    """One of its roots recovering does not make it well."""
    for name in ("model", "index", "agent"):
        ward.fail(name)
    ward.heal("model")
    assert ward.seen() == {"index": ("agent",)}


def test_a_released_node_is_looked_at_afresh(ward: Ward) -> None:
    """And with it what it had taken along."""
    for name in ("gpu", "model"):
        ward.fail(name)
    ward.attribution.forget("gpu", ward.now)
    ward.attribution.forget("nobody", ward.now)
    assert ward.seen() == {}


@given(st.lists(st.tuples(st.sampled_from(sorted(DIAMOND)), st.booleans()), max_size=80))
def test_every_victim_has_a_failed_root_above_it_and_no_root_has(looks: list[tuple[str, bool]]) -> None:
    """After any looks whatever: roots have nothing failed above them, victims stand below each root named."""
    ward = Ward()
    graph = ward.attribution.graph
    for name, ok in looks:
        ward.look(name, ok=ok)
        seen = ward.seen()
        for root, victims in seen.items():
            assert not graph.above(root) & (set(seen) | {v for each in seen.values() for v in each})
            assert set(victims) <= graph.below(root)
        for victim in sorted(DIAMOND):
            named = any(victim in victims for victims in seen.values())
            assert ward.attribution.is_victim(victim) is named


def test_a_node_that_is_known_to_be_well_is_well_at_once() -> None:
    """A breaker that has closed is a fact, as a process that ended is one; even of a node that flaps."""
    node = NodeHealth(RULE)
    for number in range(20):
        node.add(Look("x", number, "down" if number % 2 else ""))
    node.add(Look("x", 20, "down"))
    node.add(Look("x", 21, "down"))
    assert node.failed
    assert node.flapping
    node.add(Look("x", 22, hard=True))
    assert not node.failed
