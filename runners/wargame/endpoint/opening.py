"""Opening a run's endpoints: those that are configured, or an embedded one of our own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final

from runners.wargame.endpoint.client import ModelClient, open_session
from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.pool import Pool
from runners.wargame.settings import Limits

EMBEDDED_IN_FLIGHT: Final = 8
"""The embedded server shares our processor: more in flight brings nothing."""


@contextlib.asynccontextmanager
async def open_pool(endpoints: Sequence[Endpoint], limits: Limits) -> AsyncIterator[Pool]:
    """A pool inside the block; embedded only where nothing is configured, never because something fails."""
    async with contextlib.AsyncExitStack() as stack:
        if not endpoints:
            endpoints = [await stack.enter_async_context(_embedded())]
        session = await stack.enter_async_context(open_session(limits))
        yield Pool([ModelClient(session, endpoint, limits, Random()) for endpoint in endpoints])


@contextlib.asynccontextmanager
async def _embedded() -> AsyncIterator[Endpoint]:
    from runners.model.catalogue import embedded_engines  # noqa: PLC0415 - 0.3 s, needed here only
    from runners.model.listening import listening  # noqa: PLC0415
    from runners.model.server import ModelServer, Pace  # noqa: PLC0415

    async with listening(ModelServer(embedded_engines(), Pace()), "127.0.0.1:0") as address:
        yield Endpoint("embedded", f"http://{address}/v1", max_in_flight=EMBEDDED_IN_FLIGHT)
