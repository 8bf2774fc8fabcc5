"""Cut a stream into whole events, so that the forwarded part always ends between two of them."""

from __future__ import annotations

import re

from msgspec import structs

from epad.gateway.dialects.body import is_json
from epad.gateway.dialects.counts import Counts
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Seen
from epad.gateway.dialects.usage import TokenUsage

# Longer than this and an event is passed on in pieces, unread: memory stays bounded.
MAX_EVENT_BYTES = 1 << 20

SSE_BOUNDARY = re.compile(rb"\n\r?\n|\r\r")
LINE_BOUNDARY = re.compile(rb"\n")
_LONGEST_BOUNDARY = 3
_SPACE = b"\xef\xbb\xbf \t\r\n"
_ERROR_EVENT = re.compile(rb"(?:^|\n|\r)event: ?error[ \t]*(?:\r|\n|$)")


class EventSplitter:
    """Keeps the unfinished end of the bytes until the rest of it comes."""

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
        if self._boundary is SSE_BOUNDARY and rest.lstrip(_SPACE)[:1] == b"{":
            lines, rest = _json_lines(rest)
            events += lines
        if len(rest) > self._max_event_bytes:
            events.append(rest)
            rest = b""
        self._pending = rest
        self._searched = len(rest)
        return events

    @property
    def pending(self) -> bool:
        """Tell if an event has begun to come."""
        return bool(self._pending)

    def rest(self) -> bytes:
        """Return the bytes that never became a whole event."""
        rest, self._pending, self._searched = self._pending, b"", 0
        return rest


def _json_lines(text: bytes) -> tuple[list[bytes], bytes]:
    """Cut off the lines that are JSON each, which some servers send as they are on routes of server-sent events.

    A document that is written over several lines stays whole: its first line is no JSON.
    """
    lines, start = [], 0
    while (end := text.find(b"\n", start) + 1) > 0:
        line = text[start:end].strip(_SPACE)
        if line and not (line.startswith(b"{") and is_json(line)):
            break
        lines.append(text[start:end])
        start = end
    return lines, text[start:]


class EventStream:
    """The half of a stream's meter that every dialect shares: events in, those for the client out.

    `chunks` counts the events that bring the client something; each is one token or more. `usage` is the largest of
    each count so far. `complete` says that the stream came to its end, `failed` that it told of an error.
    """

    def __init__(self, boundary: re.Pattern[bytes]) -> None:
        self.usage: TokenUsage | None = None
        self.chunks = 0
        self.complete = False
        self.failed = False
        self.reply = Reply()
        self._events = EventSplitter(boundary)
        self._counts: Counts | None = None
        # How much had been said when the output was counted last, and whether that count was below one before.
        self._counted_at: int | None = None
        self._most_output = 0
        self._begun_output = 0
        self._fell = False
        self._unread_bytes = 0
        self._bounded = True
        # An object that has nothing of an answer in it: where nothing else came, it says why.
        self._strange = False

    def read_lines(self) -> None:
        """Take each line for an event: some servers stream JSON lines on routes of server-sent events."""
        self._events = EventSplitter(LINE_BOUNDARY)

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._pass(event) for event in self._events.feed(data)])

    def most_tokens(self) -> int:
        return max(self.chunks, sum(self._choice_bytes()) + self._unread_bytes)

    def finish(self) -> bytes:
        rest = self._events.rest()
        passed = self._pass(rest) if rest else b""
        self.failed = self.failed or self._is_none()
        return passed

    @property
    def absurd(self) -> str:
        """Name the absurd count; empty if there was none."""
        return self._counts.absurd if self._counts is not None else ""

    def seen(self) -> Seen:
        """Sum up the answer so far."""
        said, usage, counts = self._said_bytes(), self.usage, self._counts
        total = None
        if (
            counts is not None
            and usage is not None
            and usage.input_tokens is None
            and usage.output_tokens is None
        ):
            total = counts.total
        counted = usage.output_tokens if usage is not None and usage.output_tokens is not None else total
        return Seen(
            usage,
            final=(counted is not None and self._counted_at == said and not self._fell and self._has_ended()),
            total_tokens=total,
            streamed=True,
            chunks=self.chunks,
            choice_bytes=self._choice_bytes(),
            unread_bytes=self._unread_bytes,
            bounded=self._bounded,
            nothing_came=self._is_none(),
            absurd=self.absurd,
        )

    def _pass(self, event: bytes) -> bytes:
        """Take note of an event; return the client's part of it."""
        raise NotImplementedError

    def _has_ended(self) -> bool:
        """Say whether the answer has come to its end, even if the stream has not."""
        return self.complete

    def _choice_bytes(self) -> tuple[int, ...]:
        """Return how many bytes each choice has."""
        return (self.reply.size,)

    def _said_bytes(self) -> int:
        return sum(self._choice_bytes()) + self._unread_bytes

    def _count(self, counts: Counts | None) -> None:
        """Take over a count of all so far."""
        if counts is None:
            return
        own, raised = counts.usage(), counts
        output = counts.total if own.input_tokens is None and own.output_tokens is None else own.output_tokens
        if output and counts.output is not None and counts.output < self._begun_output:
            raised = structs.replace(counts, output=self._begun_output)
        self._counts = raised if self._counts is None else self._counts.raised(raised)
        self.usage = own if self._counts is counts else self._counts.usage()
        said = self._said_bytes()
        if output is None or (output == 0 and said):
            return
        self._fell = output < self._most_output
        self._most_output = max(self._most_output, output)
        self._counted_at = said

    def _count_begun(self, counts: Counts | None) -> None:
        """Take over the count at an answer's beginning: it covers no output yet, though no less came."""
        if counts is not None:
            self._begun_output = counts.output or 0
            self._count(structs.replace(counts, output=None, total=None, reasoning=None))

    def _counts_something(self) -> bool:
        return self._counts is not None and self._counts.says_something

    def _is_none(self) -> bool:
        """Say whether an error, or something else that is no answer, is all that came."""
        nothing = not (self.chunks or self._said_bytes() or self._counts_something())
        return nothing and (self.failed or self._strange)

    def _weigh(self, text: bytes) -> None:
        """Bound unreadable text by its bytes."""
        self._unread_bytes += len(text)
        try:
            text.decode()
        except UnicodeDecodeError:
            self._bounded = False


def sse_payloads(event: bytes) -> list[bytes]:
    """Return the JSON documents of an event: one, or several from a server that sets no blank line between.

    Bytes without any field of server-sent events are a document of their own, as in a stream of JSON lines.
    """
    if event.startswith(b"data:") and event.count(b"\n") <= 2 and event.find(b"\r") < 0:
        payload = event[5:].strip()
        return [payload] if payload else []
    lines = _data_lines(event)
    documents = lines or [line for line in map(bytes.strip, event.split(b"\n")) if line]
    if len(documents) > 1 and all(_looks_whole(line) for line in documents):
        return documents
    payload = b"\n".join(lines) or event.strip()
    return [payload] if lines or payload.startswith((b"{", b"[")) else []


def names_error(event: bytes) -> bool:
    """Say whether an event is called `error`, whatever its data is."""
    return event.startswith(b"event") and _ERROR_EVENT.search(event) is not None


def sse_event(name: str, data: bytes) -> bytes:
    """Return a server-sent event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def _data_lines(event: bytes) -> list[bytes]:
    """The lines of data of an event that has any; a line that is JSON by itself, and stands before them, is one too."""
    lines = event.splitlines()
    if not any(line.startswith(b"data:") for line in lines):
        return []
    return [
        line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:") or _is_object(line)
    ]


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and line.endswith(b"}")


def _looks_whole(line: bytes) -> bool:
    return line == b"[DONE]" or _is_object(line)
