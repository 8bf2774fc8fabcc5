"""Looking at upstreams: at each every few seconds, and again and again at one whose breaker is open.

A server that was away is sent turns again the moment that it is back, since epad finds that out by itself and waits for
no client to try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from epad.gateway.route import Upstream
from epad.runtime.timers import sleep_to_beat

LOOK_EVERY_SECONDS = 10.0
# While the breaker is open. A refused connection costs nothing here; a server far away is asked less often in the end.
WATCH_EVERY_SECONDS = 1.0
WATCH_FAR_EVERY_SECONDS = 5.0
WATCH_FAR_AFTER_SECONDS = 120.0
_LEAST_PAUSE_SECONDS = 0.05
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost", ""})

LookAt = Callable[[Upstream], Awaitable[None]]


class Looker:
    """Times the looks: `look` is done every few seconds, `watch` while a breaker is open."""

    def __init__(self, look: LookAt, watch: LookAt) -> None:
        self._look = look
        self._watch = watch
        self._upstreams: dict[str, Upstream] = {}
        self._looking: asyncio.Task[None] | None = None
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("epad.gateway")

    def configure(self, upstreams: Iterable[Upstream]) -> None:
        """Look at these from now on, and once at once; a server that is asked no more is waited for no longer."""
        former = self._upstreams
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        for name, upstream in former.items():
            if self._upstreams.get(name) is not upstream and name in self._watching:
                self._watching.pop(name).cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._look_at_all(), name="upstreams")

    async def stop(self) -> None:
        """Look no more."""
        tasks = {*self._watching.values(), *([self._looking] if self._looking is not None else [])}
        self._looking, self._upstreams = None, {}
        self._watching.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def opened(self, name: str) -> None:
        """The breaker of an upstream has opened: look at it until it closes."""
        upstream = self._upstreams.get(name)
        # A turn of before a reload may still tell of a server that has been replaced since.
        if upstream is not None and upstream.health.is_open and name not in self._watching:
            self._watching[name] = asyncio.create_task(
                self._watch_until_closed(upstream), name=f"upstream {name}"
            )

    async def _look_at_all(self) -> None:
        """Look at every upstream again and again; a failing look is a result, and ends nothing."""
        while True:
            unwatched = [each for each in self._upstreams.values() if not each.health.is_open]
            await asyncio.gather(*(self._look(upstream) for upstream in unwatched))
            await sleep_to_beat(LOOK_EVERY_SECONDS)

    async def _watch_until_closed(self, upstream: Upstream) -> None:
        loop, health = asyncio.get_running_loop(), upstream.health
        began = loop.time()
        self._log.warning(
            "upstream.down", upstream=upstream.name, state=health.state.value, reason=health.why
        )
        try:
            while health.is_open:
                looked = loop.time()
                await self._watch(upstream)
                if health.is_open:
                    far = upstream.origin.host not in _LOCAL and looked - began > WATCH_FAR_AFTER_SECONDS
                    every = WATCH_FAR_EVERY_SECONDS if far else WATCH_EVERY_SECONDS
                    # A look that took long is followed by the next at once: a server that hung may answer now.
                    await asyncio.sleep(max(_LEAST_PAUSE_SECONDS, every - (loop.time() - looked)))
            self._log.info(
                "upstream.back", upstream=upstream.name, down_seconds=round(loop.time() - began, 3)
            )
        finally:
            if self._watching.get(upstream.name) is asyncio.current_task():
                del self._watching[upstream.name]
