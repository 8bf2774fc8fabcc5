"""Cutting a stream into whole events, so that what is forwarded always ends between two of them."""

from __future__ import annotations

import re

from epad.gateway.dialects.dialect import TokenUsage
from epad.gateway.dialects.reply import Reply

# Longer than this and an event is passed on in pieces, unread: memory stays bounded.
MAX_EVENT_BYTES = 1 << 20

SSE_BOUNDARY = re.compile(rb"\n\r?\n")
LINE_BOUNDARY = re.compile(rb"\n")
_LONGEST_BOUNDARY = 3


class EventSplitter:
    """Keeps the unfinished end of what came until the rest of it comes."""

    def __init__(self, boundary: re.Pattern[bytes], max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._boundary = boundary
        self._max_event_bytes = max_event_bytes
        self._pending = b""
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the events that are now whole, each with its boundary."""
        pending = self._pending + data
        events = []
        start = 0
        for match in self._boundary.finditer(pending, max(0, self._searched - _LONGEST_BOUNDARY + 1)):
            events.append(pending[start : match.end()])
            start = match.end()
        rest = pending[start:]
        if len(rest) > self._max_event_bytes:
            events.append(rest)
            rest = b""
        self._pending = rest
        self._searched = len(rest)
        return events

    @property
    def pending(self) -> bool:
        """Whether an event has begun to come."""
        return bool(self._pending)

    def rest(self) -> bytes:
        """What never became a whole event."""
        rest, self._pending, self._searched = self._pending, b"", 0
        return rest


class EventStream:
    """The half of a stream's meter that every dialect shares: events in, those for the client out.

    `chunks` counts the events that bring the client something; each is one token or more.
    """

    def __init__(self, boundary: re.Pattern[bytes]) -> None:
        self.usage: TokenUsage | None = None
        self.chunks = 0
        self.complete = False
        self.failed = False
        self.reply = Reply()
        self._events = EventSplitter(boundary)

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._pass(event) for event in self._events.feed(data)])

    def most_tokens(self) -> int:
        return max(self.chunks, self.reply.size)

    def finish(self) -> bytes:
        rest = self._events.rest()
        return self._pass(rest) if rest else b""

    def _pass(self, event: bytes) -> bytes:
        """Take note of an event; return what the client gets of it."""
        raise NotImplementedError


def sse_data(event: bytes) -> bytes:
    """The data of a server-sent event, put together if it is spread over lines or hidden behind comments."""
    if event.startswith(b"data:") and event.count(b"\n") <= 2:
        return event[5:].strip()
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def sse_event(name: str, data: bytes) -> bytes:
    """A server-sent event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
