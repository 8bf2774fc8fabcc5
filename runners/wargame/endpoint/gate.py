"""Order the calls: attackers and defenders in turn, or one model's calls after another's if models are swapped."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

BATCH: Final = 64
"""Calls that one model gets while others wait; a swap costs seconds, so not fewer."""


class Gate:
    """A place for each call in flight, up to a limit that may change at any time."""

    def __init__(self, limit: Callable[[], int], loaded_models: int = 0) -> None:
        self._limit = limit
        self._loaded_models = loaded_models
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._inside: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        self._loaded: list[str] = []

    @property
    def in_flight(self) -> int:
        return self._inside.total()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    def enter_at_once(self, lane: str) -> str | None:
        """Take a free place if nobody waits for it: the usual case, without the cost of waiting. None if not so."""
        if self._loaded_models or self._waiting or self.in_flight >= self._limit():
            return None
        self._inside[lane] += 1
        return lane

    async def enter(self, lane: str, model: str) -> str:
        """Wait for a place; return the key to leave with."""
        key = model if self._loaded_models else lane
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(key)  # the place was given in the moment of the cancellation
            else:
                self._forget(key, place)
            raise
        return key

    def leave(self, key: str) -> None:
        """Give a place back."""
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]
        self._admit()

    def _forget(self, key: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[key]

    def _admit(self) -> None:
        while self._waiting and self.in_flight < self._limit():
            key = self._next()
            if key is None:
                return
            queue = self._waiting.pop(key)
            place = queue.popleft()
            if queue:
                self._waiting[key] = queue  # to the end: the lanes take turns
            if not place.done():
                self._inside[key] += 1
                self._served[key] += 1
                place.set_result(None)

    def _next(self) -> str | None:
        """Choose the next call: a loaded model's until its batch is over, then one of the most awaited model."""
        if not self._loaded_models:
            return next(iter(self._waiting))
        fresh = [key for key in self._waiting if key not in self._loaded]
        for key in self._waiting:
            if key in self._loaded and not (fresh and self._served[key] >= BATCH):
                return key
        idle = [key for key in self._loaded if not self._inside[key]]
        if not fresh or (len(self._loaded) >= self._loaded_models and not idle):
            return None
        if len(self._loaded) >= self._loaded_models:
            self._loaded.remove(idle[0])
        chosen = max(fresh, key=lambda key: len(self._waiting[key]))
        self._loaded.append(chosen)
        self._served[chosen] = 0
        return chosen
