"""The control API over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from control_door import Door
from fake_operations import FakeOperations

import epad
from epad.api import follow, openapi, unix
from epad.api.errors import MAX_BODY_BYTES
from epad.api.routes import MAX_EVENTS, ROUTES
from epad.api.server import ControlApi
from epad.gate.permissions import Tier
from epad.gate.risk import Risk
from epad.operations.protocol import Peer
from epad.operations.registry import MAX_REASON_CHARACTERS, Operation

OBSERVER = Peer(1, 54_321, (54_321,))
STRANGER = Peer(1, -1, ())


def session_at(path: Path) -> aiohttp.ClientSession:
    return aiohttp.ClientSession("http://epad", connector=aiohttp.UnixConnector(str(path)))


async def ask(door: Door, method: str, target: str, **arguments: Any) -> tuple[int, Any]:
    """One request; the status and the JSON (or the JSON lines) of the answer."""
    async with session_at(door.path) as session, session.request(method, target, **arguments) as response:
        body = await response.text()
    if response.content_type == "application/x-ndjson":
        return response.status, [json.loads(line) for line in body.splitlines() if line]
    return response.status, json.loads(body)


async def test_status_phase_and_explain_are_the_daemons_own_words(door: Door) -> None:
    """What the daemon says is what the caller reads, unchanged."""
    assert await ask(door, "GET", "/v1/status") == (200, door.operations.answer)
    assert await ask(door, "GET", "/v1/phase") == (200, await door.operations.phase())
    assert await ask(door, "GET", "/v1/explain") == (200, await door.operations.explain(None))
    assert await ask(door, "GET", "/v1/explain?subject=chat") == (200, await door.operations.explain("chat"))


@pytest.mark.parametrize(
    ("target", "order"),
    [
        ("/v1/subsystems/chat/quarantine", "quarantine"),
        ("/v1/subsystems/chat/release", "release"),
        ("/v1/lifeboat", "lifeboat"),
        ("/v1/checkpoint", "checkpoint"),
        ("/v1/subsystems/chat/key/rotate", "rotate_key"),
        ("/v1/subsystems/chat/key/revoke", "revoke_key"),
        ("/v1/datastores/memory/accept", "accept_datastore"),
    ],
)
async def test_an_order_arrives_with_its_reason_and_its_giver(door: Door, target: str, order: str) -> None:
    """The daemon is told what, why and who, and the gate's decision is audited before."""
    code, answer = await ask(door, "POST", target, json={"reason": "  it loops "})
    assert code == 200
    assert answer["results"] == [f"{order} done"]
    done, _, reason, by = door.operations.orders[0]
    assert (done, reason, by) == (order, "it loops", pwd.getpwuid(os.getuid()).pw_name)
    operation, tier, allowed, peer = door.operations.audits[0]
    assert (operation, tier, allowed) == (Operation(order), Tier.OWNER, True)
    assert peer.uid == os.getuid()


@pytest.mark.parametrize("operation", ROUTES)
@pytest.mark.parametrize(("peer", "tier"), [(OBSERVER, Tier.OBSERVER), (STRANGER, Tier.STRANGER)])
async def test_no_route_is_open_to_those_it_is_closed_to(
    door: Door, operation: Operation, peer: Peer, tier: Tier
) -> None:
    """An observer gives no order and a stranger learns nothing, on every route; each refusal is audited."""
    door.peer = peer
    code, answer = await ask(door, operation.method, operation.target("chat"), json={"reason": "please"})
    allowed = tier is Tier.OBSERVER and operation.risk is Risk.READ
    assert (code != 403) is allowed
    assert door.operations.audits == [(operation, tier, allowed, peer)]
    assert not door.operations.orders
    if not allowed:
        assert answer["error"]["code"] == "refused"
        assert str(peer.uid) in answer["error"]["message"]
        assert answer["error"]["fix"]


async def test_a_member_of_the_operator_group_gives_orders(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configured group owns the socket, and being in it makes the difference."""
    monkeypatch.setattr(unix, "group_id", {"operators": os.getgid()}.__getitem__)
    operations = FakeOperations()
    member = Peer(1, 54_321, (54_321, os.getgid()))
    api = ControlApi(operations, directory / "c.sock", "operators", peer_of=lambda _: member)
    await api.start()
    door = Door(directory / "c.sock", operations)
    assert (await ask(door, "POST", "/v1/checkpoint", json={"reason": "r"}))[0] == 200
    assert operations.audits[0][1] is Tier.OWNER
    assert (directory / "c.sock").stat().st_gid == os.getgid()
    await api.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"{}",
        b'{"reason": ""}',
        b'{"reason": "   "}',
        b'{"reason": 3}',
        b'{"reason": null}',
        b'["reason"]',
        b'{"reason": "x", "force": true}',
        b"\xff\xfe",
        json.dumps({"reason": "x" * (MAX_REASON_CHARACTERS + 1)}).encode(),
    ],
)
async def test_an_order_without_a_proper_reason_is_not_given(door: Door, body: bytes) -> None:
    """Every order says why, in 1 to 500 characters, and nothing else."""
    code, answer = await ask(door, "POST", "/v1/lifeboat", data=body)
    assert (code, answer["error"]["code"]) == (400, "bad_request")
    assert "reason" in answer["error"]["fix"]
    assert not door.operations.orders


async def test_the_longest_reason_is_taken(door: Door) -> None:
    """The bound is the last length that is allowed, in characters and not in bytes."""
    reason = "ä" * MAX_REASON_CHARACTERS
    assert (await ask(door, "POST", "/v1/lifeboat", json={"reason": reason}))[0] == 200
    assert door.operations.orders[0][2] == reason


async def test_a_body_beyond_the_limit_is_refused(door: Door) -> None:
    """64 KiB is plenty for a reason."""
    code, answer = await ask(door, "POST", "/v1/lifeboat", data=b"x" * (MAX_BODY_BYTES + 1))
    assert (code, answer["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/status", 405, "method_not_allowed"),
        ("GET", "/v1/lifeboat", 405, "method_not_allowed"),
        ("POST", "/v1/subsystems/nobody/quarantine", 404, "unknown_subsystem"),
        ("GET", "/v1/explain?subject=nobody", 404, "unknown_subsystem"),
        ("POST", "/v1/relaunch", 409, "conflict"),
        ("GET", "/v1/events?since=x", 400, "bad_request"),
        ("GET", "/v1/events?limit=0", 400, "bad_request"),
        ("GET", f"/v1/events?limit={MAX_EVENTS + 1}", 400, "bad_request"),
        ("GET", f"/v1/events?since={2**63}", 400, "bad_request"),
        ("GET", "/v1/events?since=" + "9" * 5_000, 400, "bad_request"),
        ("GET", "/v1/events?follow=maybe", 400, "bad_request"),
    ],
)
async def test_every_error_has_the_same_form(
    door: Door, method: str, target: str, status: int, code: str
) -> None:
    """A code for programs, a message and a fix for people, whatever went wrong."""
    arguments = {"json": {"reason": "r"}} if method == "POST" else {}
    answered, body = await ask(door, method, target, **arguments)
    assert (answered, body["error"]["code"]) == (status, code)
    assert body["error"]["message"]
    assert body["error"]["fix"]


async def test_an_unknown_name_is_answered_with_the_known_ones(door: Door) -> None:
    """Who mistypes a name reads the right one in the answer."""
    _, body = await ask(door, "POST", "/v1/subsystems/chta/release", json={"reason": "r"})
    assert "chat" in body["error"]["fix"]


async def test_a_failure_of_the_daemon_is_an_error_and_not_a_broken_connection(door: Door) -> None:
    """An exception behind the seam is answered, and the next request is served."""
    door.operations.failure = RuntimeError("the board is gone")
    code, body = await ask(door, "GET", "/v1/status")
    assert (code, body["error"]["code"]) == (500, "internal")
    assert "the board is gone" in body["error"]["message"]
    door.operations.failure = None
    assert (await ask(door, "GET", "/v1/status"))[0] == 200


async def test_events_are_paged_by_id(door: Door) -> None:
    """After an id, at most the limit, oldest first; without an id, the newest."""
    for number in range(5):
        door.operations.happen("notice", number=number)
    code, events = await ask(door, "GET", "/v1/events?since=1&limit=2")
    assert code == 200
    assert [event["id"] for event in events] == [2, 3]
    _, newest = await ask(door, "GET", "/v1/events?limit=2")
    assert [event["id"] for event in newest] == [4, 5]
    assert await ask(door, "GET", "/v1/events?since=5") == (200, [])


async def test_a_follower_misses_nothing_and_reads_nothing_twice(door: Door) -> None:
    """Stored events and live ones make one gapless stream, even for a queue that overflows."""
    door.operations.queue_size = 3
    for _ in range(3):
        door.operations.happen("old")
    async with (
        session_at(door.path) as session,
        session.get("/v1/events?since=1&limit=1&follow=1") as response,
    ):
        ids = [json.loads(await response.content.readline())["id"] for _ in range(2)]
        await door.operations.subscribed.wait()
        for _ in range(7):
            door.operations.happen("new")
        ids += [json.loads(await response.content.readline())["id"] for _ in range(7)]
        door.operations.happen("last")
        ids.append(json.loads(await response.content.readline())["id"])
    assert ids == list(range(2, 12))


async def test_a_quiet_stream_has_a_heartbeat(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty line now and then finds a follower that has gone, and shows the others a live daemon."""
    monkeypatch.setattr(follow, "HEARTBEAT_SECONDS", 0.01)
    async with session_at(door.path) as session, session.get("/v1/events?follow=1") as response:
        assert await response.content.readline() == b"\n"
        response.close()
    while door.operations.listeners:
        await asyncio.sleep(0.01)


async def test_there_is_a_limit_to_followers(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so; the ones there are stay."""
    monkeypatch.setattr(follow, "MAX_FOLLOWERS", 1)
    async with session_at(door.path) as session, session.get("/v1/events?follow=1") as response:
        code, body = await ask(door, "GET", "/v1/events?follow=1")
        assert (code, body["error"]["code"]) == (503, "too_many_followers")
        assert (await ask(door, "GET", "/v1/events"))[0] == 200
        door.operations.happen("notice")
        assert json.loads(await response.content.readline())["id"] == 1


async def test_stopping_ends_the_streams_and_takes_the_socket_away(directory: Path) -> None:
    """A follower sees an orderly end, and no stale socket stays behind."""
    operations, path = FakeOperations(), directory / "control.sock"
    api = ControlApi(operations, path)
    await api.start()
    async with session_at(path) as session, session.get("/v1/events?follow=1") as response:
        await operations.subscribed.wait()
        await api.stop()
        assert await response.content.read() == b""
    assert not path.exists()
    assert not operations.listeners
    await api.stop()


async def test_everybody_may_knock_at_the_socket(door: Door) -> None:
    """An observer may look, and needs no group for it: who may do what is told by the credentials of each request."""
    assert stat.S_IMODE(door.path.stat().st_mode) == 0o666


async def test_the_document_lists_exactly_the_routes(door: Door) -> None:
    """What is documented is what is served: every path and method, no more, and every reference resolves."""
    code, document = await ask(door, "GET", "/v1/openapi.json")
    assert code == 200
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == epad.__version__
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert listed == {(route.method, route.path) for route in ROUTES}
    assert len(listed) == len(ROUTES)
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])
    posts = [item["post"] for item in document["paths"].values() if "post" in item]
    assert all(post["requestBody"]["required"] for post in posts)


@pytest.mark.parametrize("operation", [one for one in ROUTES if one.answer != "Document"])
async def test_every_answer_has_the_shape_that_its_row_names(door: Door, operation: Operation) -> None:
    """No key is missing, of another type, or one too many: what the doubles answer is what the daemon would."""
    door.operations.happen("notice")
    body: dict[str, Any] = {"reason": "r"}
    if operation is Operation.SET_BUDGET:
        body |= {"limits": {"tokens_per_minute": 5}}
    if operation is Operation.FORCE_PHASE:
        body |= {"phase": "NORMAL"}
    if operation in {Operation.SET_SECRET, Operation.ROTATE_SECRET}:
        body |= {"value": "dg=="}
    if operation in {Operation.SET_SECRET, Operation.BIND_SECRET}:
        body |= {"binding": {"subsystems": ["chat"]}}
    if operation in {Operation.ADD_DOCUMENT, Operation.RETRACT_DOCUMENT, Operation.UNDO_DOCUMENT}:
        body |= {"document": "runbooks/disk.md"}
    if operation is Operation.ADD_DOCUMENT:
        body |= {"sha256": "0" * 64, "size": 1, "offset": 0, "data": "dg=="}
    name = "memory" if operation.about == "datastore" else "chat"
    arguments = {"json": body} if operation.is_order else {}
    target = operation.target(name) + ("?document=runbooks/disk.md" if "document" in operation.query else "")
    code, answer = await ask(door, operation.method, target, **arguments)
    shape = openapi.TYPES[operation.answer if code == 200 else "Error"]
    assert code == (409 if operation is Operation.RELAUNCH else 200)
    for one in answer if operation.is_stream else [answer]:
        assert msgspec.convert(one, shape) == one
