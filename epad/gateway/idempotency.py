"""Keep answers under their Idempotency-Key: a paid turn is given again, not asked again.

The bounds: an answer is kept for [gateway] idempotency_seconds, all of them together take at most idempotency_bytes
(the oldest go first), and a single one larger than an eighth of that is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import apsw
import msgspec

from epad.configuration.schema import GatewayConfig
from epad.gateway.dialects.dialect import Ask, Endpoint, StreamMeter
from epad.gateway.http.message import Response
from epad.storage.database import Database, fetch
from statemachine.clock import Clock

ANSWER_SCHEMA = """
CREATE TABLE IF NOT EXISTS idempotent_answer (
  id INTEGER PRIMARY KEY,
  subsystem TEXT NOT NULL,
  key TEXT NOT NULL,
  request_sha256 BLOB NOT NULL,
  turn TEXT NOT NULL,
  headers BLOB NOT NULL,
  body BLOB NOT NULL,
  wall_ns INTEGER NOT NULL,
  UNIQUE (subsystem, key)
) STRICT;
"""
_LARGEST_SHARE = 8
# Header fields are bytes, and kept as text: in this encoding each byte is a character.
_BYTES = "latin-1"
REPLAYED_HEADER = "idempotent-replayed"
_OF_ONE_REPLY = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}
)
_EXPIRE = "DELETE FROM idempotent_answer WHERE wall_ns < ?"
_MAKE_ROOM = """
DELETE FROM idempotent_answer WHERE id <= (SELECT max(id) FROM (
  SELECT id, sum(length(body) + length(headers)) OVER (ORDER BY id DESC) AS kept FROM idempotent_answer)
  WHERE kept > ?)
"""
_KEEP = "INSERT OR REPLACE INTO idempotent_answer VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
_FIND = """
SELECT request_sha256, turn, headers, body FROM idempotent_answer
WHERE subsystem = ? AND key = ? AND wall_ns >= ?
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Identifies a request by subsystem and key. Keys of two subsystems have nothing to do with each other."""

    subsystem: str
    key: str
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as the client got it; only whole answers of status 200 are kept."""

    turn: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def response(self) -> Response:
        """Return the answer once more, with the turn that was paid for it."""
        fields = [(name.encode(_BYTES), value.encode(_BYTES)) for name, value in self.headers]
        return Response(200, self.body, [*fields, (REPLAYED_HEADER.encode(), b"true")])


class KeyReusedError(Exception):
    """The key was used before with another request."""


class Answers:
    """The kept answers, and the turns under way that will make more of them."""

    def __init__(self, database: Database, config: GatewayConfig, clock: Clock) -> None:
        self._database = database
        self._seconds = config.idempotency_seconds
        self._most_bytes = config.idempotency_bytes
        self._clock = clock
        self._under_way: dict[tuple[str, str], tuple[bytes, asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def claim(self, claim: Claim) -> AsyncIterator[KeptAnswer | None]:
        """Yield the answer kept for this claim; or None, and then the turn is the caller's to make.

        One that is under way is waited for; if it comes to nothing, the first of those who wait makes it.
        Raises KeyReusedError, DatabaseError.
        """
        name = (claim.subsystem, claim.key)
        while True:
            under_way = self._under_way.get(name)
            if under_way is None:
                # Claimed before the disk is asked: nobody else gets in between.
                ended = asyncio.get_running_loop().create_future()
                self._under_way[name] = (claim.request_sha256, ended)
                break
            request_sha256, other = under_way
            if request_sha256 != claim.request_sha256:
                raise KeyReusedError
            await asyncio.shield(other)
        try:
            yield await self._find(claim)
        finally:
            del self._under_way[name]
            ended.set_result(None)

    async def keep(self, claim: Claim, answer: KeptAnswer) -> bool:
        """Keep an answer, on the disk when this returns or is cancelled; False if it is too large.

        Raises DatabaseError.
        """
        headers = msgspec.json.encode(answer.headers)
        if len(answer.body) > self._most_bytes // _LARGEST_SHARE:
            return False
        now_ns = self._now_ns()

        def work(connection: apsw.Connection) -> None:
            row = (
                claim.subsystem,
                claim.key,
                claim.request_sha256,
                answer.turn,
                headers,
                answer.body,
                now_ns,
            )
            connection.execute(_KEEP, row)
            connection.execute(_EXPIRE, (self._oldest_ns(now_ns),))
            connection.execute(_MAKE_ROOM, (self._most_bytes,))

        await _to_its_end(asyncio.ensure_future(self._database.write(work)))
        return True

    async def _find(self, claim: Claim) -> KeptAnswer | None:
        bindings = (claim.subsystem, claim.key, self._oldest_ns(self._now_ns()))
        rows = await self._database.read(lambda connection: fetch(connection, _FIND, bindings))
        if not rows:
            return None
        request_sha256, turn, headers, body = rows[0]
        if request_sha256 != claim.request_sha256:
            raise KeyReusedError
        return KeptAnswer(turn, msgspec.json.decode(headers, type=tuple[tuple[str, str], ...]), body)

    def _now_ns(self) -> int:
        return int(self._clock.utc().timestamp() * 1e9)

    def _oldest_ns(self, now_ns: int) -> int:
        return now_ns - int(self._seconds * 1e9)


async def _to_its_end(writing: asyncio.Future[None]) -> None:
    """Wait for a write that must not be left undone.

    A client that has its whole answer hangs up, and that cancels its request: the answer was paid for all the same,
    and must be found by whoever asks again.
    """
    cancelled: asyncio.CancelledError | None = None
    while not writing.done():
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    writing.result()


class Copier:
    """Makes an endpoint copy its streamed answers as they pass, so that they can be kept."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._copied: list[bytes] = []

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._endpoint, name)
        return value

    @property
    def endpoint(self) -> Endpoint:
        """Itself, which is an endpoint in everything, though mypy cannot know of __getattr__."""
        return cast("Endpoint", self)

    def meter(self, ask: Ask) -> StreamMeter:
        return cast("StreamMeter", _CopyingMeter(self._endpoint.meter(ask), self._copied))

    def answer(self, turn: str, response: Response) -> KeptAnswer:
        """Return the answer that was given, whole or in pieces."""
        body = b"".join(self._copied) if self._copied else response.body
        headers = [
            (lower, value.decode(_BYTES))
            for name, value in response.fields
            if (lower := name.decode(_BYTES).lower()) not in _OF_ONE_REPLY
        ]
        return KeptAnswer(turn, tuple(headers), body)


class _CopyingMeter:
    """Meters an answer, and keeps a copy of the forwarded bytes."""

    def __init__(self, meter: StreamMeter, copied: list[bytes]) -> None:
        self._meter = meter
        self._copied = copied

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._meter, name)
        return value

    def feed(self, data: bytes) -> bytes:
        return self._copy(self._meter.feed(data))

    def finish(self) -> bytes:
        return self._copy(self._meter.finish())

    def _copy(self, passed: bytes) -> bytes:
        self._copied.append(passed)
        return passed
