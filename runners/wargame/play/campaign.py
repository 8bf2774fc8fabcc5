"""Plays the rounds that are still wanted: paced, paused while a model is down, each committed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final, Protocol, TypeVar

from runners.contract import Contract
from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.outcomes import FailReason, RoundOutcome, RoundState
from runners.wargame.play.controls import EVERY_ROUNDS, Control, judge, load_controls
from runners.wargame.play.round import RoundRecord
from runners.wargame.play.tripwires import Tripwires
from runners.wargame.scenario.grammar import Card, Grammar
from runners.wargame.settings import Limits, Settings
from runners.wargame.store import RunRow, Store

POISON_DEATHS: Final = 3
"""Deaths of the process in a row with this round alone in flight, before the round is to blame."""
FEW_SUSPECTS: Final = 8
"""More rounds than these left in flight are suspected from their second death on, for playing alone takes time."""

T = TypeVar("T")
Say = Callable[[str, dict[str, Any]], None]
"""How the campaign tells people what happened: a line to read, and the same as values."""


class PauseLimitError(Exception):
    """A model stayed down for longer than this run was told to wait."""


class Player(Protocol):
    """Plays a round: here, or on another machine."""

    async def play(self, card: Card, attempt: int, shared_turns: tuple[str, ...] = ()) -> RoundRecord: ...

    async def judge_control(self, control: Control, at_round: int) -> RoundRecord: ...


class Endpoints(Protocol):
    """Reports the models that are down, tries one, and counts the rounds that keep the others busy."""

    @property
    def down(self) -> list[Breaker]: ...

    @property
    def wanted_rounds(self) -> int: ...

    async def probe(self, breaker: Breaker) -> bool: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Sets how many rounds in all, how far apart, how many pairs at a time (0: as many as the endpoints can take)."""

    rounds: int
    pace_seconds: float = 0.0
    pairs_in_flight: int = 1
    control_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Mission:
    """Holds the rounds to play, and the limits."""

    run: RunRow
    grammar: Grammar
    settings: Settings
    limits: Limits
    schedule: Schedule

    def card(self, index: int) -> Card:
        """Return the card of round `index`."""
        return self.grammar.card(self.settings.seed, index, self.settings.splits)


class Campaign:
    """Does one process's work on a run; the store holds the remaining rounds."""

    def __init__(
        self,
        mission: Mission,
        player: Player,
        endpoints: Endpoints,
        store: Store,
        contract: Contract,
        say: Say,
    ) -> None:
        self._mission = mission
        self._limits = mission.limits
        self._schedule = mission.schedule
        self._run_id = mission.run.run_id
        self._player = player
        self._endpoints = endpoints
        self._store = store
        self._contract = contract
        self._say = say
        self._gate = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._tripwires = Tripwires()
        self._next_start = 0.0
        self._next_control = 0
        self._moved_at = self._now()
        self._is_paused = False
        self.done = self.scored = self.in_flight = 0

    async def play_all(self) -> None:
        """Play until every wanted round is final. Raises PauseLimitError or StoreError."""
        state, detail = "stopped", "asked to stop"
        try:
            await self._write(lambda: self._store.note(self._run_id, "running"))
            await self._play_suspects()
            while pending := await self._pending():
                await self._play_pass(pending)
            state, detail = "done", ""
        except PauseLimitError as error:
            detail = str(error)
            raise
        except ExceptionGroup as group:
            detail = str(group.exceptions[0])
            raise group.exceptions[0] from None
        finally:
            await self._write(lambda: self._store.note(self._run_id, state, detail))
            await self._write(lambda: self._store.release(self._run_id))
            self._thread.shutdown()

    @property
    def is_paused(self) -> bool:
        """Tell if a model is down and everything waits for it."""
        return self._is_paused

    @property
    def is_moving(self) -> bool:
        """Tell if rounds end as they must, or the run is paused and reports it."""
        patience = 2 * self._limits.round_seconds + self._schedule.pace_seconds
        return self._is_paused or self._now() - self._moved_at < patience

    async def _pending(self) -> list[tuple[int, int]]:
        """Return (index, attempt) of the rounds still to be played."""
        ended = await self._write(lambda: self._store.attempts(self._run_id))
        pending = []
        for index in range(self._schedule.rounds):
            state, attempt = ended.get(index, (RoundState.FAILED, 0))
            if state is RoundState.FAILED and attempt < self._limits.attempts_per_round:
                pending.append((index, attempt + 1))
        self.done = self._schedule.rounds - len(pending)
        self.scored = sum(
            state is RoundState.SCORED for index, (state, _) in ended.items() if index < self._schedule.rounds
        )
        self._tell_progress("resumed" if ended else "begun")
        return pending

    async def _play_suspects(self) -> None:
        """Play alone the rounds in flight at a process's death, and skip one that has killed it three times alone."""
        claims = await self._write(lambda: self._store.claims(self._run_id))
        often = 1 if len(claims) <= FEW_SUSPECTS else 2
        suspects = {index: alone for index, (begun, alone) in claims.items() if begun >= often}
        pending = await self._pending() if suspects else []
        # The worst suspect first: a commit of any other would clear it.
        for index, attempt in sorted(pending, key=lambda pair: (-suspects.get(pair[0], 0), pair[0])):
            if suspects.get(index, 0) >= POISON_DEATHS:
                poisoned = RoundRecord(self._mission.card(index), RoundOutcome.failed(FailReason.POISON))
                await self._commit(poisoned, self._limits.attempts_per_round)
            elif index in suspects:
                await self._settle(index, attempt, alone=True)

    async def _play_pass(self, pending: Iterable[tuple[int, int]]) -> None:
        """Start each pair as soon as there is room, so that the attacker writes one while another is judged."""
        running: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for number, pair in groupby(pending, key=lambda item: item[0] // 2):
                while len(running) >= self._room:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                await self._run_controls()
                task = group.create_task(self._play_pair(list(pair)), name=f"pair-{number}")
                running.add(task)
                task.add_done_callback(running.discard)

    @property
    def _room(self) -> int:
        return self._schedule.pairs_in_flight or self._endpoints.wanted_rounds

    async def _play_pair(self, pair: Iterable[tuple[int, int]]) -> None:
        for index, attempt in pair:
            await self._settle(index, attempt)

    async def _settle(self, index: int, attempt: int, *, alone: bool = False) -> None:
        """Play one round until it is worth writing down, then commit it.

        A round that failed while a model is down is not burnt: it is played again after the pause, but
        not for ever, for a probe may succeed where the real question never does.
        """
        card = self._mission.card(index)
        shared = await self._write(lambda: self._store.turns(self._run_id, index ^ 1))
        await self._keep_pace()
        await self._wait_while_down()
        await self._write(lambda: self._store.claim(self._run_id, index, alone=alone))
        self.in_flight += 1
        try:
            record = await self._player.play(card, attempt, shared)
            for _ in range(self._limits.replays_per_round):
                if record.outcome.state is not RoundState.FAILED or not self._endpoints.down:
                    break
                await self._wait_while_down()
                record = await self._player.play(card, attempt, shared)
        finally:
            self.in_flight -= 1
        await self._commit(record, attempt)

    async def _commit(self, record: RoundRecord, attempt: int) -> None:
        await self._write(lambda: self._store.commit(self._run_id, record, attempt))
        final = record.outcome.state is not RoundState.FAILED or attempt >= self._limits.attempts_per_round
        self.done += final
        self.scored += record.outcome.state is RoundState.SCORED
        self._moved_at = self._now()
        self._tell_round(record)
        for alarm in self._tripwires.see(record):
            await self._write(partial(self._store.note_event, self._run_id, "tripwire", alarm))
            self._say(f"TRIPWIRE: {alarm}", {"event": "tripwire", "detail": alarm})

    async def _run_controls(self) -> None:
        """Let the swarm judge known conversations, at the start and every two hundred rounds."""
        if not self._schedule.control_pairs or self.done < self._next_control:
            return
        at_round = self.done // EVERY_ROUNDS * EVERY_ROUNDS
        self._next_control = at_round + EVERY_ROUNDS
        known = await self._write(lambda: self._store.controls(self._run_id))
        if at_round in known:
            return
        results, statements = [], []
        for control in load_controls(self._schedule.control_pairs):
            record = await self._judge_control(control, at_round)
            flagged = record.decision.flagged if record.decision else None
            results.append((control.label, flagged))
            values = (self._run_id, at_round, control.number, str(control.label), flagged, record.letters)
            statements.append(("INSERT INTO control VALUES(?, ?, ?, ?, ?, ?)", values))
            self._moved_at = self._now()
        # All of them or none: half a control would pass for a whole one after a kill.
        await self._write(lambda: self._store.write(statements))
        if fault := judge(results).fault:
            self._say(f"INVALID CONTROL: {fault}", {"event": "invalid_control", "detail": fault})

    async def _judge_control(self, control: Control, at_round: int) -> RoundRecord:
        await self._wait_while_down()
        record = await self._player.judge_control(control, at_round)
        if record.decision is None and self._endpoints.down:
            await self._wait_while_down()
            record = await self._player.judge_control(control, at_round)
        return record

    async def _keep_pace(self) -> None:
        slot = max(self._now(), self._next_start)
        self._next_start = slot + self._schedule.pace_seconds
        await asyncio.sleep(slot - self._now())

    async def _wait_while_down(self) -> None:
        """Hold every worker while a model is down, and try it at its own times."""
        async with self._gate:
            if not self._endpoints.down:
                return
            self._is_paused = True
            try:
                await self._pause(self._now())
            finally:
                self._is_paused = False
                self._moved_at = self._now()

    async def _pause(self, since: float) -> None:
        limit = self._limits.pause_limit_seconds
        await self._tell_state("paused", self._endpoints.down[0].reason)
        while down := self._endpoints.down:
            left = since + limit - self._now() if limit else float("inf")
            if left <= 0:
                raise PauseLimitError(f"paused for {limit:.0f} s: {down[0].reason}")
            wait = max(0.0, down[0].retry_at - self._now())
            await asyncio.sleep(min(wait, left))
            if wait <= left:
                await self._endpoints.probe(down[0])
        await self._tell_state("running", "answering again")

    async def _tell_state(self, state: str, detail: str) -> None:
        await self._write(lambda: self._store.note(self._run_id, state, detail))
        self._contract.status(f"{state.upper()}: {detail}")
        self._say(f"{state.upper()}: {detail}", {"event": state, "detail": detail})

    def _tell_progress(self, word: str) -> None:
        text = f"{self._mission.run.engine.upper()} round {self.done}/{self._schedule.rounds} {word}"
        self._contract.progress(self.done, self._schedule.rounds, text)

    def _tell_round(self, record: RoundRecord) -> None:
        card, decision = record.card, record.decision
        score = f"{decision.score:.2f}" if decision else "n/a"
        self._tell_progress(str(record.outcome))
        self._say(
            f"round {self.done}/{self._schedule.rounds} #{card.index} {record.outcome} score={score}"
            f" votes={record.letters or 'none'} {card.category}/{card.family} {record.duration_seconds:.2f}s",
            {
                "event": "round",
                "index": card.index,
                "label": card.label,
                "category": card.category,
                "family": card.family,
                "state": record.outcome.state,
                "outcome": record.outcome.reason,
                "score": decision.score if decision else None,
                "votes": record.letters,
                "duration_seconds": round(record.duration_seconds, 3),
                "done": self.done,
                "total": self._schedule.rounds,
            },
        )

    async def _write(self, work: Callable[[], T]) -> T:
        """Use the store in its own thread: a slow disk must not stop the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
