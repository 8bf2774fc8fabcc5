"""The states of a client's connection, and what each event makes of them: a table, and one function that reads it.

An exchange is a request and its answer. `Connection` moves the state as requests come and handlers end, the
`AnswerWriter` below it as an answer is written; a pair that has no row is refused.

| state | what holds | ends by |
|---|---|---|
| IDLE | no request is in hand; a part of a head may have come | a head, or the deadline |
| READING | a handler is there, and the body is still coming | its end, a refusal, or the deadline |
| REFUSED | the answer is written, and the body is still coming, to be dropped | its end, or `_hang_up` |
| ANSWERING | the request is whole, and its handler runs as `task` | a whole answer, or the head of one in pieces |
| STREAMING | pieces of the answer are written | the last piece |
| ANSWERED | the answer is written, and the handler still runs | its return |
| UNREAD | the handler is through; the client may not have read the answer | `resume_writing`, or the deadline |
| LINGERING | our half is closed, and the client still sends, which is dropped | its end, or the deadline |
| CLOSED | both halves are closed; what is written still goes out, unless it was aborted | |

Facts of the connection beside the state: `_closing` (no request after the one in hand), `_paused` (the client reads
too slowly), `_resting` and `_waiting` (nothing is read meanwhile). When a write fails, the transport closes before
`connection_lost` tells: `_gone` asks it.

Invariants: a request has one answer, and the answers have the order of the requests; a handler runs for a whole
request only; of the requests behind the one in hand no more is read than has come with it.

A loss of the connection cancels `task`, at whichever await it is; everyone who writes gets ConnectionResetError from
then on, and its request is let go when the task is through. A handler that fails in the middle of its answer cannot
give another one: the connection is aborted, so that the client does not take half of it for all.

Rejected: a second variant of each state in place of `_closing`, since it doubles the table for one decision (h11 has
a flag there too); h11 itself, since it parses in Python; a timer for each connection, since one sweep for all costs a
request nothing (`server.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto

from epad.gateway.errors import StateError


class ConnectionState(StrEnum):
    """Says how far the exchange in hand is; IDLE: there is none."""

    IDLE = auto()
    READING = auto()
    REFUSED = auto()
    ANSWERING = auto()
    STREAMING = auto()
    ANSWERED = auto()
    UNREAD = auto()
    LINGERING = auto()
    CLOSED = auto()


class ConnectionEvent(StrEnum):
    """Names what may happen to the exchange in hand."""

    BEGIN = auto()
    """The head of a request has come, and it is that request's turn."""
    WHOLE = auto()
    """The end of its body has come."""
    RESPOND = auto()
    """A whole answer is written."""
    START = auto()
    """An answer in pieces begins."""
    END = auto()
    """Its last piece is written."""
    RETURN = auto()
    """The handler is through."""
    READ = auto()
    """The client has read the answer, but for what fits into buffers."""
    LINGER = auto()
    """Our half is closed, while the client is still sending."""
    CLOSE = auto()
    """Both halves are closed, by us or by a loss."""


# Bound once: the attribute of an enum takes as long as a call, and an exchange needs several.
IDLE, READING, REFUSED, ANSWERING, STREAMING, ANSWERED, UNREAD, LINGERING, CLOSED = ConnectionState
BEGIN, WHOLE, RESPOND, START, END, RETURN, READ, LINGER, CLOSE = ConnectionEvent

TABLE: Mapping[ConnectionState, Mapping[ConnectionEvent, ConnectionState]] = {
    IDLE: {BEGIN: READING, CLOSE: CLOSED},
    READING: {WHOLE: ANSWERING, RESPOND: REFUSED, CLOSE: CLOSED},
    REFUSED: {WHOLE: UNREAD, READ: IDLE, LINGER: LINGERING, CLOSE: CLOSED},
    ANSWERING: {RESPOND: ANSWERED, START: STREAMING, CLOSE: CLOSED},
    STREAMING: {END: ANSWERED, CLOSE: CLOSED},
    ANSWERED: {RETURN: UNREAD, CLOSE: CLOSED},
    UNREAD: {READ: IDLE, CLOSE: CLOSED},
    LINGERING: {READ: LINGERING, CLOSE: CLOSED},
    # The parser may be in the middle of a buffer that has the end of a body as well.
    CLOSED: {WHOLE: CLOSED, CLOSE: CLOSED},
}
HAS_ALL = frozenset({ANSWERING, STREAMING, ANSWERED, UNREAD})
"""Those in which the request in hand is whole."""
IS_TOLD = frozenset({REFUSED, UNREAD, LINGERING})
"""Those in which its answer is written, and no handler runs."""


def next_state(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """Return the state that an event leads to. Raises StateError if the table has no row for the pair."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise StateError(f"a connection that is {state} takes no {event}") from None
