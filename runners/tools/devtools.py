"""Speak Chromium's DevTools protocol over one WebSocket, from within one call.

Questions of a page (`alert`, `confirm`) are answered with no as they come: a page that asks would stop everything.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from runners.tools import websocket
from runners.tools.signature import ToolError
from runners.tools.way_out import Clock, Wire, told
from runners.tools.web_address import OWN_SOCKETS, read_address

_MOST_BYTES: Final = 64 << 20
"""Of all answers in one call: the accessibility tree of a large page has tens of megabytes."""
Event = dict[str, Any]


class DevTools:
    """One connection to the browser."""

    def __init__(self, session: websocket.Session, clock: Clock) -> None:
        self._socket = session
        self._clock = clock
        self._messages = session.received()
        self._number = 0
        self.events: list[Event] = []
        """Those that came so far, oldest first."""

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Have a command done, and return its result. Raises ToolError."""
        self._number += 1
        number = self._number
        self._tell(number, method, session, params)
        while True:
            message = self._next()
            if message.get("id") == number:
                if "error" in message:
                    raise ToolError(
                        f"the browser refuses {method}: {str(message['error'].get('message'))[:300]}", ""
                    )
                result: dict[str, Any] = message["result"]
                return result

    def wait(self, holds: Callable[[Event], bool], seconds: float) -> bool:
        """Wait for an event; tell if it came in time, or had come before."""
        if any(map(holds, self.events)):
            return True
        whole, self._socket.wire = self._socket.wire, Wire(self._socket.wire.socket, Clock(seconds))
        try:
            return any(holds(self._took(msgspec.json.decode(text))) for text in self._messages)
        finally:
            self._socket.wire = whole
            self._messages = self._socket.received()  # the time of the other one is over

    def pause(self, seconds: float) -> None:
        """Take events for a while."""
        self.wait(lambda _: False, seconds)

    def _tell(self, number: int, method: str, session: str, params: dict[str, Any]) -> None:
        message = {
            "id": number,
            "method": method,
            "params": params,
            **({"sessionId": session} if session else {}),
        }
        self._socket.send_text(msgspec.json.encode(message).decode())

    def _next(self) -> Event:
        text = next(self._messages, None)
        if text is None:
            self._clock.left()
            raise ToolError(
                "the browser has ended", "call again: another is started when this one's worker has ended"
            )
        return self._took(msgspec.json.decode(text))

    def _took(self, message: Event) -> Event:
        if "id" not in message:
            self.events.append(message)
            if message.get("method") == "Page.javascriptDialogOpening":
                self._number += 1
                self._tell(
                    self._number,
                    "Page.handleJavaScriptDialog",
                    message.get("sessionId", ""),
                    {"accept": False},
                )
        return message


@contextmanager
def connected(url: str, seconds: float) -> Iterator[DevTools]:
    """Connect to the browser whose DevTools are there. Raises ToolError."""
    address, clock = read_address(url, OWN_SOCKETS), Clock(seconds)
    with socket.socket() as opened:
        with told(clock):
            opened.settimeout(clock.left())
            opened.connect((address.host, address.port))
        session = websocket.Session(Wire(opened, clock), most_bytes=_MOST_BYTES)
        session.begin(address, {})
        yield DevTools(session, clock)
