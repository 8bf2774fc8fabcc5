"""The server's half of HTTP: whole requests however they come, and a bounded patience with all others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_SECONDS

from epad.gateway.http import connection as http_connection
from epad.gateway.http.connection import Connection
from epad.gateway.http.message import MAX_HEAD_BYTES, Response, json_response
from epad.gateway.http.request import Answering, Fault, Request
from epad.gateway.http.server import HttpServer

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
)
OFFER = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ANSWERS = {Fault.TOO_LARGE: 413, Fault.TOO_SLOW: 408, Fault.MALFORMED: 400}


class Echo:
    """Says what it was asked; refuses /no in the head, streams /stream, and holds /hold until it is left."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bytes]] = []
        self.holds = asyncio.Event()
        self.left = asyncio.Event()

    def receive(self, request: Request) -> Response | Answering:
        if request.path == "/no":
            return json_response(403, b"no")
        return partial(self.answer, request)

    def fault(self, request: Request | None, fault: Fault) -> Response:
        return json_response(ANSWERS[fault], fault.name.encode())

    async def answer(self, request: Request) -> Response | None:
        self.heard.append((request.method, request.path, request.body))
        if request.path == "/hold":
            self.holds.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        if request.path == "/fields":
            return Response(200, b" ".join(name for name, _ in request.fields.without(frozenset())))
        if request.path == "/stream":
            request.connection.start(200, b"", [])
            request.connection.write(b"one ")
            request.connection.end(b"two")
            return None
        return Response(200, b"%b %d" % (request.path.encode(), len(request.body)))


@asynccontextmanager
async def serving(
    max_body_bytes: int = 1_000, stall_seconds: float = 30.0
) -> AsyncIterator[tuple[Echo, int]]:
    handler = Echo()
    server = HttpServer(handler, max_body_bytes, stall_seconds)
    _, port = await server.listen("127.0.0.1", 0)
    try:
        yield handler, port
    finally:
        await server.stop(1.0)


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def bodies(answer: bytes) -> list[bytes]:
    """Each answer's last line."""
    return [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 ")[1:]]


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 600), max_size=12), chunked=st.booleans(), offers=st.booleans())
def test_a_request_is_the_same_however_it_is_cut(cuts: list[int], chunked: bool, offers: bool) -> None:
    """Byte by byte or several at once, with a length or in chunks, with an offer of HTTP/2: the same bodies."""
    data = (CHUNKED + POST if chunked else POST + CHUNKED) + LAST
    data = data.replace(b"Host: x\r\n", OFFER) if offers else data
    at = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]

    async def run() -> list[tuple[str, str, bytes]]:
        async with serving() as (handler, port):
            await talk(port, *(data[a:b] for a, b in pairwise(at)))
            return handler.heard

    assert asyncio.run(run()) == [("POST", "/a", b"hello")] * 2 + [("GET", "/last", b"")]


async def test_requests_on_one_connection_are_answered_in_their_order() -> None:
    """All sent at once; refused, streamed and whole; hundreds of them pile up no stack."""
    no, stream = POST.replace(b"/a", b"/no"), POST.replace(b"/a", b"/stream")
    async with serving() as (handler, port):
        answer = await talk(port, no + stream + POST + no * 2_000 + LAST)
    assert [line[:3] for line in answer.split(b"HTTP/1.1 ")[1:]] == [
        b"403",
        b"200",
        b"200",
        *[b"403"] * 2_000,
        b"200",
    ]
    assert b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n" in answer
    assert bodies(answer)[2] == b"/a 5"
    assert [path for _, path, _ in handler.heard] == ["/stream", "/a", "/last"]


@pytest.mark.parametrize(
    ("request_", "status", "said", "body"),
    [
        (b"GET /stream HTTP/1.0\r\n\r\n", b"200", b"Connection: close", b"one two"),
        (b"GET /a HTTP/1.0\r\n\r\n", b"200", b"Content-Length: 4", b"/a 0"),
        (b"HEAD /a HTTP/1.1\r\nConnection: close\r\n\r\n", b"200", b"Content-Length: 4", b""),
        (b"GET http://h/p%20q?x HTTP/1.1\r\nConnection: close\r\n\r\n", b"200", b"Date: ", b"/p q 0"),
        (b"GET /a HTTP/1.1\r\nConnection: close\r\n" + OFFER + b"\r\n", b"200", b"Connection: close", b"/a 0"),
        (b"POST /a HTTP/1.1\r\nContent-Length: 1001\r\n" + OFFER + b"\r\n", b"413", b"close", b"TOO_LARGE"),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + OFFER + b"\r\nzz\r\n", b"400", b"close", b"MALFORMED"),
        (b"not http at all\r\n\r\n", b"400", b"Connection: close", b"MALFORMED"),
        (b"GET /a HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1), b"400", b"Connection: close", b"MALFORMED"),
        (b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", b"400", b"close", b"MALFORMED"),
        (b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400", b"close",
         b"MALFORMED"),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400", b"close", b"MALFORMED"),
        (b"POST /a HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", b"413", b"close", b"TOO_LARGE"),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1_001, b"413", b"close",
         b"TOO_LARGE"),
    ],
)  # fmt: skip
async def test_every_kind_of_request_has_its_answer(
    request_: bytes, status: bytes, said: bytes, body: bytes
) -> None:
    """And after each of these the connection is closed."""
    async with serving() as (handler, port):
        answer = await talk(port, request_)
    assert answer[9:12] == status
    assert said in answer
    assert bodies(answer) == [body]
    assert len(handler.heard) == (status == b"200")


async def test_who_offers_another_protocol_goes_on_in_this_one() -> None:
    """Refused or served, the connection stays, and what follows on it is heard; an offer in a trailer is none."""
    offered = POST.replace(b"Host: x\r\n", OFFER)
    trailed = CHUNKED.replace(b"\r\n0\r\n", b"\r\n0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n")
    connect = b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving() as (handler, port):
        answer = await talk(port, offered.replace(b"/a", b"/no") + offered, trailed, connect + LAST)
    assert [line[:3] for line in answer.split(b"HTTP/1.1 ")[1:]] == [b"403", *[b"200"] * 4]
    assert [body for _, _, body in handler.heard] == [b"hello", b"hello", b"", b""]
    assert answer.count(b"Connection: close") == 1


async def test_trailers_are_no_fields_of_the_request() -> None:
    """They come after the head was decided on; what is forwarded is the head's, and the next request's its own."""
    with_trailer = CHUNKED.replace(b"/a", b"/fields").replace(b"\r\n0\r\n", b"\r\n0\r\nX-Checksum: 1\r\n")
    async with serving() as (_, port):
        answer = await talk(port, with_trailer + LAST.replace(b"/last", b"/fields"))
    assert bodies(answer) == [b"Host Transfer-Encoding", b"Host Connection"]


@pytest.mark.parametrize("endless", [b"a:\r\n" * 4_096, b"x" * 16_384], ids=["trailers", "one trailer"])
@pytest.mark.parametrize(("path", "status"), [(b"/a", b"400"), (b"/no", b"403")])
async def test_trailers_are_bounded_as_a_head_is(path: bytes, status: bytes, endless: bytes) -> None:
    """Whoever never ends them has one answer, refused before or not, and the end of the connection."""
    begun = CHUNKED.replace(b"/a", path).removesuffix(b"\r\n")
    async with serving() as (handler, port):
        answer = await talk(port, begun, *[endless] * 20)
    assert [line[:3] for line in answer.split(b"HTTP/1.1 ")[1:]] == [status]
    assert handler.heard == []


async def test_chunks_of_a_byte_each_are_no_head() -> None:
    """Six times the body in framing: it is what has no byte of a body in it that is bounded."""
    chunks = [b"1\r\nx\r\n" * 500] * 60
    async with serving(max_body_bytes=30_000) as (_, port):
        answer = await talk(port, CHUNKED.partition(b"2\r\n")[0], *chunks, b"0\r\n\r\n" + LAST)
    assert bodies(answer)[0] == b"/a 30000"


@pytest.mark.parametrize("more", [POST, b"no http", POST.replace(b"/a", b"/no"), b"GET /a HT"])
@pytest.mark.parametrize("path", [b"/no", b"/a"])
async def test_what_follows_a_last_request_is_not_heard(
    path: bytes, more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """One answer, the end of the connection, and nothing in the log of asyncio."""
    async with serving() as (handler, port):
        answer = await talk(port, LAST.replace(b"/last", path) + more)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer
    assert len(handler.heard) == (path == b"/a")
    assert caplog.records == []


async def test_events_of_a_stream_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm holds the second of two small writes back until the first is acknowledged: 40 ms."""
    delays: list[int] = []
    async with serving() as (handler, port):
        receive = handler.receive

        def look(request: Request) -> Response | Answering:
            assert isinstance(request.connection, Connection)
            assert request.connection._transport is not None
            one = request.connection._transport.get_extra_info("socket")
            delays.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            return receive(request)

        monkeypatch.setattr(handler, "receive", look)
        await talk(port, LAST)
    assert delays == [1]


async def test_a_client_of_http_1_0_may_keep_its_connection() -> None:
    """If it asks for that."""
    keep = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    async with serving() as (_, port):
        answer = await talk(port, keep, b"GET /a HTTP/1.0\r\n\r\n")
    assert answer.count(b"Connection: keep-alive") == answer.count(b"Connection: close") == 1


async def test_a_body_that_waits_for_leave_gets_it_unless_it_is_refused() -> None:
    """Refused, the connection is closed: nobody can tell whether the body comes all the same."""
    expect = b"Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /a HTTP/1.1\r\n" + expect)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.read()).endswith(b"/a 5")
        writer.close()
        refused = await talk(port, b"POST /no HTTP/1.1\r\n" + expect.replace(b"Connection: close\r\n", b""))
        assert refused.startswith(b"HTTP/1.1 403")
        assert b"100 Continue" not in refused


async def test_a_client_that_is_still_sending_can_read_that_it_is_too_much() -> None:
    """What it sends is read and dropped for a while: a reset would take the answer away from it."""
    async with serving(max_body_bytes=100) as (_, port):
        answer = await talk(
            port, b"POST /a HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", *[b"x" * 99_999] * 20
        )
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.usefixtures("virtual_time")
async def test_a_body_that_does_not_come_is_waited_for_so_long() -> None:
    """408; a refused request's body the same, without a second answer."""
    async with serving(stall_seconds=0.1) as (handler, port):
        half = b" HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe"
        late, refused = await asyncio.gather(talk(port, b"POST /a" + half), talk(port, b"POST /no" + half))
    assert bodies(late) == [b"TOO_SLOW"]
    assert bodies(refused) == [b"no"]
    assert handler.heard == []


@pytest.mark.usefixtures("virtual_time")
async def test_a_head_that_trickles_and_a_connection_without_use_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody holds a connection for nothing; there was no request, so there is no answer."""
    for name in ("HEAD_SECONDS", "SILENT_SECONDS", "KEEP_ALIVE_SECONDS"):
        monkeypatch.setattr(http_connection, name, 0.05)
    async with serving(stall_seconds=0.1) as (_, port):
        assert await talk(port, b"GET /a HT") == await talk(port) == b""
        assert bodies(await talk(port, POST)) == [b"/a 5"]


async def test_whoever_answers_is_interrupted_when_the_client_leaves() -> None:
    """And when the server stops, after its time."""
    async with serving() as (handler, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await handler.holds.wait()
        writer.transport.abort()
        await handler.left.wait()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    """The second server says so; a host by name is listened on at all its addresses."""
    async with serving() as (handler, port):
        other = HttpServer(handler, 1, 1.0)
        with pytest.raises(OSError, match="in use"):
            await other.listen("127.0.0.1", port)
        _, free = await other.listen("localhost", 0)
        assert free
        await other.stop(0.1)
