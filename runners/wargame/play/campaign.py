"""Plays the rounds that are still wanted: paced, paused while a model is down, each committed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

from runners.contract import Contract
from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.outcomes import RoundState
from runners.wargame.play.round import RoundRecord
from runners.wargame.scenario.grammar import Card, Grammar
from runners.wargame.settings import Limits, Settings
from runners.wargame.store import RunRow, Store

T = TypeVar("T")
Say = Callable[[str, dict[str, Any]], None]
"""How the campaign tells people what happened: a line to read, and the same as values."""


class PauseLimitError(Exception):
    """A model stayed down for longer than this run was told to wait."""


class Player(Protocol):
    """Whoever plays a round: here, or on another machine."""

    async def play(self, card: Card, attempt: int, shared_turns: tuple[str, ...] = ()) -> RoundRecord: ...


class Endpoints(Protocol):
    """Which models are down, and a way to try one."""

    @property
    def down(self) -> list[Breaker]: ...

    async def probe(self, breaker: Breaker) -> bool: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many rounds in all, how far apart, and how many pairs of them at a time."""

    rounds: int
    pace_seconds: float = 0.0
    pairs_in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Mission:
    """What is to be played, and within which limits."""

    run: RunRow
    grammar: Grammar
    settings: Settings
    limits: Limits
    schedule: Schedule

    def card(self, index: int) -> Card:
        """What round `index` is about."""
        return self.grammar.card(self.settings.seed, index, self.settings.splits)


class Campaign:
    """One process's work on a run; the store says what is left to do."""

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
        self._next_start = 0.0
        self._moved_at = self._now()
        self._is_paused = False
        self._done = 0

    async def play_all(self) -> None:
        """Play until every wanted round is final. Raises PauseLimitError or StoreError."""
        state, detail = "stopped", "asked to stop"
        try:
            await self._write(lambda: self._store.note(self._run_id, "running"))
            while pending := await self._pending():
                await self._play_pass(pending)
            state, detail = "done", ""
        except ExceptionGroup as group:
            detail = str(group.exceptions[0])
            raise group.exceptions[0] from None
        finally:
            await self._write(lambda: self._store.note(self._run_id, state, detail))
            self._thread.shutdown()

    @property
    def is_moving(self) -> bool:
        """Whether rounds end as they must, or the run is paused and says so."""
        patience = 2 * self._limits.round_seconds + self._schedule.pace_seconds
        return self._is_paused or self._now() - self._moved_at < patience

    async def _pending(self) -> list[tuple[int, int]]:
        """(index, attempt) of what is still to be played."""
        ended = await self._write(lambda: self._store.attempts(self._run_id))
        pending = []
        for index in range(self._schedule.rounds):
            state, attempt = ended.get(index, (RoundState.FAILED, 0))
            if state is RoundState.FAILED and attempt < self._limits.attempts_per_round:
                pending.append((index, attempt + 1))
        self._done = self._schedule.rounds - len(pending)
        self._tell_progress("resumed" if ended else "begun")
        return pending

    async def _play_pass(self, pending: Iterable[tuple[int, int]]) -> None:
        pairs = iter([list(pair) for _, pair in groupby(pending, key=lambda item: item[0] // 2)])

        async def work() -> None:
            # One iterator shared by all workers; a step of it has no await and is never interleaved.
            for pair in pairs:
                for index, attempt in pair:
                    await self._settle(index, attempt)

        async with asyncio.TaskGroup() as group:
            for number in range(self._schedule.pairs_in_flight):
                group.create_task(work(), name=f"pair-{number}")

    async def _settle(self, index: int, attempt: int) -> None:
        """Play one round until it is worth writing down, then commit it.

        A round that failed while a model is down is not burnt: it is played again after the pause, but
        not for ever, for a probe may succeed where the real question never does.
        """
        card = self._mission.card(index)
        shared = await self._write(lambda: self._store.turns(self._run_id, index ^ 1))
        await self._keep_pace()
        await self._wait_while_down()
        record = await self._player.play(card, attempt, shared)
        for _ in range(self._limits.replays_per_round):
            if record.outcome.state is not RoundState.FAILED or not self._endpoints.down:
                break
            await self._wait_while_down()
            record = await self._player.play(card, attempt, shared)
        await self._write(lambda: self._store.commit(self._run_id, record, attempt))
        final = record.outcome.state is not RoundState.FAILED or attempt >= self._limits.attempts_per_round
        self._done += final
        self._moved_at = self._now()
        self._tell_round(record)

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
        text = f"{self._mission.run.engine.upper()} round {self._done}/{self._schedule.rounds} {word}"
        self._contract.progress(self._done, self._schedule.rounds, text)

    def _tell_round(self, record: RoundRecord) -> None:
        card, decision = record.card, record.decision
        score = f"{decision.score:.2f}" if decision else "n/a"
        self._tell_progress(str(record.outcome))
        self._say(
            f"round {self._done}/{self._schedule.rounds} #{card.index} {record.outcome} score={score}"
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
                "done": self._done,
                "total": self._schedule.rounds,
            },
        )

    async def _write(self, work: Callable[[], T]) -> T:
        """Use the store in its own thread: a slow disk must not stop the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
