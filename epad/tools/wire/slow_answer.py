"""The answer of a call that takes long: a stream of events on the request's own connection, with progress if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from epad.gateway.http.message import Field
from epad.gateway.http.request import Channel
from epad.tools.wire.asked import Result
from epad.tools.wire.messages import Id, notification

# A client that asks for progress shows it to somebody; others are only kept from giving the connection up.
_PROGRESS_SECONDS = 2.0
_PING_SECONDS = 15.0
PROGRESS = "notifications/progress"
PING = b": ping\n\n"
EVENT_FIELDS: tuple[Field, ...] = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache, no-transform"),
    (b"X-Accel-Buffering", b"no"),
)


class Patience(Struct, frozen=True):
    """Says how often a client hears of a call in flight, and under which token it wants progress."""

    token: Id | None
    seconds: float


class Pauses(Struct, frozen=True):
    """How long clients go without a sign of a call: those that ask for progress, and the others."""

    progress_seconds: float = _PROGRESS_SECONDS
    ping_seconds: float = _PING_SECONDS

    def for_client(self, token: object) -> Patience:
        """Return the patience of a client that asks for progress under a token, or for none."""
        if isinstance(token, int | str) and not isinstance(token, bool):
            return Patience(token, self.progress_seconds)
        return Patience(None, self.ping_seconds)


class Outbox:
    """Keeps messages to a client until its stream writes them."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self.filled = asyncio.get_running_loop().create_future()
        """Done while there is a message."""

    def put(self, message: bytes) -> None:
        """Have a message written."""
        self._messages.append(message)
        if not self.filled.done():
            self.filled.set_result(None)

    def take(self) -> list[bytes]:
        """Return the messages that wait, and forget them."""
        messages, self._messages = self._messages, []
        if messages:
            self.filled = asyncio.get_running_loop().create_future()
        return messages


async def until_heard(task: asyncio.Task[Result], outbox: Outbox, seconds: float | None) -> None:
    """Wait for a call's end, for a message to its client, or for the time."""
    await asyncio.wait({task, outbox.filled}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def event(data: bytes) -> bytes:
    """Return a message as an event; JSON has no line breaks of its own."""
    return b"event: message\ndata: " + data + b"\n\n"


async def stream(
    channel: Channel,
    task: asyncio.Task[Result],
    outbox: Outbox,
    patience: Patience,
    began: float,
    last: Callable[[], bytes],
) -> None:
    """Write events until a call ends, then `last`, which is empty for a cancelled call.

    Raises ConnectionResetError if the client is gone.
    """
    channel.start(200, b"", list(EVENT_FIELDS))
    while not task.done():
        messages = outbox.take()
        channel.write(b"".join(map(event, messages)) or _alive(patience, began))
        await channel.drain()
        await until_heard(task, outbox, patience.seconds)
    told = last()
    channel.end(event(told) if told else b"")


def _alive(patience: Patience, began: float) -> bytes:
    if patience.token is None:
        return PING
    seconds = round(asyncio.get_running_loop().time() - began, 1)
    progress = {
        "progressToken": patience.token,
        "progress": seconds,
        "message": f"running for {seconds:.0f} s",
    }
    return event(notification(PROGRESS, progress))
