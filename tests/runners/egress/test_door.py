"""A door: tunnels, plain requests and SOCKS5 through it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from fake_internet import OTHER, PUBLIC, Answer, Client, FakeInternet, OpenedDoor, Received, internet, opened
from patience import until
from tls_hello import real_hello
from virtual_time import VirtualTime

from runners.egress.messages import EventKind, Limits, OpenDoor


@pytest.fixture
async def net() -> AsyncIterator[FakeInternet]:
    async with internet() as one:
        one.name("a.example", [PUBLIC])
        one.name("b.example", [OTHER])
        yield one


async def test_a_tunnel_to_an_allowed_host_carries_both_ways(net: FakeInternet) -> None:
    """And each of its bytes is on record."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    async with opened(net, "a.example") as door:
        client = await door.tunnel("a.example")
        assert await client.send(b"x" * 300_000) == b"x" * 300_000
        client.writer.close()
        closed = await door.event(EventKind.CLOSED)
    hello = len(real_hello("a.example"))
    assert (closed.host, closed.port, closed.address, closed.how) == ("a.example", 443, PUBLIC, "connect")
    assert (closed.up, closed.down, closed.why) == (hello + 300_000, hello + 300_000, "")
    [opening] = door.of(EventKind.OPENED)
    assert (opening.door, opening.host, opening.address) == ("agent", "a.example", PUBLIC)
    assert opening.peer == client.writer.get_extra_info("sockname")[1]
    assert net.looked_up == ["a.example"]


async def test_what_no_rule_names_is_refused_before_anything_is_asked_of_the_network(
    net: FakeInternet,
) -> None:
    async with opened(net, "a.example") as door:
        client = await door.client()
        answer = await client.connect("b.example:443")
        assert (answer.status, answer.code) == (403, "not_listed")
        assert "b.example:443 is not among the hosts of agent" in answer.message
        refused = await door.event(EventKind.REFUSED)
    assert (refused.host, refused.port, refused.why, refused.how) == (
        "b.example",
        443,
        "not_listed",
        "connect",
    )
    assert net.looked_up == net.connected == []


async def test_a_look_up_tells_the_addresses_of_a_listed_host_and_of_no_other(net: FakeInternet) -> None:
    """Nothing is connected to, and a name that may not be reached is not asked of any resolver."""
    net.name("a.example", [PUBLIC, "2600:1406::1"])
    net.name("inner.example", ["10.0.0.1"])
    async with opened(net, "a.example", "inner.example", "nas.lan=10.0.0.5:8443") as door:

        async def ask(target: str) -> Answer:
            client = await door.client()
            return await client.ask(f"RESOLVE {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

        assert json.loads((await ask("a.example:443")).body) == {"addresses": [PUBLIC, "2600:1406::1"]}
        assert json.loads((await ask("nas.lan:8443")).body) == {"addresses": ["10.0.0.5"]}
        codes = [
            (await ask(each)).code
            for each in ("a.example:80", "b.example:443", "inner.example:443", "a.example")
        ]
    assert codes == ["not_listed", "not_listed", "not_public", "bad_request"]
    assert (net.looked_up, net.connected) == (["a.example", "inner.example"], [])


async def test_a_plain_request_is_carried_with_its_body(net: FakeInternet) -> None:
    """One request a connection: what stands behind it goes nowhere."""
    seen = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        seen.extend(await reader.readexactly(5))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        seen.extend(await reader.read())
        writer.close()

    await net.serve(PUBLIC, 80, answer)
    async with opened(net, "a.example:80") as door:
        client = await door.client()
        client.writer.write(
            b"POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
            b"GET http://b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n"
        )
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        expected = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok"
        assert await client.reader.readexactly(len(expected)) == expected
        client.writer.close()
        await until(lambda: door.of(EventKind.OPENED))
    assert bytes(seen).endswith(b"connection: close\r\n\r\nhello")
    assert b"b.example" not in seen


async def socks(door: OpenedDoor, request: bytes) -> tuple[Client, bytes]:
    """Greet a door, send a request, and return the reply."""
    client = await door.client()
    client.writer.write(b"\x05\x01\x00")
    assert await client.reader.readexactly(2) == b"\x05\x00"
    client.writer.write(request)
    return client, await client.reader.readexactly(10)


async def test_socks5_reaches_a_host_by_its_name(net: FakeInternet) -> None:
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    async with opened(net, "a.example") as door:
        client, reply = await socks(door, b"\x05\x01\x00\x03\x09a.example\x01\xbb")
        assert reply[:2] == b"\x05\x00"
        hello = real_hello("a.example")
        assert await client.send(hello) == hello
        assert (await door.event(EventKind.OPENED)).how == "socks5"


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"\x05\x01\x00\x03\x09b.example\x01\xbb", 2),
        (b"\x05\x01\x00\x03\x09c.example\x01\xbb", 4),
        (b"\x05\x02\x00\x03\x09a.example\x01\xbb", 7),
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 7),
        (b"\x05\x01\x00\x01\x5d\xb8\xd8\x22\x01\xbb", 2),
        (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb", 2),
        (b"\x05\x01\x00\x03\x03\x00\x0a.\x01\xbb", 1),
        (b"\x05\x01\x00\x07", 1),
        (b"\x04\x01\x00\x03", 1),
    ],
)
async def test_socks5_refuses_with_a_code(net: FakeInternet, request_bytes: bytes, code: int) -> None:
    """A name without a rule, one that is not found, BIND, UDP, addresses, a bad name, an unknown kind of address."""
    async with opened(net, "a.example", "c.example") as door:
        _, reply = await socks(door, request_bytes)
        assert reply[:2] == bytes((5, code))
        assert (await door.event(EventKind.REFUSED)).how in {"socks5", ""}


async def test_a_closed_door_cuts_what_is_open(net: FakeInternet) -> None:
    """The client reads the end, and the server too."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    async with opened(net, "a.example") as door:
        client = await door.tunnel("a.example")
        assert door.door.close() == 1
        assert await client.rest() == b""
        await door.door.ended()
        assert door.of(EventKind.CLOSED)[0].why == "cut"


async def test_what_is_open_to_one_host_is_cut_alone(net: FakeInternet) -> None:
    """Its client reads the end, with the reason on record; another host and another port stay."""
    server = Received()
    for place in ((PUBLIC, 443), (PUBLIC, 8443), (OTHER, 443)):
        await net.serve(*place, server.echo)
    async with opened(net, "a.example", "a.example:8443", "b.example") as door:
        cut = [await door.tunnel("a.example"), await door.tunnel("a.example")]
        stays = [await door.tunnel("a.example", 8443), await door.tunnel("b.example")]
        assert await door.door.cut("a.example", 443) == 2
        for client in cut:
            assert await client.rest() == b""
        assert [(one.host, one.port, one.why) for one in door.of(EventKind.CLOSED)] == [
            ("a.example", 443, "revoked")
        ] * 2
        for client in stays:
            assert await client.send(b"still") == b"still"
        assert await door.door.cut("a.example", 443) == 0


async def test_what_is_being_opened_to_a_host_is_cut_before_a_byte_of_it_goes_out(net: FakeInternet) -> None:
    """A plain request would be sent as soon as its server answers."""
    net.silent.add(PUBLIC)
    async with opened(net, "a.example:80") as door:
        client = await door.client()
        client.writer.write(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await until(lambda: net.connected)
        assert await door.door.cut("a.example", 80) == 0
        assert await client.rest() == b""
        await door.door.ended()
        assert door.of(EventKind.OPENED) == door.of(EventKind.CLOSED) == []


async def test_rules_change_for_the_next_connection(net: FakeInternet) -> None:
    """What is open stays."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    async with opened(net, "a.example") as door:
        client = await door.tunnel("a.example")
        door.door.change(OpenDoor("agent", ("b.example",)))
        assert await client.send(b"still") == b"still"
        assert (await (await door.client()).connect("a.example:443")).code == "not_listed"


async def test_no_more_are_served_at_once_than_there_is_room_for(net: FakeInternet) -> None:
    """The next waits until one has ended."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    async with opened(net, "a.example", limits=Limits(connections=2)) as door:
        first, _ = await door.tunnel("a.example"), await door.tunnel("a.example")
        waiting = asyncio.create_task(door.tunnel("a.example"))
        await asyncio.wait({waiting}, timeout=0.05)
        assert len(door.of(EventKind.OPENED)) == 2
        first.writer.close()
        assert await (await waiting).send(b"in") == b"in"


async def test_a_download_is_cut_in_the_middle(net: FakeInternet) -> None:
    """The client reads the end, the server sees its own, and what has passed is on record."""
    is_over = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(real_hello("a.example"))))
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        is_over.set()
        writer.close()

    await net.serve(PUBLIC, 443, flood)
    async with opened(net, "a.example") as door:
        client = await door.tunnel("a.example")
        await client.reader.readexactly(1_000_000)
        door.door.close()
        await client.rest()
        await is_over.wait()
        await door.door.ended()
        closed = await door.event(EventKind.CLOSED)
    assert closed.why == "cut"
    assert closed.down >= 1_000_000


async def test_a_side_that_has_ended_may_still_be_answered(net: FakeInternet) -> None:
    """The end of one direction is passed on, and is not the end of the other."""

    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.readexactly(len(real_hello("a.example")))
        writer.write(hello)
        writer.write(b"%d bytes" % len(await reader.read()))
        writer.close()

    await net.serve(PUBLIC, 443, answer_at_the_end)
    async with opened(net, "a.example") as door:
        client = await door.tunnel("a.example")
        client.writer.write(b"x" * 1_000)
        client.writer.write_eof()
        assert await client.rest() == b"1000 bytes"


async def test_a_client_may_send_its_hello_along(net: FakeInternet) -> None:
    """Some do not wait for the answer to CONNECT."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    hello = real_hello("a.example")
    async with opened(net, "a.example") as door:
        client = await door.client()
        answer = await client.ask(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n" + hello)
        assert answer.status == 200
        assert await client.reader.readexactly(len(hello)) == hello


async def test_a_full_door_does_not_starve_another(net: FakeInternet) -> None:
    """Each has its own room, and its own look-ups: names that hang are waited for by their own subsystem."""
    server = Received()
    await net.serve(PUBLIC, 443, server.echo)
    net.silent_names = {f"{number}.slow.example" for number in range(20)}
    async with opened(net, "*.slow.example") as busy, opened(net, "a.example") as other:
        for number in range(20):
            client = await busy.client()
            client.writer.write(f"CONNECT {number}.slow.example:443 HTTP/1.1\r\n\r\n".encode())
        await until(lambda: len(net.looked_up) == 8)
        assert await (await other.tunnel("a.example")).send(b"in") == b"in"
        assert net.looked_up.count("a.example") == 1
        assert len(net.looked_up) == 9


async def test_one_who_asks_waits_and_goes_on(net: FakeInternet) -> None:
    server = Received()
    await net.serve(OTHER, 443, server.echo)
    async with opened(net, "a.example", ask=True) as door:
        waiting = asyncio.create_task(door.tunnel("b.example"))
        await door.decide(allow=True)
        assert await (await waiting).send(b"in") == b"in"


@pytest.mark.parametrize(
    ("words", "code"),
    [({}, "denied"), ({"why": "unanswered", "words": "nobody answered question 7"}, "unanswered")],
)
async def test_one_who_asks_is_refused_with_the_reason(
    net: FakeInternet, words: dict[str, str], code: str
) -> None:
    async with opened(net, ask=True) as door:
        waiting = asyncio.create_task((await door.client()).connect("b.example:443"))
        await door.decide(allow=False, **words)
        answer = await waiting
        assert answer.code == code
        assert words.get("words", "b.example:443 was denied") in answer.message
    assert net.looked_up == []


async def test_an_address_is_asked_for_by_nobody(net: FakeInternet) -> None:
    """A person could not tell whose it is."""
    async with opened(net, ask=True) as door:
        assert (await (await door.client()).connect(f"{OTHER}:443")).code == "bare_address"
        assert not door.of(EventKind.ASKED)


async def test_an_allowed_host_must_still_be_public(net: FakeInternet) -> None:
    """A person who approves a name approves no address behind it."""
    net.name("b.example", ["192.168.1.1"])
    async with opened(net, ask=True) as door:
        waiting = asyncio.create_task((await door.client()).connect("b.example:443"))
        await door.decide(allow=True)
        assert (await waiting).code == "not_public"


async def test_a_server_that_keeps_the_connection_has_answered_nevertheless(net: FakeInternet) -> None:
    """By the length that it says."""

    async def keeps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head.startswith(b"HEAD") else b"ok")
        )
        await reader.read()
        writer.close()

    await net.serve(PUBLIC, 80, keeps)
    async with opened(net, "a.example:80") as door:
        for method, body in (("GET", b"ok"), ("HEAD", b"")):
            client = await door.client()
            answer = await client.ask(
                f"{method} http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()
            )
            assert (answer.status, answer.body) == (200, body)


async def test_a_server_that_takes_no_more_of_a_body_is_heard(net: FakeInternet) -> None:
    """It answers and ends before the body does."""

    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    await net.serve(PUBLIC, 80, too_large)
    async with opened(net, "a.example:80") as door:
        client = await door.client()
        head = b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000000\r\n\r\n"
        assert (await client.ask(head + bytes(100_000))).status == 413


async def test_a_flood_of_refusals_is_held_back(net: FakeInternet, virtual_time: VirtualTime) -> None:
    """Beyond a number each waits for a second, and takes room meanwhile."""
    async with opened(net) as door:
        began = asyncio.get_running_loop().time()
        clients = [await door.client() for _ in range(25)]
        await asyncio.gather(*(client.connect("b.example:443") for client in clients[:20]))
        assert asyncio.get_running_loop().time() == began
        await asyncio.gather(*(client.connect("b.example:443") for client in clients[20:]))
        assert asyncio.get_running_loop().time() == began + 1.0
