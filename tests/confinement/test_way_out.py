"""The way out with its real process: doors, reports, questions, and that it fails closed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import structlog
from fake_internet import Client
from patience import until
from tls_hello import real_hello
from way_out_world import WayOutWorld, way_out_world

from epad.confinement.approvals import ONCE, ApprovalError, State
from epad.confinement.host_questions import HostSubject
from epad.confinement.metrics import EGRESS_OPEN
from epad.storage.event_log import EventKind
from probes.egress import EgressOpened, EgressRefused, EgressSent
from runners.egress.refusal import Why
from runners.egress.rules import HostRule

RULE = "a.example=127.0.0.1:HERE"


@pytest.fixture
async def world() -> AsyncIterator[WayOutWorld]:
    async with way_out_world() as one:
        yield one


async def test_no_process_runs_before_there_is_a_door(world: WayOutWorld) -> None:
    assert world.way_out.pid is None
    await world.open("agent")
    await until(lambda: world.way_out.pid)
    assert world.value("epad_egress_starts_total") == 1


async def test_a_tunnel_is_on_record_with_its_bytes(world: WayOutWorld) -> None:
    """In the event log, in the series, and before the probe."""
    await world.open("agent", RULE)
    client = await world.tunnel()
    client.writer.close()
    closed = await world.events.one(EventKind.EGRESS_CLOSED)
    opened = await world.events.one(EventKind.EGRESS_OPENED)
    assert (opened["host"], opened["address"], opened["how"], opened["first"]) == (
        "a.example",
        "127.0.0.1",
        "connect",
        True,
    )
    size = len(world.server.data)
    assert (closed["sent_bytes"], closed["received_bytes"], closed["why"]) == (size, size, "")
    assert world.value("epad_egress_connections_total", subsystem="agent") == 1
    assert world.value("epad_egress_bytes_total", subsystem="agent", direction="up") == size
    assert world.value("epad_egress_connections_open", subsystem="agent") == 0
    assert [type(one) for one in world.observer.heard] == [EgressOpened, EgressSent]


async def test_a_refusal_is_on_record_with_its_reason(world: WayOutWorld) -> None:
    """A tunnel under another name is told apart."""
    await world.open("agent", RULE)
    assert (await (await world.client()).connect("b.example:443")).code == "not_listed"
    refused = await world.events.one(EventKind.EGRESS_REFUSED)
    assert (refused["host"], refused["port"], refused["why"]) == ("b.example", 443, "not_listed")
    assert world.value("epad_egress_refusals_total", subsystem="agent", why=Why.NOT_LISTED) == 1
    [heard] = world.observer.heard
    assert isinstance(heard, EgressRefused)
    assert not heard.is_fronting


async def test_the_same_refusals_are_one_event(world: WayOutWorld) -> None:
    """The series count each."""
    await world.open("agent")
    for _ in range(5):
        await (await world.client()).connect("b.example:443")
    await until(lambda: world.value("epad_egress_refusals_total", subsystem="agent", why=Why.NOT_LISTED) == 5)
    assert len(world.events.of(EventKind.EGRESS_REFUSED)) == 1


async def test_a_closed_door_ends_its_own_connections_alone(world: WayOutWorld) -> None:
    await world.open("agent", RULE)
    await world.open("other", RULE)
    cut, stays = await world.tunnel("agent"), await world.tunnel("other")
    await world.way_out.close("agent")
    assert await cut.rest() == b""
    assert await stays.send(b"still") == b"still"
    with pytest.raises(ConnectionRefusedError):
        await world.client("agent")
    assert (await world.events.one(EventKind.EGRESS_CLOSED))["why"] == "cut"


async def test_a_door_can_be_opened_again(world: WayOutWorld) -> None:
    """At the same address, as after a hold."""
    await world.open("agent", RULE)
    await world.tunnel()
    await world.way_out.close("agent")
    await world.open("agent", RULE)
    assert await (await world.tunnel()).send(b"again") == b"again"


async def test_a_process_that_dies_takes_its_connections_along_and_comes_back(world: WayOutWorld) -> None:
    """Who connects meanwhile waits; what was open is closed on record."""
    await world.open("agent", RULE)
    before = await world.tunnel()
    pid = world.way_out.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert await before.rest() == b""
    assert await (await world.tunnel()).send(b"again") == b"again"
    assert world.way_out.pid not in {pid, None}
    assert world.value("epad_egress_starts_total") == 2
    assert (await world.events.one(EventKind.EGRESS_CLOSED))["why"] == "cut"


async def test_a_process_that_is_stuck_is_killed_to_close_a_door(world: WayOutWorld) -> None:
    """Within a second or so; the doors of others are opened by the next."""
    await world.open("agent", RULE)
    await world.open("other", RULE)
    cut = await world.tunnel("agent")
    pid = world.way_out.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    await world.way_out.close("agent")
    assert await cut.rest() == b""
    assert await (await world.tunnel("other")).send(b"in") == b"in"


async def test_without_a_daemon_nothing_passes(world: WayOutWorld) -> None:
    """The process ends by itself when its channel does."""
    await world.open("agent", RULE)
    client = await world.tunnel()
    channel = world.way_out._channel
    assert channel is not None
    channel.close()
    assert await client.rest() == b""


async def test_rules_change_while_a_door_is_open(world: WayOutWorld) -> None:
    """What is open stays."""
    await world.open("agent", RULE)
    stays = await world.tunnel()
    world.policy("agent", "b.example=127.0.0.1:HERE")
    world.way_out.configure()
    client = await world.client()
    assert (await client.connect(f"a.example:{world.server_port}")).code == "not_listed"
    assert await stays.send(b"still") == b"still"
    await world.tunnel(host="b.example")


async def test_more_rules_than_can_be_told_leave_things_as_they_are(world: WayOutWorld) -> None:
    """Those of a door that was open; another is not opened."""
    many = [f"host-number-{number}.example" for number in range(10_000)]
    await world.open("agent", RULE)
    client = await world.tunnel()
    world.policy("agent", *many)
    with structlog.testing.capture_logs() as logs:
        world.way_out.configure()
        await world.open("other", *many)
    assert [(one["subsystem"], one["effect"]) for one in logs] == [
        ("agent", "the rules stay as they were"),
        ("other", "its door stays closed"),
    ]
    assert "name fewer hosts" in logs[0]["error"]
    assert await client.send(b"still") == b"still"
    await world.tunnel()


async def test_a_person_lets_a_host_through(world: WayOutWorld) -> None:
    """The connection that asks waits, and goes on; the rule holds for the next."""
    await world.open("agent", ask=True)
    client = await world.client()
    waiting = asyncio.create_task(client.connect("localhost.invalid:443"))
    asked = await world.events.one(EventKind.EGRESS_ASKED)
    assert (asked["question"], asked["host"], asked["port"], asked["program"]) == (
        1,
        "localhost.invalid",
        443,
        "agent.py",
    )
    question = world.way_out.approve(1, 60.0, "needed")
    assert question.state is State.ALLOWED
    assert world.approvals.rules("agent") == (HostRule("localhost.invalid"),)
    answer = await waiting
    assert (answer.status, answer.code) == (502, "unknown_name")  # let through, and not found
    decided = await world.events.one(EventKind.EGRESS_DECIDED)
    assert (decided["answer"], decided["reason"]) == ("allowed", "needed")
    assert (await (await world.client()).connect("localhost.invalid:443")).code == "unknown_name"
    assert len(world.events.of(EventKind.EGRESS_ASKED)) == 1


async def test_a_person_denies_a_host(world: WayOutWorld) -> None:
    """The next try is refused at once."""
    await world.open("agent", ask=True)
    waiting = asyncio.create_task((await world.client()).connect("b.example:443"))
    await world.events.one(EventKind.EGRESS_ASKED)
    world.way_out.deny(1, "no")
    assert (await waiting).code == "denied"
    assert (await (await world.client()).connect("b.example:443")).code == "denied"
    with pytest.raises(ApprovalError):
        world.way_out.approve(1)


async def test_an_approval_for_once_lets_one_through(world: WayOutWorld) -> None:
    """The connection that waits; the next asks anew. One that nobody waits for lets the next pass."""
    await world.open("agent", ask=True)
    waiting = asyncio.create_task((await world.client()).connect("localhost.invalid:443"))
    await world.events.one(EventKind.EGRESS_ASKED)
    world.way_out.approve(1, ONCE)
    assert (await waiting).code == "unknown_name"
    second = await world.client()
    second.writer.write(b"CONNECT localhost.invalid:443 HTTP/1.1\r\n\r\n")
    assert (await world.events.one(EventKind.EGRESS_ASKED, 2))["question"] == 2
    second.writer.close()
    await until(lambda: not list(world.approvals.open()))
    world.way_out.approve(2, ONCE)
    assert (await (await world.client()).connect("localhost.invalid:443")).code == "unknown_name"
    third = await world.client()
    third.writer.write(b"CONNECT localhost.invalid:443 HTTP/1.1\r\n\r\n")
    assert (await world.events.one(EventKind.EGRESS_ASKED, 3))["question"] == 3


async def approved_tunnel(world: WayOutWorld) -> tuple[Client, HostSubject]:
    """A tunnel that an approval stands for: a rule pins its name, which is taken out of the policy afterwards."""
    await world.open("agent", RULE, ask=True)
    client = await world.tunnel()
    subject = HostSubject("agent", "a.example", world.server_port)
    world.approvals._always.add(subject)
    world.policy("agent", ask=True)
    world.way_out.configure()
    return client, subject


async def test_an_approval_that_is_taken_back_ends_what_is_open_by_it(world: WayOutWorld) -> None:
    """Within the call, and nothing else of the subsystem; the next try asks; it is on record with its reason."""
    client, subject = await approved_tunnel(world)
    world.policy("agent", "b.example=127.0.0.1:HERE", ask=True)
    world.way_out.configure()
    other = await world.tunnel(host="b.example")
    assert await world.way_out.revoke(subject, "enough") == 1
    assert await client.rest() == b""
    closed = await world.events.one(EventKind.EGRESS_CLOSED)
    assert (closed["host"], closed["why"]) == ("a.example", Why.REVOKED)
    assert await other.send(b"still") == b"still"
    assert world.events.of(EventKind.EGRESS_REVOKED) == [
        {"host": "a.example", "port": world.server_port, "cut": 1, "reason": "enough"}
    ]
    hello = len(real_hello("a.example"))
    assert world.way_out.moved(subject) == (hello, hello)
    again = await world.client()
    again.writer.write(f"CONNECT a.example:{world.server_port} HTTP/1.1\r\n\r\n".encode())
    assert (await world.events.one(EventKind.EGRESS_ASKED))["host"] == "a.example"
    assert await world.way_out.revoke(subject, "again") is None


async def test_what_the_policy_names_itself_stays_open(world: WayOutWorld) -> None:
    """An approval beside it is taken back all the same."""
    client, subject = await approved_tunnel(world)
    world.policy("agent", RULE)
    world.way_out.configure()
    assert await world.way_out.revoke(subject) == 0
    assert await client.send(b"still") == b"still"
    assert world.approvals.standing() == ()


async def test_a_process_that_does_not_cut_what_is_taken_back_is_killed(world: WayOutWorld) -> None:
    """Its connections end with it."""
    client, subject = await approved_tunnel(world)
    pid = world.way_out.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert await world.way_out.revoke(subject) == 0
    assert await client.rest() == b""
    await until(lambda: world.way_out.pid not in {None, pid})


async def test_an_approval_of_a_held_subsystem_is_taken_back(world: WayOutWorld) -> None:
    """Nothing is open that would have to be cut."""
    client, subject = await approved_tunnel(world)
    await world.way_out.close("agent")
    assert await client.rest() == b""
    assert await world.way_out.revoke(subject) == 0
    assert world.approvals.rules("agent") == ()


async def test_a_sixth_question_is_refused_at_once(world: WayOutWorld) -> None:
    await world.open("agent", ask=True)
    clients = [await world.client() for _ in range(6)]
    for number, client in enumerate(clients[:5]):
        client.writer.write(f"CONNECT h{number}.example:443 HTTP/1.1\r\n\r\n".encode())
    await until(lambda: len(list(world.approvals.open())) == 5)
    answer = await clients[5].connect("h5.example:443")
    assert (answer.status, answer.code) == (429, "too_many_questions")


async def test_who_hangs_up_asks_no_more(world: WayOutWorld) -> None:
    await world.open("agent", ask=True)
    client = await world.client()
    client.writer.write(b"CONNECT b.example:443 HTTP/1.1\r\n\r\n")
    await world.events.one(EventKind.EGRESS_ASKED)
    client.writer.close()
    await until(lambda: not list(world.approvals.open()))
    assert world.approvals.all()[0].state is State.WITHDRAWN
    assert (await world.events.one(EventKind.EGRESS_DECIDED))["answer"] == "withdrawn"


async def test_a_held_subsystem_is_denied_what_it_asks(world: WayOutWorld) -> None:
    await world.open("agent", ask=True)
    client = await world.client()
    client.writer.write(b"CONNECT b.example:443 HTTP/1.1\r\n\r\n")
    await world.events.one(EventKind.EGRESS_ASKED)
    await world.way_out.close("agent")
    assert b"HTTP/1.1 200" not in await client.rest()
    assert not list(world.approvals.open())


async def test_a_process_that_says_what_it_never_says_is_replaced(world: WayOutWorld) -> None:
    await world.open("agent", RULE)
    await world.tunnel()
    pid = world.way_out.pid
    world.way_out._hear(b'{"kind":"nonsense"}', [])
    await until(lambda: world.way_out.pid not in {pid, None})
    await world.tunnel()
    assert world.metrics.of(EGRESS_OPEN).labels("agent")._value.get() == 1


@pytest.mark.parametrize(("request_line", "body"), [("GET /?key=DECOY", ""), ("POST /", "DECOY")])
async def test_a_decoy_goes_nowhere(world: WayOutWorld, request_line: str, body: str) -> None:
    """Refused in a head, cut in a body; the probe hears of either."""
    method, path = request_line.replace("DECOY", world.decoy).split(" ")
    await world.open("agent", RULE)
    client = await world.client()
    place = f"a.example:{world.server_port}"
    sent = body.replace("DECOY", world.decoy).encode()
    head = f"{method} http://{place}{path} HTTP/1.1\r\nHost: {place}\r\nContent-Length: {len(sent)}\r\n\r\n"
    client.writer.write(head.encode() + sent)
    await client.rest()
    await until(
        lambda: [one for one in world.observer.heard if isinstance(one, EgressRefused) and one.is_decoy]
    )
    assert world.decoy.encode() not in world.server.data
