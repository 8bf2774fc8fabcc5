"""One look at a model server: ask it how it is, judge the answer, and learn which server it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from epad.configuration.server_kinds import GENERIC
from epad.gateway.answer import Answer
from epad.gateway.errors import UpstreamError
from epad.gateway.health import Look, State
from epad.gateway.route import Upstream
from epad.gateway.server_detection import MOST_BYTES
from epad.gateway.upstream_key import KEY_STATUSES, refused_key
from probes.blame import Failure, Said, said_in

LOOK_SECONDS = 5.0
WATCH_SECONDS = 2.0
LOOK_PATHS = {"ollama": "/api/tags", "openai": "/v1/models", "anthropic": "/v1/models"}
HEALTH = "/health"
_READ_BYTES = 2_048
_NOT_THERE = frozenset({State.GONE, State.LOADING})

Ask = Callable[[bytes, Upstream, str], Awaitable[Answer]]
"""Sends a request without a body; raises UpstreamError."""
RereadKey = Callable[[Upstream], Awaitable[None]]
Starting = Callable[[str], bool]
"""Whether the subsystem of that name began a short while ago, and may still be loading."""


def nothing_starts(_: str) -> bool:
    """Return False: no model server is epad's own."""
    return False


class HealthCheck:
    """Looks at one upstream at a time."""

    def __init__(self, ask: Ask, reread_key: RereadKey, starting: Starting) -> None:
        self._ask = ask
        self._reread_key = reread_key
        self._starting = starting

    async def look(self, upstream: Upstream) -> None:
        """Look at one upstream, and learn which server it is and how much its models hold."""
        dialect = next(name for name in LOOK_PATHS if name in upstream.dialects)
        look = await self._look_on(upstream, LOOK_PATHS[dialect], LOOK_SECONDS)
        if look is None:
            return
        upstream.health.looked(look)
        if look.reason:
            upstream.profile.forget_refusals()  # who comes back may be another server
        elif path := upstream.profile.more_to_read():
            await self._look_on(upstream, path, LOOK_SECONDS)

    async def watch(self, upstream: Upstream) -> None:
        """Look at one whose breaker is open, and at its own health route where its list of models says nothing bad."""
        if upstream.health.state is State.REJECTING:
            await self._reread_key(upstream)
        dialect = next(name for name in LOOK_PATHS if name in upstream.dialects)
        look = await self._look_on(upstream, LOOK_PATHS[dialect], WATCH_SECONDS)
        path = health_path(upstream)
        if look is not None and not look.reason and path:
            look = await self._look_on(upstream, path, WATCH_SECONDS)
        if look is not None:
            upstream.health.looked(look)

    async def _look_on(self, upstream: Upstream, path: str, seconds: float) -> Look | None:
        """Learn from one answer of a server; None if this machine is not able to ask."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._ask(b"GET", upstream, path)
        except TimeoutError:
            return Look(State.FAILING, f"a look at it took longer than {seconds:g} s")
        except UpstreamError as error:
            return self.not_seen(upstream, error)
        async with answer:
            body = await read_body(answer, seconds, MOST_BYTES)
            upstream.profile.looked(path, answer.status, answer.head, body)
        return look_of(upstream, path, answer.status, body)

    def not_seen(self, upstream: Upstream, error: UpstreamError) -> Look | None:
        """Judge a request without an answer: a server that is starting is not there yet."""
        if error.failure is Failure.HOST_SHORT:
            return None
        if error.failure is not Failure.NOT_CONNECTED:
            return Look(State.FAILING, str(error))
        if upstream.subsystem and self._starting(upstream.subsystem):
            return Look(
                State.LOADING, f"upstream {upstream.name} is loading: {upstream.subsystem} has just begun"
            )
        return Look(State.GONE, str(error))


def health_path(upstream: Upstream) -> str:
    """Return the path of a server's readiness; for an unknown kind, the usual one."""
    server = upstream.server
    return HEALTH if server is GENERIC else server.health_path


def look_of(upstream: Upstream, path: str, status: int, body: bytes) -> Look:
    """Judge the answer to a look; 404 comes from a server that is there, and turns will show the rest."""
    if status in KEY_STATUSES:
        # A health route that is closed says nothing of the key that turns are asked with.
        return (
            Look()
            if path == HEALTH
            else Look(State.REJECTING, refused_key(upstream.name, upstream.key, upstream.secret))
        )
    if status < 500:
        return Look()
    said = said_in(status, body[:_READ_BYTES].decode("utf-8", "replace"))
    not_ready = status == 503 and path == HEALTH and upstream.health.state in _NOT_THERE
    if said is Said.LOADING or not_ready:
        return Look(State.LOADING, f"upstream {upstream.name} is loading its model")
    return Look(State.FAILING, f"a look at it got {status}")


async def read_body(answer: Answer, seconds: float, most: int) -> bytes:
    """The body of an answer; nothing of one that breaks off or does not end: that it began says that all is well."""
    try:
        async with asyncio.timeout(seconds):
            return await answer.read(most)
    except (UpstreamError, TimeoutError):
        return b""
