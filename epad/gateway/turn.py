"""One turn: the answer that an admitted request gets, from its reservation to its closing in the ledger.

`state` says how far it is, and `TABLE` what each event makes of it; a pair that has no row is refused.

| state | what holds | what it costs if it ends here |
|---|---|---|
| RESERVED | its worst case is reserved, and the ledger knows nothing of it | nothing |
| OPENING | its opening is with the ledger, and the upstream knows nothing of it | nothing |
| FORWARDED | the upstream may be working | what was counted; all of its reservation, if nothing was |
| CALLED_OFF | it was severed before it was forwarded | nothing |
| SEVERED | it was severed after that | as FORWARDED |
| UNSENT | it ends without having been forwarded | nothing |
| SEALED | it was forwarded, and is ending: to interrupt it would only spoil its answer | as FORWARDED |
| ENDED | it is settled, closed and forgotten | |

Who moves it: `Turns` (`turns.py`) opens, forwards and finishes it; the relay seals it once its answer has come;
`Access` severs it. Its fields beside the state are what the answer taught: a meter or a whole answer, a status, an
outcome with its reason. `outcome` and `failure` begin as those of a turn that an error interrupts.

Invariants: the ledger has its opening before the upstream has its request. Its reservation is replaced by its charge
exactly once (`charged`), in a step without an await, so no cancellation can lose it. It is finished exactly once, by
the `finally` of the request path (`request_path.py`): ENDED has no row but for a late `sever`, which does nothing.

A crash of the daemon: before the ledger has the opening, the turn is unknown, and the upstream was not asked. After
it, the next start finds it open and charges its reservation. After the charge was given to the budgets but before the
closing is on the disk: the same, so a turn may count for more than it cost, and never for less.

A cancellation comes from the client (its connection is lost), from `sever`, or from the gateway's stop, at an await:

- waiting for room (`Admission.admit`): there is no turn yet, and what is reserved there is given back there;
- opening it (`Turns.open`): the ledger writes on, and the closing waits for it. `sever` makes a refusal of it;
- asking the upstream, or waiting for a whole answer: its connection is closed, which stops the server. A severed
  client gets a refusal, one that has left nothing;
- within a stream: the same, but a severed client gets the end of its stream in its dialect, so the handler goes on
  (`was_severed`). From there on it is SEALED, and only the client itself interrupts it;
- letting the client read (`Relay._drain`), keeping its answer: it is settled already, and `finish` closes it.

Rejected: a task for each turn that the handler waits for, since a cancellation would have to reach two tasks in the
right order; a flag that the handler looks at between two pieces, since a server that is silent would hold a severed
turn up for `idle_seconds`; one severed state, since whether the upstream was asked decides what the turn costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum, auto

from epad.gateway.admission import Admitted
from epad.gateway.arrival import Arrival
from epad.gateway.budget import Reservation
from epad.gateway.charge import NOTHING, Bound, Charge, Terms, charge_answer, charge_status, forfeit
from epad.gateway.dialects.caps import hides_choices
from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.seen import Seen
from epad.gateway.http.message import Field
from epad.gateway.money import FREE
from epad.gateway.refusal import Refusal
from epad.gateway.state_table import state_table
from epad.ledger.record import Outcome
from probes.blame import Ending, Failure, Fault, Said, fault_of


class TurnState(StrEnum):
    """Says how far a turn is."""

    RESERVED = auto()
    OPENING = auto()
    FORWARDED = auto()
    CALLED_OFF = auto()
    SEVERED = auto()
    UNSENT = auto()
    SEALED = auto()
    ENDED = auto()


class TurnEvent(StrEnum):
    """Names what may happen to a turn: it is opened, forwarded, severed, sealed or finished."""

    OPEN = auto()
    FORWARD = auto()
    SEVER = auto()
    SEAL = auto()
    FINISH = auto()


# Bound once: the attribute of an enum takes as long as a call, and a turn needs several.
RESERVED, OPENING, FORWARDED, CALLED_OFF, SEVERED, UNSENT, SEALED, ENDED = TurnState
OPEN, FORWARD, SEVER, SEAL, FINISH = TurnEvent

# A handler that calls its own turn off is interrupted at its next await only, so it may open and forward it first.
TABLE: Mapping[TurnState, Mapping[TurnEvent, TurnState]] = state_table(
    "a turn",
    {
        RESERVED: {OPEN: OPENING, SEVER: CALLED_OFF, SEAL: UNSENT},
        OPENING: {FORWARD: FORWARDED, SEVER: CALLED_OFF, SEAL: UNSENT},
        FORWARDED: {SEVER: SEVERED, SEAL: SEALED},
        CALLED_OFF: {OPEN: CALLED_OFF, FORWARD: SEVERED, SEVER: CALLED_OFF, SEAL: UNSENT},
        SEVERED: {SEVER: SEVERED, SEAL: SEALED},
        UNSENT: {SEVER: UNSENT, SEAL: UNSENT, FINISH: ENDED},
        SEALED: {SEVER: SEALED, SEAL: SEALED, FINISH: ENDED},
        ENDED: {SEVER: ENDED},
    },
)
WAS_FORWARDED = frozenset({FORWARDED, SEVERED, SEALED})
"""Those of a turn for which the upstream may have worked."""
_INTERRUPTED = frozenset({CALLED_OFF, SEVERED})

TURN_HEADER = b"x-epad-turn"
INTENT_HEADER = b"x-epad-intent"
_WELL, _NOBODY = (Outcome.DONE, Failure.NONE), Fault.NOBODY


class Turn:
    """A turn in flight; `bound` is the most that it can have, `cap` the most output of each of its choices."""

    state = RESERVED
    opening: asyncio.Future[int] | None = None
    forwarded_at = 0.0
    charged: Charge | None = None
    meter: StreamMeter | None = None
    whole: Seen | None = None
    status = 0
    reply, data = b"", False
    outcome = Outcome.CUT
    reason = "cancelled"
    failure = Failure.INTERNAL  # until it is known what ended it
    said = Said.NOTHING
    severed: Refusal | None = None
    intent = ""  # what it seems to be for, if that is known before its answer comes

    def __init__(self, number: str, arrival: Arrival, admitted: Admitted) -> None:
        self.id = number
        self.arrival = arrival
        self.cap = admitted.cap
        self.bound = Bound(arrival.prompt.tokens, admitted.cap * arrival.ask.choices)
        self.reservation: Reservation = admitted.reservation
        self._task = asyncio.current_task()

    def opened(self, opening: asyncio.Future[int]) -> None:
        """Note that the ledger has been given its opening."""
        self.opening = opening
        self.state = TABLE[self.state][OPEN]

    def forward(self, now: float) -> None:
        """Note that the upstream may be working from now on."""
        self.forwarded_at = now
        self.state = TABLE[self.state][FORWARD]

    def sever(self, why: Refusal) -> None:
        """Interrupt the turn's handler, once, unless it is already past its answer."""
        before, self.state = self.state, TABLE[self.state][SEVER]
        if self._task is None or self.state is before:
            return
        self.severed = why
        self._task.cancel()

    def seems(self, intent: str) -> None:
        """Note what it seems to be for. It is shown, and decides nothing."""
        self.intent = intent

    def seal(self) -> None:
        """Let nothing interrupt it from here on: to sever a complete answer would only spoil it."""
        self.state = TABLE[self.state][SEAL]

    def was_severed(self) -> Refusal | None:
        """Tell, on cancellation, if `sever` did it and why; then the handler goes on, to end the answer properly."""
        if self._task is None or self.state not in _INTERRUPTED:
            return None
        self._task.uncancel()
        self.seal()
        if self.severed is not None:
            self.end(Outcome.CUT, self.severed.message, Failure.SEVERED)
        return self.severed

    def note_client_gone(self) -> None:
        """Note, on a cancellation that no `sever` made, that the client has left; a complete answer stays complete."""
        if self.severed is None and self.outcome is not Outcome.DONE:
            self.end(Outcome.CUT, "the client disconnected", Failure.CLIENT_GONE)

    def finish(self) -> None:
        """Note that it is over."""
        self.state = TABLE[self.state][FINISH]

    def end(self, outcome: Outcome, reason: str = "", failure: Failure = Failure.NONE) -> None:
        """Note how it went."""
        self.outcome, self.reason, self.failure = outcome, reason, failure

    def waited_seconds(self, now: float) -> float:
        """Return how long no part of its answer has come; 0 if some did."""
        begun = self.whole is not None or (self.meter is not None and self.meter.chunks > 0)
        return 0.0 if begun else now - self.forwarded_at

    def fault(self, now: float) -> Fault:
        """Say whose fault it is that it did not end well."""
        if (self.outcome, self.failure) == _WELL and self.status < 400:
            return _NOBODY
        return fault_of(
            Ending(
                failed=self.outcome is Outcome.FAILED,
                status=self.status,
                said=self.said,
                failure=self.failure,
                well=not self.arrival.upstream.served_by.health.reason,
                waited_seconds=self.waited_seconds(now),
            )
        )

    def cost(self, charge: Charge) -> int:
        """Return the cost of a charge, in micro-USD: 0, if a free upstream served the turn."""
        price = self.arrival.price
        return 0 if price is FREE or self.arrival.upstream.served_by.free else charge.cost(price)

    def charge(self) -> Charge:
        """Return its charge as far as is known now."""
        if self.state not in WAS_FORWARDED:
            return NOTHING
        if self.whole is not None:
            return charge_status(self.whole, self.status, self._terms())
        if self.meter is None:
            return forfeit(self.bound)
        return charge_answer(self.meter.seen(), self._terms())

    @property
    def absurd(self) -> str:
        """Name the upstream's absurd count, and its field; empty if there is none."""
        if self.whole is not None:
            return self.whole.absurd
        return self.meter.absurd if self.meter is not None else ""

    def _terms(self) -> Terms:
        arrival, ask = self.arrival, self.arrival.ask
        server = arrival.upstream.served_by.server
        return Terms(
            self.bound,
            self.cap,
            ask.choices,
            server.shows_all and not arrival.hidden,
            server.counts_all_choices,
            hides_choices(ask.fields),
            ask.prompts,
        )


class BrokenTurnError(Exception):
    """An admitted turn ended before its answer began; carries the client's refusal."""

    def __init__(self, turn: Turn, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.turn = turn
        self.refusal = refusal


def turn_field(turn: Turn) -> Field:
    """Return the header field that says which turn an answer belongs to."""
    return TURN_HEADER, turn.id.encode()


def fields_of(turn: Turn) -> list[Field]:
    """Return epad's own header fields of an answer."""
    named = turn_field(turn)
    return [named, (INTENT_HEADER, turn.intent.encode())] if turn.intent else [named]
