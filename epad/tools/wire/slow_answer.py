"""The answer of a call that takes long: a stream of events on the request's own connection, with progress if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from epad.gateway.http.message import Field
from epad.gateway.http.request import Channel
from epad.tools.wire.messages import Id, notification
from epad.tools.wire.methods import Result

# A client that asks for progress shows it to somebody; others are only kept from giving the connection up.
_PROGRESS_SECONDS = 2.0
_PING_SECONDS = 15.0
PROGRESS = "notifications/progress"
_PING = b": ping\n\n"
_FIELDS: list[Field] = [
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache, no-transform"),
    (b"X-Accel-Buffering", b"no"),
]


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


def event(data: bytes) -> bytes:
    """Return a message as an event; JSON has no line breaks of its own."""
    return b"event: message\ndata: " + data + b"\n\n"


async def stream(
    channel: Channel, task: asyncio.Task[Result], patience: Patience, began: float, last: Callable[[], bytes]
) -> None:
    """Write events until a call ends, then `last`, which is empty for a cancelled call.

    Raises ConnectionResetError if the client is gone.
    """
    channel.start(200, b"", list(_FIELDS))
    while not task.done():
        channel.write(_alive(patience, began))
        await channel.drain()
        await asyncio.wait({task}, timeout=patience.seconds)
    told = last()
    channel.end(event(told) if told else b"")


def _alive(patience: Patience, began: float) -> bytes:
    if patience.token is None:
        return _PING
    seconds = round(asyncio.get_running_loop().time() - began, 1)
    progress = {
        "progressToken": patience.token,
        "progress": seconds,
        "message": f"running for {seconds:.0f} s",
    }
    return event(notification(PROGRESS, progress))
