"""MCP until 2025-11-25: `initialize` first, a session id that only tells clients apart, and cancelling by a message."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from epad.tools.wire.asked import Result
from epad.tools.wire.messages import (
    INVALID_PARAMS,
    LATEST_LEGACY,
    LEGACY,
    Id,
    Message,
    ProtocolError,
)
from epad.tools.wire.methods import CAPABILITIES, INSTRUCTIONS, SERVER
from epad.tools.wire.questions import ASKED, capabilities_of

SESSION_HEADER = "Mcp-Session-Id"
INITIALIZE = "initialize"
PING = "ping"
CANCELLED = "notifications/cancelled"
ONLY = frozenset({"resources/subscribe", "resources/unsubscribe"})
"""Methods of the common table that this era alone has."""
_SESSION_BYTES = 16
_MOST_SESSION_CHARACTERS = 128


def initialize(message: Message) -> Result:
    """Return the version spoken from now on: the client's, or the newest of this era. Raises ProtocolError."""
    params: Mapping[str, object] = message.params if isinstance(message.params, dict) else {}
    wanted = params.get("protocolVersion")
    if not isinstance(wanted, str):
        raise ProtocolError(
            INVALID_PARAMS, "params.protocolVersion: the newest version that the client speaks"
        )
    version = wanted if wanted in LEGACY else LATEST_LEGACY
    return {
        "protocolVersion": version,
        "capabilities": CAPABILITIES,
        "serverInfo": SERVER,
        "instructions": INSTRUCTIONS,
    }


def new_session(message: Message) -> str:
    """Return a session id. It opens nothing: who asks is known by the key and the door alone.

    It says what its client can be asked, so that a restart of the daemon forgets nothing.
    """
    params: Mapping[str, object] = message.params if isinstance(message.params, dict) else {}
    letters = "".join(sorted(name[0] for name in capabilities_of(params.get("capabilities"))))
    return secrets.token_hex(_SESSION_BYTES) + (f"-{letters}" if letters else "")


def may_ask(session: str) -> frozenset[str]:
    """Return what the client of a session can be asked."""
    letters = session.partition("-")[2]
    return frozenset(name for name in ASKED if name[0] in letters)


class Running:
    """Knows the calls in flight by subsystem, session and id, so that a later request can cancel one.

    Two clients of a subsystem number their requests alike, so a call without a session id is not known here: it is
    cancelled by hanging up.
    """

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, Id], asyncio.Task[Result]] = {}

    def add(self, subsystem: str, session: str, message_id: Id, task: asyncio.Task[Result]) -> None:
        """Know a call until it ends."""
        if not 0 < len(session) <= _MOST_SESSION_CHARACTERS:
            return
        place = subsystem, session, message_id
        self._calls[place] = task

        def forget(ended: asyncio.Task[Result]) -> None:
            if self._calls.get(place) is ended:
                del self._calls[place]

        task.add_done_callback(forget)

    def cancel(self, subsystem: str, session: str, message: Message) -> None:
        """Cancel the call that a client's message names, if it is in flight."""
        params: Mapping[str, object] = message.params if isinstance(message.params, dict) else {}
        message_id = params.get("requestId")
        if isinstance(message_id, int | str) and not isinstance(message_id, bool):
            task = self._calls.get((subsystem, session, message_id))
            if task is not None:
                task.cancel()

    def end(self, subsystem: str, session: str) -> None:
        """Cancel all calls of a session that its client ends."""
        for (owner, of, _), task in list(self._calls.items()):
            if (owner, of) == (subsystem, session):
                task.cancel()
