"""Keep the workers of tools: one for each subsystem and category, started at its first call, ended when idle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from epad.tools.listing import Work
from epad.tools.worker import Worker, WorkerLostError
from epad.tools.worker_cell import Started

IDLE_SECONDS: Final = 300.0
MOST_WORKERS: Final = 64
"""Interpreters of 20 MiB each; the idle one that was used least recently makes room."""

Key = tuple[str, str]
"""A subsystem and a category."""


class Starter(Protocol):
    """Starts workers; `epad/tools/worker_cell.py` does it in cells."""

    async def start(self, subsystem: str, category: str, ended: Callable[[], None]) -> Started:
        """Start a worker. Raises EpadError."""
        ...

    def settings(self, subsystem: str) -> object:
        """Return the settings that a worker is started by, to be compared: with others it is started anew."""
        ...


@dataclass(slots=True)
class _Kept:
    """Holds a worker, its settings, the calls that use it, and the timer that ends it once none does."""

    worker: Worker
    settings: object
    users: int = 0
    timer: asyncio.TimerHandle | None = None


class Workers:
    """Starts, keeps and ends workers."""

    def __init__(
        self, starter: Starter, log: FilteringBoundLogger, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._starter = starter
        self._log = log
        self._idle_seconds = idle_seconds
        self._kept: dict[Key, _Kept] = {}
        self._starting: dict[Key, asyncio.Lock] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._lost: Counter[str] = Counter()
        self.missing: dict[str, tuple[str, ...]] = {}
        """The walls that the newest worker of each subsystem has to do without."""

    @property
    def pids(self) -> frozenset[int]:
        """Return the processes of all workers."""
        return frozenset(kept.worker.pid for kept in self._kept.values())

    def work(self) -> dict[str, Work]:
        """Return what the workers of each category do, of those that have had any."""
        work = {category: Work(lost=lost) for category, lost in self._lost.items()}
        for (_, category), kept in self._kept.items():
            so_far = work.get(category, Work())
            pids, calls = (*so_far.pids, kept.worker.pid), so_far.calls + kept.users
            work[category] = Work(pids, calls, so_far.lost)
        return work

    async def lend(self, subsystem: str, category: str) -> Worker:
        """Return a worker for one call, which `give_back` ends. Raises EpadError where none can be started.

        One that was started by other settings, before a reload, is ended with the calls in it: it may reach more than
        the subsystem may now.
        """
        key = subsystem, category
        async with self._starting.setdefault(key, asyncio.Lock()):
            kept, settings = self._kept.get(key), self._starter.settings(subsystem)
            if kept is not None and kept.settings != settings:
                self._end(key, kept.worker)
                kept = None
            if kept is None or kept.worker.is_lost:
                kept = await self._start(key, settings)
            kept.users += 1
            if kept.timer is not None:
                kept.timer.cancel()
                kept.timer = None
            return kept.worker

    def give_back(self, subsystem: str, category: str, worker: Worker) -> None:
        """End one use of a worker; an idle one is ended after a while."""
        kept = self._kept.get((subsystem, category))
        if kept is None or kept.worker is not worker:
            return
        kept.users -= 1
        if not kept.users and not self._closed:
            loop = asyncio.get_running_loop()
            kept.timer = loop.call_later(self._idle_seconds, self._end, (subsystem, category), worker)

    async def close(self) -> None:
        """End all workers, and wait for their processes."""
        self._closed = True
        for key, kept in list(self._kept.items()):
            if kept.timer is not None:
                kept.timer.cancel()
            self._end(key, kept.worker)
        while self._ending:
            await asyncio.wait(self._ending)

    async def _start(self, key: Key, settings: object) -> _Kept:
        if self._closed:
            raise WorkerLostError("the daemon is stopping")
        subsystem, category = key
        self._make_room()
        started = await self._starter.start(subsystem, category, lambda: self._forget(key))
        self.missing[subsystem] = started.missing
        self._log.info(
            "tools.worker_started", subsystem=subsystem, category=category, pid=started.worker.pid,
            missing=list(started.missing),
        )  # fmt: skip
        kept = self._kept[key] = _Kept(started.worker, settings)
        return kept

    def _make_room(self) -> None:
        if len(self._kept) < MOST_WORKERS:
            return
        idle = next((key for key, kept in self._kept.items() if not kept.users), None)
        if idle is None:
            raise WorkerLostError(f"{MOST_WORKERS} workers are all busy")
        self._end(idle, self._kept[idle].worker)

    def _forget(self, key: Key) -> None:
        kept = self._kept.get(key)
        if kept is not None and kept.worker.is_lost:
            self._lost[key[1]] += 1
            del self._kept[key]
            if kept.timer is not None:
                kept.timer.cancel()

    def _end(self, key: Key, worker: Worker) -> None:
        kept = self._kept.get(key)
        if kept is not None and kept.worker is worker:
            del self._kept[key]
        ending = asyncio.create_task(worker.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
