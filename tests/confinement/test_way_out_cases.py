"""Ways round the way out, each over real sockets against a small internet, and beside each the right way, which passes.

`tests/support/egress_scene.py` has what an attempt is. A row says what is tried, the reason for which it is refused or
cut, and the control: the same thing done rightly. Time is virtual, so slow clients cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from egress_scene import HOST, PASSED, SSH, Attempt, Scene, leads_to, lines, plain, raw, scene, socks5, tunnel
from fake_internet import OTHER, PUBLIC
from tls_hello import ENCRYPTED_HELLO, body, real_hello, records, server_name
from virtual_time import VirtualTime

from runners.egress.addresses import why_not_public
from runners.egress.messages import EventKind
from runners.egress.refusal import Why

GET = f"GET http://{HOST}/ HTTP/1.1|Host: {HOST}|"
POST = f"POST http://{HOST}/ HTTP/1.1|Host: {HOST}|"
NAMED = body([server_name(HOST)])
ELSEWHERE = body([server_name("b.example")])


@dataclass(frozen=True)
class Case:
    """One way round, why it is none, and what is right. `rules` are the usual ones if there are none."""

    what: str
    attempt: Attempt
    why: Why
    control: Attempt
    rules: tuple[str, ...] = ()
    control_rules: tuple[str, ...] = ()


def by_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def slow_head(*pauses: float) -> Attempt:
    """Send a head in pieces, with these pauses between."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        for line, pause in zip(f"{GET}X: 1".split("|"), pauses, strict=False):
            client.writer.write(f"{line}\r\n".encode())
            await scene.pause(pause)
        answer = await client.ask(b"\r\n")
        return PASSED if answer.status == 200 else answer.code

    return attempt


def slow_body(piece: int, pause: float) -> Attempt:
    """Send a body of 8 KiB in pieces of so many bytes."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        client.writer.write(lines(f"{POST}Content-Length: 8192||"))
        await scene.door.event(EventKind.OPENED)
        for _ in range(0, 8192, piece):
            if scene.door.of(EventKind.CLOSED):
                return await scene.why()
            client.writer.write(b"x" * piece)
            await scene.pause(pause)
        answer = await client.ask(b"")
        return PASSED if answer.status == 200 else answer.code

    return attempt


def quiet_tunnel(pause: float) -> Attempt:
    """Send nothing for a while, then a byte."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.tunnel(HOST)
        await scene.pause(pause)
        if scene.door.of(EventKind.CLOSED):
            return await scene.why()
        return await scene.exchange(client, b"x")

    return attempt


def silent_tunnel(pause: float) -> Attempt:
    """Send the hello late."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        assert (await client.connect(f"{HOST}:443")).status == 200
        await scene.pause(pause)
        return await scene.exchange(client, real_hello(HOST))

    return attempt


def redirected(place: str) -> Attempt:
    """Follow a redirect, as every client does: by a request of its own."""

    async def attempt(scene: Scene) -> str:
        assert await plain(f"GET http://{HOST}/to/{place} HTTP/1.1|Host: {HOST}||")(scene) == PASSED
        host = place.partition("/")[0]
        return await plain(f"GET http://{place} HTTP/1.1|Host: {host}||")(scene)

    return attempt


def second_time(*answers: list[str]) -> Attempt:
    """Reach a host twice, whose name has changed meanwhile."""

    async def attempt(scene: Scene) -> str:
        first = await leads_to(*answers)(scene)
        assert first == PASSED
        assert scene.net.looked_up == [HOST]
        assert scene.net.connected == [(PUBLIC, 443)]
        return await tunnel()(scene)

    return attempt


def unheard(host: str, *addresses: str) -> Attempt:
    """Reach a host at addresses that never answer."""

    async def attempt(scene: Scene) -> str:
        scene.net.name(host, addresses)
        scene.net.silent.update(addresses[:1])
        for address in addresses[1:]:
            await scene.net.serve(address, 443, scene.listed.echo)
        return await tunnel(f"{host}:443")(scene)

    return attempt


def own_address(address: str) -> Attempt:
    """Reach a service of this machine at its public address."""

    async def attempt(scene: Scene) -> str:
        scene.net.own = {OTHER}
        return await leads_to([address])(scene)

    return attempt


def name_of(address: str) -> Attempt:
    return leads_to([address])


SOCKS_NAME = b"\x05\x01\x00\x03\x09a.example\x01\xbb"
RIGHT = tunnel()

CASES = [
    # The name inside a tunnel.
    Case(
        "fronting: the hello names another host",
        tunnel(first=records(ELSEWHERE)),
        Why.OTHER_SERVER_NAME,
        RIGHT,
    ),
    Case(
        "fronting: the hello names another host that is listed too",
        tunnel("deep.wild.example:443", real_hello(HOST)),
        Why.OTHER_SERVER_NAME,
        tunnel("deep.wild.example:443"),
    ),
    Case("no server name", tunnel(first=real_hello(None)), Why.NO_SERVER_NAME, RIGHT),
    Case(
        "encrypted hello",
        tunnel(first=records(body([server_name(HOST), (ENCRYPTED_HELLO, b"\0")]))),
        Why.ENCRYPTED_HELLO,
        tunnel(first=records(body([server_name(HOST), (0x5A5A, b"\0")]))),
    ),
    Case(
        "another name in a hello of many records",
        tunnel(first=records(ELSEWHERE, 7)),
        Why.OTHER_SERVER_NAME,
        tunnel(first=records(NAMED, 7)),
    ),
    Case(
        "another name in a hello of single bytes",
        tunnel(pieces=by_bytes(records(ELSEWHERE))),
        Why.OTHER_SERVER_NAME,
        tunnel(pieces=by_bytes(records(NAMED))),
    ),
    Case(
        "two names in one hello",
        tunnel(first=records(body([server_name(HOST, "b.example")]))),
        Why.OTHER_SERVER_NAME,
        tunnel(first=records(NAMED)),
    ),
    Case(
        "the name stands twice",
        tunnel(first=records(body([server_name(HOST), server_name("b.example")]))),
        Why.NO_TLS,
        tunnel(first=records(NAMED)),
    ),
    Case(
        "a hello without an end",
        tunnel(first=records(body([server_name(HOST), (21, bytes(20_000))]))),
        Why.TOO_LARGE,
        tunnel(first=records(body([server_name(HOST), (21, bytes(9_000))]))),
    ),
    Case("SSH in a tunnel for TLS", tunnel(first=SSH), Why.SSH, tunnel(f"{HOST}:22", SSH)),
    Case("TLS in a tunnel for SSH", tunnel(f"{HOST}:22"), Why.SSH, tunnel(f"{HOST}:22", SSH)),
    Case("plain HTTP in a tunnel", tunnel(first=b"GET / HTTP/1.1\r\n\r\n"), Why.NO_TLS, RIGHT),
    Case("a tunnel that begins with nothing", silent_tunnel(11), Why.NO_TLS, silent_tunnel(9)),
    # The address behind a name.
    Case(
        "rebinding: private the second time",
        second_time([PUBLIC], ["10.0.0.5"]),
        Why.NOT_PUBLIC,
        second_time([PUBLIC]),
    ),
    Case(
        "one of two addresses is private",
        leads_to([PUBLIC, "10.0.0.5"]),
        Why.NOT_PUBLIC,
        leads_to([PUBLIC, OTHER]),
    ),
    *(
        Case(f"a name that leads to {what}", name_of(address), Why.NOT_PUBLIC, name_of(right))
        for what, address, right in [
            ("a cloud's metadata", "169.254.169.254", PUBLIC),
            ("a cloud's metadata in IPv6", "fd00:ec2::254", "2600::1"),
            ("a cloud's metadata at a public number", "168.63.129.16", "168.63.129.17"),
            ("loopback", "127.0.0.1", PUBLIC),
            ("loopback in IPv6", "::1", "2606:4700::1111"),
            ("every interface", "0.0.0.0", PUBLIC),
            ("the neighbourhood", "192.168.1.1", PUBLIC),
            ("a provider's own", "100.64.0.1", "100.128.0.1"),
            ("a mapped address", "::ffff:10.0.0.5", "::ffff:93.184.216.34"),
            ("a translated address", "64:ff9b::a00:5", "64:ff9b::5db8:d822"),
            ("a 6to4 address", "2002:a00:5::1", PUBLIC),
            ("a Teredo address", "2001:0:a00:5::", "2001:4860:4860::8888"),
            ("a unique local address", "fd12:3456::1", "2a00::1"),
            ("a link-local address", "fe80::1", "2a00::1"),
            ("an address with a zone", "2a00::1%eth0", "2a00::1"),
            ("a group of hosts", "224.0.0.1", PUBLIC),
        ]
    ),
    Case("this machine at its public address", own_address(OTHER), Why.NOT_PUBLIC, own_address(PUBLIC)),
    Case(
        "a private host by its name alone",
        tunnel("nas.lan:443"),
        Why.UNKNOWN_NAME,
        name_of(PUBLIC),
        rules=("nas.lan", HOST),
    ),
    # The target as it is written.
    Case(
        "a bare address",
        tunnel(f"{PUBLIC}:443", real_hello(HOST)),
        Why.BARE_ADDRESS,
        tunnel(f"{PUBLIC}:443", real_hello(None)),
        control_rules=(PUBLIC,),
    ),
    Case("a bare IPv6 address", tunnel("[2606:4700::1111]:443"), Why.BARE_ADDRESS, RIGHT),
    Case("a mapped address as a target", tunnel("[::ffff:127.0.0.1]:443"), Why.BARE_ADDRESS, RIGHT),
    *(
        Case(f"an address written as {what}", tunnel(f"{text}:443"), Why.BAD_REQUEST, RIGHT)
        for what, text in [
            ("a decimal", "1572395042"),
            ("octal numbers", "0135.0270.0330.042"),
            ("a hexadecimal", "0x5db8d822"),
            ("two numbers", "127.1"),
            ("one with a zone", "[fe80::1%25eth0]"),
        ]
    ),
    Case("a user before the host", tunnel(f"{HOST}@b.example:443"), Why.BAD_REQUEST, RIGHT),
    Case(
        "a user before the host, plain",
        plain(f"GET http://{HOST}@b.example/ HTTP/1.1|Host: b.example||"),
        Why.BAD_REQUEST,
        plain(f"{GET}|"),
    ),
    Case(
        "a host that ends alike",
        tunnel(f"evil{HOST}:443"),
        Why.NOT_LISTED,
        tunnel(f"{HOST}.:443", real_hello(HOST)),
    ),
    Case("a host that begins alike", tunnel(f"{HOST}.b.example:443"), Why.NOT_LISTED, RIGHT),
    Case(
        "the name above a wildcard",
        tunnel("wild.example:443"),
        Why.NOT_LISTED,
        tunnel("deep.wild.example:443"),
    ),
    Case("another port", tunnel(f"{HOST}:8443"), Why.NOT_LISTED, RIGHT),
    Case("a host that is not listed", tunnel("b.example:443"), Why.NOT_LISTED, RIGHT),
    Case(
        "a host that does not exist",
        tunnel("c.wild.example:443"),
        Why.UNKNOWN_NAME,
        tunnel("deep.wild.example:443"),
    ),
    # Plain HTTP.
    Case(
        "redirect to a cloud's metadata",
        redirected("169.254.169.254/latest"),
        Why.BARE_ADDRESS,
        redirected(f"{HOST}/x"),
    ),
    Case(
        "redirect to a host that is not listed",
        redirected("b.example/x"),
        Why.NOT_LISTED,
        redirected(f"{HOST}/x"),
    ),
    Case(
        "the host is another than the target",
        plain(f"GET http://{HOST}/ HTTP/1.1|Host: b.example||"),
        Why.BAD_REQUEST,
        plain(f"{GET}|"),
    ),
    Case("two hosts", plain(f"{GET}Host: b.example||"), Why.BAD_REQUEST, plain(f"{GET}X-Host: b.example||")),
    Case(
        "smuggling: a length and chunks",
        plain(f"{POST}Content-Length: 4|Transfer-Encoding: chunked||", b"0\r\n\r\n"),
        Why.BAD_REQUEST,
        plain(f"{POST}Transfer-Encoding: chunked||", b"2\r\nhi\r\n0\r\n\r\n"),
    ),
    Case(
        "smuggling: two lengths",
        plain(f"{POST}Content-Length: 4|Content-Length: 40||", b"body"),
        Why.BAD_REQUEST,
        plain(f"{POST}Content-Length: 4||", b"body"),
    ),
    Case(
        "smuggling: a disguised coding",
        plain(f"{POST}Transfer-Encoding: \x0bchunked||", b"0\r\n\r\n"),
        Why.BAD_REQUEST,
        plain(f"{POST}Transfer-Encoding: CHUNKED||", b"0\r\n\r\n"),
    ),
    Case(
        "smuggling: a folded field",
        plain(f"{GET}X: 1| Host: b.example||"),
        Why.BAD_REQUEST,
        plain(f"{GET}X: 1||"),
    ),
    Case(
        "smuggling: bare line feeds",
        plain(f"{GET}X: 1\n\nGET / HTTP/1.1||"),
        Why.BAD_REQUEST,
        plain(f"{GET}X: 1||"),
    ),
    Case(
        "smuggling: a chunk that is longer than it says",
        raw(lines(f"{POST}Transfer-Encoding: chunked||") + b"1\r\nxGET / HTTP/1.1\r\n0\r\n\r\n"),
        Why.BAD_REQUEST,
        plain(f"{POST}Transfer-Encoding: chunked||", b"1;x=y\r\nx\r\n0\r\nT: 1\r\n\r\n"),
    ),
    Case(
        "TLS asked for without a tunnel",
        plain(f"GET https://{HOST}/ HTTP/1.1|Host: {HOST}||"),
        Why.BAD_REQUEST,
        RIGHT,
    ),
    Case(
        "a request that is none of a proxy",
        plain(f"GET / HTTP/1.1|Host: {HOST}||"),
        Why.BAD_REQUEST,
        plain(f"{GET}|"),
    ),
    Case(
        "an answer that is none of HTTP",
        raw(lines(f"{GET}|".replace("/ H", "/not-http H"))),
        Why.UNREACHABLE,
        plain(f"{GET}|"),
    ),
    Case(
        "another protocol behind an answer",
        raw(lines(f"{GET}|".replace("/ H", "/upgraded H"))),
        Why.UNREACHABLE,
        plain(f"{GET}Upgrade: x|Connection: upgrade||"),
    ),
    Case(
        "a huge head", plain(f"{GET}X: {'x' * 40_000}||"), Why.TOO_LARGE, plain(f"{GET}X: {'x' * 20_000}||")
    ),
    Case("a slow head", slow_head(4, 4, 4), Why.TOO_SLOW, slow_head(4, 4)),
    Case("a slow body", slow_body(16, 1), Why.TOO_SLOW, slow_body(512, 10)),
    # SOCKS.
    Case(
        "SOCKS5 by address",
        socks5(b"\x05\x01\x00\x01\x5d\xb8\xd8\x22\x01\xbb"),
        Why.BARE_ADDRESS,
        socks5(SOCKS_NAME),
    ),
    Case(
        "SOCKS5 to a host that is not listed",
        socks5(SOCKS_NAME.replace(b"a.", b"b.")),
        Why.NOT_LISTED,
        socks5(SOCKS_NAME),
    ),
    Case("SOCKS5 and UDP", socks5(b"\x05\x03\x00\x01" + bytes(6)), Why.NOT_OFFERED, socks5(SOCKS_NAME)),
    Case(
        "SOCKS5 and a port to listen on",
        socks5(SOCKS_NAME.replace(b"\x05\x01", b"\x05\x02")),
        Why.NOT_OFFERED,
        socks5(SOCKS_NAME),
    ),
    Case(
        "SOCKS5 and a hello with another name",
        socks5(SOCKS_NAME, records(ELSEWHERE)),
        Why.OTHER_SERVER_NAME,
        socks5(SOCKS_NAME),
    ),
    Case("SOCKS4", raw(b"\x04\x01\x01\xbb\x5d\xb8\xd8\x22\x00"), Why.NOT_OFFERED, socks5(SOCKS_NAME)),
    Case("TLS to the door itself", raw(real_hello(HOST)), Why.BAD_REQUEST, RIGHT),
    # Time.
    Case("an idle tunnel", quiet_tunnel(1_000), Why.IDLE, quiet_tunnel(800)),
    Case(
        "a host that never answers",
        unheard(HOST, "2600::1"),
        Why.UNREACHABLE,
        unheard(HOST, "2600::1", PUBLIC),
    ),
]


def test_there_are_enough_cases() -> None:
    """Thirty were asked for."""
    assert len({case.what for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_it_is_no_way_round(case: Case, virtual_time: VirtualTime) -> None:
    """It ends with its reason on record; no host that is not listed is reached, and no closed address dialled."""
    async with scene(virtual_time, *case.rules) as at:
        assert await case.attempt(at) == case.why
        assert not any(why_not_public(address) for address, _ in at.net.connected)
        assert not at.other.data
        assert (
            max(map(at.net.looked_up.count, at.net.looked_up), default=0)
            <= len(at.door.of(EventKind.OPENED)) + 1
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_what_is_right_passes(case: Case, virtual_time: VirtualTime) -> None:
    """Else a refusal would say nothing."""
    async with scene(virtual_time, *(case.control_rules or case.rules)) as at:
        assert await case.control(at) == PASSED
        assert at.door.of(EventKind.OPENED)
