"""Read an upstream's answer as it comes: events or one body, unpacked if it is compressed."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from epad.gateway.decoding import Decoder, DecodingError, can_decode, codings_of
from epad.gateway.errors import UpstreamError
from epad.gateway.form import Form, form_of
from epad.gateway.health import Health
from epad.gateway.http.client import Incoming
from epad.gateway.http.message import HOP_BY_HOP, Field, Fields
from probes.blame import Failure

# A whole answer is held in memory to read its usage; no text of a permitted length comes near this.
MAX_ANSWER_BYTES = 64 << 20
_NOT_RETURNED = HOP_BY_HOP | {b"content-length"}
_NOT_RETURNED_UNPACKED = _NOT_RETURNED | {b"content-encoding"}
_EVENTS, _LINES = "text/event-stream", "application/x-ndjson"


class Answer:
    """Holds an upstream's answer before its body is read. Leaving it unread closes the connection."""

    def __init__(self, upstream: str, health: Health, incoming: Incoming) -> None:
        self._upstream = upstream
        self._health = health
        self._incoming = incoming
        self.status = incoming.status
        self.reason = incoming.reason
        self.codings: tuple[str, ...] = ()
        if "content-encoding" in incoming.fields:
            self.codings = codings_of(
                [v for name, v in incoming.fields.raw if name.lower() == b"content-encoding"]
            )
        packed = bool(self.codings) and can_decode(self.codings)
        self._decoder = Decoder(self.codings) if packed else None
        # What was read to see what it is, and has still to be passed on.
        self._start = b""
        # Whether the health of its upstream knows how it went; of a mere look it is told by the looker.
        self.judged = True
        # Whether it says that its upstream does not begin, and another may be asked.
        self.declined = False
        self.who, self.model = "", ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.status == 200 and kind is None:
            self.succeeded()

    def close(self) -> None:
        """Hang up, which tells vLLM and Ollama to stop; after the end of the body it does nothing."""
        self._incoming.close()

    @property
    def readable(self) -> bool:
        """Tell if it is not compressed, or can be unpacked here."""
        return not self.codings or self._decoder is not None

    def put_back(self, data: bytes) -> None:
        """Return read bytes of the body, so that they are read once more."""
        self._start = data + self._start

    def succeeded(self) -> None:
        """Say that this is an answer indeed, so that its upstream is known to work; once."""
        if not self.judged:
            self.judged = True
            self._health.succeeded(self.who, self.model)

    def is_none(self) -> None:
        """Say that an error stands in the answer's place: whose fault it is, is not known."""
        self.judged = True

    async def form(self, *, asked: bool, lines: bool) -> Form:
        """Tell if events or lines follow one another, or it is one whole body. Raises UpstreamError.

        A stream that was `asked` for is known by its first bytes, since many servers give it another type.
        """
        kind = (self._incoming.fields.get("content-type") or "").lower()
        if kind.startswith(_EVENTS) or (lines and kind.startswith(_LINES)):
            return Form.EVENTS
        start, form = b"", None
        while form is None:
            data = self.arrived() or await self.more()
            start += data
            form = form_of(start, asked=asked, lines=lines, ended=not data)
        self._start = start
        return form

    def fields(self) -> list[Field]:
        """Return the header fields that are passed on to the client."""
        unpacked = _NOT_RETURNED if self._decoder is None else _NOT_RETURNED_UNPACKED
        return self._incoming.fields.without(unpacked)

    @property
    def head(self) -> Fields:
        """Return all header fields."""
        return self._incoming.fields

    @property
    def ended(self) -> bool:
        """Tell if the whole body has come; its unread part can still be read."""
        whole = self._decoder is None or self._decoder.whole
        return self._incoming.ended and whole and not self._start

    @property
    def ready(self) -> bool:
        """Tell if more of the body is there already."""
        return bool(self._start) or self._incoming.ready

    def arrived(self) -> bytes:
        """Return the part of the body that is there without a wait; empty if none is, or it must be unpacked first."""
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._incoming.arrived() if self._decoder is None else b""

    async def more(self) -> bytes:
        """Return the next part of the body; empty at its end.

        Parts that have come are `arrived`. Raises UpstreamError.
        """
        if self._start:
            return self.arrived()
        try:
            return await (self._incoming.read() if self._decoder is None else self._unpacked(self._decoder))
        except (OSError, DecodingError) as error:
            raise broke_off(self._upstream, error) from error

    async def _unpacked(self, decoder: Decoder) -> bytes:
        while not (piece := decoder.take()):
            data = await self._incoming.read()
            if not data:
                if not decoder.whole:
                    raise DecodingError("its body ends before the end of what was packed")
                return b""
            decoder.give(data)
        await asyncio.sleep(0)  # much may be packed into little, and others wait
        return piece

    async def read(self, most: int = MAX_ANSWER_BYTES) -> bytes:
        """Return the whole body. Raises UpstreamError."""
        parts = []
        size = 0
        while data := self.arrived() or await self.more():
            parts.append(data)
            size += len(data)
            if size > most:
                raise UpstreamError(f"upstream {self._upstream}: an answer of over {most} bytes")
            if self._decoder is None and self._incoming.ended:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)


def broke_off(upstream: str, error: Exception) -> UpstreamError:
    """Return an answer that came to no end, or a connection that did."""
    detail = str(error) or type(error).__name__
    failure = Failure.SILENT if isinstance(error, TimeoutError) else Failure.BROKE_OFF
    return UpstreamError(f"upstream {upstream} broke off: {detail}", failure=failure)
