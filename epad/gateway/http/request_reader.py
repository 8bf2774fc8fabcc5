"""Reading requests from a client: what comes goes through httptools, and heads and bodies come out of it."""

from __future__ import annotations

from typing import Any, cast

import httptools

from epad.gateway.http.message import Field
from epad.gateway.http.request import Channel, Request


class RequestReader:
    """The half of a connection that reads; a connection says what is done with a head, a piece and an end."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: list[Field] = []
        # What has come of a head; and of trailers, or of whatever else has not a byte of a body in it.
        self._head_bytes = 0
        self._coming: Request | None = None

    @property
    def _is_deaf(self) -> bool:
        """Tell if whatever comes is dropped."""
        return False

    def _head_came(self, request: Request) -> None:
        """Take a request of which the head is there."""

    def _piece_came(self, request: Request, size: int) -> None:
        """Take note of so many bytes more of its body, which it has already."""

    def _body_ended(self, request: Request) -> None:
        """Take note that it is whole."""

    def _feed(self, data: memoryview) -> None:
        """Have it parsed; whoever offers another protocol is answered in this one. Raises HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
            else:
                return
            if self._coming is None:
                return  # it was closed before
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(self._coming.head_without_offer())

    def _stop_reading(self) -> None:
        """Read no more: the parser and the request refer to this, and would wait for the garbage collector."""
        self._parser = None
        self._coming = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._target, self._fields = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._coming is None:  # else it is a trailer, which nobody waits for
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._coming is not None or self._is_deaf:
            return  # it says the framing again, or came in one piece with the request after which it was closed
        parser = self._parser
        request = Request(cast("Channel", self), parser.get_method(), self._target, self._fields)
        request.keep_alive = parser.should_keep_alive()
        request.http11 = parser.get_http_version() != "1.0"
        self._coming = request
        self._head_bytes = 0
        self._head_came(request)

    def on_body(self, data: bytes) -> None:
        request = self._coming
        self._head_bytes = 0
        if request is not None:
            request.take(data)
            self._piece_came(request, len(data))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # only its head, said again in `_feed`
        request, self._coming = self._coming, None
        self._head_bytes = 0
        if request is not None:
            self._body_ended(request)
