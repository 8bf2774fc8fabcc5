"""Call tools: each call is a turn, decided by the gate, recorded before it begins, and recorded at its end.

The order is: the rate; the gate; a person's consent, where the gate wants it; a refusal's record, or the durable record
that the call begins; the worker; the bound of its output; the record of its end. A call that may change anything is
answered after that record is on the disk, a reading one before.

| a crash comes | the ledger has | the next daemon |
|---|---|---|
| before the opening is on the disk | nothing, and nothing was done | |
| between opening and end | an opening without an end: if anything was done is unknown | tells of it, never repeats it |
| after the end | both | |

| a cancellation of the caller comes | then |
|---|---|
| while a refusal is written | the refusal is written all the same |
| while the opening is written | no worker is asked; the end says cancelled |
| while the worker has the call | its process is killed; the end says cancelled, with the effects so far |

So each call is a task of its own, which its caller waits for and nobody else cancels; `close` waits for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.gate.tool_profile import Profile, narrowed
from epad.gate.tool_risk import READS, ToolRisk
from epad.gate.tool_table import BOTH, Consent, Decision, Taint, column_of, decide
from epad.gateway.access import Access
from epad.ledger.entry import TurnNames
from epad.ledger.errors import LedgerError
from epad.ledger.record import ToolOpened, ToolOutcome
from epad.storage.database import DatabaseError
from epad.tools import answers, holds, own
from epad.tools.answers import End
from epad.tools.answers import refused as _refused
from epad.tools.answers import session_ended as _session_ended
from epad.tools.catalogue import Catalogue
from epad.tools.consent import Consents, Settled, Wanted
from epad.tools.labelling import Labelling
from epad.tools.output_budget import OutputBudget
from epad.tools.protocol import BAD_REPLY, NO_REPLIES, Caller, Definition, Replies, ToolAnswer
from epad.tools.rates import CallRates
from epad.tools.repeats import Claim, KeyReused, Repeats
from epad.tools.results import SPILLED_BYTES, ResultStore
from epad.tools.running import Running
from epad.tools.session_log import SessionLog
from epad.tools.sessions import Session, Sessions
from epad.tools.tool_ledger import ToolLedger
from epad.tools.turn import Turn, closing_of, event_of, opening_of
from epad.tools.undo_store import call_name
from epad.tools.undoing import Undoing
from epad.tools.worker import GRACE_SECONDS, Worker, WorkerLostError
from epad.tools.workers import Workers
from probes.tool_calls import ToolCalled
from statemachine.clock import Clock
from statemachine.phase import Phase
from statemachine.rung import Rung

OUTPUT_BYTES: Final = 64 << 10
DRIFTED: Final = "hold/definitions"
"""The row of a refusal since a foreign server's definitions are not those that were accepted."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """Gives calls their parts. `profile` returns a subsystem's profile."""

    ledger: ToolLedger
    workers: Workers
    sessions: Sessions
    rates: CallRates
    access: Access
    phase: Callable[[], Phase]
    profile: Callable[[str], Profile]
    clock: Clock
    log: FilteringBoundLogger
    output: OutputBudget | None = None
    """Limits what tools may give back; None: nothing does."""
    observe: Callable[[ToolCalled], None] = lambda _: None
    """Is told of each call that ends or is refused."""
    foreign: own.OwnTools = field(default_factory=dict)
    """The tools that foreign servers do; these may change."""
    own: own.OwnTools = field(default_factory=dict)
    """The tools that no worker does."""
    consents: Consents | None = None
    """Asks a person; without it, nobody can consent."""
    repeats: Repeats | None = None
    """Knows the calls of before by their keys; without it, each call is done."""
    undoing: Undoing | None = None
    results: ResultStore | None = None
    labelling: Labelling = field(default_factory=Labelling)
    held_back: Callable[[Definition], str] = lambda _: ""
    """Says why a tool is called by nobody now, beside the holds; empty for one that may be."""
    grace_seconds: float = GRACE_SECONDS
    """How long after a tool's own time its worker may take to say so."""


class ToolCalls:
    """Implements `epad.tools.protocol.Tools`."""

    def __init__(self, context: CallContext, catalogue: Catalogue | None = None) -> None:
        self._context = context
        self.session_log = SessionLog(context.ledger, context.log)
        context.sessions.told = self.session_log.labelled
        self._catalogue = catalogue or Catalogue()
        self._lists: dict[tuple[str, ...] | None, tuple[Definition, ...]] = {}
        self._name = TurnNames()
        self._tasks: set[asyncio.Task[ToolAnswer]] = set()
        self._running: set[Running] = set()
        self._closing: set[asyncio.Future[int]] = set()

    @property
    def catalogue(self) -> Catalogue:
        """Return the definitions of all tools."""
        return self._catalogue

    def use(self, catalogue: Catalogue) -> None:
        """Serve these definitions from now on."""
        self._catalogue = catalogue
        self._lists.clear()

    def caller(self, subsystem: str) -> Caller:
        """Return the caller that a subsystem is at present: its session and its tier."""
        session = self._context.sessions.of(subsystem)
        return Caller(subsystem, session.name, session.tier)

    def definitions(self, caller: Caller) -> Sequence[Definition]:
        """Return the caller's tools, sorted by name: its profile alone decides."""
        profile = self._context.profile(caller.subsystem)
        patterns = None if profile.patterns is None else tuple(profile.patterns)
        if patterns not in self._lists:
            every = self._catalogue.definitions.values()
            self._lists[patterns] = tuple(one for one in every if profile.has(one.name, one.category))
        return self._lists[patterns]

    async def unknown_since_crash(self) -> list[ToolOpened]:
        """Return the calls that the run before this one began and never ended. Raises LedgerError."""
        before = self._context.ledger.epoch - 1
        return [opened for opened in await self._context.ledger.unclosed_tools() if opened.epoch == before]

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
        """Call a tool through the gate, and record it; a cancelled call ends its worker's process."""
        name = self._catalogue.also.get(name, name)
        definition = self._catalogue.definitions.get(name)
        if definition is None:
            return _refused("", f"there is no tool {name[:80]!r}", "see the list of tools", "unknown_tool")
        context = self._context
        session = context.sessions.of(caller.subsystem)
        if session.name != caller.session:
            return _session_ended()
        wait = context.rates.take(caller.subsystem)
        if wait:
            why = f"{caller.subsystem} has made as many tool calls this minute as its limit allows"
            return _refused("", why, f"call again in {max(1, round(wait))} s", "tool_calls_per_minute")
        risk, before = self._catalogue.risks[name], session.taint
        leaves = await context.labelling.leaves(session, definition, risk, arguments)
        decision = self._decide(session, definition, risk, leaves=leaves)
        turn_name = self._name(context.clock.monotonic())
        digest = sha256(msgspec.json.encode(arguments, order="sorted")).digest()
        turn = Turn(
            turn_name, session, definition, risk, decision, arguments, digest, key, parent, leaves=leaves,
            replies=replies,
        )  # fmt: skip
        if context.consents is not None and (fault := context.consents.fault(turn.bound, replies)):
            return _refused("", fault, "", BAD_REPLY)
        if not decision.allowed and not decision.needs_consent:
            return await self._refuse(turn)
        answer = await self._once(turn)
        await self.label_counts(session, before)
        return answer

    async def label_counts(self, session: Session, before: Taint) -> None:
        """See that labels that a session had not `before` are on record and obeyed: then it may have the content."""
        if session.taint != before:
            await self.session_log.settled()
            await self._context.labelling.given(session, before)

    async def close(self) -> None:
        """Stop each call under way, wait for its record, and end the workers."""
        for running in list(self._running):
            running.stop(ToolOutcome.CANCELLED, "the daemon is stopping")
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.session_log.close()
        while self._closing:
            await asyncio.wait(self._closing)
        if self._context.undoing is not None:
            await self._context.undoing.close()
        await self._context.workers.close()

    def _decide(
        self,
        session: Session,
        definition: Definition,
        risk: ToolRisk,
        consent: Consent = Consent.NONE,
        *,
        leaves: bool = False,
        again: bool = False,
    ) -> Decision:
        """Have the gate decide; `again` about a call whose place of a throttled subsystem was taken before."""
        context = self._context
        name, category = definition.name, definition.category
        access, subsystem = context.access, session.subsystem
        ask = access.shut if again else access.check
        shut = ask(subsystem) or holds.shut(access, ask, subsystem, definition)
        own, hold = access.held(subsystem).rung, holds.firmest(access, subsystem, definition)
        if shut is not None:
            label = hold.label if hold is not Rung.OPEN else Rung.BLOCK.label
            return Decision(False, False, f"hold/{label}", shut.message)
        if why := context.held_back(definition):
            return Decision(False, False, DRIFTED, why)
        phase = column_of(context.phase(), is_cut=own is not Rung.OPEN)
        decision = decide(session.tier, risk, phase, hold, session.taint, consent, leaves=leaves)
        return narrowed(decision, context.profile(session.subsystem), name, category)

    async def _once(self, turn: Turn) -> ToolAnswer:
        """Answer a call that repeats another one as that was answered; do any other."""
        if (repeats := self._context.repeats) is None:
            return await self._pass(turn, None)
        try:
            answer = await repeats.once(turn.keyed, partial(self._pass, turn))
        except (DatabaseError, LedgerError) as error:
            why = f"it cannot be looked up if its key was used before, so nothing was done: {error}"
            return _refused("", why, "call again later", "ledger_unavailable")
        if isinstance(answer, KeyReused):
            return await self._refuse(turn, Settled(turn.decision, answer.code, answer.why, answer.hint))
        return answer

    async def _pass(self, turn: Turn, claim: Claim | None) -> ToolAnswer:
        """Do a call, or refuse it. With a claim the gate decides anew, since its key was looked up meanwhile."""
        session, consents = turn.session, self._context.consents
        if claim is not None:
            if not self._context.sessions.lives(session.subsystem, session.name):
                return _session_ended()
            decision = self._decide(session, turn.definition, turn.risk, leaves=turn.leaves, again=True)
            turn = replace(turn, claim=claim, decision=decision)
        if turn.decision.needs_consent and consents is not None:
            return await self._with_consent(turn, consents)
        return await (self._carry_out(turn) if turn.decision.allowed else self._refuse(turn))

    async def _with_consent(self, turn: Turn, consents: Consents) -> ToolAnswer:
        """Have a person asked, and go on as the gate decides by the answer; a hold ends the waiting."""
        session, definition, access = turn.session, turn.definition, self._context.access
        wanted = Wanted(session, definition, turn.arguments, turn.bound, turn.turn, turn.replies)
        decide = partial(self._decide, session, definition, turn.risk, leaves=turn.leaves, again=True)
        waiting = Running()
        self._running.add(waiting)
        leave = holds.enter(access, session.subsystem, definition, waiting)
        try:
            settled = await consents.settle(wanted, decide, waiting)
        finally:
            leave()
            self._running.discard(waiting)
        if not self._context.sessions.lives(session.subsystem, session.name):
            return _session_ended()
        turn = replace(turn, decision=settled.decision)
        if settled.decision.allowed:
            return await self._carry_out(turn)
        answer = await self._refuse(turn, settled)
        return msgspec.structs.replace(answer, questions=settled.questions, state=settled.state)

    async def _refuse(self, turn: Turn, settled: Settled | None = None) -> ToolAnswer:
        """Record a refusal, and return it."""
        decision = turn.decision
        code = (settled and settled.code) or answers.refusal_code(decision)
        why = (settled and settled.why) or decision.sentence
        hint = (settled and settled.hint) or answers.HINTS[code]
        self._context.log.info(
            "tool.refused", subsystem=turn.session.subsystem, tool=turn.definition.name, row=decision.row,
            turn=turn.turn,
        )  # fmt: skip
        self.session_log.begin(turn.session)
        try:
            await asyncio.shield(self._close(turn, End(ToolOutcome.REFUSED, {}, code)))
        except LedgerError:
            return _refused("", why, hint, code)
        return _refused(turn.turn, why, hint, code)

    async def _carry_out(self, turn: Turn) -> ToolAnswer:
        if self._context.output is not None:
            turn = replace(
                turn, reservation=self._context.output.reserve(turn.session.subsystem, OUTPUT_BYTES)
            )
            if turn.reservation is None:
                why = f"the tools of {turn.session.subsystem} have given back as much this hour as its limit allows"
                return _refused("", why, "call again later", "tool_output_tokens_per_hour")
        running = Running()
        self._running.add(running)
        # Before anything is awaited, so that no hold comes between the decision and the call.
        leave = holds.enter(self._context.access, turn.session.subsystem, turn.definition, running)
        if turn.claim is not None:
            turn.claim.is_carried_out = True
        task = asyncio.create_task(self._run(turn, running), name=f"tool-{turn.turn}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: leave())
        if (room := turn.reservation) is not None:
            task.add_done_callback(lambda _: room.settle())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if turn.claim is None or not turn.claim.joined:
                running.stop(ToolOutcome.CANCELLED, "its caller has gone")
            raise

    async def _run(self, turn: Turn, running: Running) -> ToolAnswer:
        """Do a call, and keep the answer under its key."""
        answer = None
        try:
            answer = await self._recorded(turn, running)
        finally:
            if turn.claim is not None:
                await turn.claim.end(answer, was_begun=running.was_begun)
        return answer

    async def _recorded(self, turn: Turn, running: Running) -> ToolAnswer:
        """Open, have the worker do it, and close."""
        subsystem = turn.session.subsystem
        try:
            try:
                await self._open(turn)
            except LedgerError as error:
                self._context.log.error(
                    "tool.not_opened", turn=turn.turn, subsystem=subsystem, error=str(error)
                )
                why = "the ledger takes no record now, so nothing was done"
                return _refused("", why, "call again later", "ledger_unavailable")
            end = await self._worked(turn, running)
            turn.read()
            await self._context.labelling.done(turn.session, turn.definition, turn.arguments, turn.turn, end)
            if self._context.results is not None:
                end = await self._context.results.spilled(turn.session, turn.turn, end)
            if self._context.undoing is not None:
                end = self._context.undoing.ended(turn.session, turn.turn, turn.risk, end)
            closing = self._close(turn, end)
            if turn.risk not in READS:
                # `_keep` tells of an error; the tool has done its work, which the agent must know.
                with suppress(LedgerError):
                    await closing
            return end.answer(turn.turn)
        finally:
            self._running.discard(running)

    async def _open(self, turn: Turn) -> None:
        """Record that the call begins, behind the beginning of its session. Raises LedgerError."""
        self.session_log.begin(turn.session)
        try:
            await self._context.ledger.open_tool(opening_of(turn))
        except LedgerError:
            self.session_log.failed(turn.session)
            raise

    async def _worked(self, turn: Turn, running: Running) -> End:
        """Have a worker do it; return the end, whatever it is."""
        if running.stopped is not None:
            return answers.stopped(running)
        subsystem, category = turn.session.subsystem, turn.definition.category
        name = turn.definition.name
        if (tool := self._context.own.get(name) or self._context.foreign.get(name)) is not None:
            room = OUTPUT_BYTES if turn.reservation is None else turn.reservation.tokens
            call = own.OwnCall(turn.session, turn.turn, turn.arguments, turn.parent, room=room)
            return await own.answer(tool, call, turn.definition, running, self._context.log)
        try:
            worker = await self._context.workers.lend(subsystem, category)
        except (EpadError, OSError) as error:
            self._context.log.error(
                "tools.no_worker", subsystem=subsystem, category=category, error=str(error)
            )
            return answers.failed(
                f"no worker of {category} could be started: {error}", "epactl doctor", "no_worker"
            )
        try:
            return await self._asked(turn, running, worker)
        finally:
            self._context.workers.give_back(subsystem, category, worker)

    async def _asked(self, turn: Turn, running: Running, worker: Worker) -> End:
        if running.stopped is not None:  # while the worker was started
            return answers.stopped(running)
        definition = turn.definition
        try:
            most = OUTPUT_BYTES if turn.reservation is None else turn.reservation.tokens
            call = call_name(turn.session.name, turn.turn)
            spill = SPILLED_BYTES if self._context.results is not None else 0
            asked = worker.ask(
                definition.name, turn.arguments, definition.timeout, most, call=call, spill_bytes=spill,
                stays=turn.session.taint == BOTH,
            )  # fmt: skip
            running.began(worker, asked)
            answer = await asked.within(definition.timeout + self._context.grace_seconds)
        except TimeoutError:
            worker.kill()
            why = f"the worker gave no answer within {definition.timeout + self._context.grace_seconds:g} s"
            return answers.failed(why, "ask for less", "timeout", ToolOutcome.TIMED_OUT)
        except WorkerLostError as error:
            return answers.failed(
                f"{error}; whether anything was done is unknown", "look before you call again", "worker_lost"
            )
        return answers.end_of(answer, running)

    def _close(self, turn: Turn, end: End) -> asyncio.Future[int]:
        """Have the end of a turn recorded; one that cannot be written stays unknown, and is told."""
        entry = closing_of(turn, end)
        if turn.reservation is not None:
            turn.reservation.settle(entry.charged_tokens)
        self._context.observe(event_of(turn, entry, self._context.clock.monotonic()))
        # Nobody waits for the end of a call that only read: it shares the commit of the next call's beginning.
        lazily = turn.risk in READS and end.outcome is not ToolOutcome.REFUSED
        closing = self._context.ledger.close_tool(entry, lazily=lazily)
        self._keep(closing, entry.turn, entry.subsystem)
        return closing

    def _keep(self, written: asyncio.Future[int], turn: str, subsystem: str) -> None:
        def done(future: asyncio.Future[int]) -> None:
            self._closing.discard(future)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._context.log.error("tool.not_closed", turn=turn, subsystem=subsystem, error=str(error))

        self._closing.add(written)
        written.add_done_callback(done)
