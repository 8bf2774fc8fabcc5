"""Tunnels that are read: secrets are filled in, decoys are found, and no request can be two to two readers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificates import certificate
from fake_internet import PUBLIC
from intercept_world import (
    BEARER,
    DECOY,
    HOST,
    READ,
    UNREAD,
    VALUE,
    InterceptWorld,
    Requests,
    intercept_world,
)
from patience import until

from runners.egress.messages import EventKind, Limits
from runners.egress.refusal import Why

SENDS_TOKEN = ("GET /a HTTP/1.1", f"Host: {HOST}", BEARER)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[InterceptWorld]:
    async with intercept_world(tmp_path) as one:
        yield one


def code(answer: tuple[int, bytes]) -> tuple[int, str]:
    """Return an answer's status, and the reason of the refusal that it tells."""
    return answer[0], str(json.loads(answer[1])["error"]["code"])


async def test_a_secret_is_filled_into_requests_inside_tls(world: InterceptWorld) -> None:
    """One connection carries several, and each has its own look-up of the secrets; the server sees the value."""
    client = await world.inside()
    for _ in range(3):
        assert await client.ask(*SENDS_TOKEN) == (200, b"ok")
    assert await client.get("/b") == (200, b"ok")
    heads = world.server.received
    assert [VALUE.encode() in head for head in heads] == [True, True, True, False]
    assert heads[0] == f"GET /a HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {VALUE}\r\n\r\n".encode()
    assert world.server.connections == 1
    opened = await world.door.event(EventKind.OPENED)
    assert (opened.host, opened.port, opened.how, opened.address) == (HOST, 443, "intercept", PUBLIC)
    client.writer.close()
    closed = await world.door.event(EventKind.CLOSED)
    assert closed.up == sum(map(len, heads))
    assert closed.why == ""


async def test_a_secret_goes_to_its_own_hosts_alone(world: InterceptWorld) -> None:
    """Another host that is read is not sent it, nor is a URL filled; a tunnel that is not read keeps it as it is."""
    client = await world.inside(READ)
    answer = await client.ask("GET / HTTP/1.1", f"Host: {READ}", BEARER)
    assert code(answer) == (403, "placeholder")
    assert b"the secret token is not for read.example" in answer[1]
    client = await world.inside()
    assert code(await client.get("/{{secret:token}}")) == (403, "placeholder")
    assert [one.why for one in world.door.of(EventKind.REFUSED)] == [Why.PLACEHOLDER] * 2
    client = await world.inside(UNREAD)
    assert await client.ask("GET / HTTP/1.1", f"Host: {UNREAD}", BEARER) == (200, b"ok")
    assert b"Bearer {{secret:token}}" in world.servers[UNREAD].received[0]
    assert world.servers[READ].received == world.server.received == []


async def test_a_change_of_secrets_counts_for_the_next_request(world: InterceptWorld) -> None:
    client = await world.inside()
    assert await client.ask(*SENDS_TOKEN) == (200, b"ok")
    world.door.door.secrets = ()
    assert code(await client.ask(*SENDS_TOKEN)) == (403, "placeholder")
    closed = await world.door.event(EventKind.CLOSED)
    assert (closed.why, "the secret token" in closed.words) == (Why.PLACEHOLDER, True)
    assert len(world.server.received) == 1


@pytest.mark.parametrize(
    ("head", "body", "reason"),
    [
        (f"GET / HTTP/1.1|Host: {HOST}|X-Key: {DECOY}", b"", Why.DECOY),
        (f"GET /{DECOY} HTTP/1.1|Host: {HOST}", b"", Why.DECOY),
        (
            f"POST / HTTP/1.1|Host: {HOST}|Content-Length: 5|Transfer-Encoding: chunked",
            b"0\r\n\r\n",
            Why.BAD_REQUEST,
        ),
        (f"POST / HTTP/1.1|Host: {HOST}|Content-Length: 5|Content-Length: 6", b"hello", Why.BAD_REQUEST),
        (f"POST / HTTP/1.1|Host: {HOST}|Transfer-Encoding: chunked, identity", b"", Why.BAD_REQUEST),
        (f"POST / HTTP/1.1|Host: {HOST}|Transfer-Encoding : chunked", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {HOST}|Host: {READ}", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {HOST}|X: a| folded", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {HOST}|X: a\nHost: {READ}", b"", Why.BAD_REQUEST),
        ("GET / HTTP/1.1|X: no host", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {READ}", b"", Why.OTHER_SERVER_NAME),
        (f"GET / HTTP/1.1|Host: {HOST}:8443", b"", Why.OTHER_SERVER_NAME),
        (f"GET https://{READ}/ HTTP/1.1|Host: {HOST}", b"", Why.BAD_REQUEST),
        (f"GET http://{HOST}/ HTTP/1.1|Host: {HOST}", b"", Why.BAD_REQUEST),
        (f"CONNECT {HOST}:443 HTTP/1.1|Host: {HOST}", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {HOST}|Connection: Upgrade|Upgrade: websocket", b"", Why.NOT_OFFERED),
        ("PRI * HTTP/2.0", b"", Why.BAD_REQUEST),
        (f"GET / HTTP/1.1|Host: {HOST}|X: {'a' * 40_000}", b"", Why.TOO_LARGE),
    ],
)
async def test_a_request_that_may_mean_two_things_is_refused(
    world: InterceptWorld, head: str, body: bytes, reason: Why
) -> None:
    """With the reason as an answer, whether it is the first of its connection or a later one; no server hears of it."""
    for before in (0, 1):
        client = await world.inside()
        for _ in range(before):
            assert await client.get() == (200, b"ok")
        assert code(await client.ask(*head.split("|"), body=body))[1] == reason
        assert await client.rest() == b""
        kind = EventKind.CLOSED if before else EventKind.REFUSED
        assert (await world.door.event(kind)).why == reason
    assert len(world.server.received) == 1


async def test_the_right_host_may_be_written_in_other_ways(world: InterceptWorld) -> None:
    client = await world.inside()
    assert await client.get("/", HOST.upper()) == (200, b"ok")
    assert await client.get("/", f"{HOST}:443") == (200, b"ok")
    assert await client.get("/", f"{HOST}.") == (200, b"ok")
    assert all(f"\r\nhost: {HOST}\r\n".encode() in head for head in world.server.received)


async def test_pipelined_requests_are_judged_one_by_one(world: InterceptWorld) -> None:
    """They are answered in their order, and the second cannot borrow from the first."""
    client = await world.inside()
    await client.send(*SENDS_TOKEN)
    await client.send("GET /b HTTP/1.1", f"Host: {READ}", BEARER)
    assert await client.answer() == (200, b"ok")
    assert code(await client.answer())[1] == Why.OTHER_SERVER_NAME
    assert len(world.server.received) == 1


async def test_a_request_in_a_body_is_a_body(world: InterceptWorld) -> None:
    """Its length decides, and its placeholders are left as they are."""
    client = await world.inside()
    hidden = f"GET /hidden HTTP/1.1\r\nHost: {READ}\r\n{BEARER}\r\n\r\n".encode()
    post = ("POST / HTTP/1.1", f"Host: {HOST}")
    assert await client.ask(*post, f"Content-Length: {len(hidden)}", body=hidden) == (200, b"ok")
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    assert await client.ask(*post, "Transfer-Encoding: chunked", body=chunk) == (200, b"ok")
    assert [one.endswith(hidden) for one in world.server.received] == [True, True]


async def test_a_decoy_in_a_body_is_found(world: InterceptWorld) -> None:
    """Also one that is cut in two by its pieces; the server does not have its end."""
    client = await world.inside()
    body = b"x" * 70_000 + DECOY.encode()
    head = ("POST / HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}")
    assert code(await client.ask(*head, body=body)) == (403, "decoy")
    assert (await world.door.event(EventKind.CLOSED)).why == Why.DECOY
    assert world.server.received == []


@pytest.mark.parametrize("path", ["/chunked", "/large"])
async def test_an_answer_with_an_end_keeps_the_connection(world: InterceptWorld, path: str) -> None:
    client = await world.inside()
    status, body = await client.get(path)
    assert (status, len(body)) == (200, {"/chunked": 18, "/large": 5_000_000}[path])
    assert await client.get() == (200, b"ok")
    assert world.server.connections == 1


@pytest.mark.parametrize(
    ("path", "rest"),
    [("/until-end", b"ok"), ("/both", b"2\r\nok\r\n0\r\n\r\n"), ("/short", b"ok")],
)
async def test_an_answer_without_a_sure_end_is_the_last(
    world: InterceptWorld, path: str, rest: bytes
) -> None:
    client = await world.inside()
    await client.send(f"GET {path} HTTP/1.1", f"Host: {HOST}")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 200 OK"), body) == (True, rest)
    assert path == "/short" or b"connection: close" in head


async def test_a_head_has_no_body_and_a_wish_to_end_is_heard(world: InterceptWorld) -> None:
    client = await world.inside()
    await client.send("HEAD / HTTP/1.1", f"Host: {HOST}")
    assert b"Content-Length: 2" in await client.reader.readuntil(b"\r\n\r\n")
    await client.send("GET / HTTP/1.1", f"Host: {HOST}", "Connection: close")
    assert (await client.rest()).endswith(b"connection: close\r\n\r\nok")
    assert all(b"connection" not in head for head in world.server.received)


async def test_a_client_waits_for_leave_to_send(world: InterceptWorld) -> None:
    client = await world.inside()
    await client.send("PUT / HTTP/1.1", f"Host: {HOST}", "Expect: 100-continue", "Content-Length: 5")
    assert await client.answer() == (100, b"")
    client.writer.write(b"hello")
    assert await client.answer() == (200, b"ok")
    assert world.server.received[0].endswith(b"hello")


async def test_a_server_that_answers_before_it_has_read_ends_it(world: InterceptWorld) -> None:
    client = await world.inside()
    await client.send("PUT /early HTTP/1.1", f"Host: {HOST}", "Content-Length: 500000")
    assert (await client.answer())[0] == 413
    assert await client.rest() == b""


async def test_a_server_that_changes_the_protocol_is_refused(world: InterceptWorld) -> None:
    client = await world.inside()
    assert code(await client.get("/upgraded")) == (502, "unreachable")


async def test_a_server_that_ends_between_requests_ends_the_client(world: InterceptWorld) -> None:
    client = await world.inside()
    assert await client.get("/goes") == (200, b"ok")
    assert await client.rest() == b""


async def test_the_hello_must_name_the_tunnel_s_host(world: InterceptWorld) -> None:
    """As in a tunnel that is not read."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await world.inside(name=READ)
    assert (await world.door.event(EventKind.REFUSED)).why == Why.OTHER_SERVER_NAME
    assert world.server.connections == 0


async def test_a_program_that_trusts_others_fails_and_is_told_of(
    world: InterceptWorld, tmp_path: Path
) -> None:
    """It has pinned the server's own root."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await world.inside(trust=ssl.create_default_context(cafile=str(tmp_path / HOST)))
    refused = await world.door.event(EventKind.REFUSED)
    assert (refused.why, refused.host) == (Why.NOT_TRUSTED, HOST)
    assert "SSL_CERT_FILE" in refused.words
    assert world.server.connections == 0


@pytest.mark.parametrize("fault", ["another name", "nobody's root"])
async def test_a_server_that_cannot_prove_its_name_is_refused(
    world: InterceptWorld, tmp_path: Path, fault: str
) -> None:
    """The program is told so in the answer, and the secret is not sent."""
    wrong = certificate(tmp_path / "wrong", READ if fault == "another name" else HOST)
    assert world.net.trusted is not None
    if fault == "another name":
        world.net.trusted.load_verify_locations(tmp_path / "wrong")
    fake = Requests()
    world.net.name(HOST, ["192.5.5.241"])
    await world.net.serve("192.5.5.241", 443, fake.serve, wrong)
    client = await world.inside()
    answer = await client.ask(*SENDS_TOKEN)
    assert code(answer) == (502, "bad_certificate")
    assert b"does not prove its name" in answer[1]
    assert (await world.door.event(EventKind.REFUSED)).address == "192.5.5.241"
    assert fake.received == []


async def test_only_http_1_is_spoken_and_no_old_tls(world: InterceptWorld) -> None:
    trust = world.trust()
    trust.set_alpn_protocols(["h2", "http/1.1"])
    client = await world.inside(trust=trust)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert await client.get() == (200, b"ok")
    trust = world.trust()
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await (await world.inside(trust=trust)).get() == (200, b"ok")


async def test_closing_the_door_cuts_an_answer_in_its_middle(world: InterceptWorld) -> None:
    client = await world.inside()
    await client.send("GET /large HTTP/1.1", f"Host: {HOST}")
    await client.reader.readexactly(1_000)
    assert world.door.door.close() == 1
    await world.door.door.ended()
    assert len(await client.rest()) < 5_000_000
    assert (await world.door.event(EventKind.CLOSED)).why == Why.CUT


async def test_a_client_that_says_nothing_is_refused_in_time(tmp_path: Path) -> None:
    async with intercept_world(tmp_path, limits=Limits(head_seconds=0.05)) as world:
        client = await world.inside()
        assert code(await client.answer()) == (408, "too_slow")
        client = await world.inside()
        client.writer.write(b"GET / HT")
        assert code(await client.answer()) == (408, "too_slow")


async def test_a_client_that_goes_without_a_word_leaves_no_refusal(world: InterceptWorld) -> None:
    client = await world.inside()
    client.writer.close()
    await until(lambda: not world.door.door._connections, "its end")
    assert world.door.events == []


async def test_many_connections_at_once_keep_apart(world: InterceptWorld) -> None:
    async def one(host: str) -> tuple[int, bytes]:
        return await (await world.inside(host)).get("/", host)

    answers = await asyncio.gather(*(one(host) for host in [HOST, READ, UNREAD] * 5))
    assert set(answers) == {(200, b"ok")}
    assert {name: len(server.received) for name, server in world.servers.items()} == dict.fromkeys(
        (HOST, READ, UNREAD), 5
    )
