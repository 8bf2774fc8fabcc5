"""Waiting for a turn to be opened in the ledger, whoever of those who wait is cancelled."""

from __future__ import annotations

import asyncio
from functools import partial


async def ended(opening: asyncio.Future[int]) -> None:
    """Wait for an opening, which goes on if whoever waits is cancelled: asyncio.shield, with less ado."""
    if not opening.done():
        ended: asyncio.Future[None] = opening.get_loop().create_future()
        opening.add_done_callback(partial(_tell, ended))
        await ended
    opening.result()


def _tell(ended: asyncio.Future[None], _: asyncio.Future[int]) -> None:
    if not ended.done():
        ended.set_result(None)


def succeeded(future: asyncio.Future[int]) -> bool:
    """Say whether it has come to its end, and well."""
    return future.done() and not future.cancelled() and future.exception() is None
