"""Playing rounds on a Ray cluster: the same campaign and store, each round a task on whatever machine is free."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import ray
import ray.exceptions

from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.opening import open_pool
from runners.wargame.endpoint.pool import Pool
from runners.wargame.outcomes import FailReason, RoundOutcome
from runners.wargame.play.controls import Control
from runners.wargame.play.round import Arena, RoundRecord
from runners.wargame.scenario.grammar import Card, Grammar
from runners.wargame.settings import Limits, Settings

ROUND_CPUS: Final = 0.25
"""A round mostly waits for its endpoint, so four of them share a processor."""
START_SECONDS: Final = 60.0
"""What a task may take on top of its round: a worker process has to be started for the first ones."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Holds a worker's needs to play any round of a run."""

    settings: Settings
    limits: Limits
    grammar: Grammar
    endpoints: tuple[Endpoint, ...]
    run_id: str
    attacker_endpoint: str


def play_round(errand: Errand, card: Card, attempt: int, shared_turns: tuple[str, ...]) -> RoundRecord:
    """On a worker: open the endpoints, play, close them."""

    async def play() -> RoundRecord:
        async with open_pool(errand.endpoints, errand.limits) as pool:
            return await _arena(errand, pool).play(card, attempt, shared_turns)

    return asyncio.run(play())


def _arena(errand: Errand, pool: Pool) -> Arena:
    return Arena(
        errand.settings, errand.limits, errand.grammar, pool, errand.run_id, errand.attacker_endpoint
    )


class RayPlayer:
    """Hands rounds to the cluster; the outcomes of their calls reach this process's breakers too."""

    def __init__(self, address: str | None, errand: Errand, pool: Pool) -> None:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        # A round that took its worker along is the store's to count, so Ray must not try again by itself.
        self._task: Any = ray.remote(num_cpus=ROUND_CPUS, max_retries=0)(play_round)
        self._errand = errand
        self._shared = ray.put(errand)
        self._pool = pool
        self._endpoint_of = {role.model: role.endpoint for role in errand.settings.roles}

    @property
    def slots(self) -> int:
        """Return how many rounds the cluster plays at once."""
        return max(1, int(ray.cluster_resources().get("CPU", 1) / ROUND_CPUS))

    async def play(self, card: Card, attempt: int, shared_turns: tuple[str, ...] = ()) -> RoundRecord:
        """Play one round somewhere. A worker that dies or does not come back fails the round, never the run."""
        reference = self._task.remote(self._shared, card, attempt, tuple(shared_turns))
        try:
            async with asyncio.timeout(self._errand.limits.round_seconds + START_SECONDS):
                record: RoundRecord = await reference
        except TimeoutError:
            ray.cancel(reference, force=True)
            return RoundRecord(card, RoundOutcome.failed(FailReason.DEADLINE))
        except ray.exceptions.RayError:
            return RoundRecord(card, RoundOutcome.failed(FailReason.INFRASTRUCTURE))
        self._learn(record)
        return record

    async def judge_control(self, control: Control, at_round: int) -> RoundRecord:
        """Controls are few: they are judged from here."""
        return await _arena(self._errand, self._pool).judge_control(control, at_round)

    def _learn(self, record: RoundRecord) -> None:
        now = asyncio.get_running_loop().time()
        for call in record.calls:
            name = self._endpoint_of.get(call.model, self._errand.attacker_endpoint)
            breaker = self._pool.client(name).breaker(call.model)
            breaker.record(call.reply.outcome, call.reply.status, call.reply.detail, now)
