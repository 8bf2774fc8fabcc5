"""Define the events about turns that the gateway gives the probes, as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from probes.blame import Fault

MAX_HISTORY_DIGESTS = 16
"""How many of a request's history digests an event carries: its size must not grow with the conversation."""


class Last(StrEnum):
    """Classifies the last message of a request, by its form and a few words. `UNKNOWN`: not examined.

    A tool's result may come again because the client waits for something. A repeated error, or a message repeated word
    for word, waits for nothing.
    """

    UNKNOWN = ""
    SAID = "said"
    RESULT = "result"
    ERROR = "error"


class TurnAdmitted(Struct, frozen=True, gc=False):
    """A request was let through. `prompt_digest` identifies its body; `retry` is the client's own count.

    `prompt_tokens` is the bound of the prompt alone, 0 if unknown. `last_message` is the digest of the last
    message alone. `conversation` is the header X-Epad-Conversation, else made from the digest of everything up
    to and including the first message of a user: one shared system prompt is not one conversation. `messages`
    counts the messages, and `history` holds the running digests of the lists they make, at most the last
    MAX_HISTORY_DIGESTS: its last one stands for all messages, the one before for all but the last.
    `upstream` is the one that is asked first, and `attempt` the header X-Epad-Attempt: a runner's own mark of which
    try this is. It tells requests apart, and excuses from no limit. `sampling` is a digest of what draws another
    answer to the same prompt (seed, temperature, n, max_tokens, ...), empty if the request has none of it; it is not
    `random` where the request asks for the likeliest answer (temperature 0, top_k 1), and `drawn` where it asks for a
    sample itself (temperature above 0, a seed, several choices); None where nobody has looked. `shape` is a digest of
    the last message without its numbers and ids: a loop that counts differs from turn to turn in nothing else.
    `choices` is how many answers the request asks for, `last` what its last message is.
    What a dialect or an endpoint does not have stays empty.
    """

    subsystem: str
    at: float
    turn: str
    model: str
    reserved_tokens: int
    prompt_digest: bytes
    retry: int = 0
    prompt_tokens: int = 0
    last_message: bytes = b""
    conversation: str = ""
    messages: int = 0
    history: tuple[bytes, ...] = ()
    upstream: str = ""
    attempt: str = ""
    sampling: bytes = b""
    random: bool = True
    drawn: bool | None = None
    shape: bytes = b""
    choices: int = 1
    last: Last = Last.UNKNOWN


class TurnStreamed(Struct, frozen=True, gc=False):
    """Pieces of an answer passed on their way to the client: the text of each chunk, as it came.

    `output_tokens` are those made so far, as far as is known.
    """

    subsystem: str
    at: float
    turn: str
    pieces: Sequence[str] = ()
    output_tokens: int = 0


class TurnRefused(Struct, frozen=True, gc=False):
    """A request was turned away. `code` is the refusal's own code, such as `budget_exceeded`.

    `unit` says the unit of the three figures, whatever their names: tokens, microusd or requests. The client was told
    to come back after `retry_after_seconds`, 0 if it was told nothing. `fault` names the party at fault.
    `waited_seconds` is how long the request had waited for room before it was refused.
    """

    subsystem: str
    at: float
    code: str
    limit: str = ""
    limit_tokens: int = 0
    used_tokens: int = 0
    asked_tokens: int = 0
    prompt_digest: bytes = b""
    unit: str = "tokens"
    retry_after_seconds: float = 0.0
    fault: Fault = Fault.LIMIT
    upstream: str = ""
    waited_seconds: float = 0.0


class TurnFinished(Struct, frozen=True, gc=False):
    """A turn was closed. `outcome` is done, failed or cut; tokens are the charged ones.

    `http_status` is the upstream's own, 0 if it never answered. `reply` is the digest of the assistant's answer, its
    text with white space evened out and its calls of tools; empty if no whole answer came. `data` tells if it begins as
    JSON, a table or code does. `fault` names the party at fault for a bad ending, and `upstream` the one that was asked
    last.
    """

    subsystem: str
    at: float
    turn: str
    outcome: str
    input_tokens: int
    output_tokens: int
    charged_tokens: int
    http_status: int = 0
    reply: bytes = b""
    microusd: int = 0
    fault: Fault = Fault.NOBODY
    upstream: str = ""
    data: bool = False


class TurnObserver(Protocol):
    """Told about turns, synchronously and on the request path: every method must be O(1)."""

    def admitted(self, event: TurnAdmitted) -> None: ...

    def refused(self, event: TurnRefused) -> None: ...

    def finished(self, event: TurnFinished) -> None: ...


@runtime_checkable
class StreamObserver(Protocol):
    """Told about answers while they stream; a `TurnObserver` may be one too. O(1) likewise.

    A returned sentence is the reason to end this one turn here; an empty one, as nearly always, lets it go on.
    """

    def streamed(self, event: TurnStreamed) -> str: ...
