"""The client's half of HTTP: connections kept and not kept, and every way in which an answer ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patience import until

from epad.gateway.http import pool as http_pool
from epad.gateway.http.client import ClientConnection, Incoming
from epad.gateway.http.pool import NotConnectedError, Origin, Pool

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"


class Script:
    """A server that answers the n-th request of a connection with the n-th of its lines, then closes."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines
        self.connections = 0
        self.hung_up = asyncio.Event()
        self.closes = True

    def has_been_asked(self) -> bool:
        return self.connections == 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for line in self.lines:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(line)
                await writer.drain()
            if not self.closes:
                await reader.read()
                self.hung_up.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    script: Script, silent_seconds: float = 30.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Pool, Origin]]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    pool = Pool(5.0, silent_seconds)
    try:
        yield pool, Origin("127.0.0.1", server.sockets[0].getsockname()[1], tls is not None)
    finally:
        await pool.close()
        server.close()
        await server.wait_closed()


async def whole(incoming: Incoming) -> bytes:
    parts = []
    while data := await incoming.read():
        parts.append(data)
    return b"".join(parts)


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """And not one on which the server said that it closes."""
    script = Script(OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK)
    async with serving(script) as (pool, origin):
        for _ in range(3):
            assert await whole(await pool.send(origin, GET)) == b"ok"
    assert script.connections == 2


async def test_a_connection_is_not_kept_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes it at some time: better not to ask in that instant."""
    monkeypatch.setattr(http_pool, "KEEP_ALIVE_SECONDS", 0.0)
    script = Script(OK, OK)
    async with serving(script) as (pool, origin):
        for _ in range(2):
            assert await whole(await pool.send(origin, GET)) == b"ok"
    assert script.connections == 2


async def test_a_kept_connection_that_ends_without_a_word_is_no_answer() -> None:
    """What may be repeated is asked once more elsewhere; what may not is given up: it may have been begun."""
    script = Script(OK, b"")
    async with serving(script) as (pool, origin):
        await whole(await pool.send(origin, GET))
        with pytest.raises(ConnectionError):
            await pool.send(origin, GET)
        await whole(await pool.send(origin, GET))
        assert await whole(await pool.send(origin, GET, repeatable=True)) == b"ok"
    assert script.connections == 3


async def test_a_second_answer_to_one_question_ends_the_connection() -> None:
    """Else it would be taken for that to the next one."""
    script = Script(OK + OK.replace(b"ok", b"no"), OK)
    async with serving(script) as (pool, origin):
        for _ in range(2):
            assert await whole(await pool.send(origin, GET)) == b"ok"
    assert script.connections == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: trailer\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", None),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, None),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", None),
        (b"who is there?\r\n\r\n", None),
        (b"", None),
    ],
)
async def test_an_answer_is_whole_or_an_error(answer: bytes, body: bytes | None) -> None:
    """By its length, by its last chunk, by the end of the connection where neither is said; never cut short."""
    async with serving(Script(answer)) as (pool, origin):
        if body is not None:
            assert await whole(await pool.send(origin, GET)) == body
            return
        with pytest.raises(ConnectionError):
            await whole(await pool.send(origin, GET))


async def test_trailers_are_no_fields_of_the_answer() -> None:
    """They come when its head was passed on long ago; the next answer has its own fields."""
    script = Script(CHUNKED + b"X-Timing: 3\r\n\r\n", OK)
    async with serving(script) as (pool, origin):
        for names in ([b"Transfer-Encoding"], [b"Content-Length"]):
            incoming = await pool.send(origin, GET)
            assert await whole(incoming) == b"ok"
            assert [name for name, _ in incoming.fields.without(frozenset())] == names
    assert script.connections == 1


@pytest.mark.parametrize("endless", [b"a:\r\n" * 99_999, b"x" * 999_999], ids=["trailers", "one trailer"])
async def test_trailers_are_bounded_as_a_head_is(endless: bytes) -> None:
    """A server that never ends them is given up and hung up on."""
    script = Script(CHUNKED + endless)
    script.closes = False
    async with serving(script) as (pool, origin):
        with pytest.raises(ConnectionError, match="trailer section is larger than 32768 bytes"):
            await whole(await pool.send(origin, GET))
        await script.hung_up.wait()


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
async def test_a_server_that_falls_silent_is_given_up(begun: bytes) -> None:
    """Before its answer and in the middle of it; it is hung up on."""
    script = Script(begun)
    script.closes = False
    async with serving(script, silent_seconds=0.1) as (pool, origin):
        with pytest.raises(TimeoutError, match="not a byte for"):
            await whole(await pool.send(origin, GET))
        await script.hung_up.wait()


async def test_who_waits_no_longer_hangs_up() -> None:
    """Cancelled before the head, or closed in the middle of the body: the server hears of it."""
    for begun in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"):
        script = Script(begun)
        script.closes = False
        async with serving(script) as (pool, origin):
            asking = asyncio.create_task(pool.send(origin, GET))
            await until(script.has_been_asked)
            if begun:
                (await asking).close()
            else:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            await script.hung_up.wait()


@pytest.mark.usefixtures("virtual_time")
async def test_a_server_far_ahead_of_its_reader_is_made_to_wait() -> None:
    """Not all of the answer is in memory, a pause is no silence, and every byte comes in the end."""
    body = bytes(range(256)) * (64 << 10)
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, OK)
    async with serving(script, silent_seconds=0.1) as (pool, origin):
        incoming = await pool.send(origin, GET)
        await until(lambda: incoming._connection._held)
        assert sum(map(len, incoming._parts)) < len(body) // 4
        swept = asyncio.get_running_loop().time() + 0.3
        await until(lambda: asyncio.get_running_loop().time() > swept)
        assert await whole(incoming) == body
        assert await whole(await pool.send(origin, GET)) == b"ok"
    assert script.connections == 1


async def test_where_nobody_listens_nothing_was_sent(tmp_path: Path) -> None:
    """On TCP, on a Unix socket, and for a name that is none."""
    pool = Pool(5.0, 5.0)
    for origin in (Origin("127.0.0.1", 9), Origin(path=str(tmp_path / "s")), Origin("x" * 70, 80)):
        with pytest.raises(NotConnectedError):
            await pool.send(origin, GET)
    await pool.close()


async def test_tls_is_spoken_where_the_server_proves_who_it_is(tmp_path: Path) -> None:
    """One that nobody vouches for gets nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "pem").write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pem")
    script = Script(OK, OK)
    async with serving(script, tls=server) as (pool, origin):
        with pytest.raises(NotConnectedError, match="certificate"):
            await pool.send(origin, GET)
        pool._tls = ssl.create_default_context(cadata=pem.decode())
        for _ in range(2):
            assert await whole(await pool.send(origin, GET)) == b"ok"
    assert script.connections == 1


def held(connection: ClientConnection) -> int:
    """How much of what is to be sent asyncio holds."""
    return 0 if connection._transport is None else connection._transport.get_write_buffer_size()


async def test_a_large_body_goes_as_the_server_takes_it() -> None:
    """All of it arrives, in order, and the connection is kept; asyncio holds no more than a piece of it."""
    body = bytes(range(256)) * (64 << 10)  # more than a kernel takes at once
    got, left = b"", asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                got += await reader.readexactly(len(body))
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Pool(5.0, 30.0)
    origin = Origin("127.0.0.1", server.sockets[0].getsockname()[1], False)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        for _ in range(2):
            sending, most = asyncio.create_task(pool.send(origin, head, body=body)), 0
            while not sending.done():
                most = max([most, *map(held, pool._all)])
                await asyncio.sleep(0)
            assert most < 1 << 20
            assert await whole(await sending) == b"ok"
        assert got == body * 2
        assert len(pool._all) == 1
    finally:
        await pool.close()
        await left.wait()
        server.close()
        await server.wait_closed()


async def test_a_server_that_answers_before_it_has_heard_all_is_asked_anew() -> None:
    """The rest of a body must not be taken for the next request."""
    script = Script(OK)
    script.closes = False
    async with serving(script) as (pool, origin):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        assert await whole(await pool.send(origin, head, body=b"x" * 99_999_999)) == b"ok"
        await script.hung_up.wait()
        script.hung_up.clear()
        assert await whole(await pool.send(origin, GET)) == b"ok"
        assert script.connections == 2
    await script.hung_up.wait()
