"""What a row of bench/containment.py is judged by: holds as they are put on, phases, and every token charged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from virtual_daemon import VirtualDaemon
from virtual_time import VirtualTime

from epad.gateway.access import Access
from epad.observers import TurnFanout
from probes.subsystems import SubsystemState
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.containment import Rung

if TYPE_CHECKING:
    from _containment_world import Answer, Workload

OUTSIDERS = ("bystander", "neighbour", "spare", "bystander-two")

RESTED_SECONDS = 0.9
"""An answer that comes this late, where a refusal takes no time, was held back."""


@dataclass
class Charge:
    """A turn: when it was admitted, and what it cost in the end."""

    subsystem: str
    at: float
    tokens: int = 0
    done: bool = False


@dataclass
class Watch:
    """Remembers one row. Times are seconds since the clients began."""

    clock: VirtualTime
    contained: asyncio.Event = field(default_factory=asyncio.Event)
    holds: list[tuple[float, str, str, str]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    charges: dict[str, Charge] = field(default_factory=dict)
    refused: list[tuple[float, str, str]] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)
    streamed: list[tuple[float, int]] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    contained_at: float | None = None
    answers: list[float] = field(default_factory=list)
    _began: float = 0.0
    _rests: bool = False
    _onset: float = 0.0
    _detectors: list[str] = field(default_factory=list)
    _looking: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        return self.clock.loop.time() - self._began

    async def attach(self, daemon: VirtualDaemon, row: Workload) -> None:
        """Begin: from now on time counts."""
        self._began = self.clock.loop.time()
        self._rests, self._onset = row.rests, row.onset
        self._looking = asyncio.ensure_future(self._look(daemon))

    async def _look(self, daemon: VirtualDaemon) -> None:
        """Follow the events."""
        async with daemon.house.events.subscribe() as events:
            while True:
                event = await events.get()
                self._hear(event["kind"], event["subsystem"], event["fields"])
                for one in daemon.house.supervisor.snapshots():
                    if one.state is SubsystemState.FAILED and one.name not in self.given_up:
                        self.given_up.add(one.name)
                        self._contain(one.name)

    def _hear(self, kind: str, name: str, fields: Mapping[str, Any]) -> None:
        if kind == "phase.changed":
            self.phases.append((self.now, fields["destination"]))
        elif kind == "subsystem.exited" and not fields["wanted"]:
            self.exits.append(self.now)
        elif kind == "anomaly.raised":
            detector = (fields.get("evidence") or {}).get("detector") or fields["probe"]
            self._detectors.append(f"{name}:{detector}")
            self.troubles.append(f"{self.now:.0f} s {name} {fields['probe']}/{detector}: {fields['reason']}")

    def held(self, name: str, rung: Rung, reason: str) -> None:
        if self._looking is None or rung is Rung.OPEN:
            return
        self.holds.append((self.now, name, rung.label, reason))
        self._contain(name)

    def cut(self, name: str, code: str) -> None:
        """A client saw its answer ended by epad."""
        self.holds.append((self.now, name, "cut", code))
        self._contain(name)

    def _contain(self, name: str) -> None:
        if name not in OUTSIDERS and self.contained_at is None and self.now >= self._onset:
            self.contained_at = self.now
            self.contained.set()

    def admitted(self, event: TurnAdmitted) -> None:
        self.charges[event.turn] = Charge(event.subsystem, self.now)

    def finished(self, event: TurnFinished) -> None:
        charge = self.charges.get(event.turn)
        if charge is not None:
            charge.tokens, charge.done = event.charged_tokens, True

    def made(self, tokens: int) -> None:
        """The agent's server has streamed so many tokens."""
        self.streamed.append((self.now, tokens))

    def answered(self, name: str, seconds: float) -> None:
        """A client has its answer, or has none, after so long."""
        if name not in OUTSIDERS:
            self.answers.append(self.now)
            if self._rests and seconds >= RESTED_SECONDS:
                self._contain(name)

    def refusal(self, event: TurnRefused) -> None:
        self.refused.append((self.now, event.subsystem, event.code))

    def report(self, row: Workload, answers: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
        """Sum a row up."""
        if self._looking is not None:
            self._looking.cancel()
        own = [answer for name, each in answers.items() if name not in OUTSIDERS for answer in each]
        outside = [answer for name, each in answers.items() if name in OUTSIDERS for answer in each]
        outsiders_held = [hold for hold in self.holds if hold[1] in OUTSIDERS]
        bystander = [a for a in answers.get("bystander", []) if not a.ok]
        return {
            "name": row.name,
            "asked": len(own),
            "served": sum(answer.ok for answer in own),
            "held": [hold for hold in self.holds if hold[1] not in OUTSIDERS],
            "refused_by_hold": sum(answer.by_hold for answer in own),
            "outside_asked": len(outside),
            "outside_refused": len(bystander) + sum(a.by_hold for a in answers.get("neighbour", [])),
            "outsiders_held": outsiders_held,
            "phases": [phase for _, phase in self.phases],
            "troubles": self.troubles[:6],
            "contained_at": self.contained_at,
            "detectors": self._detectors[:4],
            "seconds": self.now,
            "ends": len(self.exits),
            **self._spent(row),
        }

    def _spent(self, row: Workload) -> dict[str, Any]:
        """What the runaway cost until it was contained, and what an oracle would have let through."""
        turns = sorted(
            (c for c in self.charges.values() if c.subsystem not in OUTSIDERS and c.at >= row.onset),
            key=lambda charge: charge.at,
        )
        match row.counts:
            case "requests":
                marks = [(charge.at, 1) for charge in turns]
                marks += [
                    (at, 1) for at, name, _ in self.refused if name not in OUTSIDERS and at >= row.onset
                ]
            case "answers":
                marks = [(at, 1) for at in self.answers]
            case "streamed":
                marks = self.streamed
            case "memory":
                marks = [(at - self._began, grown >> 20) for at, grown in _growth(self.memory)]
            case "starts":
                marks = [(at, 1) for at in self.exits]
            case _:
                marks = [(charge.at, charge.tokens) for charge in turns]
        marks.sort()
        until = self.contained_at if self.contained_at is not None else float("inf")
        spent = sum(amount for at, amount in marks if at <= until)
        later = sum(amount for at, amount in marks if at > until)
        first = [amount for _, amount in marks][: round(row.oracle_turns)]
        oracle = sum(first) / len(first) * row.oracle_turns if first else 0.0
        if row.counts in {"streamed", "memory"}:
            oracle = row.oracle_turns
        return {"spent": spent, "oracle": oracle, "later": later, "unit": row.counts}


def _growth(taken: Sequence[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """How much more was taken at each look than ever before, in bytes."""
    most = 0
    for at, size in taken:
        if size > most:
            yield at, size - most
            most = size


@contextmanager
def watching(clock: VirtualTime) -> Iterator[Watch]:
    """Hear of every hold and every turn of the daemon that is started within."""
    watch = Watch(clock)
    put, admitted, finished, refused = (
        Access.hold,
        TurnFanout.admitted,
        TurnFanout.finished,
        TurnFanout.refused,
    )

    def hold(access: Access, name: str, rung: Rung, reason: str, *more: Any, **named: Any) -> Any:
        watch.held(name, rung, reason)
        return put(access, name, rung, reason, *more, **named)

    def told_admitted(fanout: TurnFanout, event: TurnAdmitted) -> None:
        watch.admitted(event)
        admitted(fanout, event)

    def told_finished(fanout: TurnFanout, event: TurnFinished) -> None:
        watch.finished(event)
        finished(fanout, event)

    def told_refused(fanout: TurnFanout, event: TurnRefused) -> None:
        watch.refusal(event)
        refused(fanout, event)

    with (
        mock.patch.object(Access, "hold", hold),
        mock.patch.object(TurnFanout, "admitted", told_admitted),
        mock.patch.object(TurnFanout, "finished", told_finished),
        mock.patch.object(TurnFanout, "refused", told_refused),
    ):
        yield watch
