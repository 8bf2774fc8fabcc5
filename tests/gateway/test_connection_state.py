"""Every pair of a connection's state and an event; and a connection that is driven about asks for no refused one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epad.gateway.errors import StateError
from epad.gateway.http import connection_state
from epad.gateway.http.connection import Connection, Shared
from epad.gateway.http.connection_state import TABLE, ConnectionEvent, ConnectionState, next_state
from epad.gateway.http.message import Response
from epad.gateway.http.request import Answering, Fault, Request

# Written out once more: whoever changes a row says so here as well. A dot is a pair that is refused.
EXPECTED = """
           begin    whole      respond   start      end       return  read       linger     close
idle       reading  .          .         .          .         .       .          .          closed
reading    .        answering  refused   .          .         .       .          .          closed
refused    .        unread     .         .          .         .       idle       lingering  closed
answering  .        .          answered  streaming  .         .       .          .          closed
streaming  .        .          .         .          answered  .       .          .          closed
answered   .        .          .         .          .         unread  .          .          closed
unread     .        .          .         .          .         .       idle       .          closed
lingering  .        .          .         .          .         .       lingering  .          closed
closed     .        closed     .         .          .         .       .          .          closed
"""
Table = Mapping[ConnectionState, Mapping[ConnectionEvent, ConnectionState]]
S = ConnectionState
ANSWERS = {ConnectionEvent.RESPOND, ConnectionEvent.START}


def expected() -> dict[tuple[ConnectionState, ConnectionEvent], ConnectionState | None]:
    """Where each pair leads; None where it is refused."""
    head, *lines = [line.split() for line in EXPECTED.strip().splitlines()]
    return {
        (ConnectionState(state), ConnectionEvent(event)): None if to == "." else ConnectionState(to)
        for state, *row in lines
        for event, to in zip(head, row, strict=True)
    }


def walk() -> Iterator[str]:
    """Name the pairs that do not do as is expected."""
    for (state, event), to in expected().items():
        try:
            found = next_state(state, event)
        except StateError as error:
            if to is not None or str(error) != f"a connection that is {state} takes no {event}":
                yield f"{state} x {event}: {error}"
            continue
        if found is not to:
            yield f"{state} x {event} leads to {found}"


def broken_laws(table: Table) -> Iterator[str]:
    """The invariants of the header of `connection_state.py` that a table does not keep."""
    for state, row in table.items():
        if row.get(ConnectionEvent.CLOSE) is not S.CLOSED:
            yield f"{state} cannot be closed: the client may leave at any moment"
        if ConnectionEvent.BEGIN in row and state is not S.IDLE:
            yield f"{state} begins a request before the one in hand is over"
        if ANSWERS & row.keys() and state not in {S.READING, S.ANSWERING}:
            yield f"{state} has a second answer"
        if S.ANSWERING in row.values() and state is not S.READING:
            yield f"{state} has a second handler"
    if set(table[S.CLOSED].values()) != {S.CLOSED}:
        yield "a connection that is closed goes on"


def test_every_pair_of_state_and_event() -> None:
    """Eighty-one of them; what is refused is refused in words."""
    assert expected().keys() == set(product(ConnectionState, ConnectionEvent))
    assert list(walk()) == []


def test_the_table_keeps_the_invariants() -> None:
    """One answer for a request, one request at a time, and an end from everywhere."""
    assert list(broken_laws(TABLE)) == []


@pytest.mark.parametrize(
    ("state", "event", "to", "fault"),
    [
        ("answered", "respond", "answered", "answered has a second answer"),
        ("unread", "begin", "reading", "unread begins a request before the one in hand is over"),
        ("refused", "whole", "answering", "refused has a second handler"),
        ("closed", "begin", "reading", "a connection that is closed goes on"),
        ("lingering", "close", "idle", "lingering cannot be closed: the client may leave at any moment"),
    ],
)
def test_a_planted_row_is_found(
    monkeypatch: pytest.MonkeyPatch, state: str, event: str, to: str, fault: str
) -> None:
    """By the walk, and by the law that it breaks."""
    row = {**TABLE[ConnectionState(state)], ConnectionEvent(event): ConnectionState(to)}
    planted = {**TABLE, ConnectionState(state): row}
    monkeypatch.setattr(connection_state, "TABLE", planted)
    assert f"{state} x {event} leads to {to}" in walk()
    assert fault in broken_laws(planted)


@pytest.mark.parametrize("state", list(ConnectionState))
def test_the_header_tells_every_state(state: ConnectionState) -> None:
    """A row each."""
    assert f"\n| {state.name} | " in (connection_state.__doc__ or "")


class _Transport(asyncio.Transport):
    """Keeps what is written; closed, it tells its protocol in the next turn of the loop."""

    def __init__(self, protocol: Connection) -> None:
        self.protocol = protocol
        self.written = b""
        self.closing = self.eof = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


class _Entrance:
    owner = ""

    def rest(self) -> bool:
        return False

    def left(self, connection: Connection) -> None: ...


class _Allowance:
    """Refuses a body of more than six bytes, once: nothing more is taken up."""

    taken = 0
    refused = False

    def take(self, request: Request, size: int) -> Response | None:
        assert not self.refused
        self.taken += size
        self.refused = self.taken > 6
        return Response(429, b"allowance") if self.refused else None

    def whole(self) -> None: ...

    def give_back(self) -> None: ...


class _Handler:
    """Refuses /no; answers /whole in one piece, /pieces in three, and /fails with half an answer and an error."""

    def __init__(self) -> None:
        self.steps = asyncio.Semaphore(0)
        self.running = 0

    def receive(self, request: Request) -> Response | Answering:
        if request.path == "/no":
            return Response(403, b"no")
        request.allowance = _Allowance()

        async def answer() -> Response | None:
            self.running += 1
            assert self.running == 1, "two handlers at once"
            try:
                return await self._answer(request)
            finally:
                self.running -= 1

        return answer

    async def _answer(self, request: Request) -> Response | None:
        assert request.complete
        await self.steps.acquire()
        if request.path == "/whole":
            return Response(200, b"whole")
        channel = request.connection
        channel.start(200, b"OK", [])
        channel.write(b"a")
        await channel.drain()
        await self.steps.acquire()
        if request.path == "/fails":
            return Response(500, b"failed")
        channel.end(b"b")
        await channel.drain()
        await self.steps.acquire()
        return None

    def fault(self, request: Request | None, fault: Fault) -> Response:
        del request
        return Response(400, fault.name.encode())


class Driven:
    """A connection, and whatever may happen to it."""

    def __init__(self) -> None:
        self.handler = _Handler()
        self.connection = Connection(Shared(self.handler, 8, 30.0), cast("Any", _Entrance()))
        self.transport = _Transport(self.connection)
        self.connection.connection_made(self.transport)
        self.seen = {self.connection.state}

    def come(self, data: bytes) -> None:
        """Have bytes come, as the transport hands them over."""
        if not (self.transport.closing or self.connection._resting or self.connection._waiting):
            self.connection.get_buffer(-1)[: len(data)] = data
            self.connection.buffer_updated(len(data))

    async def happen(self, what: str, turns: int = 4) -> None:
        """One thing, and so many turns of the loop."""
        one = self.connection
        match what:
            case "go":
                self.handler.steps.release()
            case "slow":
                one.pause_writing()
            case "quick":
                one.resume_writing()
            case "late":
                one.expire()
            case "stop":
                one.close_when_idle()
            case "leave":
                self.transport.close()
            case _:
                self.come(BYTES[what])
        self.seen.add(one.state)
        for _ in range(turns):
            await asyncio.sleep(0)
            self.seen.add(one.state)
            self.check()

    def check(self) -> None:
        """The rest of the connection agrees with its state."""
        one, state = self.connection, self.connection.state
        current, has_task = one._current, one.task is not None
        if state is S.IDLE:
            assert current is None
        if state in {S.ANSWERING, S.STREAMING, S.ANSWERED}:
            assert has_task
            assert current is not None
            assert current.complete
        elif state is not S.CLOSED:
            assert not has_task
        if state in {S.READING, S.REFUSED}:
            assert current is not None
            assert not current.complete
            assert current.refused is (state is S.REFUSED)
        assert (state is S.LINGERING) == (self.transport.eof and not self.transport.closing)
        assert self.transport.closing or state is not S.CLOSED


BYTES = {
    "whole": b"POST /whole HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
    "pieces": b"GET /pieces HTTP/1.1\r\n\r\n",
    "fails": b"GET /fails HTTP/1.0\r\n\r\n",
    "no": b"GET /no HTTP/1.1\r\n\r\n",
    "half": b"POST /whole HTTP/1.1\r\nContent-Length: 2\r\n\r\nh",
    "half-no": b"POST /no HTTP/1.1\r\nContent-Length: 2\r\n\r\nh",
    "rest": b"i",
    "two": b"GET /whole HTTP/1.1\r\n\r\nGET /pieces HTTP/1.1\r\n\r\n",
    "whole-no": b"GET /whole HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\n\r\n",
    "expects": b"POST /no HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    "large": b"POST /whole HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    "seven": b"POST /whole HTTP/1.1\r\nContent-Length: 8\r\n\r\nabcdefg",
    "pieces-two": b"POST /whole HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n2\r\nfg\r\n1\r\nh\r\n",
    "chunks": b"POST /whole HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabcdefghi\r\n",
    "garbage": b"\x16\x03\x01 HTTP\r\n\r\n",
    "head": b"GET /who",
}
HAPPENINGS = ["go", "go", "slow", "quick", "late", "stop", "leave", *BYTES]


async def drive(happenings: list[tuple[str, int]]) -> Driven:
    """Have it all happen, then let the client leave; whatever goes wrong in a callback or a task is an error here."""
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    driven = Driven()
    for what, turns in happenings:
        await driven.happen(what, turns)
    await driven.happen("leave")
    assert (driven.connection.state, driven.connection._current, driven.connection.task) == (
        S.CLOSED,
        None,
        None,
    )
    assert driven.handler.running == 0
    assert wrong == []
    return driven


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from([4, 0, 1])), max_size=14))
def test_a_connection_that_is_driven_about_keeps_to_the_table(happenings: list[tuple[str, int]]) -> None:
    """No event comes in a state that has no row for it, and what the connection holds is what its state says."""
    asyncio.run(drive(happenings))


@pytest.mark.parametrize(
    ("happenings", "states"),
    [
        ("half rest go", {S.READING, S.ANSWERING, S.IDLE}),
        ("pieces go", {S.ANSWERING, S.STREAMING}),
        ("pieces go go", {S.STREAMING, S.ANSWERED}),
        ("pieces go go slow go quick", {S.ANSWERED, S.UNREAD, S.IDLE}),
        ("no slow no quick", {S.UNREAD, S.IDLE}),
        ("half-no rest", {S.REFUSED, S.IDLE}),
        ("half-no slow quick", {S.REFUSED, S.IDLE}),
        ("half late", {S.READING, S.LINGERING}),
        ("chunks", {S.LINGERING}),
        ("two go go go go", {S.ANSWERING, S.STREAMING, S.ANSWERED, S.IDLE}),
        ("fails go go", {S.STREAMING, S.CLOSED}),
    ],
)
async def test_what_happens_leads_where_one_expects(happenings: str, states: set[S]) -> None:
    """Among all the states that are passed through."""
    assert states <= (await drive([(what, 4) for what in happenings.split()])).seen


async def test_half_an_answer_is_followed_by_no_other() -> None:
    """The client sees the connection break off, and not a second head within the body of the first."""
    driven = await drive([("fails", 4), ("go", 4), ("go", 4)])
    assert driven.transport.written.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("turns", range(5))
async def test_a_client_that_leaves_between_two_requests_has_no_second_one(turns: int) -> None:
    """Its turn was to come in the moment in which the client left: nothing is answered, and nothing goes wrong."""
    await drive([("whole-no", 4), ("go", turns), ("leave", 4)])


async def test_garbage_behind_a_request_spoils_its_answer_not() -> None:
    """The answer in hand is given to its end, then the connection closes."""
    driven = await drive([("whole", 4), ("garbage", 4), ("go", 4)])
    assert driven.transport.written.endswith(b"\r\n\r\nwhole")
