"""Run the way out for the daemon: keep its process going, give it doors and rules, hear its reports, answer questions.

The process is started with the first door, and again whenever it ends. It holds every connection of every cell, so the
daemon's own loop carries none of their bytes. Whatever happens, it fails closed:

| event | data that passes then |
|---|---|
| the process dies | nothing: its connections end with it, and who connects waits for the next process |
| the daemon dies | nothing: the process sees the channel end, cuts everything and ends |
| a door is closed | nothing of that subsystem; a process that has not cut it in time is killed |
| an approval is revoked | nothing to that host and port, unless the policy names it; a process as above is killed |
| the session gets private content | nothing to a host that a person has not allowed it knowingly: cut, as above |
| either side reads no more | that of open connections, until the channel is full; then the process ends |
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from epad.confinement.approvals import (
    ANSWER_SECONDS,
    APPROVED_SECONDS,
    MOST_OPEN,
    NO_WORDS,
    Asks,
    Question,
    State,
)
from epad.confinement.authorities import python_path
from epad.confinement.door_secrets import DoorSecrets
from epad.confinement.guard import NO_GUARD
from epad.confinement.host_questions import HostQuestions, HostSubject
from epad.confinement.metrics import EGRESS_QUESTIONS, EGRESS_STARTS
from epad.confinement.policy import Policy
from epad.confinement.tool_doors import subsystem_of
from epad.confinement.way_out_context import WayOutContext
from epad.runtime.side_tasks import Tasks
from epad.storage.event_log import EventKind
from runners.egress.channel import Channel
from runners.egress.messages import (
    INTERCEPT,
    CloseDoor,
    CutHost,
    Decide,
    Event,
    OpenDoor,
    Order,
    Secret,
    write_order,
)
from runners.egress.messages import EventKind as Reported
from runners.egress.refusal import Why
from runners.egress.rules import first_match

RESTART_SECONDS: Final = 0.2
"""Between two starts at least: one that cannot run at all is not tried more often."""
CUT_SECONDS: Final = 1.0
"""A door that is told to close is closed within a few milliseconds; a process that is stuck is killed after this."""
_END_SECONDS: Final = 1.0
_PASSED_ON: Final = (
    *("PATH", "LD_LIBRARY_PATH", "RES_OPTIONS", "LOCALDOMAIN"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)


class WayOut:
    """The doors that are open, and the process behind them."""

    def __init__(self, context: WayOutContext) -> None:
        self._context = context
        self._log: FilteringBoundLogger = structlog.get_logger("epad.confinement")
        self._doors: dict[str, socket.socket] = {}
        self._told: dict[str, OpenDoor] = {}
        self._cutting: dict[tuple[str, str, int], asyncio.Future[int]] = {}
        self._wanted = asyncio.Event()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._side = Tasks(self._log)
        self._filling = asyncio.Lock()
        self._filled = DoorSecrets()

    @property
    def pid(self) -> int | None:
        """Return the process's number, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def approvals(self) -> HostQuestions:
        """Return the questions, for whoever shows them; `approve` and `deny` here answer them."""
        return self._context.approvals

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        """Let a subsystem out by a listener, which belongs to the way out from now on."""
        self._drop(subsystem)
        self._doors[subsystem] = listening
        self._wanted.set()
        await self._fill(subsystem)

    async def close(self, subsystem: str) -> None:
        """Cut all that is open through a subsystem's door, and let nothing more through. Its questions are denied."""
        waited = self._context.approvals.deny_all(subsystem, "the subsystem is held")
        self._decide(
            waited, allow=False, why=Why.DENIED, words=f"{subsystem} is held: nothing of it goes out"
        )
        known = subsystem in self._told
        self._drop(subsystem)
        if known:
            await self._cut(CloseDoor(subsystem), (subsystem, "", 0))

    async def revoke(self, subject: HostSubject, reason: str = "") -> int | None:
        """Take an approval back, and cut what is open by it; return how many connections that were.

        None: there was no approval. A host that the policy names itself stays open.
        """
        if not self._context.approvals.revoke(subject):
            return None
        self._tell(subject.subsystem)
        self._set_timer()
        cut = 0
        if not self._is_named(subject) and subject.subsystem in self._told:
            place = (subject.subsystem, subject.host, subject.port)
            cut = await self._cut(CutHost(*place), place)
        fields = {"host": subject.host, "port": subject.port, "cut": cut, "reason": reason}
        self._context.events.emit(EventKind.EGRESS_REVOKED, subject.subsystem, **fields)
        return cut

    async def guard(self, subsystem: str) -> None:
        """Obey the labels of a subsystem's session from now on, also where a connection is open already."""
        self._tell(subsystem)
        told = self._told.get(subsystem)
        guard = self._context.guards(subsystem)
        if told is not None and guard is not None and guard.session and not told.asks_all:
            self._log.error("egress.not_guarded", subsystem=subsystem, effect="the way out is killed")
            self._kill()  # it could not be told, and must not go on as before
        elif told is not None and told.asks_all:
            await self._cut(CutHost(subsystem, "", 0), (subsystem, "", 0))

    def moved(self, subject: HostSubject) -> tuple[int, int]:
        """Return how many bytes a subsystem has sent to a host, and received from it, in this run of the daemon."""
        return self._context.record.moved(subject)

    def policy(self, subsystem: str) -> Policy:
        """Return a subsystem's policy as of now, without the approvals beside it."""
        return self._context.policies(subsystem)

    def _is_named(self, subject: HostSubject) -> bool:
        """Tell if the policy itself allows a host, whatever the session has read."""
        rules = () if subject.session else self.policy(subject.subsystem).hosts
        return first_match(rules, subject.host, subject.port) is not None

    async def _cut(self, order: CloseDoor | CutHost, place: tuple[str, str, int]) -> int:
        """Have connections cut, and wait until they are; return how many. A process that does not is killed."""
        if self._channel is None:
            return 0
        cut = self._cutting.setdefault(place, asyncio.get_running_loop().create_future())
        self._send(order)
        try:
            async with asyncio.timeout(CUT_SECONDS):
                return await asyncio.shield(cut)
        except TimeoutError:
            effect = "the way out is killed, and another started"
            self._log.error("egress.not_cut", subsystem=order.door, effect=effect)
            self._kill()
            return 0
        finally:
            self._cutting.pop(place, None)

    def configure(self) -> None:
        """Give every open door the rules as they are now; open connections stay."""
        for subsystem in self._doors:
            self._tell(subsystem)

    def approve(
        self, number: int, seconds: float | None = APPROVED_SECONDS, reason: str = ""
    ) -> Question[HostSubject]:
        """Allow the host that a question asks for; None: for ever. Raises ApprovalError."""
        waited = self._context.approvals.approve(number, seconds, reason)
        question = self._decided(number)
        self._tell(question.subject.subsystem)
        self._decide(waited, allow=True)
        self._set_timer()
        return question

    def deny(self, number: int, reason: str = "") -> Question[HostSubject]:
        """Deny the host that a question asks for. Raises ApprovalError."""
        waited = self._context.approvals.deny(number, reason)
        question = self._decided(number)
        self._decide(waited, allow=False, why=Why.DENIED, words=f"{question.subject} was denied by a person")
        self._set_timer()
        return question

    async def run(self) -> None:
        """Keep the process going until cancelled; every door is closed then."""
        loop = asyncio.get_running_loop()
        try:
            await self._wanted.wait()
            while True:
                next_at = loop.time() + RESTART_SECONDS
                await self._run_one()
                await asyncio.sleep(next_at - loop.time())
        finally:
            for subsystem in tuple(self._doors):
                self._drop(subsystem)
            if self._timer is not None:
                self._timer.cancel()
            await self._side.cancel()
            self._context.record.settle()

    async def _run_one(self) -> None:
        """Start the process, and hear it until it ends."""
        ours, theirs = Channel.pair()
        ended = asyncio.Event()
        try:
            self._process = self._spawn(theirs)
        except OSError as error:
            ours.close()
            self._log.error(
                "egress.not_started", error=error.strerror, effect="no subsystem reaches any host"
            )
            return
        finally:
            theirs.close()
        self._context.metrics.of(EGRESS_STARTS).inc()
        self._channel = Channel(ours, self._hear, ended.set)
        try:
            for subsystem in tuple(self._doors):
                await self._fill(subsystem)
            await ended.wait()
            self._log.warning(
                "egress.ended", pid=self.pid, effect="all its connections are cut; another is started"
            )
        finally:
            self._channel.close()
            self._channel = None
            await self._reap(self._process)
            self._forget_all()

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        words = [INTERCEPT] if any(map(self._context.authority, self._doors)) else []
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return subprocess.Popen(
            (sys.executable, "-P", "-S", "-m", "runners.egress", str(theirs.fileno()), *words),
            env={**environment, "PYTHONPATH": python_path()},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )

    async def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        self._process = None
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, _END_SECONDS)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _forget_all(self) -> None:
        """Forget the orders given to a process that has ended, and put an end to its connections on record."""
        self._told.clear()
        self._filled = DoorSecrets()
        self._context.record.lost()
        self._context.approvals.withdraw_all()
        for cut in self._cutting.values():
            if not cut.done():
                cut.set_result(0)

    def _drop(self, subsystem: str) -> None:
        self._told.pop(subsystem, None)
        self._filled.forget(subsystem)
        listening = self._doors.pop(subsystem, None)
        if listening is not None:
            listening.close()

    async def secret_changed(self, name: str) -> None:
        """Give open doors a secret's new value; what was filled in before goes on. Empty: any may have changed."""
        for subsystem in tuple(self._doors):
            held = {one.name for one in self._context.policies(subsystem).secrets}
            if name in held or (held and not name):
                await self._fill(subsystem)

    def _tell(self, subsystem: str) -> None:
        """Open a subsystem's door, once its secrets are; or change the rules of an open one, at once."""
        has_secrets = bool(self._context.policies(subsystem).secrets)
        if has_secrets:
            self._side.start(self._fill(subsystem), "secrets of a door")
        if not has_secrets or subsystem in self._told:
            self._order(subsystem, None if has_secrets else ())

    async def _fill(self, subsystem: str) -> None:
        """Open a subsystem's door with its secrets, or give it those that have changed."""
        if not self._context.policies(subsystem).secrets:
            self._order(subsystem, ())
            return
        async with self._filling:  # so the newest values are those that are given last
            if self._channel is None or subsystem not in self._doors:
                return  # the next process is given them, when it starts
            secrets = await self._context.secrets(self._context.policies(subsystem))
            if self._filled.differ(subsystem, secrets) and self._order(subsystem, secrets):
                self._filled.given(subsystem, secrets)

    def _order(self, subsystem: str, secrets: tuple[Secret, ...] | None) -> bool:
        """Send a door's rules, and its secrets (None: it keeps those that it has); tell if the door has them now."""
        listening, guard = self._doors.get(subsystem), self._context.guards(subsystem)
        if listening is None or self._channel is None or guard is None:
            return False
        policy, approvals = self._context.policies(subsystem), self._context.approvals
        approvals.forget(subsystem, guard.session)
        rules = (*policy.hosts, *approvals.rules(subsystem))
        agreed = map(str, approvals.rules(subsystem, guard.session) if guard.session else ())
        order = OpenDoor(
            subsystem,
            tuple(dict.fromkeys(map(str, rules))),
            policy.ask,
            secrets=secrets,
            decoys=self._context.decoys(),
            authority=self._context.authority(subsystem),
            asks_all=bool(guard.session),
            agreed=tuple(agreed),
        )
        known, kept = self._told.get(subsystem), replace(order, secrets=None)
        if kept == known and not (secrets or (secrets is not None and self._filled.has(subsystem))):
            return True
        try:
            self._send(order, [listening.fileno()] if known is None else ())
        except ValueError as error:
            effect = "its door stays closed" if known is None else "the rules stay as they were"
            self._log.error("egress.not_told", subsystem=subsystem, error=str(error), effect=effect)
            return False
        self._told[subsystem] = kept
        if not secrets and secrets is not None:
            self._filled.forget(subsystem)
        return True

    def _send(self, order: Order, descriptors: Sequence[int] = ()) -> None:
        if self._channel is not None:
            self._channel.send(write_order(order), descriptors)

    def _hear(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Take in a report. One that the way out never makes ends it."""
        del descriptors
        try:
            event = msgspec.convert(json.loads(message), Event)
        except (ValueError, msgspec.ValidationError) as error:
            self._log.error("egress.unknown_report", error=str(error)[:200], effect="the way out is killed")
            self._kill()
            return
        match event.kind:
            case Reported.ASKED:
                self._ask(event)
            case Reported.WITHDRAWN:
                if question := self._context.approvals.withdraw(event.connection):
                    self._end(question)
            case Reported.CUT:
                cut = self._cutting.get((event.door, event.host, event.port))
                if cut is not None and not cut.done():
                    cut.set_result(event.count)
            case Reported.FILLED:
                self._context.used(event.words, subsystem_of(event.door), event.host)
            case _:
                self._context.record.take(event)

    def _ask(self, event: Event) -> None:
        """Put a connection's question, or answer it as a person has answered before."""
        guard = self._context.guards(event.door) or NO_GUARD
        subject = HostSubject(event.door, event.host, event.port, guard.session)
        asks = Asks(line=f"{subject}; {guard.words}", labels=guard.labels) if guard.session else NO_WORDS
        question = self._context.approvals.ask(subject, event.connection, asks)
        if question is None:
            words = (
                f"{MOST_OPEN} questions of {event.door} are open already: try again when they are answered"
            )
            self._decide([event.connection], allow=False, why=Why.TOO_MANY_QUESTIONS, words=words)
        elif question.state is not State.OPEN:
            allow = question.state is State.ALLOWED
            words = "" if allow else f"{subject} was denied by a person"
            self._decide([event.connection], allow=allow, why=Why.DENIED, words=words)
        elif question.waiting == [event.connection]:
            self._set_timer()
            self._side.start(self._tell_question(question, event.peer), "question")

    async def _tell_question(self, question: Question[HostSubject], port: int) -> None:
        """Put a question on record, with the program that asks."""
        subject = question.subject
        question.program = await self._context.program(subject.subsystem, port) or question.program
        fields = {"host": subject.host, "port": subject.port, "program": question.program}
        self._context.events.emit(
            EventKind.EGRESS_ASKED, subject.subsystem, question=question.number, **fields
        )

    def _decide(self, connections: Sequence[int], *, allow: bool, why: str = "", words: str = "") -> None:
        for connection in connections:
            self._send(Decide(connection, allow, why, words))

    def _decided(self, number: int) -> Question[HostSubject]:
        """Put a person's answer on record."""
        [question] = [one for one in self._context.approvals.all() if one.number == number]
        self._end(question)
        return question

    def _end(self, question: Question[HostSubject]) -> None:
        subject = question.subject
        self._context.metrics.of(EGRESS_QUESTIONS).labels(subject.subsystem, question.state).inc()
        fields = {
            "question": question.number,
            "host": subject.host,
            "port": subject.port,
            "answer": question.state,
        }
        self._context.events.emit(
            EventKind.EGRESS_DECIDED, subject.subsystem, **fields, reason=question.reason
        )

    def _set_timer(self) -> None:
        """Look again when a question's time is up, or an approval ends."""
        if self._timer is not None:
            self._timer.cancel()
        at = self._context.approvals.next_change()
        delay = None if at is None else max(0.0, at - self._context.approvals.now())
        self._timer = None if delay is None else asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        """Refuse connections that were not answered in time, and end approvals whose time is over."""
        for question in self._context.approvals.expire():
            words = (
                f"nobody answered question {question.number} within {ANSWER_SECONDS:g} s: "
                f"after `epactl approve {question.number}` the next try passes"
            )
            waited, question.waiting = question.waiting, []
            self._decide(waited, allow=False, why=Why.UNANSWERED, words=words)
            self._end(question)
        self.configure()
        self._set_timer()
