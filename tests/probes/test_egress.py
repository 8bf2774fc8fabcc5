"""The way out's probe: single refusals and first hosts are told, bursts, uploads and false names are held."""

from __future__ import annotations

import pytest
from shipped_settings import PROBES

from probes.egress import DirectKind, Egress, EgressDirect, EgressOpened, EgressRefused, EgressSent
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

SETTINGS = PROBES.egress


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pushed: list[Finding] = []
        self.probe = Egress(SETTINGS, clock=self.clock, push=self.pushed.append)

    def refused(self, host: str, *, is_fronting: bool = False) -> None:
        words = f"{host}:443 is not among the hosts of agent"
        self.probe.refused(EgressRefused("agent", self.clock.monotonic(), host, 443, words, is_fronting))

    def direct(self, host: str, kind: DirectKind = DirectKind.MODEL_SERVER, port: int = 11_434) -> None:
        words = f"tried to connect to {host}"
        self.probe.direct(EgressDirect("agent", self.clock.monotonic(), host, port, words, kind))

    def sent(self, host: str, count: int) -> None:
        self.probe.sent(EgressSent("agent", self.clock.monotonic(), host, count))

    async def looked(self) -> list[tuple[Severity, object]]:
        return [(one.severity, one.evidence.get("detector")) for one in await self.probe.sample()]


@pytest.fixture
def world() -> World:
    return World()


def test_each_attempt_is_told_with_its_host(world: World) -> None:
    """And held against nobody; a program that tries again at once says nothing new."""
    for _ in range(3):
        world.refused("api.openai.com")
    world.refused("169.254.169.254")
    assert [(one.severity, one.evidence["host"]) for one in world.pushed] == [
        (Severity.WARNING, "api.openai.com"),
        (Severity.WARNING, "169.254.169.254"),
    ]
    world.clock.advance(11)
    world.refused("api.openai.com")
    assert len(world.pushed) == 3


async def test_many_different_hosts_are_a_burst(world: World) -> None:
    """It ends when the window has passed."""
    for number in range(SETTINGS.refusals):
        world.refused(f"h{number}.example")
    [finding] = await world.probe.sample()
    assert (finding.severity, finding.value, finding.unit) == (
        Severity.ANOMALY,
        SETTINGS.refusals,
        "refusals",
    )
    assert finding.evidence["hosts"] == [
        f"h{n}.example" for n in range(SETTINGS.refusals - 1, SETTINGS.refusals - 6, -1)
    ]
    assert "last h19.example" in finding.reason
    world.clock.advance(SETTINGS.refusal_window_seconds + 1)
    assert await world.looked() == [(Severity.OK, None)]


async def test_one_host_that_is_asked_for_again_and_again_is_none(world: World) -> None:
    """Programs try again by themselves."""
    for _ in range(1_000):
        world.refused("telemetry.example")
        world.clock.advance(0.1)
    assert all(severity is Severity.OK for severity, _ in await world.looked())


async def test_findings_of_a_flood_are_bounded(world: World) -> None:
    for number in range(500):
        world.refused(f"h{number}.example")
    assert len(world.pushed) == SETTINGS.refusals


def test_a_tunnel_under_another_name_is_a_fact(world: World) -> None:
    """At once, also for a host that was refused for another reason just now."""
    world.refused("a.example")
    world.refused("a.example", is_fronting=True)
    world.refused("a.example", is_fronting=True)
    [_, fact] = world.pushed
    assert (fact.severity, fact.hard, fact.evidence["detector"]) == (Severity.ANOMALY, True, "server_name")


async def test_much_that_is_sent_out_is_told(world: World) -> None:
    """All hosts of the window together."""
    world.sent("a.example", SETTINGS.upload_bytes)
    assert await world.looked() == [(Severity.OK, None)]
    world.sent("b.example", 1)
    [finding] = await world.probe.sample()
    assert (finding.severity, finding.evidence["detector"], finding.unit) == (
        Severity.ANOMALY,
        "upload",
        "bytes",
    )
    assert finding.evidence["hosts"] == ["b.example", "a.example"]
    world.clock.advance(SETTINGS.upload_window_seconds + 61)
    assert await world.looked() == [(Severity.OK, None)]


def test_a_host_is_told_when_it_is_reached_first(world: World) -> None:
    for is_first in (True, False):
        world.probe.opened(EgressOpened("agent", 0.0, "a.example", 443, is_first))
    [finding] = world.pushed
    assert finding.severity is Severity.WARNING
    assert finding.reason == "reached a.example:443 for the first time"


async def test_a_released_subsystem_begins_afresh(world: World) -> None:
    world.sent("a.example", SETTINGS.upload_bytes + 1)
    world.probe.forget("agent")
    assert await world.looked() == []


def test_a_decoy_that_is_sent_freezes_the_subsystem(world: World) -> None:
    """Something has it collect keys: its doors alone are not enough."""
    world.probe.refused(EgressRefused("agent", 0.0, "a.example", 80, "a decoy was sent", is_decoy=True))
    [fact] = world.pushed
    assert (fact.hard, fact.rung, fact.evidence["detector"]) == (True, Rung.FREEZE, "decoy")


async def test_one_attempt_past_the_doors_is_told_and_held_against_nobody(world: World) -> None:
    """A client that tries again and again counts once in ten seconds."""
    for _ in range(5):
        world.direct("127.0.0.1")
        world.clock.advance(1)
    [finding] = world.pushed
    assert (finding.severity, finding.subsystem, finding.reason) == (
        Severity.WARNING,
        "agent",
        "tried to connect to 127.0.0.1",
    )
    assert finding.evidence == {
        "host": "127.0.0.1",
        "port": 11_434,
        "kind": "model_server",
        "detector": "direct_connection",
    }
    assert await world.looked() in ([], [(Severity.OK, None)])


async def test_who_goes_on_trying_to_reach_a_model_server_past_the_gateway_is_held(world: World) -> None:
    """At several addresses at once, or at one for long; it ends when the window has passed, or with a release."""
    for host in ("127.0.0.1", "::1", "10.0.0.5")[: SETTINGS.direct_connections]:
        world.direct(host)
    [finding] = await world.probe.sample()
    assert (finding.severity, finding.evidence["detector"]) == (Severity.ANOMALY, "direct_connection")
    assert (finding.value, finding.limit, finding.rung) == (3, SETTINGS.direct_connections, None)
    assert "last to 10.0.0.5:11434" in finding.reason
    world.clock.advance(SETTINGS.refusal_window_seconds + 1)
    assert await world.looked() == [(Severity.OK, None)]
    for _ in range(SETTINGS.direct_connections):
        world.direct("127.0.0.1")
        world.clock.advance(11)
    assert await world.looked() == [(Severity.ANOMALY, "direct_connection")]
    world.probe.forget("agent")
    assert all(severity is Severity.OK for severity, _ in await world.looked())


async def test_hosts_that_are_tried_directly_count_as_refusals_and_names_do_not(world: World) -> None:
    """Every program that looks a name up asks a resolver."""
    for number in range(3 * SETTINGS.refusals):
        world.direct(f"h{number}.example", DirectKind.LOOKUP, 53)
    assert all(one.severity is Severity.WARNING for one in world.pushed)
    assert len(world.pushed) == 3 * SETTINGS.refusals
    assert all(severity is Severity.OK for severity, _ in await world.looked())
    for number in range(SETTINGS.refusals):
        world.direct(f"192.0.2.{number}", DirectKind.HOST, 443)
    assert (Severity.ANOMALY, "refused_burst") in await world.looked()
