"""Run turns: admit them, open them in the ledger, settle and close them (`turn.py` has a turn's states)."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import structs

from epad.gateway.admission import Admission, Admitted
from epad.gateway.allowance import Wish
from epad.gateway.arrival import Arrival
from epad.gateway.budget import Refused
from epad.gateway.charge import RESERVED, USAGE, Charge
from epad.gateway.dialects.dialect import OutputLimits, StreamMeter
from epad.gateway.metrics import ADDED_SECONDS, COST, TOKENS, TURN_SECONDS, TURNS
from epad.gateway.opening import is_under_way
from epad.gateway.overrun import absurd, exceeded
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import Prompts
from epad.gateway.refusal import LEDGER_UNAVAILABLE, RefusalError, over_budget, upstream_unavailable
from epad.gateway.tally import Tally
from epad.gateway.turn import WAS_FORWARDED, BrokenTurnError, Turn
from epad.ledger.entry import CloseTurn, OpenTurn, TurnNames
from epad.ledger.errors import LedgerError
from epad.storage.database import DatabaseError
from probes.blame import PATIENCE_SECONDS, Failure
from probes.turns import StreamObserver, TurnFinished, TurnStreamed
from statemachine.finding import Finding


class Turns:
    """Admits turns, opens them in the ledger, settles and closes them."""

    def __init__(self, parts: GatewayParts, limits: OutputLimits, prompts: Prompts) -> None:
        self._parts = parts
        self._prompts = prompts
        self._limits = limits
        self.admission = Admission(parts.budgets, parts.access, parts.clock, parts.config.wait_seconds)
        self._listener = parts.observer if isinstance(parts.observer, StreamObserver) else None
        # asyncio keeps only weak references to tasks; these must live until the ledger has answered.
        self._closing: set[asyncio.Future[int] | asyncio.Future[None]] = set()
        self._name = TurnNames()
        metrics = parts.metrics
        self._tokens, self._ended = Tally(metrics.of(TOKENS).labels), Tally(metrics.of(TURNS).labels)
        metrics.gathers(self._tokens.add_up, self._ended.add_up)
        self._seconds, self._added_seconds = metrics.of(TURN_SECONDS), metrics.of(ADDED_SECONDS)
        self._cost = metrics.of(COST)

    def wish(self, arrival: Arrival) -> Wish:
        """Return the wish of a request."""
        ask = arrival.ask
        asked = ask.wish if ask.wish is not None else _unasked(arrival)
        tokens = self._limits.cap(asked)
        if not tokens and ask.generates and not arrival.upstream.served_by.server.zero_cap_means_none:
            tokens = 1  # a prompt that is scored has no output, but to this server 0 means no limit
        return Wish(
            prompt_tokens=arrival.prompt.tokens,
            tokens=tokens,
            named=asked is not None,
            choices=ask.choices,
            price=arrival.price,
            context_tokens=arrival.context_tokens,
        )

    async def admit(self, arrival: Arrival, wish: Wish) -> Turn:
        """Reserve the turn's worst case, wait for room if need be, and register it. Raises RefusalError."""
        name, digest = arrival.subsystem, arrival.ask.prompt_digest
        down = self._parts.upstreams.down(arrival.upstream, arrival.asker)
        if down is not None:  # before anything is reserved for what cannot be served
            raise RefusalError(upstream_unavailable(down), prompt_digest=digest, upstream=down.upstream)
        waited = 0.0
        admitted: Admitted | Refused | None = self.admission.at_once(name, wish, digest)
        if admitted is None:
            asked = self._parts.clock.monotonic()
            admitted = await self.admission.admit(name, wish, digest)
            # What it waited is no time that epad or its upstream took.
            waited = self._parts.clock.monotonic() - asked
            arrival = structs.replace(arrival, at=arrival.at + waited)
        if isinstance(admitted, Refused):
            raise RefusalError(over_budget(admitted), admitted, digest, waited_seconds=waited)
        turn = Turn(self._name(arrival.at), arrival, admitted)
        self._parts.access.enter(name, turn)
        return turn

    async def open(self, turn: Turn) -> None:
        """Record the turn durably. Raises RefusalError if it is not taken, BrokenTurnError if it is severed."""
        arrival = turn.arrival
        entry = OpenTurn(
            turn=turn.id,
            subsystem=arrival.subsystem,
            dialect=arrival.endpoint.dialect.name,
            model=arrival.ask.model,
            prompt_bound=turn.bound.input_tokens,
            output_cap=turn.bound.output_tokens,
            reserved_tokens=turn.bound.tokens,
            request_sha256=arrival.body_sha256,
            idempotency_key=arrival.idempotency_key,
            payload=arrival.body,
            reserved_microusd=turn.reservation.microusd,
            path=arrival.endpoint.path,
        )
        try:
            if turn.reservation.microusd:
                opening = asyncio.create_task(self._open_priced(entry, turn.reservation.microusd))
                turn.opened(opening)
                await asyncio.shield(opening)
            else:
                written = self._parts.ledger.open_turn(entry)
                turn.opened(written)
                await written
        except (LedgerError, DatabaseError) as error:
            self._parts.log.error(
                "turn.not_opened", turn=turn.id, subsystem=arrival.subsystem, error=str(error)
            )
            raise RefusalError(LEDGER_UNAVAILABLE, prompt_digest=arrival.ask.prompt_digest) from error
        except asyncio.CancelledError:
            severed = turn.was_severed()
            if severed is None:
                raise
            raise BrokenTurnError(turn, severed) from None

    def forward(self, turn: Turn) -> None:
        """From this moment on the upstream may be working: an end unknown costs the whole reservation."""
        arrival, now = turn.arrival, self._parts.clock.monotonic()
        turn.forward(now)
        self._added_seconds.add((), now - arrival.at)
        self._parts.observer.admitted(
            arrival.admitted(turn.id, now, turn.reservation.tokens, turn.bound.input_tokens)
        )
        if arrival.ask.generates:
            self._parts.screen.offer(turn.id, arrival.subsystem, arrival.body, turn.seems)

    def streamed(self, turn: Turn, meter: StreamMeter) -> str:
        """Give the stream's observers the new text; return the reason to end it here, if there is one."""
        pieces = meter.reply.take()
        if not pieces or self._listener is None:
            return ""
        now, counted = self._parts.clock.monotonic(), meter.usage.output_tokens if meter.usage else None
        tokens = meter.chunks if counted is None else counted
        event = TurnStreamed(turn.arrival.subsystem, now, turn.id, pieces, tokens)
        return self._listener.streamed(event) or ""

    def settle(self, turn: Turn, charge: Charge | None = None) -> Charge:
        """Replace the reservation by the charge, the first time; synchronous, so no cancellation can lose it."""
        if turn.charged is not None:
            return turn.charged
        charge = charge or turn.charge()
        cost = turn.cost(charge)
        if cost != charge.microusd:
            charge = structs.replace(charge, microusd=cost)
        turn.charged = charge
        arrival, held, tokens = turn.arrival, turn.reservation, charge.tokens
        name, now = arrival.subsystem, self._parts.clock.monotonic()
        learnt = self._learn(turn, charge)
        self._parts.budgets.settle(held, tokens, now, cost, learnt=learnt)
        self.admission.settled()
        if turn.absurd:
            self._tell("turn.absurd_usage", name, absurd(turn.id, arrival.upstream.name, turn.absurd, now))
        if held.is_exceeded(tokens, cost) and not learnt:
            found = exceeded(turn.id, arrival.upstream.name, arrival.ask.model, held, charge, now)
            self._tell("turn.exceeded_reservation", name, found)
        if charge.source is RESERVED:
            self._tokens[name, "forfeited"] += tokens
        else:
            self._tokens[name, "input"] += charge.input_tokens
            self._tokens[name, "output"] += charge.output_tokens
            if charge.most_output_tokens > charge.output_tokens:
                self._tokens[name, "forfeited"] += charge.most_output_tokens - charge.output_tokens
        if charge.microusd:
            self._cost.labels(name).inc(charge.microusd)
        return charge

    def finish(self, turn: Turn) -> None:
        """Settle, tell everyone, and have the turn closed. Synchronous, for a `finally`."""
        turn.seal()
        charge = self.settle(turn)
        tokens = charge.tokens
        if turn.opening is not None:
            self._close(turn, turn.opening, charge, tokens)
        arrival, parts = turn.arrival, self._parts
        name = arrival.subsystem
        parts.access.leave(name, turn)
        now = parts.clock.monotonic()
        if turn.state in WAS_FORWARDED:
            waited = turn.waited_seconds(now)
            if waited >= PATIENCE_SECONDS and turn.failure is Failure.CLIENT_GONE:
                arrival.upstream.served_by.health.unanswered(waited)
            outcome = turn.outcome.value
            self._ended[name, outcome] += 1
            self._seconds.add((name,), now - arrival.at)
            parts.observer.finished(
                TurnFinished(
                    subsystem=name,
                    at=now,
                    turn=turn.id,
                    outcome=outcome,
                    input_tokens=charge.input_tokens,
                    output_tokens=charge.output_tokens,
                    charged_tokens=tokens,
                    http_status=turn.status,
                    reply=turn.reply,
                    microusd=charge.microusd,
                    fault=turn.fault(now),
                    upstream=arrival.upstream.name,
                    data=turn.data,
                )
            )
        turn.finish()

    async def drain(self) -> None:
        """Wait for every record under way."""
        while self._closing:
            await asyncio.wait(self._closing)

    def _learn(self, turn: Turn, charge: Charge) -> bool:
        """Learn how the server counts prompts; say whether that is all by which the turn exceeds its bound."""
        if charge.source is not USAGE:
            return False
        arrival = turn.arrival
        upstream, ask = arrival.upstream.served_by, arrival.ask
        more = self._prompts.counted(upstream, ask, arrival.prompt, charge.input_tokens)
        learnt = more and charge.charged_output_tokens <= turn.bound.output_tokens
        if learnt:
            self._parts.log.warning(
                "turn.prompt_larger_than_body", subsystem=arrival.subsystem, turn=turn.id, upstream=upstream.name,
                model=ask.model, bound_tokens=arrival.prompt.tokens, counted_tokens=charge.input_tokens,
            )  # fmt: skip
        return learnt

    def _tell(self, event: str, subsystem: str, finding: Finding) -> None:
        """Someone is told, and the log has the evidence."""
        self._parts.log.error(event, subsystem=subsystem, **finding.evidence)
        self._parts.alarm(finding)

    async def _open_priced(self, entry: OpenTurn, reserved_microusd: int) -> int:
        await self._parts.costs.open(entry.turn, entry.subsystem, reserved_microusd)
        return await self._parts.ledger.open_turn(entry)

    def _close(self, turn: Turn, opening: asyncio.Future[int], charge: Charge, tokens: int) -> None:
        """Record its end; one that cannot be written stays open, and counts in full at the next start.

        No one waits for it: whatever the same connection asks next is opened behind it, in the same commit.
        """
        entry, reserved_microusd = _entry(turn, charge, tokens), turn.reservation.microusd
        closing: asyncio.Future[int] | asyncio.Future[None]
        if reserved_microusd or not is_under_way(opening):
            closing = asyncio.create_task(
                self._close_priced(opening, entry, reserved_microusd, charge.microusd)
            )
        else:
            closing = self._parts.ledger.close_turn(entry, lazily=True)
        self._closing.add(closing)
        closing.add_done_callback(partial(self._closed, entry))

    def _closed(self, entry: CloseTurn, closing: asyncio.Future[int] | asyncio.Future[None]) -> None:
        self._closing.discard(closing)
        error = None if closing.cancelled() else closing.exception()
        if error is not None:
            self._tell_not_closed(entry, error)

    async def _close_priced(
        self, opening: asyncio.Future[int], entry: CloseTurn, reserved_microusd: int, charged_microusd: int
    ) -> None:
        """Close a turn that is opened still, or that costs money too."""
        try:
            await opening
            await self._parts.ledger.close_turn(entry, lazily=True)
        except (LedgerError, DatabaseError) as error:
            self._tell_not_closed(entry, error)
        if not reserved_microusd:
            return
        try:
            await self._parts.costs.close(entry.turn, charged_microusd)
        except DatabaseError as error:
            self._tell_not_closed(entry, error)

    def _tell_not_closed(self, entry: CloseTurn, error: BaseException) -> None:
        self._parts.log.error("turn.not_closed", turn=entry.turn, subsystem=entry.subsystem, error=str(error))


def _entry(turn: Turn, charge: Charge, tokens: int) -> CloseTurn:
    return CloseTurn(
        turn=turn.id,
        subsystem=turn.arrival.subsystem,
        outcome=turn.outcome,
        input_tokens=charge.input_tokens,
        output_tokens=charge.output_tokens,
        charged_tokens=tokens,
        usage_source=charge.source,
        http_status=turn.status,
        reason=turn.reason,
        charged_microusd=charge.microusd,
    )


def _unasked(arrival: Arrival) -> int | None:
    """Return how much its server makes for a request without any cap, if known; a null asks for all that fits."""
    server, route = arrival.upstream.served_by.server, arrival.endpoint.path
    tokens = server.unasked.get(route)
    said = arrival.ask.fields.values
    return None if any(name in said for name in server.caps(route)) else tokens
