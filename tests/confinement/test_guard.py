"""The door of an agent whose session has private content: each host is asked about, though the policy names it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import structlog
from patience import until
from way_out_world import WayOutWorld, way_out_world

from epad.confinement.approvals import ONCE
from epad.confinement.guard import Guard
from epad.confinement.host_questions import HostSubject
from epad.storage.event_log import EventKind
from runners.egress.refusal import Why

RULES = ("a.example=127.0.0.1:HERE", "b.example=127.0.0.1:HERE", "*.wild.example:HERE")
LABELS = (("private", "env_vars", "f" * 32),)
GUARD = Guard("the session", "its session has read private content (env_vars)", LABELS)


@pytest.fixture
async def world() -> AsyncIterator[WayOutWorld]:
    async with way_out_world() as one:
        await one.open("agent", *RULES)
        yield one


async def guarded(world: WayOutWorld, guard: Guard = GUARD) -> None:
    world.guards["agent"] = guard
    await world.way_out.guard("agent")


async def asks(world: WayOutWorld, host: str, count: int = 1) -> asyncio.Task[object]:
    """A tunnel that waits for a person."""
    task: asyncio.Task[object] = asyncio.create_task(world.tunnel(host=host))
    await world.events.one(EventKind.EGRESS_ASKED, count)
    return task


async def test_what_is_open_is_cut_before_the_label_counts(world: WayOutWorld) -> None:
    """When `guard` returns, nothing of before can carry what the session reads next."""
    client = await world.tunnel()
    await world.open("other", *RULES)
    spared = await world.tunnel("other")
    await guarded(world)
    assert await client.rest() == b""
    assert await spared.send(b"still") == b"still"
    closed = await world.events.one(EventKind.EGRESS_CLOSED)
    assert (closed["host"], closed["why"]) == ("a.example", Why.REVOKED)


async def test_each_host_is_asked_about_once_and_the_person_is_told_why(world: WayOutWorld) -> None:
    """For a time it passes then; another host of the policy asks anew."""
    await guarded(world)
    waiting = await asks(world, "a.example")
    [question] = world.approvals.open()
    assert question.line == f"a.example:{world.server_port}; its session has read private content (env_vars)"
    assert question.asks.labels == LABELS
    world.way_out.approve(question.number, 60.0, "needed")
    await waiting
    await world.tunnel()
    assert len(world.events.of(EventKind.EGRESS_ASKED)) == 1
    world.way_out.deny((await _number(world, await asks(world, "b.example", 2))), "no")
    client = await world.client()
    assert (await client.connect(f"b.example:{world.server_port}")).code == "denied"


async def _number(world: WayOutWorld, waiting: asyncio.Task[object]) -> int:
    waiting.cancel()
    [question] = world.approvals.open()
    return question.number


async def test_an_answer_holds_for_its_session_alone(world: WayOutWorld) -> None:
    """The next session is asked anew; one without private content is not asked at all."""
    await guarded(world)
    waiting = await asks(world, "a.example")
    world.way_out.approve(1, 60.0, "needed")
    await waiting
    await guarded(world, Guard("another session", "words", LABELS))
    (await asks(world, "a.example", 2)).cancel()
    assert world.approvals.standing() == ()
    await guarded(world, Guard())
    await world.tunnel()


async def test_an_approval_of_before_is_none_to_it(world: WayOutWorld) -> None:
    """A host that a person allowed beside the policy, for an hour or for ever, without knowing of the label."""
    world.policy("agent", ask=True)
    subject = HostSubject("agent", "localhost.invalid", 443)
    world.approvals.ask(subject)
    world.way_out.approve(1, 3_600.0, "before")
    assert (await (await world.client()).connect("localhost.invalid:443")).code == "unknown_name"
    await guarded(world)
    waiting = asyncio.create_task((await world.client()).connect("localhost.invalid:443"))
    await world.events.one(EventKind.EGRESS_ASKED)
    world.way_out.approve(2, ONCE, "knowingly")
    assert (await waiting).code == "unknown_name"


async def test_a_host_that_no_rule_names_is_refused_as_before(world: WayOutWorld) -> None:
    await guarded(world)
    assert (await (await world.client()).connect("c.example:443")).code == "not_listed"
    assert (await (await world.client()).connect("10.0.0.1:443")).code == "bare_address"
    assert world.events.of(EventKind.EGRESS_ASKED) == []


async def test_each_name_below_a_wildcard_is_a_question_of_its_own(world: WayOutWorld) -> None:
    """A name carries data as an address does: a consent for one is none for the next."""
    await guarded(world)
    first = await asks(world, "c2VjcmV0.wild.example")
    assert [str(one.subject.host) for one in world.approvals.open()] == ["c2vjcmv0.wild.example"]
    world.way_out.approve(1, 60.0, "needed")
    await asyncio.gather(first, return_exceptions=True)
    (await asks(world, "bW9yZQ.wild.example", 2)).cancel()


async def test_a_look_up_asks_too(world: WayOutWorld) -> None:
    """Who controls a name's server reads each name that is asked for."""
    await guarded(world)
    client = await world.client()
    client.writer.write(f"RESOLVE data.wild.example:{world.server_port} HTTP/1.1\r\n\r\n".encode())
    assert (await world.events.one(EventKind.EGRESS_ASKED))["host"] == "data.wild.example"


async def test_a_new_process_of_the_way_out_knows_the_label(world: WayOutWorld) -> None:
    """It is told when it starts, so that nothing passes in between."""
    await guarded(world)
    assert world.way_out.pid is not None
    os.kill(world.way_out.pid, signal.SIGKILL)
    await until(lambda: world.value("epad_egress_starts_total") == 2, "another process")
    (await asks(world, "a.example")).cancel()


async def test_a_door_stays_shut_while_the_labels_are_not_known(world: WayOutWorld) -> None:
    """After a restart of the daemon: who connects waits until they are."""
    world.guards["late"] = None
    await world.open("late", *RULES)
    waiting = asyncio.create_task(world.tunnel("late"))
    await world.tunnel()
    assert not waiting.done()
    world.guards["late"] = Guard()
    world.way_out.configure()
    await waiting


async def test_a_way_out_that_cannot_be_told_is_killed(world: WayOutWorld) -> None:
    """More rules than one message holds: it would go on as before."""
    client = await world.tunnel()
    world.policy("agent", *[f"host-number-{number}.example" for number in range(10_000)])
    with structlog.testing.capture_logs() as logs:
        await guarded(world)
    assert await client.rest() == b""
    assert "egress.not_guarded" in [one["event"] for one in logs]


async def test_what_an_agent_reaches_by_itself_is_told_and_what_a_tool_does_is_not(
    world: WayOutWorld,
) -> None:
    """The one labels its session; the other's call does that."""
    await world.open("agent/tools-http", *RULES)
    await world.tunnel("agent/tools-http", "b.example")
    await world.tunnel()
    await world.events.one(EventKind.EGRESS_OPENED, 2)
    assert world.reached == ["agent a.example"]


async def test_a_consent_that_is_taken_back_ends_what_is_open_by_it(world: WayOutWorld) -> None:
    """Though the policy names the host."""
    await guarded(world)
    waiting = await asks(world, "a.example")
    world.way_out.approve(1, 60.0, "needed")
    await waiting
    client = world.clients[-1]
    assert await client.send(b"still") == b"still"
    assert (
        await world.way_out.revoke(HostSubject("agent", "a.example", world.server_port, "the session")) == 1
    )
    assert await client.rest() == b""
