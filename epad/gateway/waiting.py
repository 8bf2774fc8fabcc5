"""Queue the requests that wait for room in a budget, in the order in which they came.

A waiting request is tried again whenever a turn has given back its unused part, and when a window is due to free room.
One that cannot go on holds up those behind it in the same scope, and no others. A request that is given up, by its
client or for its time, leaves the queue.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from epad.gateway.budget import Budgets
from epad.gateway.limits import Refused

T = TypeVar("T")
Attempt = Callable[[bool, bool], T | Refused]

# A waiting request holds its body in memory.
MOST_WAITING = 1_024
# How often what waits is looked at when nothing happens: a hold, or a change of the budgets, is noticed by then.
_LOOK_SECONDS = 1.0
# A window frees at the edge of a bucket; asked a moment too early, the answer would be the same as before.
_EDGE_SECONDS = 0.01


@dataclass(eq=False, slots=True)
class _Waiter(Generic[T]):
    subsystem: str
    scopes: tuple[str, ...]
    attempt: Attempt[T]
    refused: Refused
    ended: asyncio.Future[T | Refused] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Waiting(Generic[T]):
    """Queues requests. `attempt(last, queued)` reserves, or names the limit in the way.

    `last` takes all the room there is; `queued` tells that the turn is counted among those that wait. `undo` gives the
    reservation back if the client went away at that moment.
    """

    def __init__(self, budgets: Budgets, seconds: float, undo: Callable[[T], None]) -> None:
        self._budgets = budgets
        self._seconds = seconds
        self._undo = undo
        self._queue: list[_Waiter[T]] = []
        self._count: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, subsystem: str, attempt: Attempt[T]) -> T | Refused:
        """Reserve, now or within the time that a request waits. Raises the errors of `attempt`."""
        scopes = self._budgets.scopes_of(subsystem)
        ahead = self._blocked_by(scopes)
        got = attempt(False, False) if ahead is None else ahead
        if not isinstance(got, Refused):
            return got
        if not self.worth(got) or self._count[subsystem] >= MOST_WAITING:
            return attempt(True, False) if ahead is None else got
        return await self._wait(_Waiter(subsystem, scopes, attempt, got))

    @property
    def anybody(self) -> bool:
        """Tell if any request waits."""
        return bool(self._queue)

    def changed(self) -> None:
        """Something was given back: let those go on who can, in order."""
        if self._queue:
            self._look()

    def close(self, error: Exception) -> None:
        """Turn away whoever waits."""
        for waiter in list(self._queue):
            if not waiter.ended.done():
                waiter.ended.set_exception(error)

    async def _wait(self, waiter: _Waiter[T]) -> T | Refused:
        self._queue.append(waiter)
        self._count[waiter.subsystem] += 1
        self._budgets.wait(waiter.subsystem, by=1)
        self._set_timer()
        try:
            async with asyncio.timeout(self._seconds):
                return await waiter.ended
        except TimeoutError:
            if waiter.ended.done() and not waiter.ended.cancelled():
                return waiter.ended.result()
            return waiter.attempt(True, True)
        except asyncio.CancelledError:
            if waiter.ended.done() and not waiter.ended.cancelled() and waiter.ended.exception() is None:
                got = waiter.ended.result()
                if not isinstance(got, Refused):
                    self._undo(got)
            raise
        finally:
            self._leave(waiter)

    def _leave(self, waiter: _Waiter[T]) -> None:
        self._queue.remove(waiter)
        self._count[waiter.subsystem] -= 1
        if not self._count[waiter.subsystem]:
            del self._count[waiter.subsystem]
        self._budgets.wait(waiter.subsystem, by=-1)
        if self._queue:
            # Whoever was behind it may be first now.
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        blocked: set[str] = set()
        for waiter in list(self._queue):
            if waiter.ended.done() or not blocked.isdisjoint(waiter.scopes):
                continue
            try:
                got = waiter.attempt(False, True)
            except Exception as error:  # it is the waiting request's own, and raised there
                waiter.ended.set_exception(error)
                continue
            if isinstance(got, Refused):
                waiter.refused = got
                blocked.add(got.scope)
                if got.permanent:
                    waiter.ended.set_result(got)
            else:
                waiter.ended.set_result(got)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [w.refused.retry_after_seconds for w in self._queue if not w.ended.done()]
        if waits:
            seconds = min(_LOOK_SECONDS, max(0.0, min(waits)) + _EDGE_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _blocked_by(self, scopes: tuple[str, ...]) -> Refused | None:
        """Return the limit that someone who came before waits for, in any of these scopes."""
        for waiter in self._queue:
            if not waiter.ended.done() and waiter.refused.scope in scopes:
                return waiter.refused
        return None

    def worth(self, refused: Refused) -> bool:
        """Say whether there may be room in time: a window frees some, or a turn in flight gives some back."""
        if refused.permanent or not self._seconds:
            return False
        return refused.retry_after_seconds <= self._seconds or self._budgets.under_way(refused.scope)
