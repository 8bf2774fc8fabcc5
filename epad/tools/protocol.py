"""The seam of the tool door: who calls, the definition of a tool, its answer, and the part that calls it.

`epad/tools/wire/` turns requests into calls of `Tools`; `epad/tools/call.py` implements it. Neither imports the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct


class Caller(Struct, frozen=True):
    """Names the subsystem that calls, its session, and its tier (an `epad.gate.tiers.Tier`, which is an int).

    A session is one start of an agent's process. It is epad's own, and never read from the request.
    """

    subsystem: str
    session: str
    tier: int


class Definition(Struct, frozen=True):
    """Describes one tool as clients see it, and what the gate has to know of it."""

    name: str
    category: str
    description: str
    risk: str
    timeout: float
    input_schema: dict[str, object]
    output_schema: dict[str, object]
    sha256: str
    """Hex digest of the definition, which each record of a call carries."""
    untrusted: bool = False
    """Others write its output, whatever its risk: a foreign server's."""
    leaves: bool = False
    """What it is given leaves the machine, whatever its risk: its server is elsewhere."""
    server: str = ""
    """The foreign server that does it; empty for a tool of epad's own."""


class Question(Struct, frozen=True):
    """Asks something of the client before a call can go on: a method of MCP (`elicitation/create`), its parameters."""

    method: str
    params: Mapping[str, object] = {}


class Replies(Struct, frozen=True):
    """Holds what a client says to the questions of an earlier answer, whose call it repeats."""

    by_name: Mapping[str, Mapping[str, object]] = {}
    state: str = ""
    """The `state` of that answer, as the client gives it back; it may have been changed on the way."""
    may_ask: frozenset[str] = frozenset()
    """The client's capabilities that questions need: `elicitation`, `sampling`, `roots`."""


NO_REPLIES = Replies()
BAD_REPLY = "bad_reply"
"""The code of an answer to replies, or to a state, that cannot be those of this call."""


class ToolAnswer(Struct, frozen=True):
    """Holds the result of one call: a refusal and a failure are answers too, with `is_error`."""

    turn: str
    """The turn of the call in the ledger; empty if it was refused before a record was due."""
    is_error: bool
    content: dict[str, object]
    """The tool's result, or `{"error": ..., "hint": ...}`."""
    reason_code: str = ""
    """Empty for a result; else the code of the refusal or of the failure, as in `epad/gateway/refusal.py`."""
    blocks: tuple[Mapping[str, object], ...] = ()
    """MCP's blocks of content (an image, a link to a resource) that stand in place of the text made of `content`."""
    questions: Mapping[str, Question] = {}
    """Questions by name, in place of a result; the client repeats the call with its replies and the `state`."""
    state: str = ""


class Tools(Protocol):
    """Lists tools, and calls them."""

    def caller(self, subsystem: str) -> Caller:
        """Return the caller that a subsystem is at present: its session and its tier."""
        ...

    def definitions(self, caller: Caller) -> Sequence[Definition]:
        """Return the caller's tools, sorted by name; they depend on its identity and profile, never on a phase."""
        ...

    async def call(
        self,
        caller: Caller,
        name: str,
        arguments: Mapping[str, object],
        *,
        key: str | None,
        parent: str = "",
        replies: Replies = NO_REPLIES,
    ) -> ToolAnswer:
        """Call a tool through the gate, and record it; a cancelled call ends its worker's fork.

        `key` is the idempotency key. `parent` names the model's turn that asked for the call, if that is known.
        An unknown tool, a refusal and a failure are answers with `is_error`; nothing but a fault of epad's own raises.
        """
        ...
